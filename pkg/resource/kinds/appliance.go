package kinds

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	defaultApplianceVMID = 9999

	minLease = 2 * time.Minute // the shortest that dnsmasq keeps
	maxLease = 168 * time.Hour
	maxZone  = 180 // leaves room for a label and .lan. before it

	minFallback = 30 * time.Second // some looks at the appliance
	maxFallback = 24 * time.Hour
	// An appliance keeps a lease table and an address set in memory: it serves no larger
	// network than this.
	minServedBits = 16
)

func defaultAppliance(a *v1alpha1.Appliance) {
	spec := sub(&a.Spec)
	orReference(&spec.ClusterRef, DefaultCluster)
	orNumber(&spec.Vmid, defaultApplianceVMID)
	orText(&spec.Hostname, a.GetMetadata().GetName())
	orText(&spec.Os, "debian")
	defaultResources(&spec.Resources, "4Gi")
	orText(&sub(&spec.Wan).Address, "dhcp")
	orText(&sub(&spec.Dhcp).LeaseTime, "12h")
	if nat := sub(&spec.Nat); nat.Enabled == nil {
		yes := true
		nat.Enabled = &yes
	}
	orText(&spec.ManagementUi, "None")
	orText(&spec.Fallback, "None")
	defaultAdoption(spec.GetAdopt(), &spec.ReadOnly, &spec.DeletionPolicy)
}

func validateAppliance(a *v1alpha1.Appliance, p *problems) {
	spec := orEmpty(a.Spec)
	p.reference("spec.clusterRef", spec.GetClusterRef())
	if orEmpty(spec.BridgeRef).Name == nil {
		p.required("spec.bridgeRef.name", "the name of the Bridge that the appliance serves")
	}
	p.reference("spec.bridgeRef", spec.GetBridgeRef())
	p.hostname(spec.GetHostname(), a.GetMetadata().GetName())
	p.resources("spec.resources", spec.GetResources())
	validateUnsupported(spec, p)
	if spec.GetAdopt() && spec.GetRepair() == "Rebuild" {
		p.unsupported("spec.repair", "Rebuild", "with spec.adopt no guest is ever made, so none is made anew; use Guest or Services")
	}
	validateWAN(orEmpty(spec.Wan), p)
	validateLAN(spec, p)
	validateDNS(spec, p)
	validateApplianceACME(spec.GetAcme(), p)
	validatePackets(spec, p)
	if spec.FallbackAfter != nil {
		p.duration("spec.fallbackAfter", spec.GetFallbackAfter(), minFallback, maxFallback)
	}
	p.quantity("spec", "logSize", spec.LogSize, 16, 16<<10)
	for i, s := range spec.GetNat().GetAllowedDestinations() {
		p.subnet(resource.IndexPath("spec.nat.allowedDestinations", i), s, 0, 32, "an IPv4 range in CIDR notation, e.g. 192.168.7.0/24")
	}
}

// validateUnsupported refuses what the API describes and this version cannot do yet.
func validateUnsupported(spec *v1alpha1.ApplianceSpec, p *problems) {
	if spec.GetManagementUi() == "Cockpit" && spec.GetOs() == "alpine" {
		p.unsupported("spec.managementUI", "Cockpit", "Cockpit needs systemd, which Alpine does not have; use None: the daemon shows services, logs and figures by itself")
	}
}

func validateApplianceACME(acme *v1alpha1.ApplianceACME, p *problems) {
	p.acme("spec.acme", acme.GetDirectory(), acme.GetContact())
	dns := acme.GetDns()
	if dns == nil {
		return
	}
	if s := dns.GetServer(); dns.Server != nil {
		a, err := netip.ParseAddrPort(s)
		if err != nil {
			var ip netip.Addr
			ip, err = netip.ParseAddr(s)
			a = netip.AddrPortFrom(ip, 53)
		}
		if err != nil || a.Port() == 0 || !isHostAddress(a.Addr()) {
			p.invalid("spec.acme.dns.server", s, "an IP address, or address:port")
		}
	}
	if name := strings.TrimSuffix(dns.GetKeyName(), "."); dns.KeyName != nil && !resource.IsDNSName(name) {
		p.invalid("spec.acme.dns.keyName", dns.GetKeyName(), "the name of the key, a DNS name in lower case")
	}
}

func validateWAN(wan *v1alpha1.ApplianceWAN, p *problems) {
	if wan.Bridge != nil {
		p.interfaceName("spec.wan.bridge", wan.GetBridge(), "")
	}
	if wan.GetAddress() == "dhcp" {
		if wan.Gateway != nil {
			p.unsupported("spec.wan.gateway", wan.GetGateway(), "with spec.wan.address dhcp the gateway comes from the lease; leave it out")
		}
		return
	}
	const rule = "dhcp, or an IPv4 address with the length of its network, e.g. 192.168.1.50/24"
	n, err := netip.ParsePrefix(wan.GetAddress())
	if err != nil || !n.Addr().Is4() || !isHostAddress(n.Addr()) || n.Bits() < minSubnetBits || n.Bits() > 30 || !usableIn(n, n.Addr()) {
		p.invalid("spec.wan.address", wan.GetAddress(), rule)
		return
	}
	gatewayRule := fmt.Sprintf("another host address inside %s", n.Masked())
	if wan.Gateway == nil {
		p.required("spec.wan.gateway", gatewayRule)
		return
	}
	g, ok := p.address("spec.wan.gateway", wan.GetGateway(), gatewayRule)
	if ok && (!usableIn(n.Masked(), g) || g == n.Addr()) {
		p.invalid("spec.wan.gateway", g, gatewayRule)
	}
}

