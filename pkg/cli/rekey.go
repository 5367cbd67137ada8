package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) rekeyCommand() *cobra.Command {
	var finish bool
	cmd := &cobra.Command{
		Use: "rekey", Short: "Change the key that values of Secrets are sealed with",
		Long: "Change the key that values of Secrets, and password hashes, are sealed with. A new key is put into\n" +
			"the key file, all values are sealed anew while the daemon goes on, and then the old key is\n" +
			"removed. If that fails half-way everything can still be read; --finish goes on. Backups of the\n" +
			"database that were made before need the old key: keep a copy of the key file with them.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.rekey(cmd.Context(), finish) },
	}
	cmd.Flags().BoolVar(&finish, "finish", false, "make no new key, finish an earlier change")
	return cmd
}

func (a *app) rekey(ctx context.Context, finish bool) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	n, err := conn.Rekey(ctx, finish)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "%s sealed with the new key, the old one is gone\n", counted(n, "value"))
	return nil
}

// showValues prints the values of Secrets.
func (a *app) showValues(ctx context.Context, conn *connection, args []string) error {
	keys, err := conn.refs(args)
	if err != nil {
		return err
	}
	if len(keys) == 0 || !strings.Contains(args[0], "/") && len(args) == 1 {
		return usagef("--show-values is for named Secrets, for example `proxctl get secret db --show-values`")
	}
	for _, k := range keys {
		if k.Kind != "Secret" || k.Name == "" {
			return usagef("--show-values is for named Secrets, for example `proxctl get secret db --show-values`")
		}
	}
	for _, k := range keys {
		values, err := conn.ReadSecret(ctx, k.Namespace, k.Name)
		if err != nil {
			return err
		}
		for _, path := range slices.Sorted(maps.Keys(values)) {
			name := strings.TrimPrefix(path, "spec.")
			if len(keys) > 1 {
				name = k.Name + " " + name
			}
			fmt.Fprintf(a.Out, "%s: %s\n", name, values[path])
		}
	}
	return nil
}
