package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	kind      = "Bridge"
	finalizer = "proximity/bridge"

	// DefaultProbe is the period after which the nodes are looked at again.
	DefaultProbe = 10 * time.Second
	// reloadPatience is how long a network reload is waited for.
	reloadPatience = 90 * time.Second
)

// Condition types.
const (
	CondConfigured = common.BridgeConfigured
	CondActive     = common.BridgeActive
)

// Deps is what the controller needs.
type Deps struct {
	Clusters *cluster.Set
	Log      *slog.Logger
	Probe    time.Duration // 0: DefaultProbe
}

type session = runtime.Session[*v1alpha1.Bridge]

type reconciler struct{ Deps }

// New makes the controller.
func New(d Deps) *runtime.Controller {
	if d.Probe == 0 {
		d.Probe = DefaultProbe
	}
	r := &reconciler{d}
	return runtime.New(runtime.Options[*v1alpha1.Bridge]{
		Kind: kind, Finalizer: finalizer, Reconciler: r, Ready: []string{CondConfigured, CondActive},
		Resync: d.Probe, Plan: r.Plan,
		// One at a time: bridges of a node share its staging area and its reload.
		Workers: 1,
		Watches: []runtime.Watch{{Kind: "Appliance", Map: bridgeOfAppliance}},
	})
}

func bridgeOfAppliance(_ context.Context, _ runtime.Client, o resource.Object) []resource.Key {
	if !resource.Deleting(o) {
		return nil
	}
	return []resource.Key{{Kind: kind, Name: o.(*v1alpha1.Appliance).GetSpec().GetBridgeRef().GetName()}}
}

// Reconcile makes the bridge be on every online node.
func (r *reconciler) Reconcile(ctx context.Context, s *session) (runtime.Result, error) {
	conn, _, err := common.Connect(ctx, s.Client, r.Clusters, s.Object.GetSpec().GetClusterRef().GetName())
	if err != nil {
		return runtime.Result{}, err
	}
	iface := s.Object.GetSpec().GetInterfaceName()
	st := status(s)
	st.InterfaceName, st.Method = proto.String(iface), proto.String(methodFor(iface))
	// From here on there may be something to remove, also after a crash.
	if err := s.SaveStatus(ctx); err != nil {
		return runtime.Result{}, err
	}
	nodes, err := onlineNodes(ctx, conn)
	if err != nil {
		return runtime.Result{}, err
	}
	if err := r.converge(ctx, s, conn, nodes, true); err != nil {
		return runtime.Result{}, err
	}
	// A node that is away still has what was written there.
	known := slices.Concat(status(s).Nodes, nodes)
	slices.Sort(known)
	status(s).Nodes = slices.Compact(known)
	s.True(CondConfigured, "Written", "%s is configured on %s (%s)", iface, strings.Join(nodes, ", "), methodFor(iface))
	s.True(CondActive, "Active", "%s is up on %s", iface, strings.Join(nodes, ", "))
	return runtime.Result{}, nil
}

// legalName proposes a name that the API takes: the same letters and digits, at most ten
// of them, as Proxmox itself recommends (pve-network, "Naming Conventions").
func legalName(iface string) string {
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' {
			return c
		}
		return -1
	}, strings.ToLower(iface))
	name = strings.TrimLeft(name, "0123456789_")
	if len(name) > 10 {
		name = name[:10]
	}
	if len(name) < 2 {
		return "proxlan"
	}
	return name
}

func status(s *session) *v1alpha1.BridgeStatus {
	if s.Object.Status == nil {
		s.Object.Status = &v1alpha1.BridgeStatus{}
	}
	return s.Object.Status
}

func onlineNodes(ctx context.Context, conn *cluster.Connection) ([]string, error) {
	nodes, err := conn.API.Nodes(ctx)
	if err != nil {
		return nil, lxc.Classify(fmt.Errorf("list nodes: %w", err))
	}
	var names []string
	for _, n := range nodes {
		if n.Online() {
			names = append(names, n.Node)
		}
	}
	if len(names) == 0 {
		return nil, runtime.Waiting(common.DependencyRecheck, "NodeOffline", "no node of the cluster is online")
	}
	slices.Sort(names)
	return names, nil
}

// on is the object's bridge on a node ("" for what is the same on all).
func on(b *v1alpha1.Bridge, conn *cluster.Connection, node string) nodeBridge {
	return nodeBridge{
		conn: conn, node: node, iface: b.GetSpec().GetInterfaceName(), mtu: int(b.GetSpec().GetMtu()), comment: b.GetSpec().GetComment(),
		mark: ownership.Mark{Installation: conn.Installation, Kind: kind, Name: b.GetMetadata().GetName(), UID: b.GetMetadata().GetUid()},
	}
}

