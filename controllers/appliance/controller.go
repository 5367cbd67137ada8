package appliance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/bulk"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/credentials"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/marks"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
)

const (
	kind      = "Appliance"
	finalizer = "proximity/appliance"

	// DefaultProbe is the period after which the inside of the guest is looked at.
	DefaultProbe = 5 * time.Second
)

// Condition types.
const (
	CondReserved   = "Reserved"
	CondPlaced     = "Placed"
	CondTemplate   = "TemplateReady"
	CondCreated    = "GuestCreated"
	CondRunning    = "GuestRunning"
	CondPackages   = "PackagesInstalled"
	CondNetwork    = "NetworkReady"
	CondConfigured = "ConfigurationApplied"
	CondDNS        = "DNSReady"
	CondProxy      = "ProxyReady"
	CondNAT        = "NATReady"
)

var readyTable = []string{
	CondReserved, CondPlaced, CondTemplate, CondCreated, CondRunning, CondPackages,
	CondNetwork, CondConfigured, CondDNS, CondProxy, CondNAT,
}

// Deps is what the controller needs.
type Deps struct {
	Clusters *cluster.Set
	Board    *live.Board
	Guests   *bulk.Observer
	// Credentials opens the Secrets of Appliances and Vhosts.
	Credentials *credentials.Reader
	// Keeper keeps what a guest that is made anew needs of the one before; nil: none is.
	Keeper Keeper
	// Patience is how soon a guest is booted, or made anew.
	Patience Patience
	Log      *slog.Logger
	Probe    time.Duration // 0: DefaultProbe
}

type session = runtime.Session[*v1alpha1.Appliance]

type reconciler struct {
	Deps
	marks marks.Reader

	mu           sync.Mutex
	certificates map[string]certificates // by appliance
	kept         map[string]kept
	silent       map[string]silence
	looked       map[string]time.Time // at the inside, last
}

// New makes the controller.
func New(d Deps) *runtime.Controller {
	if d.Probe == 0 {
		d.Probe = DefaultProbe
	}
	d.Patience = d.Patience.orDefaults()
	r := &reconciler{Deps: d, certificates: map[string]certificates{}, kept: map[string]kept{}, silent: map[string]silence{}, looked: map[string]time.Time{}}
	return runtime.New(runtime.Options[*v1alpha1.Appliance]{
		Kind: kind, Finalizer: finalizer, Reconciler: r, Ready: readyTable, Resync: d.Probe, Plan: r.Plan,
		Watches: []runtime.Watch{
			{Kind: "Bridge", Map: everyAppliance, MetadataOnly: true},
			{Kind: "App", Map: everyAppliance, Reads: readOfApp},
			{Kind: "Vhost", Map: everyAppliance, Reads: readOfVhost},
			{Kind: "Secret", Map: appliancesOfSecret},
		},
	})
}

// readOfApp is what appliances read of an App. Its status tells of much more, and each look at
// an appliance that serves many costs something.
func readOfApp(o resource.Object) string {
	st := o.(*v1alpha1.App).GetStatus()
	return fmt.Sprint(ofMeta(o.GetMetadata()), st.GetAppliance(), "/", st.GetAddress(), "/", st.GetMac())
}

// readOfVhost likewise.
func readOfVhost(o resource.Object) string {
	return fmt.Sprint(ofMeta(o.GetMetadata()), o.(*v1alpha1.Vhost).GetStatus().GetAppliance())
}

func ofMeta(m *v1alpha1.ObjectMeta) string {
	return fmt.Sprint(m.GetUid(), m.GetGeneration(), m.GetDeletionTimestamp(), m.GetLabels(), m.GetAnnotations())
}

// everyAppliance triggers all appliances: there are few, and which one an App or Vhost
// belongs to may just have changed.
func everyAppliance(ctx context.Context, c runtime.Client, _ resource.Object) []resource.Key {
	objs, err := c.List(ctx, kind, "")
	if err != nil {
		return nil
	}
	keys := make([]resource.Key, len(objs))
	for i, o := range objs {
		keys[i] = resource.KeyOf(o)
	}
	return keys
}

