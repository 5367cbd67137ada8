package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Reasons that more than one place gives.
const (
	reasonNotWritten  = "NotWritten"
	reasonNotActive   = "NotActive"
	reasonNodeOffline = "NodeOffline"
	reasonReady       = "Ready"
	reasonUIDUnknown  = "UIDUnknown"
)

const condInSync = common.CondInSync

// member is a node of the cluster.
type member struct {
	name   string
	online bool
}

// members are the nodes of a cluster in the order of their names.
type members []member

func (m members) online(name string) bool {
	return slices.ContainsFunc(m, func(n member) bool { return n.name == name && n.online })
}

func membersOf(ctx context.Context, conn *cluster.Connection) (members, error) {
	nodes, err := conn.API.Nodes(ctx)
	if err != nil {
		return nil, lxc.Classify(fmt.Errorf("list nodes: %w", err))
	}
	var out members
	for _, n := range nodes {
		out = append(out, member{n.Node, n.Online()})
	}
	if !slices.ContainsFunc(out, func(m member) bool { return m.online }) {
		return nil, runtime.Waiting(common.DependencyRecheck, reasonNodeOffline, "no node of the cluster is online")
	}
	slices.SortFunc(out, func(a, b member) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

// entryOf is the status of the bridge on a node, made if there is none.
func entryOf(s *session, node string) *v1alpha1.BridgeNode {
	st := status(s)
	i, found := slices.BinarySearchFunc(st.Nodes, node, func(e *v1alpha1.BridgeNode, name string) int { return strings.Compare(e.GetName(), name) })
	if !found {
		st.Nodes = slices.Insert(st.Nodes, i, &v1alpha1.BridgeNode{Name: proto.String(node), Ready: proto.Bool(false)})
	}
	return st.Nodes[i]
}

func hasCondition(s *session, typ string) bool { return resource.FindCondition(s.Object, typ) != nil }

func messageOf(s *session, typ string) string {
	return resource.FindCondition(s.Object, typ).GetMessage()
}

// notWrittenError is a refused change of a node's configuration.
type notWrittenError struct{ err error }

func (e *notWrittenError) Error() string { return e.err.Error() }
func (e *notWrittenError) Unwrap() error { return e.err }

// report gathers how it went on each node.
type report struct {
	s      *session
	spec   []string // spec.nodes
	look   []member // nodes to look at: that should have the bridge, or may have it
	wanted bool
	on     []string // nodes that are as they should be
	away   []string
	wrong  []nodeError
}

type nodeError struct {
	node string
	err  error
}

func newReport(s *session, all members, wanted bool) *report {
	r := &report{s: s, spec: s.Object.GetSpec().GetNodes(), wanted: wanted}
	known := common.BridgeWritten(s.Object)
	var names []string
	for _, m := range all {
		names = append(names, m.name)
		// A deletion looks everywhere: a crash may have come before it was noted where to.
		if !wanted || r.wants(m.name) || slices.Contains(known, m.name) {
			r.look = append(r.look, m)
		}
	}
	for _, name := range r.spec {
		if wanted && !slices.Contains(names, name) {
			entryOf(s, name)
			r.node(member{name: name}, true, runtime.Stalled("NodeNotFound", "spec.nodes: there is no node %s; nodes are: %s", name, strings.Join(names, ", ")))
		}
	}
	// A node that has left the cluster needs nothing; one that is listed by nobody else and may
	// have the bridge is waited for.
	st := status(s)
	st.Nodes = slices.DeleteFunc(st.Nodes, func(e *v1alpha1.BridgeNode) bool {
		return !e.GetWritten() && !slices.ContainsFunc(r.look, func(m member) bool { return m.name == e.GetName() }) && !slices.Contains(r.spec, e.GetName())
	})
	for _, e := range st.Nodes {
		if !slices.Contains(names, e.GetName()) && e.GetWritten() {
			r.offline(member{name: e.GetName()})
		}
	}
	return r
}

// wants tells whether a node should have the bridge.
func (r *report) wants(node string) bool { return len(r.spec) == 0 || slices.Contains(r.spec, node) }

// set writes a node's entry.
func (r *report) set(node string, ready bool, reason, format string, args ...any) {
	e := entryOf(r.s, node)
	e.Ready, e.Reason, e.Message = proto.Bool(ready), proto.String(reason), proto.String(fmt.Sprintf(format, args...))
}

// offline notes a node that cannot be looked at; it holds up none of the others.
func (r *report) offline(m member) {
	if r.wanted && r.wants(m.name) || entryOf(r.s, m.name).GetWritten() {
		r.away = append(r.away, m.name)
	}
	r.set(m.name, false, reasonNodeOffline, "node %s is not online", m.name)
}

// node notes what came of the work on a node.
func (r *report) node(m member, wanted bool, err error) {
	e := entryOf(r.s, m.name)
	var waiting *runtime.WaitingError
	var stalled *runtime.StalledError
	switch {
	case err == nil && wanted:
		r.on = append(r.on, m.name)
		r.set(m.name, true, reasonReady, "%s is up on %s", r.s.Object.GetSpec().GetInterfaceName(), m.name)
		return
	case err == nil:
		r.s.Object.Status.Nodes = slices.DeleteFunc(r.s.Object.Status.Nodes, func(o *v1alpha1.BridgeNode) bool { return o == e })
		return
	case errors.As(err, &stalled):
		r.set(m.name, false, stalled.Reason, "%s", stalled.Text)
	case errors.As(err, &waiting):
		r.set(m.name, false, waiting.Reason, "%s", waiting.Text)
	case e.GetReady():
		// A look that failed says nothing about the bridge: what was known of it stays.
		r.set(m.name, true, "NotSeen", "the last look failed: %v", err)
	default:
		r.set(m.name, false, "NotSeen", "%v", err)
	}
	r.wrong = append(r.wrong, nodeError{m.name, err})
}

// finish writes the conditions, and returns the worst of what went wrong, with the names of
// all nodes that are concerned.
func (r *report) finish() error {
	if len(r.wrong) == 0 {
		if r.wanted {
			r.settled()
		}
		return nil
	}
	worst := r.wrong[0]
	for _, w := range r.wrong[1:] {
		if rank(w.err) > rank(worst.err) {
			worst = w
		}
	}
	var also []string
	for _, w := range r.wrong {
		if w.node != worst.node {
			also = append(also, w.node)
		}
	}
	err := namingOthers(worst.err, also)
	var refused *notWrittenError
	var waiting *runtime.WaitingError
	var stalled *runtime.StalledError
	switch {
	case !r.wanted:
	case errors.As(err, &stalled):
		r.s.False(CondConfigured, stalled.Reason, "%s", stalled.Text)
	case errors.As(err, &refused):
		r.s.False(CondConfigured, reasonNotWritten, "%v", err)
	case errors.As(err, &waiting) && waiting.Reason == reasonNotActive:
		r.s.False(CondActive, waiting.Reason, "%s", waiting.Text)
	}
	return err
}

// settled is the case that every node that is online has what it should have.
func (r *report) settled() {
	iface, away := r.s.Object.GetSpec().GetInterfaceName(), ""
	if len(r.away) > 0 {
		away = "; not online: " + strings.Join(r.away, ", ")
	}
	on := strings.Join(r.on, ", ")
	r.s.True(CondConfigured, "Written", "%s is configured on %s (%s)%s", iface, on, methodOf(r.s.Object), away)
	r.s.True(CondActive, "Active", "%s is up on %s%s", iface, on, away)
}

// rank orders errors: what a human must change first, then failures, then what only takes time.
func rank(err error) int {
	var waiting *runtime.WaitingError
	var stalled *runtime.StalledError
	switch {
	case errors.As(err, &stalled):
		return 2
	case errors.As(err, &waiting):
		return 0
	}
	return 1
}

// namingOthers adds the names of further nodes to an error, which keeps its class.
func namingOthers(err error, nodes []string) error {
	if len(nodes) == 0 {
		return err
	}
	more := fmt.Sprintf(" (something is wrong on %s, too: see status.nodes)", strings.Join(nodes, ", "))
	var waiting *runtime.WaitingError
	var stalled *runtime.StalledError
	switch {
	case errors.As(err, &stalled):
		return runtime.Stalled(stalled.Reason, "%s%s", stalled.Text, more)
	case errors.As(err, &waiting):
		return runtime.Waiting(waiting.After, waiting.Reason, "%s%s", waiting.Text, more)
	}
	return fmt.Errorf("%w%s", err, more)
}
