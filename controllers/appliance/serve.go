package appliance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	// bootRecheck is the pause while a guest boots or its addresses are missing.
	bootRecheck = 500 * time.Millisecond
	// applyRetry is the pause after a configuration was refused or rolled back.
	applyRetry = 10 * time.Second
)

// serve observes the inside of the guest, takes the steps of the plan that are left and
// publishes what is live.
func (r *reconciler) serve(ctx context.Context, s *session, conn *cluster.Connection, guestSeen lxc.Observed, d *desired) error {
	if d.broken != nil {
		s.False(CondConfigured, "RenderFailed", "%v", d.broken)
		return d.broken
	}
	box := inside{runner: conn.Guests, target: guest.Target{Node: guestSeen.Node, VMID: int(s.Object.GetStatus().GetVmid())}}
	name := s.Object.GetMetadata().GetName()
	if left, why := r.quiet(name); left > 0 {
		return silentFor(left, why)
	}
	seen, err := box.observe(ctx, d.bundle)
	if err != nil {
		r.Board.Publish(name, nil)
		return r.unreachable(s, err)
	}
	r.heard(s)
	steps := r.remember(s, d, guestSeen, seen)
	if s.Object.GetSpec().GetReadOnly() {
		return r.onlyLook(s, d, box, seen, steps)
	}
	if lxc.Has(steps, ActionInstall) {
		if seen != nil { // what was seen before it lost a package counts for nothing any more
			r.reportInside(s, d.input, *seen)
		}
		if seen, err = r.install(ctx, s, box, d.bundle, steps); err != nil {
			r.Board.Publish(name, nil)
			return err
		}
		steps = r.remember(s, d, guestSeen, seen)
	}
	s.True(CondPackages, "Installed", "dnsmasq, caddy and nft are installed")
	if err := s.SaveStatus(ctx); err != nil {
		return err
	}
	r.tellRestarts(ctx, s, name, *seen)
	seen, err = r.apply(ctx, s, box, d.bundle, seen, steps)
	if err == nil {
		r.lookAtCertificates(ctx, s, box, d.input, *seen)
		r.publish(name, liveState(d.input, d.bundle, *seen, box.target))
		r.keep(ctx, s, box, *seen)
	}
	reportForwards(s, d.bundle)
	if seen != nil {
		r.remember(s, d, guestSeen, seen)
		r.reportInside(s, d.input, *seen)
	}
	if err != nil {
		return err
	}
	return r.addressed(s, *seen)
}

// remember keeps what was seen of guest and inside (nil: it has no agent), and returns the
// plan from there: what is to be done inside, for the guest is as it should be.
func (r *reconciler) remember(s *session, d *desired, guestSeen lxc.Observed, seen *appliance.Observation) []lxc.Step {
	last, _ := s.Remembered().(observed)
	o := observed{guest: guestSeen, pending: last.pending}
	if seen != nil {
		o.inside = listed(d.bundle, *seen, s.Remembered())
	}
	s.Remember(o)
	steps, _ := plan(d, d.guest.Mark, o)
	return steps
}

// onlyLook says what of the inside would be done, and publishes and tells what is there.
func (r *reconciler) onlyLook(s *session, d *desired, box inside, seen *appliance.Observation, steps []lxc.Step) error {
	name := s.Object.GetMetadata().GetName()
	if seen == nil {
		r.Board.Publish(name, nil)
	} else {
		r.publish(name, liveState(d.input, d.bundle, *seen, box.target))
		r.reportInside(s, d.input, *seen)
	}
	if b := lxc.ReadOnly(steps); b != nil {
		s.False(CondConfigured, b.Reason, "%s", b.Text)
		return runtime.Stalled(b.Reason, "%s", b.Text)
	}
	s.True(CondPackages, "Installed", "dnsmasq, caddy and nft are installed")
	s.True(CondConfigured, "Applied", "configuration %.12s is live", d.bundle.Hash)
	return r.addressed(s, *seen)
}

// unreachable: the guest runs as Proxmox says, but no command can be run in it. While it
// boots that is normal.
func (r *reconciler) unreachable(s *session, err error) error {
	for _, c := range []string{CondPackages, CondNetwork, CondDNS, CondProxy, CondNAT} {
		s.SetCondition(c, "Unknown", "GuestUnreachable", "%v", err)
	}
	r.unknown(s, "GuestUnreachable", err.Error(), insideConditions...)
	pause := r.unheard(s.Object.GetMetadata().GetName(), err)
	if errors.Is(err, guest.ErrHostKey) || errors.Is(err, guest.ErrAuth) {
		return runtime.Stalled("GuestUnreachable", "%v; check guestAccess in the daemon's configuration", err)
	}
	return silentFor(pause, err)
}

