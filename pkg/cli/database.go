package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// Stopped works on the data directory of a daemon that is stopped; package admin does.
type Stopped interface {
	Restore(out io.Writer, file, dir string, force bool) error
	Check(ctx context.Context, dir string) (*v1alpha1.DatabaseReport, error)
	Defrag(ctx context.Context, dir string) (before, after int64, err error)
}

const dataDirUsage = "`directory` of the daemon, which must be stopped"

func (a *app) restoreCommand() *cobra.Command {
	var dir string
	var force bool
	cmd := &cobra.Command{
		Use: "restore FILE --data-dir DIRECTORY", Short: "Make the database of a stopped daemon from a snapshot",
		Long: "Make the database of a stopped daemon from a snapshot.\n\n" +
			"It is checked first, and takes its place in one step: after an error what was there is there\n" +
			"still. Watches begin anew. A snapshot of a newer version is refused, one of an older is migrated.",
		Example: "  systemctl stop proximityd\n" +
			"  proxctl admin snapshot restore proximity-2026-11-28.snapshot --data-dir /var/lib/proximity --force\n" +
			"  systemctl start proximityd",
		Args: exactly(1, "the file of a snapshot"),
		RunE: func(_ *cobra.Command, args []string) error {
			if dir == "" {
				return usagef("restoring works on the files of a stopped daemon: --data-dir DIRECTORY is needed")
			}
			return a.Stopped.Restore(a.Out, args[0], dir, force)
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", dataDirUsage)
	cmd.Flags().BoolVar(&force, "force", false, "replace the database that is there, and keep it under another name")
	return cmd
}

func (a *app) checkCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "check", Short: "Look for what is wrong with the database",
		Long: "Look for what is wrong with the database of the running daemon, which goes on meanwhile, or\n" +
			"with --data-dir of one that is stopped: its pages, whether every object and event is as it was\n" +
			"written, whether the log has gaps, and whether what reads show is what the file has.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.checkDatabase(cmd.Context(), dir) },
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", dataDirUsage)
	return cmd
}

func (a *app) checkDatabase(ctx context.Context, dir string) error {
	var report *v1alpha1.DatabaseReport
	var err error
	if dir != "" {
		report, err = a.Stopped.Check(ctx, dir)
	} else {
		var conn *connection
		if conn, err = a.connect(ctx); err == nil {
			report, err = conn.CheckDatabase(ctx)
		}
	}
	if err != nil {
		return err
	}
	if report.GetRevision() != "" {
		fmt.Fprintf(a.Out, "store %s, schema %d, revision %s, log from %s\n%s, %s, %s of %s in use\n",
			report.GetStoreId(), report.GetSchema(), report.GetRevision(), report.GetCompacted(),
			counted(int(report.GetObjects()), "object"), counted(int(report.GetEvents()), "event"),
			sizeText(report.GetUsedBytes()), sizeText(report.GetFileBytes()))
	}
	for _, n := range report.GetNotes() {
		fmt.Fprintln(a.Out, "note:", n)
	}
	for _, p := range report.GetProblems() {
		fmt.Fprintln(a.Out, "problem:", p)
	}
	if n := len(report.GetProblems()) + int(report.GetMoreProblems()); n > 0 {
		return fmt.Errorf("%s: save what there is (`proxctl admin snapshot save FILE`, or a copy of the file), "+
			"then go back to a snapshot from before: `proxctl admin snapshot restore FILE --data-dir DIRECTORY --force`", counted(n, "problem"))
	}
	fmt.Fprintln(a.Out, "nothing wrong was found")
	return nil
}

func (a *app) defragCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "defrag", Short: "Rewrite the database without its unused pages",
		Long: "Rewrite the database file without its unused pages: of the running daemon, whose reads go on\n" +
			"while its writes wait, or with --data-dir of one that is stopped. The directory needs as much\n" +
			"room again as is in use. A crash at any moment leaves the old file or the whole new one.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.defrag(cmd.Context(), dir) },
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", dataDirUsage)
	return cmd
}

func (a *app) defrag(ctx context.Context, dir string) error {
	var before, after int64
	var err error
	if dir != "" {
		before, after, err = a.Stopped.Defrag(ctx, dir)
	} else {
		var conn *connection
		if conn, err = a.connect(ctx); err == nil {
			before, after, err = conn.Defrag(ctx)
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "before %s, after %s\n", sizeText(before), sizeText(after))
	return nil
}

// noStopped is the Stopped of a program that has none.
type noStopped struct{}

var errNoStopped = errors.New("this program cannot work on the files of a stopped daemon")

func (noStopped) Restore(io.Writer, string, string, bool) error { return errNoStopped }
func (noStopped) Check(context.Context, string) (*v1alpha1.DatabaseReport, error) {
	return nil, errNoStopped
}
func (noStopped) Defrag(context.Context, string) (int64, int64, error) { return 0, 0, errNoStopped }

// sizeText writes a number of bytes for people: 512 B, 1.4 MiB.
func sizeText(n int64) string {
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, unit := float64(n)/(1<<10), 0
	for value >= 1<<10 && unit < 3 {
		value, unit = value/(1<<10), unit+1
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + []string{"KiB", "MiB", "GiB", "TiB"}[unit]
}
