package appliance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/credentials"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Names of the guest's interfaces: net0 is the uplink, net1 the Bridge.
const (
	wanInterface = "eth0"
	lanInterface = "eth1"
)

// network is what the Bridge and the spec say of the LAN, checked against each other.
type network struct {
	of         *v1alpha1.Bridge
	bridge     string // interface name on the nodes
	mtu        int    // of the guest's interface on it, 0 for the bridge's
	lan        netip.Prefix
	start, end netip.Addr
}

// network waits until the Bridge is ready on some node; whether it is on the guest's own is
// looked at when the guest is to be started.
func (r *reconciler) network(ctx context.Context, s *session) (network, error) {
	n, err := findNetwork(ctx, s.Client, s.Object)
	if err == nil && len(common.BridgeNodes(n.of)) == 0 {
		err = runtime.Waiting(common.DependencyRecheck, "BridgeNotReady", "Bridge %s is not ready", s.Object.GetSpec().GetBridgeRef().GetName())
	}
	return n, err
}

// findNetwork checks the addresses against the Bridge's subnet. The two are separate
// objects, so only here can they be compared for sure.
func findNetwork(ctx context.Context, c runtime.Client, a *v1alpha1.Appliance) (network, error) {
	spec := a.GetSpec()
	name := spec.GetBridgeRef().GetName()
	b, err := runtime.Get[*v1alpha1.Bridge](ctx, c, resource.Key{Kind: "Bridge", Name: name})
	if errors.Is(err, runtime.ErrNotFound) {
		return network{}, runtime.Waiting(common.DependencyRecheck, "BridgeNotFound", "Bridge %s does not exist", name)
	}
	if err != nil {
		return network{}, err
	}
	subnet, err := netip.ParsePrefix(b.GetSpec().GetSubnet())
	if err != nil {
		return network{}, runtime.Stalled("AddressOutsideSubnet", "Bridge %s has no valid subnet: %v", name, err)
	}
	addr, err := netip.ParseAddr(spec.GetLan().GetAddress())
	if err != nil || !subnet.Contains(addr) {
		return network{}, runtime.Stalled("AddressOutsideSubnet", "spec.lan.address %s is outside the subnet %s of Bridge %s", spec.GetLan().GetAddress(), subnet, name)
	}
	n := network{of: b, bridge: common.BridgeInterface(b), mtu: common.BridgeMTU(b), lan: netip.PrefixFrom(addr, subnet.Bits())}
	n.start, _ = netip.ParseAddr(spec.GetDhcp().GetStart())
	n.end, _ = netip.ParseAddr(spec.GetDhcp().GetEnd())
	if !subnet.Contains(n.start) || !subnet.Contains(n.end) || n.end.Less(n.start) {
		return network{}, runtime.Stalled("RangeOutsideSubnet", "spec.dhcp %s to %s is not a range inside the subnet %s of Bridge %s", spec.GetDhcp().GetStart(), spec.GetDhcp().GetEnd(), subnet, name)
	}
	return n, nil
}

// desiredGuest is the guest that the spec asks for; its node is chosen later.
func desiredGuest(a *v1alpha1.Appliance, cl *v1alpha1.Cluster, m ownership.Mark, n network) (*lxc.Desired, error) {
	spec, st := a.GetSpec(), a.GetStatus()
	size, err := lxc.Size(spec.GetResources(), lxc.Sizes{Cores: 2, MemoryMiB: 1024, DiskGiB: 8})
	if err != nil {
		return nil, runtime.Stalled("InvalidResources", "%v", err)
	}
	wan := proxmox.NIC{Name: wanInterface, Bridge: spec.GetWan().GetBridge(), HWAddr: st.GetWanMac(), IP: spec.GetWan().GetAddress(), Gateway: spec.GetWan().GetGateway()}
	if wan.Bridge == "" {
		wan.Bridge = cl.GetSpec().GetWanBridge()
	}
	if wan.IP == "" {
		wan.IP = "dhcp"
	}
	family, err := appliance.FamilyOf(spec.GetOs())
	if err != nil {
		return nil, runtime.Stalled("UnknownFamily", "spec.os: %v", err)
	}
	hostname := spec.GetHostname()
	if hostname == "" {
		hostname = a.GetMetadata().GetName()
	}
	return &lxc.Desired{
		Mark: m, Hostname: hostname, Storage: cl.GetSpec().GetStorage(), Sizes: size,
		DriftPolicy: spec.GetDriftPolicy(), Applied: st.GetApplied(), Adopt: spec.GetAdopt(), AdoptWeaker: spec.GetAdoptWeaker(), ReadOnly: spec.GetReadOnly(),
		Template: cmp.Or(spec.GetTemplate(), family.Template(), cl.GetSpec().GetApplianceTemplate()), Templates: common.Templates(cl),
		NICs: map[int]proxmox.NIC{
			0: wan,
			1: {Name: lanInterface, Bridge: n.bridge, HWAddr: st.GetLanMac(), IP: n.lan.String(), MTU: n.mtu},
		},
		// The appliance boots before the guests that get their addresses from it.
		OnBoot: true, Startup: "order=1", Nesting: true, Running: true,
		ShellConsole: lxc.ByConsole(cl),
	}, nil
}

