// Package admin is `proximityd admin`: work on the database of a daemon that is stopped.
// What can be done while it runs, proxctl does through the API.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

// DatabaseFile is the name of the database in the data directory.
const DatabaseFile = "proximity.db"

// Run runs a command and writes what it says to standard output; args come after the word
// admin.
func Run(ctx context.Context, args []string) error { return run(ctx, args, os.Stdout) }

func run(ctx context.Context, args []string, out io.Writer) error {
	root := &cobra.Command{
		Use: "proximityd admin", Short: "Work on the database of a daemon that is stopped",
		SilenceErrors: true, SilenceUsage: true, CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	snapshots := &cobra.Command{Use: "snapshot", Short: "Go back to a snapshot"}
	snapshots.AddCommand(restoreCommand(out))
	root.AddCommand(snapshots)
	root.SetArgs(args)
	root.SetOut(out)
	return root.ExecuteContext(ctx)
}

func restoreCommand(out io.Writer) *cobra.Command {
	var dir string
	var force bool
	cmd := &cobra.Command{
		Use:   "restore FILE --data-dir DIRECTORY",
		Short: "Make the database from a snapshot that `proxctl admin snapshot save` wrote",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return restore(out, args[0], dir, force) },
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "`directory` of the daemon that is to have the database")
	cmd.Flags().BoolVar(&force, "force", false, "replace the database that is there, and keep it under another name")
	if err := cmd.MarkFlagRequired("data-dir"); err != nil {
		panic(err) // the flag is declared two lines above
	}
	return cmd
}

func restore(out io.Writer, file, dir string, force bool) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	info, err := bolt.Restore(filepath.Join(dir, DatabaseFile), f, kinds.Registry(), force)
	switch {
	case errors.Is(err, bolt.ErrExists):
		return fmt.Errorf("%w; --force replaces it and keeps it under another name", err)
	case errors.Is(err, store.ErrLocked):
		return fmt.Errorf("%w; stop the daemon first", err)
	case err != nil:
		return err
	}
	fmt.Fprintf(out, "%s is at revision %d of store %s again\n", filepath.Join(dir, DatabaseFile), info.Revision, info.StoreID)
	if info.Kept != "" {
		fmt.Fprintf(out, "the database of before is kept as %s; remove it when it is of no use any more\n", info.Kept)
	}
	return nil
}
