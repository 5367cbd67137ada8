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
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// converge takes the steps of the plan on each node, and says in the status how it went
// there. Nodes that should not have the bridge (none should, unless wanted) get rid of it.
func (r *reconciler) converge(ctx context.Context, s *session, conn *cluster.Connection, members members, wanted bool) error {
	if err := r.settle(ctx, s, conn); err != nil {
		return err
	}
	seen := observed{iface: s.Object.GetSpec().GetInterfaceName()}
	report := newReport(s, members, wanted)
	for _, m := range report.look {
		if !m.online {
			report.offline(m)
			continue
		}
		n := on(s.Object, conn, m.name)
		var d *desired
		if wanted && report.wants(m.name) {
			d = n.desired()
		}
		err := r.convergeNode(ctx, s, n, d, &seen)
		if ctx.Err() != nil {
			return err
		}
		report.node(m, d != nil, err)
	}
	s.Remember(seen)
	if wanted {
		r.reportDrift(ctx, s, conn, seen)
	}
	return report.finish()
}

// convergeNode brings one node to what is desired (nil: gone), and adds to seen what it
// saw last.
func (r *reconciler) convergeNode(ctx context.Context, s *session, n nodeBridge, d *desired, seen *observed) error {
	if err := r.settle(ctx, s, n.conn); err != nil {
		return err
	}
	o, err := n.observe(ctx)
	if err != nil {
		return lxc.Classify(err)
	}
	entry := entryOf(s, n.node)
	o.owed, o.unwanted, o.applied = entry.GetWritten(), d == nil, entry.GetApplied()
	seen.nodes = append(seen.nodes, o)
	s.Remember(observed{seen.iface, slices.Clone(seen.nodes)})
	todo, blocked := planNode(d, n.iface, o)
	if blocked != nil {
		return runtime.Stalled(blocked.Reason, "%s", blocked.Text)
	}
	if len(todo) == 0 {
		entry.Written = proto.Bool(d != nil)
		return nil
	}
	if d == nil {
		if err := r.attached(ctx, s, n.conn, n.node); err != nil {
			return err
		}
	}
	if todo[0].Action != actionReload {
		s.Normal(ctx, todo[0].Action, "%s on node %s (%s)", n.iface, n.node, methodFor(n.iface))
	} else {
		s.Warning(ctx, "Reload", "%s on node %s is not as configured; reloading its network", n.iface, n.node)
	}
	// Whatever comes between, the node is not forgotten.
	entry.Written = proto.Bool(true)
	if err := s.SaveStatus(ctx); err != nil {
		return err
	}
	var keep []string
	if d != nil {
		keep = d.drifted(o)
	}
	for _, st := range todo {
		if err := r.take(ctx, s, n, st, o, keep); err != nil {
			return err
		}
	}
	now, err := n.verify(ctx, s, d != nil)
	now.unwanted, now.applied = o.unwanted, o.applied
	seen.nodes[len(seen.nodes)-1] = now
	if err != nil || d != nil {
		return err
	}
	entryOf(s, n.node).Written = proto.Bool(false)
	return s.SaveStatus(ctx)
}

// take takes one step and waits for its task.
func (r *reconciler) take(ctx context.Context, s *session, n nodeBridge, st step, seen nodeSeen, keep []string) error {
	runtime.LogStep(s.Log, st.Step, "node", n.node)
	upid, err := n.act(ctx, st.Action, seen, keep)
	if errors.Is(err, guest.ErrChanged) || errors.Is(err, guest.ErrUnreachable) {
		return runtime.Waiting(time.Second, reasonNotWritten, "%v", err)
	}
	if err != nil {
		return &notWrittenError{lxc.Classify(fmt.Errorf("%s %s on %s: %w", st.Action, n.iface, n.node, err))}
	}
	return r.await(ctx, s, n.conn, upid)
}

// await notes a task, "" for none, and waits for it.
func (r *reconciler) await(ctx context.Context, s *session, conn *cluster.Connection, upid string) error {
	if upid == "" {
		return nil
	}
	status(s).Task = proto.String(upid)
	if err := s.SaveStatus(ctx); err != nil {
		return err
	}
	return r.settle(ctx, s, conn)
}

// reportDrift says which settings are left as somebody made them by hand, and keeps those
// that were set, so that the next look can tell drift from a change of the spec.
func (r *reconciler) reportDrift(ctx context.Context, s *session, conn *cluster.Connection, seen observed) {
	var left []string
	keeps := s.Object.GetSpec().GetDriftPolicy() != "" && s.Object.GetSpec().GetDriftPolicy() != lxc.DriftCorrect
	for _, o := range seen.nodes {
		entry, d := entryOf(s, o.node), on(s.Object, conn, o.node).desired()
		if o.unwanted || !keeps {
			entry.Applied = nil
			continue
		}
		if !o.ours || len(d.changes(o)) > 0 {
			continue // nothing has been set there yet
		}
		if keys := d.drifted(o); len(keys) > 0 {
			left = append(left, fmt.Sprintf("%s on node %s", inWords(keys), o.node))
		}
		entry.Applied = d.settings()
	}
	reportLeft(ctx, s, left)
}

// reportLeft is the condition InSync, which is no part of Ready.
func reportLeft(ctx context.Context, s *session, left []string) {
	policy := s.Object.GetSpec().GetDriftPolicy()
	switch {
	case policy == "" || policy == lxc.DriftCorrect:
		if hasCondition(s, condInSync) {
			s.True(condInSync, "InSync", "settings that are changed by hand are set again")
		}
	case len(left) == 0:
		s.True(condInSync, "InSync", "the bridge's settings are as declared")
	default:
		text := fmt.Sprintf("changed by hand: %s; spec.driftPolicy is %s, so it stays so: change the spec to keep it, or set the policy to correct to have it set again", strings.Join(left, "; "), policy)
		if policy == lxc.DriftWarn && messageOf(s, condInSync) != text {
			s.Warning(ctx, "Drifted", "changed by hand: %s", strings.Join(left, "; "))
		}
		s.False(condInSync, "Drifted", "%s", text)
	}
}
