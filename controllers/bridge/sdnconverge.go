package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	// sdnRounds bounds the observe-plan-act rounds of one reconcile: the longest way (two
	// writes, an apply), a reload of each of sixteen nodes, and some looks.
	sdnRounds = 32
	// sdnTimes bounds how often one step is taken in a reconcile: Proxmox may keep a setting other
	// than it was asked for, and would be asked for ever.
	sdnTimes = 3
	// reloadGlance is how often nodes are asked whether their reload has ended.
	reloadGlance = time.Second
)

// sdnWork is one reconcile of a Bridge with the backend sdn.
type sdnWork struct {
	*reconciler
	s      *session
	n      sdnBridge
	all    members
	report *report
	nodes  []sdnNode
	want   *sdnDesired // nil: gone
	// failed are nodes on which nothing more is tried now.
	failed map[string]error
	// before are the last reloads of nodes when the removal was about to be applied.
	before map[string]string
	until  time.Time // reloads are waited for
}

// convergeSDN makes zone and vnet as desired (gone, unless wanted), applies them, and sees to
// it that every node that is online takes them over.
func (r *reconciler) convergeSDN(ctx context.Context, s *session, conn *cluster.Connection, wanted bool) error {
	if err := r.settle(ctx, s, conn); err != nil {
		return err
	}
	all, address, err := sdnMembers(ctx, conn)
	if err != nil {
		return err
	}
	w := &sdnWork{reconciler: r, s: s, n: sdnOf(s.Object, conn), all: all, report: newReport(s, all, wanted), failed: map[string]error{}, until: time.Now().Add(reloadPatience)}
	w.nodes = nodesOf(s, all, w.report, address)
	if wanted {
		w.want = sdnDesire(s.Object, w.n.mark, w.nodes)
		if w.want.kind == "vxlan" && w.want.want["peers"] == "" {
			return runtime.Waiting(DefaultProbe, "NoPeers", "Proxmox lists no addresses of the cluster's nodes; name them in spec.sdn.peers")
		}
	}
	seen, blocked, err := w.rounds(ctx)
	if err != nil {
		return err
	}
	w.reportNodes(ctx, seen, blocked)
	if blocked != nil {
		s.False(CondConfigured, blocked.Reason, "%s", blocked.Text)
		return runtime.Stalled(blocked.Reason, "%s", blocked.Text)
	}
	return w.report.finish()
}

// rounds observes, plans and takes the first step until there is none.
func (w *sdnWork) rounds(ctx context.Context) (sdnSeen, *runtime.Blocked, error) {
	taken := map[string]int{}
	for range sdnRounds {
		seen, err := w.look(ctx)
		if err != nil {
			return seen, nil, err
		}
		steps, blocked := planSDN(w.want, seen, w.n.names)
		if len(steps) > 0 && seen.changes == nil {
			if err := w.n.lookAtOthers(ctx, w.want, &seen); err != nil {
				return seen, nil, err
			}
			w.s.Remember(seen)
			steps, blocked = planSDN(w.want, seen, w.n.names)
		}
		steps = slices.DeleteFunc(steps, func(st step) bool { return w.failed[st.node] != nil })
		switch {
		case len(steps) > 0 && blocked != nil && steps[0].Action != actionReload:
			return seen, blocked, nil
		case len(steps) > 0 && taken[steps[0].Action+steps[0].node] == sdnTimes:
			return seen, nil, runtime.Waiting(DefaultProbe, "NotSettling", "%s was asked for %d times, and Proxmox shows that it is still to be done", steps[0].Text, sdnTimes)
		case len(steps) > 0:
			taken[steps[0].Action+steps[0].node]++
			if err := w.take(ctx, steps[0], seen); err != nil {
				return seen, nil, err
			}
		case blocked != nil:
			return seen, blocked, nil
		case w.reloading(seen) && time.Now().Before(w.until):
			if err := runtime.Pause(ctx, reloadGlance); err != nil {
				return seen, nil, err
			}
		default:
			return seen, nil, nil
		}
	}
	return sdnSeen{}, nil, runtime.Waiting(DefaultProbe, "NotSettling", "SDN vnet %s keeps changing while it is worked on", w.n.names.vnet)
}

