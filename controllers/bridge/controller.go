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
	return runtime.New(runtime.Options[*v1alpha1.Bridge]{
		Kind: kind, Finalizer: finalizer, Reconciler: &reconciler{d}, Ready: []string{CondConfigured, CondActive},
		Resync: d.Probe,
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
	for _, node := range nodes {
		if err := r.converge(ctx, s, conn, node, true); err != nil {
			return runtime.Result{}, err
		}
	}
	// A node that is away still has what was written there.
	known := slices.Concat(status(s).Nodes, nodes)
	slices.Sort(known)
	status(s).Nodes = slices.Compact(known)
	s.True(CondConfigured, "Written", "%s is configured on %s (%s)", iface, strings.Join(nodes, ", "), methodFor(iface))
	s.True(CondActive, "Active", "%s is up on %s", iface, strings.Join(nodes, ", "))
	return runtime.Result{}, nil
}

// hostAccess refuses a name that only the host seam can write when there is none.
func hostAccess(s *session, conn *cluster.Connection, iface string) error {
	if methodFor(iface) == methodAPI || conn.Host != nil {
		return nil
	}
	text := fmt.Sprintf("the Proxmox network API refuses the name %q (no hyphens), and the daemon has no host access to write it itself; set spec.interfaceName to an API-legal name such as %q, or configure guestAccess ssh",
		iface, legalName(iface))
	s.False(CondConfigured, "HostAccessMissing", "%s", text)
	return runtime.Stalled("HostAccessMissing", "%s", text)
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

// Finalize removes the bridge from every node when no appliance uses it.
func (r *reconciler) Finalize(ctx context.Context, s *session) (runtime.Result, error) {
	appliances, err := runtime.List[*v1alpha1.Appliance](ctx, s.Client, "Appliance", "")
	if err != nil {
		return runtime.Result{}, err
	}
	for _, a := range appliances {
		if a.GetSpec().GetBridgeRef().GetName() == s.Object.GetMetadata().GetName() {
			// Until then it stays as it should be.
			if _, err := r.Reconcile(ctx, s); err != nil {
				s.Log.Info("bridge is not as it should be while its deletion waits", "error", err)
			}
			return runtime.Result{}, runtime.Waiting(common.DependencyRecheck, "InUse", "deletion waits: %s uses this bridge", resource.KeyOf(a))
		}
	}
	if s.Object.GetSpec().GetDeletionPolicy() == "Orphan" || s.Object.GetStatus().GetInterfaceName() == "" {
		return runtime.Result{}, nil
	}
	conn, _, err := common.Connect(ctx, s.Client, r.Clusters, s.Object.GetSpec().GetClusterRef().GetName())
	if err != nil {
		return runtime.Result{}, err
	}
	if err := r.attached(ctx, s, conn); err != nil {
		return runtime.Result{}, err
	}
	nodes, err := onlineNodes(ctx, conn)
	if err != nil {
		return runtime.Result{}, err
	}
	for _, node := range nodes {
		if err := r.converge(ctx, s, conn, node, false); err != nil {
			return runtime.Result{}, err
		}
	}
	if away := status(s).Nodes; len(away) > 0 {
		return runtime.Result{}, runtime.Waiting(common.DependencyRecheck, "NodeOffline",
			"deletion waits: %s may still have the bridge and is not online; if it will not come back, set spec.deletionPolicy to Orphan", strings.Join(away, ", "))
	}
	return runtime.Result{}, nil
}

// attached refuses to remove a bridge that a guest, whoever made it, is plugged into: it
// would be cut off, and stay so when the bridge came back.
func (r *reconciler) attached(ctx context.Context, s *session, conn *cluster.Connection) error {
	rows, err := conn.API.ClusterResources(ctx, proxmox.GuestResources)
	if err != nil {
		return lxc.Classify(fmt.Errorf("list guests: %w", err))
	}
	for _, row := range rows {
		if row.Type != "lxc" {
			continue
		}
		cfg, err := conn.API.LXCConfig(ctx, row.Node, int(row.VMID))
		if proxmox.IsNotExist(err) {
			continue
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
				return runtime.Waiting(common.DependencyRecheck, "GuestsAttached", "deletion waits: guest %d is attached to %s", row.VMID, nic.Bridge)
			}
		}
	}
	return nil
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

// converge brings one node to what is wanted.
func (r *reconciler) converge(ctx context.Context, s *session, conn *cluster.Connection, node string, wanted bool) error {
	n := nodeBridge{
		conn: conn, node: node, iface: s.Object.GetSpec().GetInterfaceName(),
		mtu: int(s.Object.GetSpec().GetMtu()), comment: s.Object.GetSpec().GetComment(),
		mark: ownership.Mark{Installation: conn.Installation, Kind: kind, Name: s.Object.GetMetadata().GetName(), UID: s.Object.GetMetadata().GetUid()},
	}
	if err := r.settle(ctx, s, conn); err != nil {
		return err
	}
	o, err := n.observe(ctx)
	if err != nil {
		return lxc.Classify(err)
	}
	o.owed = slices.Contains(s.Object.GetStatus().GetNodes(), node)
	todo, blocked := plan(n.iface, wanted, n.mtu, o)
	if blocked != nil {
		s.False(CondConfigured, blocked.reason, "%s", blocked.text)
		return runtime.Stalled(blocked.reason, "%s", blocked.text)
	}
	if len(todo) == 0 {
		if !wanted {
			status(s).Nodes = without(status(s).Nodes, node)
		}
		return nil
	}
	if err := hostAccess(s, conn, n.iface); err != nil {
		return err
	}
	s.Log.Info("bridge differs", "node", node, "interface", n.iface, "todo", todo)
	if !slices.Equal(todo, []action{actionReload}) {
		s.Normal(ctx, string(todo[0]), "%s on node %s (%s)", n.iface, node, methodFor(n.iface))
	} else {
		s.Warning(ctx, "Reload", "%s on node %s is not as configured; reloading its network", n.iface, node)
	}
	if !wanted && !o.owed {
		status(s).Nodes = append(status(s).Nodes, node)
		if err := s.SaveStatus(ctx); err != nil {
			return err
		}
	}
	for _, a := range todo {
		upid, err := n.act(ctx, a)
		if errors.Is(err, guest.ErrChanged) || errors.Is(err, guest.ErrUnreachable) {
			return runtime.Waiting(time.Second, "NotWritten", "%v", err)
		}
		if err != nil {
			s.False(CondConfigured, "NotWritten", "%v", err)
			return lxc.Classify(fmt.Errorf("%s %s on %s: %w", a, n.iface, node, err))
		}
		if upid != "" {
			status(s).Task = proto.String(upid)
			if err := s.SaveStatus(ctx); err != nil {
				return err
			}
			if err := r.settle(ctx, s, conn); err != nil {
				return err
			}
		}
	}
	if err := n.verify(ctx, s, wanted); err != nil || wanted {
		return err
	}
	status(s).Nodes = without(status(s).Nodes, node)
	return s.SaveStatus(ctx)
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
	}
	return lxc.Classify(fmt.Errorf("wait for task %s: %w", upid, err))
}
