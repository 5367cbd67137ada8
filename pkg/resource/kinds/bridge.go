package kinds

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"

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
	orText(&spec.Backend, "linux")
	if spec.GetBackend() == "sdn" {
		sdn := sub(&spec.Sdn)
		orText(&sdn.Zone, spec.GetInterfaceName())
		orText(&sdn.Type, "vxlan")
	}
}

func validateBridge(b *v1alpha1.Bridge, p *problems) {
	spec := orEmpty(b.Spec)
	p.reference("spec.clusterRef", spec.GetClusterRef())
	more := ""
	if spec.GetInterfaceName() == b.GetMetadata().GetName() {
		more = " (the default is metadata.name: set spec.interfaceName)"
	}
	if spec.GetBackend() == "sdn" {
		validateSDN(spec, more, p)
	} else {
		p.interfaceName("spec.interfaceName", spec.GetInterfaceName(), more)
		if spec.GetSdn() != nil {
			p.unsupported("spec.sdn", "", "it is for the backend sdn; set spec.backend to sdn")
		}
	}
	for i, node := range spec.GetNodes() {
		path := resource.IndexPath("spec.nodes", i)
		if !nodeName.MatchString(node) {
			p.invalid(path, node, "the name of a node: 1 to 63 letters, digits and -")
		}
		if first := slices.Index(spec.GetNodes(), node); first < i {
			p.add(resource.Duplicate(path, node, resource.IndexPath("spec.nodes", first)))
		}
	}
	if spec.Subnet != nil { // else said by the proto's rules
		n, ok := p.subnet("spec.subnet", spec.GetSubnet(), minSubnetBits, maxSubnetBits, subnetRule)
		if ok && !isHostAddress(n.Addr().Next()) {
			p.invalid("spec.subnet", n, "a network for hosts, not a loopback, link-local, multicast or unspecified one")
		}
	}
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// sdnName is what every version of Proxmox takes as the name of a zone and of a virtual
// network (pve-sdn-zone-id, pve-sdn-vnet-id).
var sdnName = regexp.MustCompile(`^[a-z][a-z0-9]{1,7}$`)

const sdnNameRule = "a name of Proxmox' software-defined network: 2 to 8 of a-z and 0-9, beginning with a letter"

// validateSDN checks what the backend sdn is asked for; more is said of a bad name.
func validateSDN(spec *v1alpha1.BridgeSpec, more string, p *problems) {
	sdn := orEmpty(spec.GetSdn())
	if !sdnName.MatchString(spec.GetInterfaceName()) {
		p.invalid("spec.interfaceName", spec.GetInterfaceName(), sdnNameRule+more)
	} else if !sdnName.MatchString(sdn.GetZone()) {
		p.invalid("spec.sdn.zone", sdn.GetZone(), sdnNameRule)
	}
	if spec.GetComment() != "" {
		p.unsupported("spec.comment", spec.GetComment(), "a virtual network has room for our mark only; leave it out")
	}
	if sdn.GetType() != "vxlan" {
		if sdn.Tag != nil {
			p.unsupported("spec.sdn.tag", fmt.Sprint(sdn.GetTag()), "a simple zone has no tag; leave it out, or set spec.sdn.type to vxlan")
		}
		if len(sdn.GetPeers()) > 0 {
			p.unsupported("spec.sdn.peers", sdn.GetPeers()[0], "a simple zone has no peers; leave them out, or set spec.sdn.type to vxlan")
		}
	}
	for i, peer := range sdn.GetPeers() {
		path := resource.IndexPath("spec.sdn.peers", i)
		a, err := netip.ParseAddr(peer)
		switch first := slices.Index(sdn.GetPeers(), peer); {
		case err != nil || !isHostAddress(a):
			p.invalid(path, peer, "the IP address of a node")
		case first < i:
			p.add(resource.Duplicate(path, peer, resource.IndexPath("spec.sdn.peers", first)))
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
	cluster := b.GetSpec().GetClusterRef().GetName()
	claims := []resource.Claim{{Path: "spec.interfaceName", Space: "interface of cluster " + cluster, Value: b.GetSpec().GetInterfaceName()}}
	if b.GetSpec().GetBackend() == "sdn" {
		claims = append(claims, resource.Claim{Path: "spec.sdn.zone", Space: "SDN zone of cluster " + cluster, Value: b.GetSpec().GetSdn().GetZone()})
	}
	return claims
}
