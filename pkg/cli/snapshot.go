package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/store/snapshot"
)

func (a *app) adminCommand() *cobra.Command {
	admin := &cobra.Command{Use: "admin", Short: "Look after the daemon's database and its records", Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	snapshots := &cobra.Command{Use: "snapshot", Short: "Back up the daemon's database, and go back to a backup", Args: unknownCommand,
		Long: "Back up the daemon's database, and go back to a backup. A snapshot has every object.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	save := &cobra.Command{
		Use: "save FILE", Short: "Write a snapshot of the running daemon's database",
		Example: "  proxctl admin snapshot save proximity-$(date +%F).snapshot",
		Args:    exactly(1, "the file to write"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.saveSnapshot(cmd.Context(), args[0]) },
	}
	status := &cobra.Command{
		Use: "status FILE", Short: "Check a snapshot and say what it holds",
		Args: exactly(1, "the file of a snapshot"),
		RunE: func(_ *cobra.Command, args []string) error { return a.snapshotStatus(args[0]) },
	}
	snapshots.AddCommand(save, status, a.restoreCommand())
	admin.AddCommand(snapshots, a.checkCommand(), a.defragCommand(), a.auditCommand(), a.rebuildCommand(), a.rekeyCommand())
	return admin
}

// saveSnapshot gives the file its name when it is whole and on the disk, never before.
func (a *app) saveSnapshot(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s exists already: choose another name", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".partial-*") // for its owner only
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	err = conn.Snapshot(ctx, tmp)
	var info snapshot.Info
	if err == nil {
		info, err = snapshot.Verify(tmp)
	}
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil { // a link replaces nothing
		return fmt.Errorf("name the snapshot: %w", err)
	}
	fmt.Fprintf(a.Out, "%s: %s\n", path, snapshotText(info))
	return nil
}

func (a *app) snapshotStatus(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := snapshot.Verify(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	fmt.Fprintf(a.Out, "%s: %s\nsha256: %x\n", path, snapshotText(info), info.SHA256)
	return nil
}

func snapshotText(i snapshot.Info) string {
	return fmt.Sprintf("revision %d of store %s, %d bytes, whole", i.Revision, i.StoreID, i.Size)
}