// appliancesOfSecret triggers all appliances when a Secret changes that one of them or a Vhost
// refers to.
func appliancesOfSecret(ctx context.Context, c runtime.Client, secret resource.Object) []resource.Key {
	for _, kind := range []string{kind, "Vhost"} {
		if len(secretref.Watch(kind).Map(ctx, c, secret)) > 0 {
			return everyAppliance(ctx, c, nil)
		}
	}
	return nil
}

// Reconcile brings guest and services to what the spec says.
func (r *reconciler) Reconcile(ctx context.Context, s *session) (runtime.Result, error) {
	conn, cl, err := common.Connect(ctx, s.Client, r.Clusters, s.Object.GetSpec().GetClusterRef().GetName())
	if err != nil {
		return runtime.Result{}, err
	}
	reportZone(s)
	reportFamily(s)
	network, err := r.network(ctx, s)
	if err != nil {
		// Those that it serves wait for the first look, which may not come for long.
		if name := s.Object.GetMetadata().GetName(); !r.Board.Looked(name) {
			r.Board.Publish(name, nil)
		}
		return runtime.Result{}, err
	}
	if err := r.reserve(ctx, s, conn, cl, network); err != nil {
		return runtime.Result{}, err
	}
	if s.Object.GetStatus().GetRepair().GetPhase() == phaseDestroying && !s.Object.GetSpec().GetReadOnly() {
		r.Board.Publish(s.Object.GetMetadata().GetName(), nil)
		if err := r.destroy(ctx, s, conn); err != nil {
			return runtime.Result{}, err
		}
	}
	d, o, err := r.converge(ctx, s, conn, cl, network)
	r.reportGuest(ctx, s, o, err)
	if err != nil {
		r.Board.Publish(s.Object.GetMetadata().GetName(), nil)
		if guestDoesNotStart(err) {
			err = r.escalate(ctx, s, conn, d, s.Object.GetStatus().GetNode(), err)
		}
		return runtime.Result{}, err
	}
	if err := s.SaveStatus(ctx); err != nil {
		return runtime.Result{}, err
	}
	return runtime.Result{}, r.escalate(ctx, s, conn, d, o.Node, r.serve(ctx, s, conn, o, d))
}

// Finalize destroys the guest when nothing uses it any more, and keeps it at work before.
func (r *reconciler) Finalize(ctx context.Context, s *session) (runtime.Result, error) {
	if user, err := r.user(ctx, s); err != nil {
		return runtime.Result{}, err
	} else if user != "" {
		// Until then it goes on serving: a Vhost's own deletion waits for it to drop the name.
		if _, err := r.Reconcile(ctx, s); err != nil {
			s.Log.Info("appliance is not as it should be while its deletion waits", "error", err)
		}
		return runtime.Result{}, inUse(user)
	}
	r.Board.Publish(s.Object.GetMetadata().GetName(), nil)
	if r.Keeper != nil {
		if err := r.Keeper.Drop(s.Object); err != nil {
			return runtime.Result{}, err
		}
	}
	if s.Object.GetSpec().GetDeletionPolicy() == "Orphan" || s.Object.GetStatus().GetVmid() == 0 {
		return runtime.Result{}, nil
	}
	conn, _, err := common.Connect(ctx, s.Client, r.Clusters, s.Object.GetSpec().GetClusterRef().GetName())
	if err != nil {
		return runtime.Result{}, err
	}
	m := mark(s.Object, conn)
	_, _, err = r.driver(s, conn).Converge(ctx, nil, m, s.Object.GetStatus().GetNode(), func(guest lxc.Observed) ([]lxc.Step, *lxc.Blocked) {
		o := observed{guest: guest}
		s.Remember(o)
		return plan(nil, m, o)
	})
	return runtime.Result{}, err
}

