// Package vhost reconciles kind Vhost: a name on an appliance's reverse proxy.
//
// Reads: Vhost, App, Appliance. Owns nothing outside by itself: the appliance controller
// renders all accepted Vhosts into one configuration and publishes what is live on the
// live.Board, where this controller reads whether the Vhost is part of it.
//
// Steps (plan.go), all taken by the appliance: ServeVhost, ChangeVhost, WithdrawVhost.
//
// Finalizer: proximity/vhost. Deletion ends when the appliance no longer serves the name.
//
// Conditions, in order: Accepted (no older Vhost has one of the host names), ResolvedRefs
// (every backend has an address), Programmed (the proxy has it), Serving (a request through
// the proxy reaches a backend).
//
// Reasons: ApplianceNotFound, ApplianceNotChosen, Conflict, Accepted, Refused, BackendsNotFound,
// Resolved, Programmed, NotProgrammed, Serving, BackendFailed.
package vhost

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/credentials"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/controllers/internal/probe"
	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"

	"google.golang.org/protobuf/proto"
)

const (
	kind      = "Vhost"
	finalizer = "proximity/vhost"

	// DefaultProbe is the period after which a name is asked for again.
	DefaultProbe = 5 * time.Second
	// recheck is the pause while the proxy or a backend is waited for.
	recheck = time.Second
)

// Condition types.
const (
	CondAccepted   = "Accepted"
	CondResolved   = "ResolvedRefs"
	CondProgrammed = "Programmed"
	CondServing    = "Serving"
)

// Deps is what the controller needs.
type Deps struct {
	Clusters *cluster.Set
	Board    *live.Board
	// Credentials opens the Secrets of Vhosts.
	Credentials *credentials.Reader
	Log         *slog.Logger
	Probe       time.Duration // 0: DefaultProbe
}

type session = runtime.Session[*v1alpha1.Vhost]

type reconciler struct{ Deps }

// New makes the controller.
func New(d Deps) *runtime.Controller {
	if d.Probe == 0 {
		d.Probe = DefaultProbe
	}
	r := &reconciler{d}
	return runtime.New(runtime.Options[*v1alpha1.Vhost]{
		Kind: kind, Finalizer: finalizer, Reconciler: r, Resync: d.Probe, Plan: r.Plan,
		Ready: []string{CondAccepted, CondResolved, CondProgrammed, CondServing},
		Watches: []runtime.Watch{
			{Kind: "App", Map: vhostsOfApp, MetadataOnly: true},
			{Kind: "Appliance", Map: allVhosts},
			{Kind: kind, Map: vhostsInDispute},
			secretref.Watch(kind),
		},
		Sources: []runtime.Source{d.Board.Source(func(ctx context.Context, c runtime.Client, _ live.Change) []resource.Key {
			return allVhosts(ctx, c, nil)
		})},
	})
}

func vhostsOfApp(ctx context.Context, c runtime.Client, o resource.Object) []resource.Key {
	key := routing.Key(o.GetMetadata())
	return selectVhosts(ctx, c, func(v *v1alpha1.Vhost) bool { return slices.Contains(routing.AppKeys(v), key) })
}

func allVhosts(ctx context.Context, c runtime.Client, _ resource.Object) []resource.Key {
	return selectVhosts(ctx, c, func(*v1alpha1.Vhost) bool { return true })
}

// vhostsInDispute triggers those that share a host name with a Vhost that changed or went.
func vhostsInDispute(ctx context.Context, c runtime.Client, o resource.Object) []resource.Key {
	hosts := o.(*v1alpha1.Vhost).GetSpec().GetHosts()
	return selectVhosts(ctx, c, func(v *v1alpha1.Vhost) bool {
		return resource.KeyOf(v) != resource.KeyOf(o) && slices.ContainsFunc(v.GetSpec().GetHosts(), func(h string) bool { return slices.Contains(hosts, h) })
	})
}

