package pvesim

import (
	"net/netip"
	"slices"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// States of a zone and of a virtual network on a node.
const (
	statusAvailable = "available"
	statusPending   = "pending" // the node has not taken over what was applied last
	statusError     = "error"
)

// localSDN is what the node's own reload made of the networks that were applied: on a real
// node the file interfaces.d/sdn, with the version of the configuration on its first line.
// A node that was away when it was applied has the one before.
type localSDN struct {
	Version int             `json:"version"`
	Bridges []engine.Bridge `json:"bridges"`
}

func (n *Node) localSDN() (l localSDN, err error) {
	_, err = readJSON(n.path("sdn-local.json"), &l)
	return l, err
}

// sdnCurrent reports whether the node has taken over what was applied last.
func (n *Node) sdnCurrent() bool {
	l, err := n.localSDN()
	return err == nil && l.Version == n.sdn.Version()
}

// adoptSDN takes over the networks that were applied.
func (n *Node) adoptSDN() error {
	l := localSDN{Version: n.sdn.Version()}
	if l.Version == 0 {
		return nil
	}
	for _, b := range n.sdn.Bridges() {
		if !b.On(n.name) {
			continue
		}
		bridge := engine.Bridge{Name: b.Name, Address: b.Address, MTU: b.MTU}
		if b.VNI != 0 {
			bridge.Tunnel = &engine.Tunnel{VNI: b.VNI, Peers: b.Peers}
			if p, err := netip.ParsePrefix(n.address); err == nil && slices.Contains(b.Peers, p.Addr().String()) {
				bridge.Tunnel.Local = p.Addr().String()
			}
		}
		l.Bridges = append(l.Bridges, bridge)
	}
	return writeJSON(n.path("sdn-local.json"), l)
}
