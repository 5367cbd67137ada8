package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/probe"
	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	// recheck is the pause while a step waits for the guest, which tells nobody.
	recheck = 300 * time.Millisecond
	// boardRecheck is the pause while it waits for the appliance, which announces changes.
	boardRecheck = 2 * time.Second
	// queuedRecheck is the pause while it waits for its turn, which it is told of.
	queuedRecheck = 30 * time.Second
)

// converge takes the guest's steps of the plan and returns what was seen last, with the
// other steps.
func (r *reconciler) converge(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, n network) (observed, []lxc.Step, error) {
	last := s.Object.GetStatus().GetNode()
	m := mark(s.Object, conn)
	secrets, err := r.openEnv(ctx, s.Client, s.Object)
	if err != nil {
		return observed{}, nil, err
	}
	d, err := desire(s.Object, secrets, cl, m, n, wantedNode(s.Object))
	if err != nil {
		return observed{}, nil, err
	}
	driver := r.driver(s, conn, cl, n)
	driver.Place = func(ctx context.Context) (string, error) { return r.stands(ctx, s.Object, conn, cl, n) }
	before, _ := s.Remembered().(observed)
	var seen observed
	g, rest, err := driver.Converge(ctx, d.guest, m, last, func(guest lxc.Observed) ([]lxc.Step, *lxc.Blocked) {
		seen = r.see(s.Object, d.appliance, guest)
		seen.pending = before.pending
		seen.pending.Saw(guest)
		before = seen
		s.Remember(seen)
		steps, blocked := plan(d, m, seen)
		if blocked == nil && s.Object.GetSpec().GetReadOnly() {
			blocked = lxc.ReadOnly(slices.DeleteFunc(steps, func(st lxc.Step) bool { return st.By != "" }))
		}
		return steps, blocked
	})
	seen.guest = g
	if err == nil {
		status(s).Applied = common.ReportDrift(ctx, s, d.guest, g)
		var changed bool
		if changed, err = common.ReportPending(ctx, s, conn.API, m.VMID, &seen.pending, g); changed {
			s.Remember(seen)
		}
	}
	return seen, rest, err
}

// reachable tells whether a guest on a node can reach its appliance: it needs the Bridge
// there, and one that is a network of its own on each node leads to no other.
func (n network) reachable(node string) error {
	bridge := n.appliance.GetSpec().GetBridgeRef().GetName()
	if ready, why := common.BridgeOn(n.of, node); !ready {
		return runtime.Waiting(common.DependencyRecheck, "BridgeNotOnNode", "%s, and the guest is there", why)
	}
	if at := n.appliance.GetStatus().GetNode(); at != "" && at != node && !common.BridgeSpans(n.of) {
		return runtime.Waiting(common.DependencyRecheck, "ApplianceOnOtherNode",
			"the guest is on node %s and Appliance %s on node %s, and Bridge %s is a network of its own on each node; migrate one of them to the other's node",
			node, n.appliance.GetMetadata().GetName(), at, bridge)
	}
	return nil
}

// deploy takes the steps after those of the guest.
func (r *reconciler) deploy(ctx context.Context, s *session, conn *cluster.Connection, o observed, rest []lxc.Step, n network) error {
	name := n.appliance.GetMetadata().GetName()
	if !o.looked {
		return runtime.Hold(boardRecheck, "ApplianceNotObserved", "appliance %s has not been looked at yet", name)
	}
	unserved := ""
	status(s).DnsName = proto.String(s.Object.GetSpec().GetHostname() + ".lan." + n.appliance.GetSpec().GetDns().GetZone())
	if lxc.Has(rest, ActionServe) {
		// The appliance's step: it has been told by the reservation.
		unserved = cmp.Or(o.unserved, fmt.Sprintf("appliance %s does not serve address %s yet", name, status(s).GetAddress()))
		if c := resource.FindCondition(n.appliance, "Stalled"); c.GetStatus() == "True" {
			unserved += ": " + c.GetMessage()
		}
		s.False(CondDNS, "NotServed", "%s", unserved)
		if !o.guest.Running {
			return runtime.Waiting(boardRecheck, "ApplianceNotReady", "the guest is started when the appliance serves it: %s", unserved)
		}
	} else {
		s.True(CondDNS, "Served", "%s resolves to %s", status(s).GetDnsName(), status(s).GetAddress())
	}
	if err := r.addressed(ctx, s, conn, o.guest, n, unserved); err != nil {
		return err
	}
	arrived(status(s))
	if err := s.SaveStatus(ctx); err != nil {
		return err
	}
	if err := r.provisioned(ctx, s, conn, o, rest); err != nil {
		return err
	}
	if err := r.publish(ctx, s, n); err != nil {
		return err
	}
	if err := r.proxied(ctx, s); err != nil {
		return err
	}
	return r.healthy(ctx, s, conn, n)
}

