package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
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
		Example: "  proxctl apply -f manifests/\n  proxctl admin rebuild\n  proxctl admin rebuild --yes",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("rebuild takes the name of one Cluster, found %s", counted(len(args), "argument"))
			}
			return nil
		},
		ValidArgsFunction: a.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "default"
			if len(args) == 1 {
				name = args[0]
			}
			return a.rebuild(cmd.Context(), name, yes, timeout)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultOperationTimeout, "how long to wait for the end")
	return cmd
}

// rebuild has the daemon do it as an Operation, which is kept for a day as a record.
func (a *app) rebuild(ctx context.Context, name string, yes bool, timeout time.Duration) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	target := resource.Key{Kind: "Cluster", Name: name}
	if _, err := conn.Get(ctx, target); errors.Is(err, client.ErrNotFound) {
		return missing(target)
	} else if err != nil {
		return err
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	created, err := conn.Create(ctx, &v1alpha1.Operation{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Operation"),
		Metadata: &v1alpha1.ObjectMeta{Namespace: resource.SystemNamespace, Name: "rebuild-" + name + "-" + hex.EncodeToString(random[:])},
		Spec: &v1alpha1.OperationSpec{
			Action: proto.String("Rebuild"), Target: &v1alpha1.ObjectReference{Kind: proto.String("Cluster"), Name: proto.String(name)},
			Arguments: map[string]string{"dryRun": strconv.FormatBool(!yes)},
		},
	})
	if err != nil {
		return err
	}
	op, ok := created.(*v1alpha1.Operation)
	if !ok {
		return fmt.Errorf("the daemon answered with a %s, not an Operation", created.GetKind())
	}
	if err := a.finish(ctx, conn, op, timeout, true); err != nil {
		return err
	}
	if !yes {
		fmt.Fprintln(a.Err, "Nothing was changed; --yes does it.")
	}
	return nil
}
