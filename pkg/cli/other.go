package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/version"
)

func (a *app) versionCommand() *cobra.Command {
	var only bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of proxctl and of the daemon",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(a.Out, "proxctl %s\n", version.String())
			if only {
				return nil
			}
			conn, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			server, err := conn.ServerVersion(cmd.Context())
			if err != nil {
				return err
			}
			if server == "" {
				server = "at " + conn.Address() + ", version not known (the context has no rest address)"
			}
			fmt.Fprintf(a.Out, "proximityd %s\n", server)
			return nil
		},
	}
	cmd.Flags().BoolVar(&only, "client", false, "only proxctl's")
	return cmd
}

func (a *app) apiResourcesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "api-resources",
		Short: "Show the kinds of resources that the daemon has",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			var rows [][]string
			for _, k := range conn.kinds.kinds {
				rows = append(rows, []string{k.info.GetPlural(), cellOr(strings.Join(k.info.GetShortNames(), ",")),
					fmt.Sprint(k.info.GetNamespaced()), cellOr(strings.Join(k.info.GetCategories(), ",")), k.Name})
			}
			for _, name := range conn.kinds.foreign {
				rows = append(rows, []string{none, none, none, none, name + " (not known to this proxctl)"})
			}
			return writeTable(a.Out, []string{"NAME", "SHORTNAMES", "NAMESPACED", "CATEGORIES", "KIND"}, rows)
		},
	}
}
