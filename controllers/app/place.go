package app

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/placement"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// choice is the node for a guest that is to be made, with what it was made from.
type choice struct {
	app      *v1alpha1.App
	cl       *v1alpha1.Cluster
	net      network
	inv      *placement.Inventory // nil: there is nothing to choose
	decision placement.Decision
}

func (c choice) chosen() bool { return c.inv != nil && c.decision.Node != "" }

// again decides anew with the Apps as they are now.
func (c *choice) again(apps []resource.Object) {
	if c.inv != nil {
		c.decision = placement.Place(requestOf(c.app, c.cl, c.net), candidates(c.app, c.cl, c.net, c.inv, apps))
	}
}

func (c choice) status() *v1alpha1.PlacementStatus { return common.PlacementStatus(c.decision) }

// wantedNode is the node that a guest is on, or is to be made on.
func wantedNode(a *v1alpha1.App) string {
	return cmp.Or(a.GetSpec().GetNode(), a.GetStatus().GetPlacement().GetNode())
}

// undecided tells whether a node is still to be chosen: no guest was ever seen, and none was
// chosen that the spec, as it is now, would allow. A choice never changes by itself.
func undecided(a *v1alpha1.App) bool {
	spec, st := a.GetSpec(), a.GetStatus()
	if spec.GetAdopt() || st.GetNode() != "" || st.GetTask() != "" {
		return false
	}
	node, p := st.GetPlacement().GetNode(), spec.GetPlacement()
	switch {
	case node == "":
		return true
	case spec.GetNode() != "":
		return node != spec.GetNode()
	}
	return len(p.GetNodes()) > 0 && !slices.Contains(p.GetNodes(), node) || slices.Contains(p.GetAvoid(), node)
}

// misplaced says why a guest would not be made on its node today, "" when it would.
func misplaced(a *v1alpha1.App, node string) string {
	p := a.GetSpec().GetPlacement()
	switch {
	case a.GetSpec().GetNode() != "" || node == "":
	case slices.Contains(p.GetAvoid(), node):
		return "spec.placement.avoid names it"
	case len(p.GetNodes()) > 0 && !slices.Contains(p.GetNodes(), node):
		return "spec.placement.nodes does not name it"
	}
	return ""
}

// choose decides where the guest is to be made, if that is not decided yet.
func (r *reconciler) choose(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, n network) (choice, error) {
	if !undecided(s.Object) {
		return choice{}, nil
	}
	inv, err := r.Guests.Of(conn).Inventory(ctx)
	if err != nil {
		return choice{}, lxc.Classify(fmt.Errorf("look at nodes and storages: %w", err))
	}
	if common.BridgeSpans(n.of) && requestOf(s.Object, cl, n).Named == "" {
		if err := common.BridgeSettled(n.of, inv); err != nil {
			return choice{}, err
		}
	}
	apps, err := s.Client.List(ctx, kind, "")
	if err != nil {
		return choice{}, err
	}
	c := choice{app: s.Object, cl: cl, net: n, inv: inv}
	c.again(apps)
	return c, nil
}

// requestOf is what an App asks of a node.
func requestOf(a *v1alpha1.App, cl *v1alpha1.Cluster, n network) placement.Request {
	spec := a.GetSpec()
	size, _ := common.AppSize(a) // what cannot be read stalls the App elsewhere
	named, by := spec.GetNode(), "spec.node"
	if named == "" && spec.Placement == nil && common.BridgeSpans(n.of) {
		named, by = cl.GetSpec().GetNode(), "Cluster "+cl.GetMetadata().GetName()
	}
	return placement.Request{
		Named: named, NamedBy: by, Nodes: spec.GetPlacement().GetNodes(), Avoid: spec.GetPlacement().GetAvoid(), Strategy: spec.GetPlacement().GetStrategy(),
		Memory: int64(size.MemoryMiB) << 20, Disk: int64(size.DiskGiB) << 30, Storage: cl.GetSpec().GetStorage(),
		// Where there is no choice, nothing is gained by refusing what Proxmox allows.
		Strict: named == "" && (spec.Placement != nil || common.BridgeSpans(n.of)),
	}
}

func templateOf(a *v1alpha1.App, cl *v1alpha1.Cluster) string {
	return cmp.Or(a.GetSpec().GetSource().GetTemplate(), cl.GetSpec().GetAppTemplate())
}

// candidates are the nodes as an App's guest finds them.
func candidates(a *v1alpha1.App, cl *v1alpha1.Cluster, n network, inv *placement.Inventory, apps []resource.Object) []placement.Node {
	nodes, online := common.Candidates(cl, inv, apps, resource.KeyOf(a), templateOf(a, cl))
	for i := range nodes {
		nodes[i].CutReason, nodes[i].Cut = n.cut(nodes[i].Name, online == 1 || a.GetSpec().GetNode() != "")
	}
	return nodes
}