// inUse is why a deletion waits; what uses the appliance triggers it when it goes.
func inUse(user string) error {
	return runtime.Waiting(DefaultProbe, "InUse", "deletion waits: %s uses this appliance", user)
}

func (r *reconciler) driver(s *session, conn *cluster.Connection) *lxc.Driver {
	announce := common.Announce(s, CondCreated, CondRunning, []string{CondPackages, CondNetwork, CondConfigured, CondDNS, CondProxy, CondNAT})
	before := func(ctx context.Context, step lxc.Step, o lxc.Observed) error {
		switch step.Action {
		case lxc.ActionDownload:
			s.False(CondTemplate, "Fetching", "template %s is being fetched to %s", o.Template.Fetch, o.Template.Storage)
		case lxc.ActionCreate:
			s.True(CondTemplate, "Present", "%s", o.Template.Volid)
		}
		return announce(ctx, step)
	}
	return &lxc.Driver{API: conn.API, Journal: journal(s), Report: s, Log: s.Log, Before: before, Fetches: r.Guests.Of(conn).Fetch(resource.KeyOf(s.Object))}
}

// journal keeps the awaited task in the status.
func journal(s *session) common.Journal {
	return common.Journal{Save: s.SaveStatus, In: func() (upid, purpose **string) {
		st := status(s)
		return &st.Task, &st.TaskPurpose
	}}
}

func status(s *session) *v1alpha1.ApplianceStatus {
	if s.Object.Status == nil {
		s.Object.Status = &v1alpha1.ApplianceStatus{}
	}
	return s.Object.Status
}

func mark(a *v1alpha1.Appliance, conn *cluster.Connection) ownership.Mark {
	return ownership.Mark{
		Installation: conn.Installation, Kind: kind, Name: a.GetMetadata().GetName(),
		UID: a.GetMetadata().GetUid(), VMID: int(a.GetStatus().GetVmid()),
	}
}

// reserve writes the VMID and the MAC addresses into the status before anything is made.
func (r *reconciler) reserve(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, n network) error {
	self := resource.KeyOf(s.Object)
	st := status(s)
	choice, chosen, err := r.choose(ctx, s, conn, cl, n)
	if err != nil {
		return err
	}
	if chosen && choice.Node != "" || st.GetVmid() == 0 || st.GetVmid() != s.Object.GetSpec().GetVmid() {
		var had map[int]string
		if st.GetVmid() == 0 {
			if had, err = r.beforeReservation(ctx, s, conn); err != nil {
				return err
			}
		}
		err := s.Client.Transact(ctx, func(tx runtime.Tx) error {
			cur, err := tx.Get(self)
			if err != nil {
				return err
			}
			want := s.Object.GetSpec().GetVmid()
			if by, taken := common.VMIDHolder(tx, cur, want); taken {
				return runtime.Stalled("VMIDTaken", "VMID %d is reserved for %s; use another one", want, by)
			}
			next := resource.Clone(cur).(*v1alpha1.Appliance)
			if next.Status == nil {
				next.Status = &v1alpha1.ApplianceStatus{}
			}
			next.Status.Vmid = proto.Int32(want)
			if next.Status.WanMac == nil {
				next.Status.WanMac = proto.String(cmp.Or(had[0], common.MAC(next.GetMetadata().GetUid(), 0)))
				next.Status.LanMac = proto.String(cmp.Or(had[1], common.MAC(next.GetMetadata().GetUid(), 1)))
			}
			if choice.Node != "" {
				next.Status.Placement = common.PlacementStatus(choice)
			}
			_, err = tx.UpdateStatus(next)
			return err
		})
		if err != nil {
			return err
		}
		if err := s.Refresh(ctx); err != nil {
			return err
		}
		st = status(s)
	}
	s.True(CondReserved, "Reserved", "VMID %d, MAC addresses %s and %s", st.GetVmid(), st.GetWanMac(), st.GetLanMac())
	return r.reportPlaced(ctx, s, choice, chosen)
}