// deployOnUplink takes the steps after those of the guest while it is on the uplink: it works
// there as well as it can without names and proxy.
func (r *reconciler) deployOnUplink(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, o observed, rest []lxc.Step, n network) error {
	name := n.appliance.GetMetadata().GetName()
	s.False(CondDNS, "OnUplink", "the guest is on the uplink, because appliance %s does not serve", name)
	s.SetCondition(CondHealthy, "Unknown", "OnUplink", "appliance %s is who asks the application", name)
	if time.Since(r.guards.get(resource.KeyOf(s.Object))) > guardEvery {
		if err := r.guard(ctx, s, conn, cl, o.guest.Node); err != nil {
			return err
		}
	}
	ifs, err := conn.API.LXCInterfaces(ctx, o.guest.Node, int(status(s).GetVmid()))
	if err != nil {
		return lxc.Classify(fmt.Errorf("read the guest's addresses: %w", err))
	}
	if err := r.addressedOnUplink(s, n, ifs); err != nil {
		return err
	}
	arrived(status(s))
	r.reportFallback(s, n, cl, true, standingOf(s.Object))
	if err := s.SaveStatus(ctx); err != nil {
		return err
	}
	if err := r.provisioned(ctx, s, conn, o, rest); err != nil {
		return err
	}
	return r.proxied(ctx, s)
}

// provisioned takes the step Provision, if there is one.
func (r *reconciler) provisioned(ctx context.Context, s *session, conn *cluster.Connection, o observed, rest []lxc.Step) error {
	if i := slices.IndexFunc(rest, func(st lxc.Step) bool { return st.Action == ActionProvision }); i >= 0 {
		t := guest.Target{Node: o.guest.Node, VMID: int(status(s).GetVmid())}
		turn := r.memory(s, conn)
		if !turn.TakeInside(t.Node) {
			return runtime.Waiting(queuedRecheck, lxc.ReasonQueued, "it is the guest's turn to be provisioned when others of its node are")
		}
		defer turn.ReleaseInside()
		if err := r.provision(ctx, s, conn.Guests, t, rest[i]); err != nil {
			return err
		}
		o.provision = status(s).GetProvisionedHash()
		s.Remember(o)
	}
	s.True(CondProvisioned, "Provisioned", "packages, files and commands are as declared")
	return nil
}

// addressed waits until the guest has the address that is reserved for it; unserved says why
// the appliance gives it none at the moment, "" when it does.
func (r *reconciler) addressed(ctx context.Context, s *session, conn *cluster.Connection, o lxc.Observed, n network, unserved string) error {
	want, memory := status(s).GetAddress(), r.memory(s, conn)
	ifs, known := memory.Addresses()
	begin, saw := time.Now(), memory.SawAddresses
	if !known {
		var err error
		var leased bool
		if st := r.Board.Get(n.appliance.GetMetadata().GetName()); o.AsMade && st != nil {
			ifs, leased, err = memory.FirstAddresses(ctx, o.Node, status(s).GetMac(), guest.Target{Node: st.Node, VMID: st.VMID})
		} else {
			ifs, err = conn.API.LXCInterfaces(ctx, o.Node, int(status(s).GetVmid()))
		}
		if err != nil {
			return lxc.Classify(fmt.Errorf("read the guest's addresses: %w", err))
		}
		if leased {
			saw = memory.SawLeases
		}
	}
	got := ""
	for _, i := range ifs {
		if !strings.EqualFold(i.HWAddr, status(s).GetMac()) {
			continue
		}
		if p, err := netip.ParsePrefix(i.Inet); err == nil {
			got = p.Addr().String()
		}
	}
	switch got {
	case want:
		if !known {
			saw(begin, ifs)
		}
		s.True(CondNetwork, "Addressed", "the guest got %s by DHCP", want)
		return nil
	case "":
		var cut *runtime.WaitingError
		if err := n.reachable(o.Node); errors.As(err, &cut) {
			s.False(CondNetwork, cut.Reason, "%s", cut.Text)
			return err
		}
		if unserved != "" {
			s.False(CondNetwork, "NoAddress", "the guest gets its address when the appliance serves it: %s", unserved)
			return runtime.Waiting(boardRecheck, "ApplianceNotReady", "the guest gets its address %s when the appliance serves it: %s", want, unserved)
		}
		s.False(CondNetwork, "NoAddress", "the guest has not got its address yet")
	default:
		s.False(CondNetwork, "WrongAddress", "the guest has %s instead of %s; it gets the right one when it renews its lease or restarts", got, want)
	}
	return runtime.Waiting(recheck, "NetworkNotReady", "the guest has not got its address %s yet", want)
}