// world is everything that an appliance's configuration is made from beside itself.
type world struct {
	opener
	appliances []*v1alpha1.Appliance
	apps       []*v1alpha1.App
	vhosts     []*v1alpha1.Vhost
	appIndex   map[string]*v1alpha1.App
}

// opener opens what the objects of a world refer to.
type opener struct {
	ctx  context.Context // of the reconcile or plan that the world is of
	c    runtime.Client
	with *credentials.Reader
}

func (o opener) open(v *v1alpha1.Vhost) (routing.Credentials, error) {
	return o.with.Vhost(o.ctx, o.c, v)
}

func (o opener) acme(a *v1alpha1.Appliance) (string, *appliance.DNSUpdate, error) {
	return o.with.ACME(o.ctx, o.c, a)
}

func (r *reconciler) readWorld(ctx context.Context, c runtime.Client) (w world, err error) {
	w.opener = opener{ctx, c, r.Credentials}
	if w.appliances, err = runtime.List[*v1alpha1.Appliance](ctx, c, "Appliance", ""); err != nil {
		return w, err
	}
	if w.apps, err = runtime.List[*v1alpha1.App](ctx, c, "App", ""); err != nil {
		return w, err
	}
	if w.vhosts, err = runtime.List[*v1alpha1.Vhost](ctx, c, "Vhost", ""); err != nil {
		return w, err
	}
	w.appIndex = routing.IndexApps(w.apps)
	return w, nil
}

func (w world) applianceOf(a *v1alpha1.App) string { return routing.ApplianceOf(a, w.appliances) }

func (w world) vhostAppliance(v *v1alpha1.Vhost) string {
	return routing.VhostAppliance(v, w.appIndex, w.appliances)
}

// input is what the appliance's files are rendered from. Apps count as soon as they have an
// address, also while they are stopped: the reservation is theirs.
func (w world) input(a *v1alpha1.Appliance, cl *v1alpha1.Cluster, n network, installation string) (appliance.Input, error) {
	name, spec := a.GetMetadata().GetName(), a.GetSpec()
	in := appliance.Input{
		Name: name, UID: a.GetMetadata().GetUid(), InstallationID: installation, OS: spec.GetOs(),
		LANInterface: lanInterface, WANInterface: wanInterface,
		LAN: n.lan, DHCPStart: n.start, DHCPEnd: n.end, Zone: spec.GetDns().GetZone(),
		NAT: spec.GetNat() == nil || spec.GetNat().GetEnabled(),
	}
	if spec.GetNat() != nil && spec.GetNat().Enabled == nil {
		in.NAT = true
	}
	if t := spec.GetDhcp().GetLeaseTime(); t != "" {
		d, err := time.ParseDuration(t)
		if err != nil {
			return in, fmt.Errorf("spec.dhcp.leaseTime: %w", err)
		}
		in.LeaseTime = d
	}
	for _, u := range spec.GetDns().GetUpstreams() {
		addr, err := netip.ParseAddr(u)
		if err != nil {
			return in, fmt.Errorf("spec.dns.upstreams: %w", err)
		}
		in.Upstreams = append(in.Upstreams, addr)
	}
	for _, p := range spec.GetNat().GetAllowedDestinations() {
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			return in, fmt.Errorf("spec.nat.allowedDestinations: %w", err)
		}
		in.Allowed = append(in.Allowed, prefix)
	}
	w.addNetwork(&in, a, cl)
	w.addHosts(&in, name)
	return in, w.addVhosts(&in, a)
}