func silentFor(pause time.Duration, err error) error {
	return runtime.Waiting(pause, "GuestUnreachable", "no command can be run in the guest: %v", err)
}

// install takes the steps of a guest that lacks agent or packages: both, and a first apply.
func (r *reconciler) install(ctx context.Context, s *session, box inside, b appliance.Bundle, steps []lxc.Step) (*appliance.Observation, error) {
	if err := box.stage(ctx, b); err != nil {
		return nil, r.unreachable(s, err)
	}
	missing, err := box.staged(ctx, b, "packages")
	if err != nil {
		return nil, r.unreachable(s, err)
	}
	if lack := missingPackages(string(missing.Stdout)); lack != "" {
		s.False(CondPackages, "Installing", "installing %s", lack)
		if err := s.SaveStatus(ctx); err != nil {
			return nil, err
		}
		s.Normal(ctx, "Installing", "installing %s in guest %s", lack, box.target)
		take(s, steps, ActionInstall)
		res, err := box.staged(ctx, b, "install")
		if err != nil {
			return nil, r.unreachable(s, err)
		}
		if res.ExitCode != 0 {
			tail := common.LastLines(string(res.Stdout)+string(res.Stderr), 5)
			s.False(CondPackages, "InstallFailed", "%s", tail)
			s.Warning(ctx, "InstallFailed", "packages could not be installed: %s", tail)
			return nil, runtime.Waiting(applyRetry, "InstallFailed", "packages could not be installed in the guest: %s", tail)
		}
	}
	if err := r.restore(ctx, s, box, b); err != nil {
		return nil, err
	}
	take(s, steps, ActionConfigure)
	res, err := box.staged(ctx, b, "apply", appliance.StageDir(b))
	if err != nil {
		return nil, r.unreachable(s, err)
	}
	return r.applied(ctx, s, res)
}

// take says which step is taken now.
func take(s *session, steps []lxc.Step, action string) {
	for _, st := range steps {
		if st.Action == action {
			runtime.LogStep(s.Log, st.Step)
		}
	}
}

// missingPackages reads the agent's list: lines "missing <command> <package>".
func missingPackages(out string) string {
	var names []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "missing" {
			names = append(names, f[2])
		}
	}
	return strings.Join(names, ", ")
}

// apply takes the step Configure, if there is one: it makes the bundle live.
func (r *reconciler) apply(ctx context.Context, s *session, box inside, b appliance.Bundle, seen *appliance.Observation, steps []lxc.Step) (*appliance.Observation, error) {
	if !lxc.Has(steps, ActionConfigure) {
		if status(s).GetConfigHash() != b.Hash {
			s.Normal(ctx, "Configured", "configuration %.12s is live", b.Hash)
		}
		s.True(CondConfigured, "Applied", "configuration %.12s is live", b.Hash)
		status(s).ConfigHash = proto.String(b.Hash)
		return seen, nil
	}
	differs := appliance.Diff(b, *seen)
	take(s, steps, ActionConfigure)
	res, err := box.apply(ctx, b)
	if err != nil {
		return nil, r.unreachable(s, err)
	}
	after, err := r.applied(ctx, s, res)
	if err != nil {
		return after, err
	}
	if len(after.Missing) > 0 { // the next look installs it
		return after, runtime.Waiting(bootRecheck, "Installing", "%s is to be installed", strings.Join(after.Missing, ", "))
	}
	if left := appliance.Diff(b, *after); len(left) > 0 {
		s.False(CondConfigured, "ApplyFailed", "still differs after apply: %s", strings.Join(left, "; "))
		return after, runtime.Waiting(applyRetry, "ApplyFailed", "still differs after apply: %s", strings.Join(left, "; "))
	}
	if status(s).GetConfigHash() == b.Hash {
		// The same configuration was live before: somebody or something changed the guest.
		s.Warning(ctx, "Repaired", "the guest differed and was repaired: %s", shorten(differs))
	} else {
		s.Normal(ctx, "Configured", "configuration %.12s is live: %s", b.Hash, shorten(differs))
	}
	s.True(CondConfigured, "Applied", "configuration %.12s is live", b.Hash)
	status(s).ConfigHash = proto.String(b.Hash)
	return after, nil
}

// applied reads what an apply did.
func (r *reconciler) applied(ctx context.Context, s *session, res guest.Result) (*appliance.Observation, error) {
	out, err := appliance.ParseApply(res.Stdout, res.ExitCode)
	if err != nil {
		verb := "was refused"
		if out.RolledBack {
			verb = "failed and was rolled back"
		}
		text := err.Error() // with the first problems, which say it
		s.False(CondConfigured, "ApplyFailed", "the configuration %s: %s", verb, text)
		s.Warning(ctx, "ApplyFailed", "the configuration %s: %s", verb, text)
		return out.Observation, runtime.Waiting(applyRetry, "ApplyFailed", "the configuration %s: %s", verb, text)
	}
	if out.Observation == nil {
		return nil, runtime.Waiting(bootRecheck, "ApplyFailed", "the agent did not look at the result")
	}
	return out.Observation, nil
}

