package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Plan implements runtime's Options.Plan.
func (r *reconciler) Plan(ctx context.Context, p runtime.Planning[*v1alpha1.Bridge]) (runtime.Plan, error) {
	spec := p.Object.GetSpec()
	if methodOf(p.Object) == methodSDN {
		return r.planSDN(ctx, p)
	}
	o, _ := p.Seen.(observed)
	if p.Deleted {
		if plan, ended, err := keptAtDeletion(ctx, p, "bridge "+spec.GetInterfaceName()); ended || err != nil {
			return plan, err
		}
		steps, blocked := plan(nil, o)
		made := runtime.Plan{Steps: public(steps), Blocked: blocked}
		if away := notSeen(common.BridgeWritten(p.Object), o); len(away) > 0 {
			made.Notes = []string{fmt.Sprintf("the bridge may be on %s too, where nobody has looked", strings.Join(away, ", "))}
		}
		return made, nil
	}
	conn, cl, err := common.Connect(ctx, p.Client, r.Clusters, spec.GetClusterRef().GetName())
	if err != nil {
		return runtime.Plan{}, err
	}
	o.iface = spec.GetInterfaceName()
	var wanted []string
	for _, n := range cl.GetStatus().GetNodes() {
		if n.GetOnline() && (len(spec.GetNodes()) == 0 || slices.Contains(spec.GetNodes(), n.GetName())) {
			wanted = append(wanted, n.GetName())
		}
	}
	o.nodes = slices.Clone(o.nodes)
	for i, n := range o.nodes {
		o.nodes[i].unwanted = len(spec.GetNodes()) > 0 && !slices.Contains(spec.GetNodes(), n.node)
	}
	for _, node := range notSeen(wanted, o) {
		o.nodes = append(o.nodes, nodeSeen{node: node, noHost: conn.Host == nil})
	}
	slices.SortFunc(o.nodes, func(a, b nodeSeen) int { return strings.Compare(a.node, b.node) })
	steps, blocked := plan(on(p.Object, conn, "").desired(), o)
	made := runtime.Plan{Steps: public(steps), Blocked: blocked}
	for _, n := range o.nodes {
		if keys := on(p.Object, conn, n.node).desired().drifted(n); !n.unwanted && len(keys) > 0 {
			made.Notes = append(made.Notes, fmt.Sprintf("%s on node %s was changed by hand; spec.driftPolicy is %s, so it stays so", inWords(keys), n.node, spec.GetDriftPolicy()))
		}
	}
	if len(o.nodes) == 0 {
		made.Notes = []string{"which nodes there are is not known yet: the bridge will be defined on every node that is online"}
	}
	return made, nil
}

// keptAtDeletion tells whether the deletion of a Bridge ends without a step outside, because
// the network is let go, and in an error who still uses it.
func keptAtDeletion(ctx context.Context, p runtime.Planning[*v1alpha1.Bridge], what string) (plan runtime.Plan, ended bool, err error) {
	user, err := userOf(ctx, p.Client, p.Object)
	switch {
	case err != nil:
		return runtime.Plan{}, false, err
	case user != "":
		return runtime.Plan{}, false, inUse(user)
	case p.Object.GetSpec().GetDeletionPolicy() == "Orphan":
		return common.Orphaned(what), true, nil
	}
	return runtime.Plan{}, false, nil
}

// planSDN is Plan for the backend sdn.
func (r *reconciler) planSDN(ctx context.Context, p runtime.Planning[*v1alpha1.Bridge]) (runtime.Plan, error) {
	spec := p.Object.GetSpec()
	o, looked := p.Seen.(sdnSeen)
	names := sdnNames{zone: spec.GetSdn().GetZone(), vnet: spec.GetInterfaceName()}
	if p.Deleted {
		if plan, ended, err := keptAtDeletion(ctx, p, "SDN vnet "+names.vnet); ended || err != nil {
			return plan, err
		}
		o.nodes = slices.Clone(o.nodes)
		for i := range o.nodes {
			o.nodes[i].wanted = false
		}
		steps, blocked := planSDN(nil, o, names)
		made := runtime.Plan{Steps: public(steps), Blocked: blocked}
		if len(o.tenants) > 0 {
			made.Notes = []string{fmt.Sprintf("SDN zone %s stays: somebody else's vnets are in it (%s)", names.zone, strings.Join(o.tenants, ", "))}
		}
		return made, nil
	}
	conn, cl, err := common.Connect(ctx, p.Client, r.Clusters, spec.GetClusterRef().GetName())
	if err != nil {
		return runtime.Plan{}, err
	}
	wanted := func(node string) bool { return len(spec.GetNodes()) == 0 || slices.Contains(spec.GetNodes(), node) }
	o.nodes = slices.Clone(o.nodes)
	for i, n := range o.nodes {
		o.nodes[i].wanted = wanted(n.name)
	}
	for _, n := range cl.GetStatus().GetNodes() {
		if wanted(n.GetName()) && !looked {
			o.nodes = append(o.nodes, sdnNode{name: n.GetName(), online: n.GetOnline(), wanted: true})
		}
	}
	d := sdnDesire(p.Object, markOf(p.Object, conn), o.nodes)
	steps, blocked := planSDN(d, o, names)
	made := runtime.Plan{Steps: public(steps), Blocked: blocked}
	for _, key := range d.drifted(o) {
		made.Notes = append(made.Notes, fmt.Sprintf("%s of SDN zone %s was changed by hand; spec.driftPolicy is %s, so it stays so", inWords([]string{key}), names.zone, spec.GetDriftPolicy()))
	}
	if !looked && common.BridgeSpans(p.Object) && len(spec.GetSdn().GetPeers()) == 0 {
		made.Notes = append(made.Notes, "the tunnels' peers will be the addresses that Proxmox lists for the nodes")
	}
	return made, nil
}

// notSeen are the nodes that were not looked at.
func notSeen(nodes []string, o observed) []string {
	return slices.DeleteFunc(slices.Clone(nodes), func(name string) bool {
		return slices.ContainsFunc(o.nodes, func(n nodeSeen) bool { return n.node == name })
	})
}

func public(steps []step) []runtime.Step {
	out := make([]runtime.Step, len(steps))
	for i, s := range steps {
		out[i] = s.Step
	}
	return out
}