func selectVhosts(ctx context.Context, c runtime.Client, want func(*v1alpha1.Vhost) bool) []resource.Key {
	all, err := runtime.List[*v1alpha1.Vhost](ctx, c, kind, "")
	if err != nil {
		return nil
	}
	var keys []resource.Key
	for _, v := range all {
		if want(v) {
			keys = append(keys, resource.KeyOf(v))
		}
	}
	return keys
}

// Reconcile says how far the Vhost is on its way to being served.
func (r *reconciler) Reconcile(ctx context.Context, s *session) (runtime.Result, error) {
	appliances, err := runtime.List[*v1alpha1.Appliance](ctx, s.Client, "Appliance", "")
	if err != nil {
		return runtime.Result{}, err
	}
	apps, err := runtime.List[*v1alpha1.App](ctx, s.Client, "App", "")
	if err != nil {
		return runtime.Result{}, err
	}
	index := routing.IndexApps(apps)
	a, err := chooseAppliance(s.Object, index, appliances)
	if err != nil {
		return runtime.Result{}, err
	}
	status(s).Appliance = proto.String(a.GetMetadata().GetName())
	if err := r.accept(ctx, s, index, appliances); err != nil {
		return runtime.Result{}, err
	}
	opened, err := r.Credentials.Vhost(ctx, s.Client, s.Object)
	if err != nil {
		return runtime.Result{}, err
	}
	r.resolve(s, a, index, opened)
	r.reportHealth(s, a.GetMetadata().GetName())
	r.reportCertificates(s, a.GetMetadata().GetName(), opened)
	if err := r.programmed(s, a, routing.Render(s.Object, index, a, opened)); err != nil {
		return runtime.Result{}, err
	}
	return runtime.Result{}, r.serving(ctx, s, a, index)
}

// Finalize waits until the proxy no longer serves the name. An appliance that is gone or
// not known to serve anything serves it no more.
func (r *reconciler) Finalize(_ context.Context, s *session) (runtime.Result, error) {
	name := s.Object.GetStatus().GetAppliance()
	o := see(r.Board.Get(name), name, routing.Key(s.Object.GetMetadata()))
	s.Remember(o)
	if steps, _ := plan(nil, o); len(steps) > 0 {
		return runtime.Result{}, runtime.Waiting(recheck, "StillServed", "the proxy still serves the name")
	}
	return runtime.Result{}, nil
}

func status(s *session) *v1alpha1.VhostStatus {
	if s.Object.Status == nil {
		s.Object.Status = &v1alpha1.VhostStatus{}
	}
	return s.Object.Status
}

// accept lets the older Vhost keep a host name that two claim.
func (r *reconciler) accept(ctx context.Context, s *session, index map[string]*v1alpha1.App, appliances []*v1alpha1.Appliance) error {
	all, err := runtime.List[*v1alpha1.Vhost](ctx, s.Client, kind, "")
	if err != nil {
		return err
	}
	if text := conflict(s.Object, all, index, appliances); text != "" {
		s.False(CondAccepted, "Conflict", "%s", text)
		s.SetCondition("Conflict", "True", "Conflict", "%s", text)
		for _, c := range []string{CondProgrammed, CondServing} {
			s.False(c, "Conflict", "%s", text)
		}
		return runtime.Stalled("Conflict", "%s", text)
	}
	resource.RemoveCondition(s.Object, "Conflict")
	s.True(CondAccepted, "Accepted", "no other Vhost has the host names")
	return nil
}

func (r *reconciler) resolve(s *session, a *v1alpha1.Appliance, index map[string]*v1alpha1.App, opened routing.Credentials) {
	rules, unresolved := routing.Backends(s.Object, index, a)
	var addrs []string
	for _, rule := range rules {
		if rule.ManagementUI {
			addrs = append(addrs, net.JoinHostPort(a.GetSpec().GetLan().GetAddress(), strconv.Itoa(appliance.CockpitPort)))
		}
		for _, b := range rule.Backends {
			if !slices.Contains(addrs, b.Address) {
				addrs = append(addrs, b.Address)
			}
		}
	}
	status(s).Backends = addrs
	if opened.Missing != "" {
		s.False(CondResolved, opened.Reason, "%s", opened.Missing)
		return
	}
	if len(unresolved) > 0 {
		s.False(CondResolved, "BackendsNotFound", "%s", strings.Join(unresolved, "; "))
		return
	}
	s.True(CondResolved, "Resolved", "every backend has an address, and what is referred to is there")
}

