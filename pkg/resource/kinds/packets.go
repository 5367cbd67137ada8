package kinds

import (
	"fmt"
	"net/netip"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const rangeRule4 = "an IPv4 range in CIDR notation, e.g. 192.168.7.0/24"

// ranges checks IPv4 ranges.
func (p *problems) ranges(path string, ranges []string) {
	for i, s := range ranges {
		p.subnet(resource.IndexPath(path, i), s, 0, 32, rangeRule4)
	}
}

// validatePackets checks ports that lead to guests, and names on the uplink.
func validatePackets(spec *v1alpha1.ApplianceSpec, p *problems) {
	p.ranges("spec.dns.wan.allowFrom", spec.GetDns().GetWan().GetAllowFrom())
	taken := map[string]int{}
	for i, f := range spec.GetNat().GetPortForwards() {
		at := resource.IndexPath("spec.nat.portForwards", i)
		if spec.GetNat().Enabled != nil && !spec.GetNat().GetEnabled() {
			p.unsupported(at, f.GetName(), "without spec.nat.enabled nothing is forwarded; leave it out")
			continue
		}
		if f.Name != nil {
			p.label(at+".name", f.GetName())
		}
		validateForward(at, f, spec, p)
		port := fmt.Sprintf("%s %d", forwardProtocol(f), f.GetPort())
		if j, twice := taken[port]; twice {
			p.add(resource.Duplicate(at+".port", fmt.Sprint(f.GetPort()), resource.IndexPath("spec.nat.portForwards", j)))
		} else {
			taken[port] = i
		}
	}
}

func forwardProtocol(f *v1alpha1.PortForward) string {
	if f.GetProtocol() == "" {
		return "TCP"
	}
	return f.GetProtocol()
}

func validateForward(at string, f *v1alpha1.PortForward, spec *v1alpha1.ApplianceSpec, p *problems) {
	p.ranges(at+".allowFrom", f.GetAllowFrom())
	protocol, port := forwardProtocol(f), f.GetPort()
	switch {
	case protocol == "TCP" && (port == 80 || port == 443):
		p.invalid(at+".port", port, "a port other than 80 and 443, which are the proxy's: use a Vhost")
	case protocol == "UDP" && port == 68, port == 53 && spec.GetDns().GetWan().GetEnabled():
		p.invalid(at+".port", port, "a port that the appliance does not need itself")
	}
	switch {
	case f.AppRef == nil && f.Address == nil:
		p.required(at, "an appRef or an address")
	case f.AppRef != nil && f.Address != nil:
		p.unsupported(at+".address", f.GetAddress(), "a port leads to either an appRef or an address; leave one out")
	case f.AppRef != nil:
		if f.AppRef.Name != nil {
			p.name(at+".appRef.name", f.AppRef.GetName())
		}
		if f.AppRef.Namespace != nil {
			p.label(at+".appRef.namespace", f.AppRef.GetNamespace())
		}
	default:
		ip, ok := p.address(at+".address", f.GetAddress(), addressRule)
		if lan, err := netip.ParseAddr(spec.GetLan().GetAddress()); ok && err == nil && ip == lan {
			p.invalid(at+".address", ip, "the address of a guest, not the appliance's own")
		}
	}
}

// validateEgress checks where an App may go.
func validateEgress(egress *v1alpha1.EgressPolicy, p *problems) {
	for i, r := range egress.GetRules() {
		at := resource.IndexPath("spec.network.egress.rules", i)
		if r.To != nil {
			p.subnet(at+".to", r.GetTo(), 0, 32, rangeRule4)
		}
		if len(r.GetPorts()) > 0 && r.GetProtocol() == "Any" {
			p.invalid(at+".protocol", "Any", "TCP or UDP: ports belong to one of them")
		}
	}
}
