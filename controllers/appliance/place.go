package appliance

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/placement"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// choose decides where the guest is to be made, if that is not decided yet: a guest was seen,
// or a node was chosen before and the spec does not name another. A choice never changes by itself.
func (r *reconciler) choose(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, n network) (d placement.Decision, chosen bool, err error) {
	st, named := s.Object.GetStatus(), s.Object.GetSpec().GetNode()
	node := st.GetPlacement().GetNode()
	if s.Object.GetSpec().GetAdopt() || st.GetNode() != "" || st.GetTask() != "" || node != "" && (named == "" || named == node) {
		return d, false, nil
	}
	d, err = r.decide(ctx, s.Object, conn, cl, n, "")
	return d, err == nil, err
}

// decide looks for a node that fits; force is one that is taken if it works at all.
func (r *reconciler) decide(ctx context.Context, a *v1alpha1.Appliance, conn *cluster.Connection, cl *v1alpha1.Cluster, n network, force string) (placement.Decision, error) {
	inv, err := r.Guests.Of(conn).Inventory(ctx)
	if err != nil {
		return placement.Decision{}, lxc.Classify(fmt.Errorf("look at nodes and storages: %w", err))
	}
	if cmp.Or(force, a.GetSpec().GetNode(), cl.GetSpec().GetNode()) == "" {
		if err := common.BridgeSettled(n.of, inv); err != nil {
			return placement.Decision{}, err
		}
	}
	return decideBy(inv, a, conn, cl, n, force)
}

// decideBy decides by what is known.
func decideBy(inv *placement.Inventory, a *v1alpha1.Appliance, conn *cluster.Connection, cl *v1alpha1.Cluster, n network, force string) (placement.Decision, error) {
	g, err := desiredGuest(a, cl, mark(a, conn), n)
	if err != nil {
		return placement.Decision{}, err
	}
	req := placement.Request{
		Named: cmp.Or(force, a.GetSpec().GetNode()), NamedBy: "spec.node",
		Memory: int64(g.MemoryMiB) << 20, Disk: int64(g.DiskGiB) << 30, Storage: g.Storage,
	}
	if req.Named == "" {
		req.Named, req.NamedBy = cl.GetSpec().GetNode(), "Cluster "+cl.GetMetadata().GetName()
	}
	nodes, _ := common.Candidates(cl, inv, nil, resource.KeyOf(a), g.Template)
	for i := range nodes {
		if ready, why := common.BridgeOn(n.of, nodes[i].Name); !ready {
			nodes[i].CutReason, nodes[i].Cut = "BridgeNotOnNode", why
		}
	}
	return placement.Place(req, nodes), nil
}

// foresee is the node for a plan, with sentences about why, as far as that is known without
// asking anybody.
func (r *reconciler) foresee(a *v1alpha1.Appliance, conn *cluster.Connection, cl *v1alpha1.Cluster, n network) (node string, notes []string) {
	st := a.GetStatus()
	if node = cmp.Or(a.GetSpec().GetNode(), st.GetNode(), st.GetPlacement().GetNode()); node != "" {
		if node == st.GetPlacement().GetNode() {
			notes = common.PlacementNotes(st.GetPlacement())
		}
		return node, notes
	}
	inv := r.Guests.LastInventory(conn)
	if a.GetSpec().GetAdopt() {
		return "", nil
	}
	if inv == nil {
		return cmp.Or(cl.GetSpec().GetNode(), common.OnlyNode(cl)), nil
	}
	d, err := decideBy(inv, a, conn, cl, n, "")
	if err != nil || d.Node == "" {
		return cl.GetSpec().GetNode(), nil // when it comes to it, it says why
	}
	return d.Node, common.PlacementNotes(common.PlacementStatus(d))
}

const unplaced = "no node fits: "

// reportPlaced tells which node was chosen and why, and waits when none fits.
func (r *reconciler) reportPlaced(ctx context.Context, s *session, d placement.Decision, chosen bool) error {
	st := s.Object.GetStatus()
	switch p := st.GetPlacement(); {
	case chosen && d.Node == "":
		reason, text := d.Blocking()
		// Figures in the text move all the time: it is told anew when the reason is another one.
		if c := resource.FindCondition(s.Object, CondPlaced); c.GetStatus() == "False" && c.GetReason() == reason {
			text = strings.TrimPrefix(c.GetMessage(), unplaced)
		} else {
			s.Warning(ctx, reason, unplaced+"%s", text)
		}
		s.False(CondPlaced, reason, unplaced+"%s", text)
		return common.Unplaced(reason, text)
	case s.Object.GetSpec().GetAdopt() && p == nil:
		s.True(CondPlaced, "Adopted", "the guest is taken over where it is")
	case p == nil:
		s.True(CondPlaced, "Placed", "the guest is on node %s", st.GetNode())
	case st.GetNode() != "" && st.GetNode() != p.GetNode():
		s.True(CondPlaced, "Moved", "the guest is on node %s; it was to be made on node %s: %s", st.GetNode(), p.GetNode(), p.GetReason())
	default:
		s.True(CondPlaced, "Placed", "node %s: %s", p.GetNode(), p.GetReason())
	}
	if chosen {
		common.ReportPlacement(ctx, s, d)
	}
	return nil
}

// stands returns the node for a guest that is to be made now: the one that was chosen, or
// where it was before it vanished. That it can be made there is looked at again.
func (r *reconciler) stands(ctx context.Context, a *v1alpha1.Appliance, conn *cluster.Connection, cl *v1alpha1.Cluster, n network) (string, error) {
	if a.GetSpec().GetAdopt() {
		return "", nil // wherever it is
	}
	node := cmp.Or(a.GetSpec().GetNode(), a.GetStatus().GetNode(), a.GetStatus().GetPlacement().GetNode())
	d, err := r.decide(ctx, a, conn, cl, n, node)
	if err == nil && d.Node == "" {
		err = common.Unplaced(d.Blocking())
	}
	return d.Node, err
}