// proxied tells of the Vhosts that lead here.
func (r *reconciler) proxied(ctx context.Context, s *session) error {
	vhosts, err := vhostsOf(ctx, s)
	if err != nil {
		return err
	}
	if len(vhosts) == 0 {
		s.True(CondProxy, "NotRequested", "no Vhost leads to this App")
		return nil
	}
	for _, v := range vhosts {
		if !resource.IsReady(v) {
			s.False(CondProxy, "NotReady", "Vhost %s is not ready", v.GetMetadata().GetName())
			return nil
		}
	}
	s.True(CondProxy, "Served", "%d Vhosts lead to this App", len(vhosts))
	return nil
}

// healthy asks the application from the appliance, where its users' requests come from.
// The answer of the periodic look is used while it is good; otherwise it is asked now.
func (r *reconciler) healthy(ctx context.Context, s *session, conn *cluster.Connection, n network) error {
	port, path, ok := routing.HealthPort(s.Object)
	if !ok {
		s.True(CondHealthy, "NoCheck", "no port and no health check are declared")
		return nil
	}
	name := n.appliance.GetMetadata().GetName()
	st := r.Board.Get(name)
	if st == nil {
		return runtime.Waiting(boardRecheck, "ApplianceNotReady", "appliance %s is not ready to ask the application", name)
	}
	what := fmt.Sprintf("%s:%d%s", status(s).GetAddress(), port, path)
	if p := st.Observation.Probes["app/"+routing.Key(s.Object.GetMetadata())]; p.State == appliance.ProbeOK {
		s.True(CondHealthy, "Healthy", "%s answers", what)
		return nil
	}
	from, address := guest.Target{Node: st.Node, VMID: st.VMID}, net.JoinHostPort(status(s).GetAddress(), strconv.Itoa(int(port)))
	ask := func() (probe.Verdict, error) { return probe.TCP(ctx, conn.Guests, from, address) }
	if path != "" {
		ask = func() (probe.Verdict, error) { return probe.HTTP(ctx, conn.Guests, from, "http://"+address+path) }
	}
	// The periodic look asks for all at once; only those that do not answer it well are asked
	// one by one.
	select {
	case r.probing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	v, err := ask()
	<-r.probing
	if err != nil {
		return runtime.Waiting(recheck, "GuestUnreachable", "the appliance cannot be asked to check the application: %v", err)
	}
	if !v.OK {
		// It may have its address from the time before one of the two moved.
		var cut *runtime.WaitingError
		if err := n.reachable(status(s).GetNode()); errors.As(err, &cut) {
			s.False(CondHealthy, cut.Reason, "%s", cut.Text)
			return err
		}
		if why := r.contested(ctx, s, conn, from); why != "" {
			s.False(CondHealthy, "AddressConflict", "%s", why)
			return runtime.Waiting(boardRecheck, "AddressConflict", "%s", why)
		}
		s.False(CondHealthy, "Unhealthy", "%s: %s", what, v.Why)
		return runtime.Waiting(time.Second, "Unhealthy", "%s does not answer as it should: %s", what, v.Why)
	}
	s.True(CondHealthy, "Healthy", "%s answers", what)
	return nil
}

// contested says that another machine of the network answers at the App's address, "" when
// nothing tells of one: a guest that was left behind without its mark, or one that gave itself
// a fixed address.
func (r *reconciler) contested(ctx context.Context, s *session, conn *cluster.Connection, from guest.Target) string {
	st := status(s)
	mac, err := probe.Neighbour(ctx, conn.Guests, from, st.GetAddress())
	if err != nil || mac == "" || strings.EqualFold(mac, st.GetMac()) {
		return "" // what is known is that the application does not answer
	}
	return fmt.Sprintf("another machine, with the MAC address %s, answers at %s: find the guest with it (Proxmox shows it at Hardware or Network), and give it another address or stop it", strings.ToUpper(mac), st.GetAddress())
}