// look observes, and remembers it. A node that could not be looked at is left out of the rest.
func (w *sdnWork) look(ctx context.Context) (sdnSeen, error) {
	for i := range w.nodes {
		if w.nodes[i].known {
			w.nodes[i].written = entryOf(w.s, w.nodes[i].name).GetWritten()
		}
	}
	seen, err := w.n.observe(ctx, w.nodes, w.s.Object.GetStatus().GetZone() == w.n.names.zone, w.failed)
	if err != nil {
		return seen, err
	}
	seen.applied = w.s.Object.GetStatus().GetApplied()
	w.confirm(ctx, seen)
	w.s.Remember(seen)
	return seen, nil
}

// reloading tells whether a node that matters is about to take over what was applied.
func (w *sdnWork) reloading(o sdnSeen) bool {
	return slices.ContainsFunc(o.nodes, func(n sdnNode) bool { return n.known && n.online && n.reloading && w.failed[n.name] == nil })
}

// confirm notes nodes that have given the network up: a reload that began after the removal
// was applied has ended well there.
func (w *sdnWork) confirm(ctx context.Context, o sdnSeen) {
	for i := range o.nodes {
		n := &o.nodes[i]
		was, applied := w.before[n.name]
		if !applied || !n.online || !n.written || n.wanted || n.reloading || w.failed[n.name] != nil {
			continue
		}
		upid, status, err := w.n.lastReload(ctx, n.name)
		if err == nil && upid != was && status == "OK" {
			n.written = false
			entryOf(w.s, n.name).Written = proto.Bool(false)
		}
	}
}

// take takes one step. What goes wrong on one node is noted and holds up none of the others.
func (w *sdnWork) take(ctx context.Context, st step, o sdnSeen) error {
	s := w.s
	if st.Action == actionReload && !w.unwanted(st.node) {
		s.Warning(ctx, "Reload", "%s on node %s is not as applied (%s); reloading its network", w.n.names.vnet, st.node, w.statusOf(o, st.node))
	} else {
		s.Normal(ctx, st.Action, "%s", st.Text)
	}
	if err := w.prepare(ctx, st, o); err != nil {
		if st.node == "" {
			return err
		}
		w.failed[st.node] = err
		return nil
	}
	runtime.LogStep(s.Log, st.Step, "node", st.node)
	upid, err := w.n.act(ctx, st, w.want, o)
	if err != nil {
		err = w.refused(ctx, st, err)
	} else {
		err = w.await(ctx, s, w.n.conn, upid)
	}
	if st.Action != actionReload || ctx.Err() != nil {
		return err
	}
	switch {
	case err != nil:
		w.failed[st.node] = err
	case w.unwanted(st.node):
		entryOf(s, st.node).Written = proto.Bool(false)
		return s.SaveStatus(ctx)
	default:
		// One reload has to do; the next look tells whether it did.
		w.failed[st.node] = w.verify(ctx, st.node)
	}
	return nil
}

// unwanted tells whether a node is to give the network up.
func (w *sdnWork) unwanted(node string) bool {
	return !slices.ContainsFunc(w.nodes, func(n sdnNode) bool { return n.name == node && n.wanted })
}

func (w *sdnWork) statusOf(o sdnSeen, node string) string {
	for _, n := range o.nodes {
		if n.name == node {
			return strings.Trim(n.status+": "+n.message, ": ")
		}
	}
	return ""
}

// verify looks whether a reload did what it should.
func (w *sdnWork) verify(ctx context.Context, node string) error {
	n := sdnNode{name: node, wanted: true}
	if err := w.n.observeNode(ctx, &n); err != nil {
		return err
	}
	if n.status == proxmox.SDNAvailable {
		w.s.Normal(ctx, "Active", "%s is up on node %s", w.n.names.vnet, node)
		return nil
	}
	return runtime.Waiting(DefaultProbe, reasonNotActive, "the network of %s was reloaded, and %s is not as it should be: %s", node, w.n.names.vnet, strings.Trim(n.status+": "+n.message, ": "))
}

