package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) rebuildCommand() *cobra.Command {
	var timeout time.Duration
	var yes bool
	cmd := &cobra.Command{
		Use: "rebuild [CLUSTER]", Short: "Give objects of a new database the guests of the lost one back",
		Long: "Give objects of a new database the guests and bridges of the lost one back. Apply the manifests\n" +
			"again first: objects that find a guest of their name with an unknown uid stall with UIDUnknown.\n" +
			"The marks on guests and bridges have the uids, VMIDs and MAC addresses; running guests tell their\n" +
			"addresses. Nothing outside is touched. Without --yes it only shows what it would do. What is not\n" +
			"clear (two guests with one mark) is refused by name, and the exit code is 1.",
		Example:           "  proxctl apply -f manifests/\n  proxctl admin rebuild\n  proxctl admin rebuild --yes",
		Args:              oneCluster,
		ValidArgsFunction: a.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.rebuild(cmd.Context(), clusterOf(args), yes, timeout)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultOperationTimeout, "how long to wait for the end")
	return cmd
}

// rebuild has the daemon do it as an Operation, which is kept for a day as a record.
func (a *app) rebuild(ctx context.Context, name string, yes bool, timeout time.Duration) error {
	conn, op, err := a.operateOn(ctx, name, "Rebuild", map[string]string{"dryRun": strconv.FormatBool(!yes)})
	if err != nil {
		return err
	}
	if err := a.finish(ctx, conn, op, timeout, true); err != nil {
		return err
	}
	if !yes {
		fmt.Fprintln(a.Err, "Nothing was changed; --yes does it.")
	}
	return nil
}
