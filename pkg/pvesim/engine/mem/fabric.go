package mem

import (
	"slices"
	"sync"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// Fabric is the network between the uplinks of a cluster's nodes. Bridges of engines on one
// Fabric whose tunnels have the same VNI and name each other's addresses are one network:
// guests on them reach each other, and the DHCP and name servers there. The zero Fabric is
// ready.
type Fabric struct {
	mu      sync.RWMutex
	engines []*Engine
}

func (f *Fabric) join(e *Engine) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.engines = append(f.engines, e)
}

// SetUplink takes the node's uplink away, as behind a pulled cable, or gives it back: no
// tunnel leads to its guests meanwhile.
func (e *Engine) SetUplink(up bool) { e.cut.Store(!up) }

// place is a bridge of one node.
type place struct {
	engine *Engine
	bridge string
}

// segment lists the bridges that are one network with this one, which comes first.
func (e *Engine) segment(bridge string) []place {
	out := []place{{e, bridge}}
	mine := e.tunnel(bridge)
	if mine == nil || e.cfg.Fabric == nil || e.cut.Load() {
		return out
	}
	f := e.cfg.Fabric
	f.mu.RLock()
	others := f.engines
	f.mu.RUnlock()
	for _, o := range others {
		if o == e || o.cut.Load() {
			continue
		}
		if name, ok := o.joined(mine); ok {
			out = append(out, place{o, name})
		}
	}
	return out
}

func (e *Engine) tunnel(bridge string) *engine.Tunnel {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.bridges[bridge].Tunnel
}

// joined finds the bridge that a tunnel from another node ends at.
func (e *Engine) joined(from *engine.Tunnel) (bridge string, ok bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for name, b := range e.bridges {
		if t := b.Tunnel; t != nil && t.VNI == from.VNI && leads(t, from) && leads(from, t) {
			return name, true
		}
	}
	return "", false
}

// leads tells whether a node sends what is for the network to another.
func leads(from, to *engine.Tunnel) bool {
	return to.Local != "" && slices.Contains(from.Peers, to.Local)
}

// lease asks the DHCP servers of a network for an address.
func (e *Engine) lease(bridge, mac, host string) (l lease, ok bool) {
	for _, p := range e.segment(bridge) {
		p.engine.mu.RLock()
		ask := p.engine.dhcp[p.bridge]
		p.engine.mu.RUnlock()
		if ask == nil && p.bridge == p.engine.cfg.Uplink {
			ask = func(mac, _ string) (string, string, bool) { return p.engine.uplinkLease(mac) }
		}
		if ask == nil {
			continue
		}
		if l.cidr, l.gateway, ok = ask(mac, host); ok {
			return l, true
		}
	}
	return lease{}, false
}
