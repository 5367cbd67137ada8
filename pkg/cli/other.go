package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/client"
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

// maxCompletions bounds the names that the shell is told.
const maxCompletions = 500

// completeObjects completes kinds, and the names of live objects.
func (a *app) completeObjects(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	const plain = cobra.ShellCompDirectiveNoFileComp
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return nil, plain
	}
	word, prefix, slash := strings.Cut(toComplete, "/")
	if len(args) == 0 && !slash {
		var names []string
		for _, k := range conn.kinds.kinds {
			names = append(names, k.info.GetPlural(), k.singular())
		}
		return names, plain
	}
	before := ""
	if slash {
		before = word + "/"
	} else {
		word, prefix = args[0], toComplete
	}
	k, err := conn.kinds.one(word)
	if err != nil {
		return nil, plain
	}
	list, err := conn.List(ctx, k.Name, client.ListOptions{Namespace: conn.scope(k, false)})
	if err != nil {
		return nil, plain
	}
	var names []string
	for _, obj := range list.Items {
		if name := obj.GetMetadata().GetName(); strings.HasPrefix(name, prefix) && len(names) < maxCompletions {
			names = append(names, before+name)
		}
	}
	return names, plain
}