// programmed compares what the proxy serves with what the Vhost asks for now.
func (r *reconciler) programmed(s *session, a *v1alpha1.Appliance, want appliance.Vhost) error {
	name, key := a.GetMetadata().GetName(), routing.Key(s.Object.GetMetadata())
	if !r.Board.Looked(name) {
		return runtime.Hold(recheck, "ApplianceNotObserved", "appliance %s has not been looked at yet", name)
	}
	st := r.Board.Get(name)
	if st == nil {
		return runtime.Waiting(recheck, "ApplianceNotReady", "appliance %s is not ready", name)
	}
	o := see(st, name, key)
	s.Remember(o)
	steps, blocked := plan(&desired{appliance: name, vhost: want}, o)
	if blocked != nil {
		s.False(CondAccepted, blocked.Reason, "%s", o.refused)
		return runtime.Stalled(blocked.Reason, "%s", blocked.Text)
	}
	if len(steps) > 0 {
		s.False(CondProgrammed, "NotProgrammed", "the proxy of appliance %s does not have it yet", name)
		return runtime.Waiting(recheck, "NotProgrammed", "the proxy of appliance %s does not have it yet", name)
	}
	s.True(CondProgrammed, "Programmed", "the proxy of appliance %s has it", name)
	status(s).Urls = urls(s.Object)
	return nil
}

func urls(v *v1alpha1.Vhost) []string {
	var out []string
	for _, h := range v.GetSpec().GetHosts() {
		if strings.HasPrefix(h, "*.") {
			continue
		}
		if v.GetSpec().GetTls().GetMode() != "off" {
			out = append(out, "https://"+h+"/")
		}
		if !routing.Redirects(v) {
			out = append(out, "http://"+h+"/")
		}
	}
	return out
}

// stoppedApps names the Apps behind a Vhost that nobody wants to run.
func stoppedApps(v *v1alpha1.Vhost, index map[string]*v1alpha1.App) string {
	var names []string
	for _, key := range routing.AppKeys(v) {
		if app := index[key]; app != nil && app.GetSpec().GetState() == "Stopped" {
			names = append(names, "App "+app.GetMetadata().GetName()+" is stopped by its spec.state")
		}
	}
	return strings.Join(names, "; ")
}

