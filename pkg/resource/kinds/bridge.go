package kinds

import (
	"fmt"
	"net/netip"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	minSubnetBits = 8
	maxSubnetBits = 29 // six hosts: the appliance and a few guests
	subnetRule    = "an IPv4 network in CIDR notation with a length from /8 to /29, e.g. 10.20.0.0/24"
)

func defaultBridge(b *v1alpha1.Bridge) {
	spec := sub(&b.Spec)
	orReference(&spec.ClusterRef, DefaultCluster)
	orText(&spec.InterfaceName, b.GetMetadata().GetName())
	orText(&spec.DeletionPolicy, "Delete")
}

func validateBridge(b *v1alpha1.Bridge, p *problems) {
	spec := orEmpty(b.Spec)
	p.reference("spec.clusterRef", spec.GetClusterRef())
	more := ""
	if spec.GetInterfaceName() == b.GetMetadata().GetName() {
		more = " (the default is metadata.name: set spec.interfaceName)"
	}
	p.interfaceName("spec.interfaceName", spec.GetInterfaceName(), more)
	if spec.Subnet != nil { // else said by the proto's rules
		n, ok := p.subnet("spec.subnet", spec.GetSubnet(), minSubnetBits, maxSubnetBits, subnetRule)
		if ok && !isHostAddress(n.Addr().Next()) {
			p.invalid("spec.subnet", n, "a network for hosts, not a loopback, link-local, multicast or unspecified one")
		}
	}
}

// relateBridge protects the addresses of the Appliances behind a Bridge from a change of
// its subnet.
func relateBridge(b *v1alpha1.Bridge, view resource.View, p *problems) {
	subnet, err := netip.ParsePrefix(b.GetSpec().GetSubnet())
	if err != nil {
		return // said by validateBridge
	}
	for _, o := range view.List("Appliance", "") {
		a, ok := o.(*v1alpha1.Appliance)
		if !ok || a.GetSpec().GetBridgeRef().GetName() != b.GetMetadata().GetName() || view.Writing(resource.KeyOf(a)) {
			continue
		}
		var inside problems
		applianceInSubnet(a, b.GetMetadata().GetName(), subnet, &inside)
		if len(inside.errs) > 0 {
			p.invalid("spec.subnet", subnet, fmt.Sprintf("a network around the addresses of the Appliance %s: LAN %s, DHCP %s to %s",
				a.GetMetadata().GetName(), a.GetSpec().GetLan().GetAddress(),
				a.GetSpec().GetDhcp().GetStart(), a.GetSpec().GetDhcp().GetEnd()))
		}
	}
}

func claimsOfBridge(b *v1alpha1.Bridge) []resource.Claim {
	return []resource.Claim{{
		Path: "spec.interfaceName", Space: "interface of cluster " + b.GetSpec().GetClusterRef().GetName(),
		Value: b.GetSpec().GetInterfaceName(),
	}}
}
