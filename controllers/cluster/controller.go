// Package cluster reconciles kind Cluster: it says whether the Proxmox connection works and
// what is behind it. It changes nothing outside.
//
// Conditions: Reachable. Reasons: Reachable, Unreachable, Unauthorized, Forbidden, NotConnected.
package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// CondReachable: the API answers and lets us in.
const CondReachable = "Reachable"

// probe is the period after which the connection is tried again.
const probe = 15 * time.Second

type reconciler struct{ clusters *cluster.Set }

// New makes the controller.
func New(set *cluster.Set) *runtime.Controller {
	return runtime.New(runtime.Options[*v1alpha1.Cluster]{
		Kind: "Cluster", Reconciler: &reconciler{set}, Ready: []string{CondReachable}, Resync: probe,
	})
}

// Reconcile asks for version and nodes.
func (r *reconciler) Reconcile(ctx context.Context, s *runtime.Session[*v1alpha1.Cluster]) (runtime.Result, error) {
	conn, err := r.clusters.Get(s.Object.GetMetadata().GetName())
	if err != nil {
		s.False(CondReachable, "NotConnected", "%v", err)
		return runtime.Result{}, nil
	}
	version, err := conn.API.Version(ctx)
	if err != nil {
		return runtime.Result{}, r.unreachable(s, err)
	}
	nodes, err := conn.API.Nodes(ctx)
	if err != nil {
		return runtime.Result{}, r.unreachable(s, err)
	}
	if s.Object.Status == nil {
		s.Object.Status = &v1alpha1.ClusterStatus{}
	}
	st := s.Object.Status
	st.Version, st.Nodes = proto.String(version.Version), nil
	online := int32(0)
	for _, n := range nodes {
		st.Nodes = append(st.Nodes, &v1alpha1.ClusterNode{Name: proto.String(n.Node), Online: proto.Bool(n.Online())})
		if n.Online() {
			online++
		}
	}
	slices.SortFunc(st.Nodes, func(a, b *v1alpha1.ClusterNode) int { return strings.Compare(a.GetName(), b.GetName()) })
	st.NodeCount = proto.Int32(online)
	s.True(CondReachable, "Reachable", "Proxmox VE %s, %d of %d nodes online", version.Version, online, len(nodes))
	return runtime.Result{}, nil
}

func (r *reconciler) unreachable(s *runtime.Session[*v1alpha1.Cluster], err error) error {
	s.False(CondReachable, "Unreachable", "%v", err)
	return lxc.Classify(fmt.Errorf("ask Proxmox: %w", err))
}

// Finalize has nothing to do: the connection is the daemon's.
func (r *reconciler) Finalize(context.Context, *runtime.Session[*v1alpha1.Cluster]) (runtime.Result, error) {
	return runtime.Result{}, nil
}
