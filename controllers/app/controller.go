package app

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/bulk"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/marks"
	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
)

const (
	kind      = "App"
	finalizer = "proximity/app"

	// DefaultProbe is the period after which a guest is looked at again.
	DefaultProbe = 5 * time.Second
	// DefaultWorkers are those that wait for tasks and guests, at most; how many are at work on
	// one node at a time is bounded by turns (see package bulk).
	DefaultWorkers = 32
	// probes bounds the applications that are asked one by one at the same time, each for at
	// most some seconds and each by one command in its appliance.
	probes = 8

	stateRunning = "Running"
	stateStopped = "Stopped"
)

// Condition types.
const (
	CondReserved    = "Reserved"
	CondPlaced      = "Placed"
	CondTemplate    = "TemplateReady"
	CondCreated     = "GuestCreated"
	CondRunning     = "GuestRunning"
	CondNetwork     = "NetworkReady"
	CondDNS         = "DNSReady"
	CondProvisioned = "Provisioned"
	CondProxy       = "ProxyReady"
	CondHealthy     = "Healthy"
)

// The proxy is not part of Ready: an App is ready when it works, and its Vhosts wait for it.
var readyTable = []string{
	CondReserved, CondPlaced, CondTemplate, CondCreated, CondRunning, CondNetwork, CondDNS, CondProvisioned, CondHealthy,
}

// readyStopped is the table for an App that should be stopped: what runs in its guest does
// not matter then, and that the guest is stopped is seen to before anything is reported.
var readyStopped = []string{CondReserved, CondPlaced, CondTemplate, CondCreated}

func readyFor(a *v1alpha1.App) []string {
	if a.GetSpec().GetState() == stateStopped {
		return readyStopped
	}
	return readyTable
}

// Deps is what the controller needs.
type Deps struct {
	Clusters *cluster.Set
	Board    *live.Board
	Guests   *bulk.Observer
	Secrets  *secretref.Resolver
	Log      *slog.Logger
	Probe    time.Duration // 0: DefaultProbe
	Workers  int           // 0: DefaultWorkers
}

type session = runtime.Session[*v1alpha1.App]

type reconciler struct {
	Deps
	marks   marks.Reader
	probing chan struct{} // places for probes
	guards  guardTimes
}

// New makes the controller.
func New(d Deps) *runtime.Controller {
	if d.Probe == 0 {
		d.Probe = DefaultProbe
	}
	r := &reconciler{Deps: d, probing: make(chan struct{}, probes)}
	return runtime.New(runtime.Options[*v1alpha1.App]{
		Kind: kind, Finalizer: finalizer, Reconciler: r, ReadyFor: readyFor, Resync: d.Probe, Workers: cmp.Or(d.Workers, DefaultWorkers), Plan: r.Plan,
		Watches: []runtime.Watch{
			{Kind: "Appliance", Map: appsOfAppliance, Reads: readOfAppliance},
			{Kind: "Vhost", Map: appsOfVhost},
			secretref.Watch(kind),
		},
		Sources: []runtime.Source{d.Board.Source(appsChanged), d.Guests.Source},
	})
}

func appsOfAppliance(ctx context.Context, c runtime.Client, o resource.Object) []resource.Key {
	return appsServedBy(ctx, c, o.GetMetadata().GetName())
}

// readOfAppliance is what Apps read of an Appliance. Its status tells of each App that it
// serves: if each change of that triggered all of them, their number would count twice.
func readOfAppliance(o resource.Object) string {
	a := o.(*v1alpha1.Appliance)
	m, st, stalled := a.GetMetadata(), a.GetStatus(), resource.FindCondition(a, "Stalled")
	return fmt.Sprint(m.GetUid(), m.GetGeneration(), m.GetDeletionTimestamp(), st.GetNode(), "/", st.GetPlacement().GetNode(), "/", stalled.GetStatus(), stalled.GetMessage())
}

// appsChanged lists the Apps that a change of what an appliance serves is about.
func appsChanged(ctx context.Context, c runtime.Client, change live.Change) []resource.Key {
	all := appsServedBy(ctx, c, change.Appliance)
	if change.Whole() {
		return all
	}
	about := change.Apps()
	return slices.DeleteFunc(all, func(k resource.Key) bool { return !about[k.Namespace+"/"+k.Name] })
}

// appsServedBy lists the Apps that an appliance serves, or may serve.
func appsServedBy(ctx context.Context, c runtime.Client, appliance string) []resource.Key {
	apps, err := runtime.List[*v1alpha1.App](ctx, c, kind, "")
	if err != nil {
		return nil
	}
	var keys []resource.Key
	for _, a := range apps {
		if ref := a.GetSpec().GetNetwork().GetApplianceRef().GetName(); ref == "" || ref == appliance {
			keys = append(keys, resource.KeyOf(a))
		}
	}
	return keys
}

func appsOfVhost(_ context.Context, _ runtime.Client, o resource.Object) []resource.Key {
	v := o.(*v1alpha1.Vhost)
	var keys []resource.Key
	for _, rule := range v.GetSpec().GetRules() {
		for _, b := range rule.GetBackends() {
			if n := b.GetAppRef().GetName(); n != "" {
				keys = append(keys, resource.Key{Kind: kind, Namespace: v.GetMetadata().GetNamespace(), Name: n})
			}
		}
	}
	return keys
}