// serving asks for the name through the proxy. The answer of the periodic look is used while
// it is good; otherwise it is asked now.
func (r *reconciler) serving(ctx context.Context, s *session, a *v1alpha1.Appliance, index map[string]*v1alpha1.App) error {
	if c := resource.FindCondition(s.Object, CondResolved); c.GetStatus() != "True" {
		s.False(CondServing, c.GetReason(), "%s", c.GetMessage())
		return nil
	}
	st := r.Board.Get(a.GetMetadata().GetName())
	if st == nil {
		return runtime.Waiting(recheck, "ApplianceNotReady", "appliance %s is not ready", a.GetMetadata().GetName())
	}
	host := strings.Replace(s.Object.GetSpec().GetHosts()[0], "*", "any", 1)
	if s.Object.GetSpec().GetMaintenance().GetEnabled() {
		s.True(CondServing, "Maintenance", "requests for %s get the maintenance page", host)
		return nil
	}
	if routing.LeadsToUI(s.Object) { // to ask for it would start it each time
		if !managed(st) {
			s.False(CondServing, "BackendFailed", "a request for %s fails: the management UI does not listen", host)
			return runtime.Waiting(recheck, "BackendFailed", "the management UI does not listen")
		}
		s.True(CondServing, "Serving", "the management UI listens, and is started by the first request for %s", host)
		return nil
	}
	if p := st.Observation.Probes["vhost/"+routing.Key(s.Object.GetMetadata())]; p.State == appliance.ProbeOK || answers(p.Code) {
		s.True(CondServing, "Serving", "%s", reached(host, p.Code))
		return nil
	}
	conn, err := r.Clusters.Get(a.GetSpec().GetClusterRef().GetName())
	if err != nil {
		return runtime.Stalled("NotConnected", "%v", err)
	}
	v, err := probe.Through(ctx, conn.Guests, guest.Target{Node: st.Node, VMID: st.VMID}, host, routing.Redirects(s.Object))
	if err != nil {
		return runtime.Waiting(recheck, "GuestUnreachable", "the proxy cannot be asked: %v", err)
	}
	if !answers(v.Code) {
		why := v.Why
		if v.Code != 0 {
			why = fmt.Sprintf("no backend answers the proxy (%s)", v.Why)
		}
		if stopped := stoppedApps(s.Object, index); stopped != "" {
			why += "; " + stopped
		}
		s.False(CondServing, "BackendFailed", "a request for %s fails: %s", host, why)
		return runtime.Waiting(time.Second, "BackendFailed", "a request for %s fails: %s", host, why)
	}
	s.True(CondServing, "Serving", "%s", reached(host, v.Code))
	return nil
}

// managed tells whether the management UI of an appliance listens.
func managed(st *live.State) bool {
	return st.Observation.Services[appliance.UnitCockpit].Active == "active"
}

// answers: the proxy itself answers 502 to 504 for a backend that does not answer it; what else
// a backend says is its own affair.
func answers(code int) bool { return code != 0 && (code < 502 || code > 504) }

// reached says how far a request came.
func reached(host string, code int) string {
	if code == 401 {
		return "a request for " + host + " is asked who it is"
	}
	return "a request for " + host + " reaches a backend"
}

// reportCertificates puts into the status which certificates there are for the host names. One
// that is provided is the Vhost's own; of others the appliance tells.
func (r *reconciler) reportCertificates(s *session, served string, opened routing.Credentials) {
	st := r.Board.Get(served)
	mode := s.Object.GetSpec().GetTls().GetMode()
	if st == nil && mode != appliance.TLSProvided {
		return
	}
	var all []*v1alpha1.CertificateStatus
	for _, host := range s.Object.GetSpec().GetHosts() {
		var c appliance.Certificate
		var ok bool
		switch mode {
		case appliance.TLSProvided:
			c, ok = appliance.LeafCertificate(opened.Certificate)
		case appliance.TLSACME, appliance.TLSInternal, "":
			c, ok = st.Certificates[strings.ToLower(host)]
		}
		if ok {
			all = append(all, &v1alpha1.CertificateStatus{
				Host: proto.String(host), NotAfter: proto.String(c.NotAfter.UTC().Format(time.RFC3339)), Issuer: proto.String(c.Issuer),
			})
		}
	}
	status(s).Certificates = all
}

// reportHealth puts into the status how the backends answer the appliance, which asks them all
// the time.
func (r *reconciler) reportHealth(s *session, served string) {
	st := r.Board.Get(served)
	if st == nil {
		return
	}
	var all []*v1alpha1.BackendHealth
	for _, address := range status(s).GetBackends() {
		state := "Unknown"
		if routing.LeadsToUI(s.Object) {
			state = map[bool]string{true: "Healthy", false: "Unhealthy"}[managed(st)]
		}
		switch st.Observation.Probe(live.BackendKey(strings.ToLower(address))).State {
		case appliance.ProbeOK:
			state = "Healthy"
		case appliance.ProbeFail:
			state = "Unhealthy"
		}
		all = append(all, &v1alpha1.BackendHealth{Address: proto.String(address), State: proto.String(state)})
	}
	status(s).BackendHealth = all
}
