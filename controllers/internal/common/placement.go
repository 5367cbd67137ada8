package common

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/placement"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// AppSize is what the guest of an App may take.
func AppSize(a *v1alpha1.App) (lxc.Sizes, error) {
	return lxc.Size(a.GetSpec().GetResources(), lxc.Sizes{Cores: 1, MemoryMiB: 512, DiskGiB: 4})
}

// Candidates are the nodes for a guest of the object self, with what was promised to guests
// of ours and reserved for those Apps that are not made yet; and how many are online. What
// the network cuts off is the caller's to say.
func Candidates(cl *v1alpha1.Cluster, inv *placement.Inventory, apps []resource.Object, self resource.Key, template string) (nodes []placement.Node, online int) {
	templates := Templates(cl)
	nodes = make([]placement.Node, len(inv.Nodes))
	at := make(map[string]*placement.Node, len(nodes))
	for i, f := range inv.Nodes {
		nodes[i] = placement.Node{NodeFacts: f, Template: templates.On(f, template), TemplateName: template}
		at[f.Name] = &nodes[i]
		if f.Online {
			online++
		}
	}
	for _, g := range inv.Guests {
		if node := at[g.Node]; node != nil && g.Ours && g.Running {
			node.Promised += max(0, g.Memory-g.Used)
		}
	}
	for _, o := range apps {
		app := o.(*v1alpha1.App)
		st := app.GetStatus()
		if resource.KeyOf(app) == self || st.GetCluster() != cl.GetMetadata().GetName() {
			continue
		}
		guest, made := inv.Guests[int(st.GetVmid())]
		node := at[cmp.Or(guest.Node, st.GetNode(), st.GetPlacement().GetNode())]
		if node == nil {
			continue
		}
		node.Apps++
		stopped := app.GetSpec().GetState() == "Stopped"
		if made && (guest.Running || stopped) {
			continue // what it was promised has been counted, or is not claimed
		}
		size, err := AppSize(app)
		if err != nil || resource.Deleting(app) {
			continue
		}
		if !stopped {
			node.Promised += int64(size.MemoryMiB) << 20
		}
		if !made {
			node.Held += int64(size.DiskGiB) << 30
		}
	}
	return nodes, online
}

// PlacementStatus is a decision as statuses keep it.
func PlacementStatus(d placement.Decision) *v1alpha1.PlacementStatus {
	p := &v1alpha1.PlacementStatus{Node: proto.String(d.Node), Reason: proto.String(d.Why)}
	for _, o := range d.Others {
		p.Others = append(p.Others, &v1alpha1.NodeRejection{Node: proto.String(o.Node), Reason: proto.String(o.Text)})
	}
	return p
}

// PlacementNotes says in a plan why a node was chosen, and why the others were not.
func PlacementNotes(p *v1alpha1.PlacementStatus) []string {
	if p == nil {
		return nil
	}
	notes := []string{fmt.Sprintf("node %s is chosen: %s", p.GetNode(), p.GetReason())}
	if others := othersText(p); others != "" {
		notes = append(notes, "other nodes are not: "+others)
	}
	return notes
}

func othersText(p *v1alpha1.PlacementStatus) string {
	texts := make([]string, len(p.GetOthers()))
	for i, o := range p.GetOthers() {
		texts[i] = o.GetNode() + ": " + o.GetReason()
	}
	return strings.Join(texts, "; ")
}

// ReportPlacement records the choice of a node as an event, and what may go wrong there.
func ReportPlacement[T resource.Object](ctx context.Context, s *runtime.Session[T], d placement.Decision) {
	text := ""
	if others := othersText(PlacementStatus(d)); others != "" {
		text = "; others: " + others
	}
	s.Normal(ctx, "Placed", "node %s: %s%s", d.Node, d.Why, text)
	for _, w := range d.Warnings {
		s.Warning(ctx, "RoomShort", "%s", w)
	}
}

// Unplaced is the error of an object for whose guest no node fits. It is looked at again:
// nodes come back and room is made. A node that does not exist takes a human.
func Unplaced(reason, text string) error {
	if reason == placement.ReasonNodeNotFound {
		return runtime.Stalled(reason, "no node fits: %s", text)
	}
	return runtime.Waiting(DependencyRecheck, reason, "no node fits: %s", text)
}

// bridgeRecheck is the pause while a Bridge is being made on a node that might be chosen.
const bridgeRecheck = time.Second

// BridgeSettled waits until a Bridge that has just been declared was tried on every node that
// is online: otherwise the first one would always be chosen. A node that it cannot be made on
// holds up nobody.
func BridgeSettled(b *v1alpha1.Bridge, inv *placement.Inventory) error {
	tried := map[string]bool{}
	for _, n := range b.GetStatus().GetNodes() {
		tried[n.GetName()] = n.GetReady() || n.GetReason() != ""
	}
	for _, n := range inv.Nodes {
		wanted := len(b.GetSpec().GetNodes()) == 0 || slices.Contains(b.GetSpec().GetNodes(), n.Name)
		if n.Online && wanted && !tried[n.Name] {
			return runtime.Waiting(bridgeRecheck, "BridgeNotReady", "Bridge %s is being made on node %s; then a node is chosen", b.GetMetadata().GetName(), n.Name)
		}
	}
	return nil
}
