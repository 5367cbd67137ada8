package bridge

import (
	"context"
	"fmt"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Finalize removes the bridge from every node when no appliance uses it.
func (r *reconciler) Finalize(ctx context.Context, s *session) (runtime.Result, error) {
	user, err := userOf(ctx, s.Client, s.Object)
	if err != nil {
		return runtime.Result{}, err
	}
	if user != "" {
		// Until then it stays as it should be.
		if _, err := r.Reconcile(ctx, s); err != nil {
			s.Log.Info("bridge is not as it should be while its deletion waits", "error", err)
		}
		return runtime.Result{}, inUse(user)
	}
	if s.Object.GetSpec().GetDeletionPolicy() == "Orphan" || s.Object.GetStatus().GetInterfaceName() == "" {
		return runtime.Result{}, nil
	}
	conn, _, err := common.Connect(ctx, s.Client, r.Clusters, s.Object.GetSpec().GetClusterRef().GetName())
	if err != nil {
		return runtime.Result{}, err
	}
	if err := r.attached(ctx, s, conn, ""); err != nil {
		return runtime.Result{}, err
	}
	if err := r.everywhere(ctx, s, conn, false); err != nil {
		return runtime.Result{}, err
	}
	if away := common.BridgeWritten(s.Object); len(away) > 0 {
		return runtime.Result{}, runtime.Waiting(common.DependencyRecheck, reasonNodeOffline,
			"deletion waits: %s may still have the bridge and is not online; if it will not come back, set spec.deletionPolicy to Orphan", strings.Join(away, ", "))
	}
	return runtime.Result{}, nil
}

// userOf names an Appliance on the bridge, "" for none.
func userOf(ctx context.Context, c runtime.Client, b *v1alpha1.Bridge) (string, error) {
	appliances, err := runtime.List[*v1alpha1.Appliance](ctx, c, "Appliance", "")
	for _, a := range appliances {
		if a.GetSpec().GetBridgeRef().GetName() == b.GetMetadata().GetName() {
			return resource.KeyOf(a).String(), nil
		}
	}
	return "", err
}

func inUse(user string) error {
	return runtime.Waiting(common.DependencyRecheck, "InUse", "deletion waits: %s uses this bridge", user)
}

// attached refuses to remove a bridge that a guest of a node ("" for any), whoever made it, is
// plugged into: it would be cut off, and stay so when the bridge came back.
func (r *reconciler) attached(ctx context.Context, s *session, conn *cluster.Connection, node string) error {
	rows, err := conn.API.ClusterResources(ctx, proxmox.GuestResources)
	if err != nil {
		return lxc.Classify(fmt.Errorf("list guests: %w", err))
	}
	for _, row := range rows {
		if row.Type != "lxc" || node != "" && row.Node != node {
			continue
		}
		cfg, err := conn.API.LXCConfig(ctx, row.Node, int(row.VMID))
		if proxmox.IsNotExist(err) {
			return lxc.ListedOnly(row.Node, int(row.VMID))
		}
		if err != nil {
			return lxc.Classify(fmt.Errorf("read configuration of guest %d: %w", row.VMID, err))
		}
		nics, err := cfg.NICs()
		if err != nil {
			return err
		}
		for _, nic := range nics {
			if nic.Bridge == s.Object.GetStatus().GetInterfaceName() {
				return runtime.Waiting(common.DependencyRecheck, "GuestsAttached", "removal waits: guest %d on node %s is attached to %s", row.VMID, row.Node, nic.Bridge)
			}
		}
	}
	return nil
}