// prepare notes, durably, what a step is about to touch.
func (w *sdnWork) prepare(ctx context.Context, st step, o sdnSeen) error {
	switch st.Action {
	case actionWriteZone:
		// What takes a node out is not even staged while a guest there is plugged in: anybody's
		// apply would cut it off.
		for _, n := range o.nodes {
			if n.written && !n.wanted {
				if err := w.attached(ctx, w.s, w.n.conn, n.name); err != nil {
					return err
				}
			}
		}
		status(w.s).Zone = proto.String(w.n.names.zone)
	case actionReload:
		if w.unwanted(st.node) {
			return w.attached(ctx, w.s, w.n.conn, st.node)
		}
		entryOf(w.s, st.node).Written = proto.Bool(true)
	case actionApply:
		w.before = map[string]string{}
		for _, n := range o.nodes {
			switch {
			case !n.online || !n.known:
			case n.wanted:
				entryOf(w.s, n.name).Written = proto.Bool(true)
			case n.written:
				if err := w.attached(ctx, w.s, w.n.conn, n.name); err != nil {
					return err
				}
				upid, _, err := w.n.lastReload(ctx, n.name)
				if err != nil {
					return lxc.Classify(fmt.Errorf("list the reloads of %s: %w", n.name, err))
				}
				w.before[n.name] = upid
			}
		}
	}
	return w.s.SaveStatus(ctx)
}

// refused sorts the answers to a request that was not carried out.
func (w *sdnWork) refused(ctx context.Context, st step, err error) error {
	if proxmox.IsAlreadyExists(err) {
		// Something that the token may not see; or it was made this moment. Another look decides.
		if st.Action == actionWriteZone {
			status(w.s).Zone = nil
			return errors.Join(w.s.SaveStatus(ctx), runtime.Stalled("ZoneTaken", "there is an SDN zone %s that is not ours; use another spec.sdn.zone", w.n.names.zone))
		}
		return runtime.Stalled("VNetTaken", "there is an SDN vnet %s that is not ours; use another spec.interfaceName", w.n.names.vnet)
	}
	return &notWrittenError{sdnError(fmt.Errorf("%s %s: %w", st.Action, w.n.names.vnet, err))}
}

// reportNodes writes the nodes' entries, and what is left as somebody made it by hand.
func (w *sdnWork) reportNodes(ctx context.Context, o sdnSeen, blocked *runtime.Blocked) {
	for _, n := range o.nodes {
		m, err := member{n.name, n.online}, w.failed[n.name]
		switch {
		case !n.known:
		case !n.online:
			w.report.offline(m)
		case n.wanted && n.status == proxmox.SDNAvailable && o.vnetOurs && err == nil:
			entryOf(w.s, n.name).Written = proto.Bool(true) // also by a boot of the node
			w.report.node(m, true, nil)
		case err != nil:
			w.report.node(m, n.wanted, err)
		case blocked != nil && n.wanted:
			w.report.set(n.name, false, blocked.Reason, "%s", blocked.Text)
		case n.wanted:
			w.report.node(m, true, runtime.Waiting(reloadGlance, reasonNotActive, "%s on node %s is not up yet: %s", w.n.names.vnet, n.name, strings.Trim(n.status+": "+n.message, ": ")))
		case n.written && n.reloading:
			w.report.node(m, false, runtime.Waiting(reloadGlance, reasonNotActive, "node %s is giving %s up", n.name, w.n.names.vnet))
		case !entryOf(w.s, n.name).GetWritten():
			w.report.node(m, false, nil)
		}
	}
	if w.want != nil && blocked == nil {
		w.reportSDNDrift(ctx, o)
	}
}

// reportSDNDrift says which settings are left as somebody made them by hand.
func (w *sdnWork) reportSDNDrift(ctx context.Context, o sdnSeen) {
	if w.want.policy == "" || w.want.policy == lxc.DriftCorrect {
		status(w.s).Applied = nil
		reportLeft(ctx, w.s, nil)
		return
	}
	var left []string
	for _, key := range w.want.drifted(o) {
		left = append(left, fmt.Sprintf("%s of SDN zone %s", inWords([]string{key}), w.n.names.zone))
	}
	status(w.s).Applied = map[string]string{}
	for key, value := range w.want.want {
		status(w.s).Applied[key] = value
	}
	reportLeft(ctx, w.s, left)
}
