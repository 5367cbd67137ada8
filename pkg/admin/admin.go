// Package admin looks after database files: it goes back to snapshots, checks and
// defragments them. What may end the process that looks at a damaged file, it does in a
// child process, which is the same program: one that uses this package must call ChildMain
// first thing when IsChild says so.
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

// Run runs a command of `proximityd admin` and writes what it says to standard output;
// args come after the word admin.
func Run(ctx context.Context, args []string) error { return run(ctx, args, os.Stdout) }

func run(ctx context.Context, args []string, out io.Writer) error {
	root := &cobra.Command{
		Use: "proximityd admin", Short: "Work on the database of a daemon that is stopped",
		SilenceErrors: true, SilenceUsage: true, CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	snapshots := &cobra.Command{Use: "snapshot", Short: "Go back to a snapshot"}
	snapshots.AddCommand(restoreCommand(out))
	root.AddCommand(snapshots, checkFileCommand(out))
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
		RunE:  func(_ *cobra.Command, args []string) error { return Stopped{}.Restore(out, args[0], dir, force) },
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "`directory` of the daemon that is to have the database")
	cmd.Flags().BoolVar(&force, "force", false, "replace the database that is there, and keep it under another name")
	if err := cmd.MarkFlagRequired("data-dir"); err != nil {
		panic(err) // the flag is declared two lines above
	}
	return cmd
}

// Stopped works on the data directory of a daemon that is stopped.
type Stopped struct{}

// Restore makes the database from a snapshot, with force also in place of one that is
// there, and says so.
func (Stopped) Restore(out io.Writer, file, dir string, force bool) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	path := filepath.Join(dir, DatabaseFile)
	info, err := bolt.Restore(path, f, kinds.Registry(), force)
	if errors.Is(err, bolt.ErrExists) {
		return fmt.Errorf("%w; --force replaces it and keeps it under another name", err)
	}
	if err != nil {
		return whileRunning(err)
	}
	if err := os.Remove(markerOf(path)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // it spoke of the database of before
	}
	fmt.Fprintf(out, "%s is at revision %d of store %s again\n", path, info.Revision, info.StoreID)
	if info.Kept != "" {
		fmt.Fprintf(out, "the database of before is kept as %s; remove it when it is of no use any more\n", info.Kept)
	}
	return nil
}

// Defrag rewrites the database without its unused pages.
func (Stopped) Defrag(ctx context.Context, dir string) (before, after int64, err error) {
	path := filepath.Join(dir, DatabaseFile)
	if _, err := os.Stat(path); err != nil {
		return 0, 0, err // opening would make one
	}
	st, err := bolt.Open(path, kinds.Registry(), bolt.Options{})
	if err != nil {
		return 0, 0, whileRunning(err)
	}
	info, err := st.Defrag(ctx)
	return info.Before, info.After, errors.Join(err, st.Close())
}

// whileRunning says what to do when the daemon has the database.
func whileRunning(err error) error {
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("%w; stop the daemon first (systemctl stop proximityd, or Ctrl-C where it runs)", err)
	}
	return err
}