// validateLAN checks the addresses among each other; whether they are inside the Bridge's
// subnet is relateAppliance's to say.
func validateLAN(spec *v1alpha1.ApplianceSpec, p *problems) {
	var lan, start, end netip.Addr
	var lanOK, startOK, endOK bool
	if p.must("spec.lan.address", orEmpty(spec.Lan).Address, addressRule) {
		lan, lanOK = p.address("spec.lan.address", spec.GetLan().GetAddress(), addressRule)
	}
	if p.must("spec.dhcp.start", orEmpty(spec.Dhcp).Start, addressRule) {
		start, startOK = p.address("spec.dhcp.start", spec.GetDhcp().GetStart(), addressRule)
	}
	if p.must("spec.dhcp.end", orEmpty(spec.Dhcp).End, addressRule) {
		end, endOK = p.address("spec.dhcp.end", spec.GetDhcp().GetEnd(), addressRule)
	}
	if startOK && endOK {
		switch {
		case end.Less(start):
			p.invalid("spec.dhcp.end", end, fmt.Sprintf("an address not before spec.dhcp.start, %s", start))
		case lanOK && !lan.Less(start) && !end.Less(lan):
			p.invalid("spec.lan.address", lan, fmt.Sprintf("an address outside the DHCP range %s to %s", start, end))
		}
	}
	p.duration("spec.dhcp.leaseTime", spec.GetDhcp().GetLeaseTime(), minLease, maxLease)
}

func validateDNS(spec *v1alpha1.ApplianceSpec, p *problems) {
	dns := orEmpty(spec.Dns)
	zoneRule := fmt.Sprintf("a DNS zone in lower case of at most %d characters, e.g. prox.local", maxZone)
	if p.must("spec.dns.zone", dns.Zone, zoneRule) && (len(dns.GetZone()) > maxZone || !hostName(dns.GetZone())) {
		p.invalid("spec.dns.zone", dns.GetZone(), zoneRule)
	}
	for i, s := range dns.GetUpstreams() {
		path := resource.IndexPath("spec.dns.upstreams", i)
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil || !isHostAddress(a) || s == spec.GetLan().GetAddress():
			p.invalid(path, s, "the IP address of a resolver other than the appliance")
		case slices.Index(dns.GetUpstreams(), s) < i:
			p.add(resource.Duplicate(path, s, resource.IndexPath("spec.dns.upstreams", slices.Index(dns.GetUpstreams(), s))))
		}
	}
}

// relateAppliance checks the addresses against the Bridge's subnet. Without the Bridge
// there is nothing to check: the controller waits for it, and relateBridge checks then.
func relateAppliance(a *v1alpha1.Appliance, view resource.View, p *problems) {
	name := a.GetSpec().GetBridgeRef().GetName()
	o, ok := view.Get(resource.Key{Kind: "Bridge", Name: name})
	if !ok {
		return
	}
	bridge, _ := o.(*v1alpha1.Bridge)
	if subnet, err := netip.ParsePrefix(bridge.GetSpec().GetSubnet()); err == nil {
		applianceInSubnet(a, name, subnet, p)
	}
}

func applianceInSubnet(a *v1alpha1.Appliance, bridge string, subnet netip.Prefix, p *problems) {
	if subnet.Bits() < minServedBits {
		p.invalid("spec.bridgeRef.name", bridge, fmt.Sprintf("a Bridge with a subnet of /%d or smaller, this one has %s", minServedBits, subnet))
		return
	}
	rule := fmt.Sprintf("a host address inside %s, the subnet of Bridge %s", subnet, bridge)
	inside := func(path, s string) {
		if ip, err := netip.ParseAddr(s); err == nil && !usableIn(subnet, ip) {
			p.invalid(path, s, rule)
		}
	}
	inside("spec.lan.address", a.GetSpec().GetLan().GetAddress())
	inside("spec.dhcp.start", a.GetSpec().GetDhcp().GetStart())
	inside("spec.dhcp.end", a.GetSpec().GetDhcp().GetEnd())
}

func claimsOfAppliance(a *v1alpha1.Appliance) []resource.Claim {
	return []resource.Claim{{
		Path: "spec.vmid", Space: "VMID of cluster " + a.GetSpec().GetClusterRef().GetName(),
		Value: fmt.Sprint(a.GetSpec().GetVmid()),
	}}
}
