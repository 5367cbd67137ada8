package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/proximity-pve/proximity/pkg/version"
)

func (a *app) versionCommand() *cobra.Command {
	var only bool
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of proxctl and of the daemon",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.version(cmd.Context(), only, output) },
	}
	cmd.Flags().BoolVar(&only, "client", false, "only proxctl's")
	cmd.Flags().StringVarP(&output, "output", "o", "", "`format`: json or yaml")
	return cmd
}

// versions is the output of version for programs.
type versions struct {
	Client string `json:"clientVersion"`
	Server string `json:"serverVersion,omitempty"`
}

func (a *app) version(ctx context.Context, only bool, output string) error {
	if output != "" && output != formatJSON && output != formatYAML {
		return usagef("-o %q: allowed are json and yaml", output)
	}
	v := versions{Client: version.String()}
	if output == "" { // at once: the daemon may not answer
		fmt.Fprintf(a.Out, "proxctl %s\n", v.Client)
	}
	if !only {
		conn, err := a.connect(ctx)
		if err != nil {
			return err
		}
		if v.Server, err = conn.ServerVersion(ctx); err != nil {
			return err
		}
		if output == "" {
			text := cmp.Or(v.Server, "at "+conn.Address()+", version not known (the context has no rest address)")
			fmt.Fprintf(a.Out, "proximityd %s\n", text)
		}
	}
	if output == "" {
		return nil
	}
	encode := yaml.Marshal
	if output == formatJSON {
		encode = func(v any) ([]byte, error) {
			data, err := json.MarshalIndent(v, "", "  ")
			return append(data, '\n'), err
		}
	}
	data, err := encode(v)
	if err != nil {
		return err
	}
	_, err = a.Out.Write(data)
	return err
}

type resourcesOptions struct {
	output     string
	noHeaders  bool
	namespaced bool
	only       bool // --namespaced was given
}

func (a *app) apiResourcesCommand() *cobra.Command {
	var o resourcesOptions
	cmd := &cobra.Command{
		Use:   "api-resources",
		Short: "Show the kinds of resources that the daemon has",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.only = cmd.Flags().Changed("namespaced")
			return a.apiResources(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "", "`format`: name")
	f.BoolVar(&o.noHeaders, "no-headers", false, "no line of headings")
	f.BoolVar(&o.namespaced, "namespaced", true, "only those in namespaces, or, if false, only those that are not")
	return cmd
}

func (a *app) apiResources(ctx context.Context, o resourcesOptions) error {
	if o.output != "" && o.output != formatName {
		return usagef("-o %q: allowed is name", o.output)
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, k := range conn.kinds.kinds {
		if o.only && k.info.GetNamespaced() != o.namespaced {
			continue
		}
		row := []string{k.info.GetPlural()}
		if o.output == "" {
			row = append(row, cellOr(strings.Join(k.info.GetShortNames(), ",")), fmt.Sprint(k.info.GetNamespaced()),
				cellOr(strings.Join(k.info.GetCategories(), ",")), k.Name)
		}
		rows = append(rows, row)
	}
	for _, name := range conn.kinds.foreign {
		if o.output == "" && !o.only {
			rows = append(rows, []string{none, none, none, none, name + " (not known to this proxctl)"})
		}
	}
	headings := []string{"NAME", "SHORTNAMES", "NAMESPACED", "CATEGORIES", "KIND"}
	if o.noHeaders || o.output != "" {
		headings = nil
	}
	return writeTable(a.Out, headings, rows)
}
