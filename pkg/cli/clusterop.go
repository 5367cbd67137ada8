package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// defaultCluster is the Cluster that commands work on which name none.
const defaultCluster = "default"

// oneCluster allows the name of one Cluster, or none, as a command's arguments.
func oneCluster(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("%s takes the name of one Cluster, found %s", cmd.Name(), counted(len(args), "argument"))
	}
	return nil
}

// clusterOf is the Cluster that the arguments name.
func clusterOf(args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	return defaultCluster
}

func (a *app) completeClusters(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := a.completing(cmd, func(ctx context.Context, conn *connection) []string {
		return conn.namesOf(ctx, "cluster", "", prefix, nil)
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}

// operateOn asks for an Operation on a Cluster, which is kept for a day as a record.
func (a *app) operateOn(ctx context.Context, cluster, action string, arguments map[string]string) (*connection, *v1alpha1.Operation, error) {
	conn, err := a.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	target := resource.Key{Kind: "Cluster", Name: cluster}
	if _, err := conn.Get(ctx, target); errors.Is(err, client.ErrNotFound) {
		return nil, nil, missing(target)
	} else if err != nil {
		return nil, nil, err
	}
	op, err := conn.operate(ctx, target, action, arguments)
	return conn, op, err
}

// operate asks for an Operation on an object, in the namespace where operations on it are.
func (c *connection) operate(ctx context.Context, target resource.Key, action string, arguments map[string]string) (*v1alpha1.Operation, error) {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	created, err := c.Create(ctx, &v1alpha1.Operation{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Operation"),
		Metadata: &v1alpha1.ObjectMeta{
			Namespace: target.EventNamespace(), Name: strings.ToLower(action) + "-" + target.Name + "-" + hex.EncodeToString(random[:]),
		},
		Spec: &v1alpha1.OperationSpec{
			Action: proto.String(action), Arguments: arguments,
			Target: &v1alpha1.ObjectReference{Kind: proto.String(target.Kind), Name: proto.String(target.Name)},
		},
	})
	if err != nil {
		return nil, err
	}
	op, ok := created.(*v1alpha1.Operation)
	if !ok {
		return nil, fmt.Errorf("the daemon answered with a %s, not an Operation", created.GetKind())
	}
	return op, nil
}