// Reconcile deploys the App step by step.
func (r *reconciler) Reconcile(ctx context.Context, s *session) (runtime.Result, error) {
	net, err := r.network(ctx, s)
	if err != nil {
		return runtime.Result{}, err
	}
	conn, cl, err := common.Connect(ctx, s.Client, r.Clusters, net.appliance.GetSpec().GetClusterRef().GetName())
	if err != nil {
		return runtime.Result{}, err
	}
	conn = r.Guests.Of(conn).Connection()
	if err := r.reserve(ctx, s, conn, cl, net); err != nil {
		return runtime.Result{}, err
	}
	if err := r.fallBack(ctx, s, net, cl); err != nil {
		return runtime.Result{}, err
	}
	o, rest, err := r.converge(ctx, s, conn, cl, net)
	r.reportGuest(ctx, s, o.guest, err)
	if err != nil {
		return runtime.Result{}, err
	}
	if s.Object.GetSpec().GetState() == stateStopped {
		r.reportStopped(s)
		return runtime.Result{}, nil
	}
	if onUplink(s.Object) {
		return runtime.Result{}, r.deployOnUplink(ctx, s, conn, cl, o, rest, net)
	}
	return runtime.Result{}, r.deploy(ctx, s, conn, o, rest, net)
}

// Finalize destroys the guest.
func (r *reconciler) Finalize(ctx context.Context, s *session) (runtime.Result, error) {
	st := s.Object.GetStatus()
	if s.Object.GetSpec().GetDeletionPolicy() == "Orphan" || st.GetVmid() == 0 {
		return runtime.Result{}, nil
	}
	conn, _, err := common.Connect(ctx, s.Client, r.Clusters, st.GetCluster())
	if err != nil {
		return runtime.Result{}, err
	}
	conn = r.Guests.Of(conn).Connection()
	m := mark(s.Object, conn)
	_, _, err = r.driver(s, conn, nil, network{}).Converge(ctx, nil, m, st.GetNode(), func(guest lxc.Observed) ([]lxc.Step, *lxc.Blocked) {
		o := r.see(s.Object, st.GetAppliance(), guest)
		s.Remember(o)
		return plan(nil, m, o)
	})
	return runtime.Result{}, err // its names are dropped by the appliance, when the object is gone
}

func (r *reconciler) driver(s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, n network) *lxc.Driver {
	announce := common.Announce(s, CondCreated, CondRunning, []string{CondNetwork, CondProvisioned, CondHealthy})
	before := func(ctx context.Context, step lxc.Step, o lxc.Observed) error {
		switch step.Action {
		case lxc.ActionDownload:
			s.False(CondTemplate, "Fetching", "template %s is being fetched to %s", o.Template.Fetch, o.Template.Storage)
		case lxc.ActionCreate:
			// A guest that is made anew has to be provisioned anew.
			status(s).ProvisionedHash = nil
			status(s).Template = proto.String(o.Template.Volid)
			s.True(CondTemplate, "Present", "%s", o.Template.Volid)
		case lxc.ActionShutdown, lxc.ActionStart:
			if s.Object.GetStatus().GetFallback() != nil && !resource.Deleting(s.Object) {
				if err := r.beforeMove(ctx, s, conn, cl, step, o); err != nil {
					return err
				}
			}
			// Without the Bridge it would not start; without the appliance it works alone.
			if step.Action == lxc.ActionStart && !onUplink(s.Object) && !slices.Contains(n.nodes, o.Node) && o.Node != "" {
				return n.reachable(o.Node)
			}
		}
		return announce(ctx, step)
	}
	guest := r.memory(s, conn)
	return &lxc.Driver{API: conn.API, Journal: journal(s), Report: s, Log: s.Log, Before: before, Memory: guest, Turns: guest, Fetches: r.Guests.Of(conn).Fetch(resource.KeyOf(s.Object))}
}

// memory is where what was seen of the App's guest is kept.
func (r *reconciler) memory(s *session, conn *cluster.Connection) bulk.Guest {
	return r.Guests.Of(conn).Guest(resource.KeyOf(s.Object), int(s.Object.GetStatus().GetVmid()))
}

// journal keeps the awaited task in the status.
func journal(s *session) common.Journal {
	return common.Journal{Save: s.SaveStatus, In: func() (upid, purpose **string) {
		st := status(s)
		return &st.Task, &st.TaskPurpose
	}}
}

func status(s *session) *v1alpha1.AppStatus {
	if s.Object.Status == nil {
		s.Object.Status = &v1alpha1.AppStatus{}
	}
	return s.Object.Status
}

func mark(a *v1alpha1.App, conn *cluster.Connection) ownership.Mark {
	m := a.GetMetadata()
	return ownership.Mark{
		Installation: conn.Installation, Kind: kind, Namespace: m.GetNamespace(), Name: m.GetName(),
		UID: m.GetUid(), VMID: int(a.GetStatus().GetVmid()),
	}
}

// vhostsOf lists the Vhosts that lead to the App.
func vhostsOf(ctx context.Context, s *session) ([]*v1alpha1.Vhost, error) {
	all, err := runtime.List[*v1alpha1.Vhost](ctx, s.Client, "Vhost", s.Object.GetMetadata().GetNamespace())
	if err != nil {
		return nil, err
	}
	key := routing.Key(s.Object.GetMetadata())
	var mine []*v1alpha1.Vhost
	for _, v := range all {
		for _, k := range routing.AppKeys(v) {
			if k == key {
				mine = append(mine, v)
			}
		}
	}
	return mine, nil
}