// tellRestarts records what happened to services since the last look. The service manager
// restarts them by itself; people want to know that it had to.
func (r *reconciler) tellRestarts(ctx context.Context, s *session, name string, now appliance.Observation) {
	last := r.Board.Get(name)
	if last == nil {
		return
	}
	if last.Observation.BootID != now.BootID {
		s.Warning(ctx, "GuestRebooted", "the guest has been booted since it was last looked at")
		return
	}
	for unit, svc := range now.Services {
		old := last.Observation.Services[unit]
		if svc.Restarts > old.Restarts {
			s.Warning(ctx, "ServiceRestarted", "%s had died and was restarted by the service manager (%d times since boot)", unit, svc.Restarts)
		}
	}
}

func liveState(in appliance.Input, b appliance.Bundle, o appliance.Observation, t guest.Target) *live.State {
	st := &live.State{
		Observation: o, InSync: len(appliance.Diff(b, o)) == 0, Input: in, Node: t.Node, VMID: t.VMID,
		Rejected: map[string]appliance.Rejected{}, At: time.Now(),
	}
	for _, rej := range b.Rejected {
		st.Rejected[live.RejectedKey(rej.Kind, rej.Key)] = rej
	}
	for key, reason := range o.Vhosts {
		st.Rejected[live.RejectedKey("vhost", key)] = appliance.Rejected{Kind: "vhost", Key: key, Reason: "the proxy cannot serve it: " + reason}
	}
	return st
}

// addressed sets NetworkReady from the addresses inside the guest.
func (r *reconciler) addressed(s *session, o appliance.Observation) error {
	wan, wanOK := o.AddressOf(wanInterface)
	lan, lanOK := o.AddressOf(lanInterface)
	switch {
	case !lanOK:
		s.False(CondNetwork, "NoLANAddress", "%s has no address yet", lanInterface)
	case !wanOK:
		status(s).WanAddress = nil
		s.False(CondNetwork, "NoUplinkAddress", "%s has no address: no DHCP server answers on the uplink", wanInterface)
	default:
		status(s).WanAddress = proto.String(wan.String())
		s.True(CondNetwork, "Addressed", "uplink %s, network %s", wan, lan)
		return nil
	}
	return runtime.Waiting(bootRecheck, "NetworkNotReady", "the guest has not got its addresses yet")
}

// reportInside sets the conditions of the services.
func (r *reconciler) reportInside(s *session, in appliance.Input, o appliance.Observation) {
	st := status(s)
	st.Services = nil
	for unit, svc := range o.Services {
		st.Services = append(st.Services, &v1alpha1.ServiceStatus{
			Name: proto.String(unit), State: proto.String(svc.Active), Restarts: proto.Int32(int32(svc.Restarts)),
		})
	}
	slices.SortFunc(st.Services, func(a, b *v1alpha1.ServiceStatus) int { return strings.Compare(a.GetName(), b.GetName()) })
	reportLeases(st, in, o.Leases)
	reportUI(s, in, o)
	reportUpstream(s, o)
	reportDisk(s, o)
	st.LeaseCount = proto.Int32(int32(len(o.Leases)))
	st.VhostCount = proto.Int32(int32(len(in.Vhosts)))
	check(s, CondDNS, o.DNS.OK, o.DNS.Reason, fmt.Sprintf("DHCP and DNS serve %s on %s", in.Zone, in.LAN.Addr()))
	check(s, CondProxy, o.Proxy.OK, o.Proxy.Reason, "the reverse proxy answers")
	if root := r.rootOf(s.Object.GetMetadata().GetName()); root != "" {
		st.CaCertificate = proto.String(root)
	}
	switch {
	case !in.NAT:
		s.True(CondNAT, "Disabled", "spec.nat.enabled is false: the network is isolated")
	default:
		check(s, CondNAT, o.Forward && o.NAT == appliance.NATOK, fmt.Sprintf("rules %s, forwarding %v", o.NAT, o.Forward), "guests reach the uplink through NAT")
	}
}

func check(s *session, cond string, ok bool, why, good string) {
	if ok {
		s.True(cond, "Serving", "%s", good)
		return
	}
	s.False(cond, "NotServing", "%s", why)
}

func shorten(differs []string) string {
	const most = 5
	if len(differs) > most {
		return strings.Join(differs[:most], "; ") + fmt.Sprintf("; and %d more", len(differs)-most)
	}
	return strings.Join(differs, "; ")
}