func (w world) addHosts(in *appliance.Input, name string) {
	for _, app := range sortedByAge(w.apps) {
		st := app.GetStatus()
		addr, err := netip.ParseAddr(st.GetAddress())
		if w.applianceOf(app) != name || err != nil || st.GetMac() == "" {
			continue
		}
		in.Hosts = append(in.Hosts, appliance.Host{
			Key: routing.Key(app.GetMetadata()), Hostname: app.GetSpec().GetHostname(), MAC: st.GetMac(), Address: addr,
			Egress: egressOf(app),
		})
		if p, ok := appProbe(app); ok {
			in.Probes = append(in.Probes, p)
		}
	}
}

// appProbe is the question that the appliance asks an App all the time.
func appProbe(app *v1alpha1.App) (appliance.Probe, bool) {
	port, path, ok := routing.HealthPort(app)
	if !ok || app.GetSpec().GetState() == "Stopped" {
		return appliance.Probe{}, false
	}
	p := appliance.Probe{
		Key: "app/" + routing.Key(app.GetMetadata()), Kind: appliance.ProbeTCP,
		Address: fmt.Sprintf("%s:%d", app.GetStatus().GetAddress(), port), Path: path,
	}
	if path != "" {
		p.Kind = appliance.ProbeHTTP
	}
	return p, true
}

func (w world) addVhosts(in *appliance.Input, a *v1alpha1.Appliance) error {
	name := a.GetMetadata().GetName()
	var mine []*v1alpha1.Vhost
	for _, v := range sortedByAge(w.vhosts) {
		if w.vhostAppliance(v) == name && v.GetMetadata().GetDeletionTimestamp() == "" && !v.GetSpec().GetSuspend() {
			mine = append(mine, v)
		}
	}
	var lacking error // what ACME needs and is not there
	var err error
	if in.ACMERoot, in.ACMEDNS, err = w.acme(a); err != nil {
		if _, missing := credentials.IsMissing(err); !missing {
			return err
		}
		lacking = err
	}
	for _, v := range mine {
		if _, lost := routing.Conflict(v, mine); lost {
			continue
		}
		opened, err := w.open(v)
		if err != nil {
			return err
		}
		if lacking != nil && v.GetSpec().GetTls().GetMode() == appliance.TLSACME && opened.Missing == "" {
			opened.Missing = "ACME: " + lacking.Error()
		}
		in.Vhosts = append(in.Vhosts, routing.Render(v, w.appIndex, a, opened))
		if routing.Redirects(v) {
			continue // plain HTTP would only tell of the redirect
		}
		in.Probes = append(in.Probes, appliance.Probe{
			Key: "vhost/" + routing.Key(v.GetMetadata()), Kind: appliance.ProbeHTTP, Address: "127.0.0.1:80",
			Host: strings.Replace(v.GetSpec().GetHosts()[0], "*", "any", 1),
		})
	}
	in.Probes = append(in.Probes, backendProbes(in.Vhosts, appliance.MaxProbes-len(in.Probes))...)
	return nil
}

// backendProbes ask the backends of Vhosts themselves, as many as may be: a request through the
// proxy tells nothing of the one that it did not go to.
func backendProbes(vhosts []appliance.Vhost, room int) (probes []appliance.Probe) {
	known := map[string]bool{}
	for _, v := range vhosts {
		for _, rule := range v.Rules {
			for _, b := range rule.Backends {
				if len(probes) >= room {
					return probes
				}
				if known[b.Address] {
					continue
				}
				known[b.Address] = true
				p := appliance.Probe{Key: live.BackendKey(b.Address), Kind: appliance.ProbeTCP, Address: b.Address}
				if rule.Health != nil && rule.Health.Path != "" && rule.TLS == nil {
					p.Kind, p.Path = appliance.ProbeHTTP, rule.Health.Path
				}
				probes = append(probes, p)
			}
		}
	}
	return probes
}
