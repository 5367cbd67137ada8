package app

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/probe"
	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	// recheck is the pause while a step waits for the guest, which tells nobody.
	recheck = 300 * time.Millisecond
	// boardRecheck is the pause while it waits for the appliance, which announces changes.
	boardRecheck = 2 * time.Second
)

func (r *reconciler) converge(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, n network) (lxc.Observed, error) {
	spec := s.Object.GetSpec()
	node, err := common.Node(ctx, conn.API, spec.GetNode(), s.Object.GetStatus().GetNode(), n.appliance.GetStatus().GetNode(), cl.GetSpec().GetNode())
	if err != nil {
		return lxc.Observed{}, err
	}
	size, err := lxc.Size(spec.GetResources(), lxc.Sizes{Cores: 1, MemoryMiB: 512, DiskGiB: 4})
	if err != nil {
		return lxc.Observed{}, runtime.Stalled("InvalidResources", "%v", err)
	}
	d := r.driver(s, conn)
	st := s.Object.GetStatus()
	desired := &lxc.Desired{
		Mark: mark(s.Object, conn), Node: node, Hostname: spec.GetHostname(), Storage: cl.GetSpec().GetStorage(), Sizes: size,
		NICs:       map[int]proxmox.NIC{0: {Name: "eth0", Bridge: n.bridge, HWAddr: st.GetMac(), IP: "dhcp"}},
		Nameserver: n.lan.String(), SearchDomain: n.appliance.GetSpec().GetDns().GetZone(),
		OnBoot: spec.GetState() != stateStopped, Startup: "order=20", Nesting: true,
		// Without DHCP and DNS a guest would come up lame; it is made meanwhile.
		Running: spec.GetState() != stateStopped && r.served(s, n) == nil,
	}
	desired.Template = func(ctx context.Context) (string, error) {
		want := spec.GetSource().GetTemplate()
		if want == "" {
			want = cl.GetSpec().GetAppTemplate()
		}
		volid, err := d.Template(ctx, node, want)
		if err != nil {
			s.False(CondTemplate, "Missing", "%v", err)
			return "", err
		}
		status(s).Template = proto.String(volid)
		s.True(CondTemplate, "Present", "%s", volid)
		return volid, nil
	}
	if o := spec.GetState() != stateStopped && !desired.Running && r.wasRunning(s); o {
		// The appliance is away for the moment; a guest that runs is not stopped for that.
		desired.Running = true
	}
	return d.Converge(ctx, desired, desired.Mark, node)
}

// wasRunning tells whether the guest was running when it was last looked at.
func (r *reconciler) wasRunning(s *session) bool {
	return s.Object.GetStatus().GetState() == stateRunning
}

// served tells whether the appliance serves the App's address and names; the error says
// why not.
func (r *reconciler) served(s *session, n network) error {
	name := n.appliance.GetMetadata().GetName()
	st := r.Board.Get(name)
	if st == nil || !st.InSync {
		return fmt.Errorf("appliance %s is not ready", name)
	}
	key := routing.Key(s.Object.GetMetadata())
	if rej, ok := st.Rejected[live.RejectedKey("host", key)]; ok {
		return fmt.Errorf("appliance %s refuses the App's host record: %s", name, rej.Reason)
	}
	addr, ok := st.Host(key)
	if want := s.Object.GetStatus().GetAddress(); !ok || addr.String() != want {
		return fmt.Errorf("appliance %s does not serve address %s yet", name, want)
	}
	if !st.Observation.DNS.OK {
		return fmt.Errorf("DHCP and DNS of appliance %s do not answer: %s", name, st.Observation.DNS.Reason)
	}
	return nil
}

// deploy takes the steps after the guest runs.
func (r *reconciler) deploy(ctx context.Context, s *session, conn *cluster.Connection, o lxc.Observed, n network) error {
	if name := n.appliance.GetMetadata().GetName(); !r.Board.Looked(name) {
		return runtime.Hold(boardRecheck, "ApplianceNotObserved", "appliance %s has not been looked at yet", name)
	}
	zone := n.appliance.GetSpec().GetDns().GetZone()
	status(s).DnsName = proto.String(s.Object.GetSpec().GetHostname() + ".lan." + zone)
	if err := r.served(s, n); err != nil {
		s.False(CondDNS, "NotServed", "%v", err)
		if !o.Running {
			return runtime.Waiting(boardRecheck, "ApplianceNotReady", "the guest is started when the appliance serves it: %v", err)
		}
	} else {
		s.True(CondDNS, "Served", "%s resolves to %s", status(s).GetDnsName(), status(s).GetAddress())
	}
	if err := r.addressed(ctx, s, conn, o); err != nil {
		return err
	}
	if err := s.SaveStatus(ctx); err != nil {
		return err
	}
	t := guest.Target{Node: o.Node, VMID: int(status(s).GetVmid())}
	if err := r.provision(ctx, s, conn.Guests, t, zone); err != nil {
		return err
	}
	if err := r.proxied(ctx, s); err != nil {
		return err
	}
	return r.healthy(ctx, s, conn, n)
}

// addressed waits until the guest has the address that is reserved for it.
func (r *reconciler) addressed(ctx context.Context, s *session, conn *cluster.Connection, o lxc.Observed) error {
	want := status(s).GetAddress()
	ifs, err := conn.API.LXCInterfaces(ctx, o.Node, int(status(s).GetVmid()))
	if err != nil {
		return lxc.Classify(fmt.Errorf("read the guest's addresses: %w", err))
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
		s.True(CondNetwork, "Addressed", "the guest got %s by DHCP", want)
		return nil
	case "":
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
	v, err := ask()
	if err != nil {
		return runtime.Waiting(recheck, "GuestUnreachable", "the appliance cannot be asked to check the application: %v", err)
	}
	if !v.OK {
		s.False(CondHealthy, "Unhealthy", "%s: %s", what, v.Why)
		return runtime.Waiting(time.Second, "Unhealthy", "%s does not answer as it should: %s", what, v.Why)
	}
	s.True(CondHealthy, "Healthy", "%s answers", what)
	return nil
}