// beforeReservation looks whether there is a guest of the object already that the database does
// not know; of one that is to be adopted it returns the MAC addresses, by number of the NIC.
func (r *reconciler) beforeReservation(ctx context.Context, s *session, conn *cluster.Connection) (had map[int]string, err error) {
	rows, err := conn.API.ClusterResources(ctx, proxmox.GuestResources)
	if err != nil {
		return nil, lxc.Classify(fmt.Errorf("list guests: %w", err))
	}
	if spec := s.Object.GetSpec(); spec.GetAdopt() { // which makes none
		return common.AdoptedMACs(ctx, conn, spec.GetVmid(), rows)
	}
	if err := common.NotLost(ctx, s.Client, &r.marks, conn, s.Object, rows); err != nil {
		s.False(CondReserved, "NotReserved", "%v", err)
		return nil, err
	}
	return nil, nil
}

// reportGuest sets the conditions of the guest from what the driver saw.
func (r *reconciler) reportGuest(ctx context.Context, s *session, o lxc.Observed, err error) {
	var stalled *runtime.StalledError
	var waiting *runtime.WaitingError
	switch {
	case o.Present && o.Relation == ownership.Ours:
		st := status(s)
		st.Node = proto.String(o.Node)
		s.True(CondTemplate, "Present", "the guest has been made from its template")
		s.True(CondCreated, "Created", "guest %d on node %s", st.GetVmid(), o.Node)
		common.ReportCopy(ctx, s, int(st.GetVmid()), o)
		if o.Running {
			s.True(CondRunning, "Running", "guest %d runs", st.GetVmid())
		} else {
			s.False(CondRunning, "NotRunning", "guest %d is stopped", st.GetVmid())
			r.unknown(s, "NotRunning", fmt.Sprintf("guest %d is stopped", st.GetVmid()), insideConditions...)
		}
	case errors.As(err, &stalled) && lxc.IsAboutTemplate(stalled.Reason):
		s.False(CondTemplate, stalled.Reason, "%s", stalled.Text)
	case errors.As(err, &stalled):
		s.False(CondCreated, stalled.Reason, "%s", stalled.Text)
		r.unknown(s, stalled.Reason, stalled.Text, everything...)
	case errors.As(err, &waiting) && lxc.IsAboutTemplate(waiting.Reason):
		s.False(CondTemplate, waiting.Reason, "%s", waiting.Text)
	case errors.As(err, &waiting) && waiting.Reason == lxc.ReasonNodeOffline:
		if o.Node != "" {
			status(s).Node = proto.String(o.Node)
		}
		s.SetCondition(CondRunning, "Unknown", waiting.Reason, "%s", waiting.Text)
		r.unknown(s, waiting.Reason, waiting.Text, everything...)
	case err != nil:
		s.SetCondition(CondRunning, "Unknown", "NotObserved", "%v", err)
		r.unknown(s, "NotObserved", err.Error(), everything...)
	}
}

// everything is what is not known of a guest that cannot be looked at.
var everything = append([]string{CondRunning}, insideConditions...)

// user names an App or Vhost that still uses the appliance, "" for none.
func (r *reconciler) user(ctx context.Context, s *session) (string, error) {
	w, err := r.readWorld(ctx, s.Client)
	if err != nil {
		return "", err
	}
	return w.userOf(s.Object.GetMetadata().GetName()), nil
}

// userOf names an App or Vhost that uses an appliance, "" for none.
func (w world) userOf(name string) string {
	for _, a := range w.apps {
		if w.applianceOf(a) == name {
			return resource.KeyOf(a).String()
		}
	}
	for _, v := range w.vhosts {
		if w.vhostAppliance(v) == name {
			return resource.KeyOf(v).String()
		}
	}
	return ""
}