// cut says why a guest on a node would not reach its appliance, "" when it would: it needs
// the Bridge there, and where that is a network of its own on each node, the appliance too.
// With alone, an appliance that has no node yet will come to the same one.
func (n network) cut(node string, alone bool) (reason, text string) {
	bridge, appliance := n.appliance.GetSpec().GetBridgeRef().GetName(), n.appliance.GetMetadata().GetName()
	if ready, why := common.BridgeOn(n.of, node); !ready {
		return "BridgeNotOnNode", why
	}
	if common.BridgeSpans(n.of) {
		return "", ""
	}
	st := n.appliance.GetStatus()
	switch at := cmp.Or(st.GetNode(), st.GetPlacement().GetNode(), n.appliance.GetSpec().GetNode()); {
	case at == "" && !alone:
		return "ApplianceNotPlaced", fmt.Sprintf("Appliance %s has no node yet, and Bridge %s leads to no other", appliance, bridge)
	case at != "" && at != node:
		return "ApplianceOnOtherNode", fmt.Sprintf("Appliance %s is on node %s, and Bridge %s leads to no other", appliance, at, bridge)
	}
	return "", ""
}

// reportPlaced tells which node was chosen and why, and waits when none fits.
func (r *reconciler) reportPlaced(ctx context.Context, s *session, c choice) error {
	st := s.Object.GetStatus()
	if c.inv != nil && c.decision.Node == "" {
		reason, text := c.decision.Blocking()
		// Figures move all the time: they are told anew when something else changed.
		seen, _ := s.Remembered().(observed)
		if sig := c.decision.Signature(); seen.unplaced != sig {
			seen.unplaced, seen.unplacedText = sig, text
			s.Remember(seen)
			s.Warning(ctx, reason, "no node fits: %s", text)
		}
		s.False(CondPlaced, reason, "no node fits: %s", seen.unplacedText)
		return common.Unplaced(reason, seen.unplacedText)
	}
	if c.chosen() {
		common.ReportPlacement(ctx, s, c.decision)
	}
	switch p := st.GetPlacement(); {
	case s.Object.GetSpec().GetAdopt() && p == nil:
		s.True(CondPlaced, "Adopted", "the guest is taken over where it is")
	case p == nil:
		s.True(CondPlaced, "Placed", "the guest is on node %s", st.GetNode())
	case st.GetNode() != "" && st.GetNode() != p.GetNode():
		s.True(CondPlaced, "Moved", "the guest is on node %s; it was to be made on node %s: %s", st.GetNode(), p.GetNode(), p.GetReason())
	default:
		s.True(CondPlaced, "Placed", "node %s: %s", p.GetNode(), p.GetReason())
	}
	return nil
}

// stands returns the node for a guest that is to be made now: the one that was chosen, or
// where it was before it vanished. That it can be made there is looked at again.
func (r *reconciler) stands(ctx context.Context, a *v1alpha1.App, conn *cluster.Connection, cl *v1alpha1.Cluster, n network) (string, error) {
	if a.GetSpec().GetAdopt() {
		return "", nil // wherever it is
	}
	node := cmp.Or(a.GetSpec().GetNode(), a.GetStatus().GetNode(), a.GetStatus().GetPlacement().GetNode())
	inv, err := r.Guests.Of(conn).Inventory(ctx)
	if err != nil {
		return "", lxc.Classify(fmt.Errorf("look at nodes and storages: %w", err))
	}
	req := requestOf(a, cl, n)
	req.Named, req.Strict = node, false
	d := placement.Place(req, candidates(a, cl, n, inv, nil))
	if d.Node == "" {
		return "", common.Unplaced(d.Blocking())
	}
	return node, nil
}

// foresee is the node for a plan, with sentences about why, as far as that is known without
// asking anybody.
func (r *reconciler) foresee(ctx context.Context, p runtime.Planning[*v1alpha1.App], conn *cluster.Connection, cl *v1alpha1.Cluster, n network) (node string, notes []string, err error) {
	a := p.Object
	node = cmp.Or(a.GetSpec().GetNode(), a.GetStatus().GetNode())
	if !undecided(a) {
		node = cmp.Or(node, a.GetStatus().GetPlacement().GetNode())
		return node, common.PlacementNotes(a.GetStatus().GetPlacement()), nil
	}
	inv := r.Guests.LastInventory(conn)
	if inv == nil {
		if node == "" && !common.BridgeSpans(n.of) {
			node = cmp.Or(n.appliance.GetStatus().GetNode(), n.appliance.GetSpec().GetNode(), cl.GetSpec().GetNode())
		}
		return cmp.Or(node, common.OnlyNode(cl)), nil, nil
	}
	apps, err := p.Client.List(ctx, kind, "")
	if err != nil {
		return "", nil, err
	}
	d := placement.Place(requestOf(a, cl, n), candidates(a, cl, n, inv, apps))
	if d.Node == "" {
		_, text := d.Blocking()
		return node, []string{"as it was seen last, no node fits: " + text}, nil
	}
	return d.Node, common.PlacementNotes(common.PlacementStatus(d)), nil
}
