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
	CondConfigured = "Configured"
	CondActive     = "Active"
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

// Reconcile makes the bridge be on every node that should have it and is online. What goes
// wrong on one node holds up none of the others.
func (r *reconciler) Reconcile(ctx context.Context, s *session) (runtime.Result, error) {
	conn, _, err := common.Connect(ctx, s.Client, r.Clusters, s.Object.GetSpec().GetClusterRef().GetName())
	if err != nil {
		return runtime.Result{}, err
	}
	iface := s.Object.GetSpec().GetInterfaceName()
	st := status(s)
	st.InterfaceName, st.Method = proto.String(iface), proto.String(methodOf(s.Object))
	// From here on there may be something to remove, also after a crash.
	if err := s.SaveStatus(ctx); err != nil {
		return runtime.Result{}, err
	}
	return runtime.Result{}, r.everywhere(ctx, s, conn, true)
}

// everywhere makes the bridge be where it should be, or nowhere unless wanted.
func (r *reconciler) everywhere(ctx context.Context, s *session, conn *cluster.Connection, wanted bool) error {
	if methodOf(s.Object) == methodSDN {
		return r.convergeSDN(ctx, s, conn, wanted)
	}
	members, err := membersOf(ctx, conn)
	if err != nil {
		return err
	}
	if wanted {
		if err := r.unknown(ctx, s, conn, members); err != nil {
			return err
		}
	}
	return r.converge(ctx, s, conn, members, wanted)
}

// unknown looks at all nodes before a new Bridge is written on the first: where one has an
// interface that was made for it under another uid, in a database that was lost, nothing is
// begun, for a rebuild could not take it back from an object that has interfaces of its own.
func (r *reconciler) unknown(ctx context.Context, s *session, conn *cluster.Connection, members members) error {
	if len(members) < 2 || slices.ContainsFunc(status(s).Nodes, (*v1alpha1.BridgeNode).GetWritten) {
		return nil
	}
	for _, m := range members {
		if !m.online {
			continue
		}
		n := on(s.Object, conn, m.name)
		o, err := n.observe(ctx)
		if err != nil {
			continue // the node itself says so
		}
		if _, blocked := planNode(n.desired(), n.iface, o); blocked != nil && blocked.Reason == reasonUIDUnknown {
			s.False(CondConfigured, blocked.Reason, "%s", blocked.Text)
			return runtime.Stalled(blocked.Reason, "%s", blocked.Text)
		}
	}
	return nil
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
	case err == nil:
		return done()
	case errors.As(err, &lost):
		// Whether it did anything is not known. What a node's kernel still has of an interface that
		// nobody defines any more is not listed, so what is to go is reloaded again.
		s.Warning(ctx, "ReloadLost", "%v", lost)
		return errors.Join(done(), runtime.Waiting(time.Second, "ReloadLost", "%v", lost))
	case errors.As(err, &failed):
		s.Warning(ctx, "ReloadFailed", "%v", failed)
		return errors.Join(done(), runtime.Waiting(common.DependencyRecheck, "ReloadFailed", "%v", failed))
	case proxmox.IsUnavailable(err) && wctx.Err() == nil:
		// A node that went away in the middle of its reload holds the others up no longer: when
		// it is back, what the reload did is seen.
		if members, lerr := membersOf(ctx, conn); lerr == nil && !members.online(upid.Node) {
			return done()
		}
	}
	return lxc.Classify(fmt.Errorf("wait for task %s: %w", upid, err))
}