// converge takes the steps of the plan on each node.
func (r *reconciler) converge(ctx context.Context, s *session, conn *cluster.Connection, nodes []string, wanted bool) error {
	seen := observed{iface: s.Object.GetSpec().GetInterfaceName()}
	for _, node := range nodes {
		n := on(s.Object, conn, node)
		var d *desired
		if wanted {
			d = n.desired()
		}
		if err := r.convergeNode(ctx, s, n, d, &seen); err != nil {
			return err
		}
	}
	s.Remember(seen)
	return nil
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
	o.owed = slices.Contains(s.Object.GetStatus().GetNodes(), n.node)
	seen.nodes = append(seen.nodes, o)
	s.Remember(observed{seen.iface, slices.Clone(seen.nodes)})
	todo, blocked := planNode(d, n.iface, o)
	if blocked != nil {
		s.False(CondConfigured, blocked.Reason, "%s", blocked.Text)
		return runtime.Stalled(blocked.Reason, "%s", blocked.Text)
	}
	if len(todo) == 0 {
		if d == nil {
			status(s).Nodes = without(status(s).Nodes, n.node)
		}
		return nil
	}
	if todo[0].Action != actionReload {
		s.Normal(ctx, todo[0].Action, "%s on node %s (%s)", n.iface, n.node, methodFor(n.iface))
	} else {
		s.Warning(ctx, "Reload", "%s on node %s is not as configured; reloading its network", n.iface, n.node)
	}
	if d == nil && !o.owed {
		status(s).Nodes = append(status(s).Nodes, n.node)
		if err := s.SaveStatus(ctx); err != nil {
			return err
		}
	}
	for _, st := range todo {
		if err := r.take(ctx, s, n, st); err != nil {
			return err
		}
	}
	if seen.nodes[len(seen.nodes)-1], err = n.verify(ctx, s, d != nil); err != nil || d != nil {
		return err
	}
	status(s).Nodes = without(status(s).Nodes, n.node)
	return s.SaveStatus(ctx)
}

// take takes one step and waits for its task.
func (r *reconciler) take(ctx context.Context, s *session, n nodeBridge, st step) error {
	runtime.LogStep(s.Log, st.Step, "node", n.node)
	upid, err := n.act(ctx, st.Action)
	if errors.Is(err, guest.ErrChanged) || errors.Is(err, guest.ErrUnreachable) {
		return runtime.Waiting(time.Second, "NotWritten", "%v", err)
	}
	if err != nil {
		s.False(CondConfigured, "NotWritten", "%v", err)
		return lxc.Classify(fmt.Errorf("%s %s on %s: %w", st.Action, n.iface, n.node, err))
	}
	if upid == "" {
		return nil
	}
	status(s).Task = proto.String(upid)
	if err := s.SaveStatus(ctx); err != nil {
		return err
	}
	return r.settle(ctx, s, n.conn)
}

func without(nodes []string, node string) []string {
	return slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == node })
}

// settle waits for the reload that the status names.
func (r *reconciler) settle(ctx context.Context, s *session, conn *cluster.Connection) error {
	text := s.Object.GetStatus().GetTask()
	if text == "" {
		return nil
	}
	done := func() error {
		status(s).Task = nil
		return s.SaveStatus(ctx)
	}
	upid, err := proxmox.ParseUPID(text)
	if err != nil {
		return done()
	}
	wctx, cancel := context.WithTimeout(ctx, reloadPatience)
	defer cancel()
	_, err = conn.API.WaitTask(wctx, upid.Node, upid)
	var failed *proxmox.TaskError
	var lost *proxmox.TaskLostError
	switch {
	case err == nil || errors.As(err, &lost):
		return done()
	case errors.As(err, &failed):
		s.Warning(ctx, "ReloadFailed", "%v", failed)
		return errors.Join(done(), runtime.Waiting(common.DependencyRecheck, "ReloadFailed", "%v", failed))
	case proxmox.IsUnavailable(err) && wctx.Err() == nil:
		// A node that went away in the middle of its reload holds the others up no longer: when
		// it is back, what the reload did is seen.
		if nodes, lerr := onlineNodes(ctx, conn); lerr == nil && !slices.Contains(nodes, upid.Node) {
			return done()
		}
	}
	return lxc.Classify(fmt.Errorf("wait for task %s: %w", upid, err))
}
