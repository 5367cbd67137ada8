package common

import (
	"cmp"
	"fmt"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// Values of a Bridge's spec.
const (
	BackendSDN = "sdn"   // spec.backend
	ZoneVXLAN  = "vxlan" // spec.sdn.type
)

// vxlanMTU is what a frame of the usual 1500 bytes leaves to the guests: VXLAN over IPv4
// adds 50 (pve-network, Zones/VxlanPlugin.pm).
const vxlanMTU = 1450

// BridgeInterface is the name of a Bridge's interface, also before it is made.
func BridgeInterface(b *v1alpha1.Bridge) string {
	return cmp.Or(b.GetStatus().GetInterfaceName(), b.GetSpec().GetInterfaceName())
}

// BridgeOn tells whether guests on a node can use the Bridge, whatever it is on others, and
// why not. A Bridge whose deletion waits for its guests still carries them.
func BridgeOn(b *v1alpha1.Bridge, node string) (ready bool, why string) {
	name := b.GetMetadata().GetName()
	for _, n := range b.GetStatus().GetNodes() {
		switch {
		case n.GetName() != node:
		case n.GetReady():
			return true, ""
		default:
			return false, fmt.Sprintf("Bridge %s is not ready on node %s: %s", name, node, n.GetMessage())
		}
	}
	return false, fmt.Sprintf("Bridge %s is not on node %s", name, node)
}

// BridgeNodes are the nodes on which guests can use the Bridge.
func BridgeNodes(b *v1alpha1.Bridge) (nodes []string) {
	for _, n := range b.GetStatus().GetNodes() {
		if n.GetReady() {
			nodes = append(nodes, n.GetName())
		}
	}
	return nodes
}

// BridgeWritten are the nodes that may have something of the Bridge in their configuration.
func BridgeWritten(b *v1alpha1.Bridge) (nodes []string) {
	for _, n := range b.GetStatus().GetNodes() {
		if n.GetWritten() {
			nodes = append(nodes, n.GetName())
		}
	}
	return nodes
}

// BridgeSpans tells whether the Bridge is one network over all of its nodes; otherwise it is
// a network of its own on each.
func BridgeSpans(b *v1alpha1.Bridge) bool {
	return b.GetSpec().GetBackend() == BackendSDN && cmp.Or(b.GetSpec().GetSdn().GetType(), ZoneVXLAN) == ZoneVXLAN
}

// BridgeMTU is the MTU of the Bridge and of the guests on it, 0 for the node's default.
func BridgeMTU(b *v1alpha1.Bridge) int {
	if b.GetSpec().Mtu == nil && BridgeSpans(b) {
		return vxlanMTU
	}
	return int(b.GetSpec().GetMtu())
}
