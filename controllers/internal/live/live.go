// Package live is where the appliance controller publishes what each appliance serves
// right now, once per probe, for the controllers of Apps and Vhosts: one call into the
// guest serves all of them.
//
// It is memory only: after a restart of the daemon it is empty until the appliance
// controller has looked, and readers must then leave their conditions as they are.
package live

import (
	"context"
	"maps"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// State is what one appliance served when it was last looked at. A published State is not
// changed any more.
type State struct {
	Observation appliance.Observation
	// InSync: the live files are the ones that Input renders to.
	InSync bool
	Input  appliance.Input
	// Rejected are the hosts and vhosts that were left out, by kind and key.
	Rejected map[string]appliance.Rejected
	// Certificates are those that the proxy has, by host name, also *.NAME.
	Certificates map[string]appliance.Certificate
	// Target is the guest, for commands.
	Node string
	VMID int
	At   time.Time
}

// Host returns the address that is served for an App.
func (s *State) Host(key string) (netip.Addr, bool) {
	for _, h := range s.Input.Hosts {
		if h.Key == key {
			return h.Address, true
		}
	}
	return netip.Addr{}, false
}

// Vhost returns the vhost that is served under a key.
func (s *State) Vhost(key string) (appliance.Vhost, bool) {
	for _, v := range s.Input.Vhosts {
		if v.Key == key {
			return v, true
		}
	}
	return appliance.Vhost{}, false
}

// same tells whether readers would come to the same conclusions.
func (s *State) same(o *State) bool {
	if s == nil || o == nil {
		return s == o
	}
	a, b := &s.Observation, &o.Observation
	return s.InSync == o.InSync && s.Node == o.Node && s.VMID == o.VMID && a.DNS.OK == b.DNS.OK && a.Proxy.OK == b.Proxy.OK &&
		reflect.DeepEqual(s.Input, o.Input) && reflect.DeepEqual(s.Rejected, o.Rejected) && sameProbes(a.Probes, b.Probes) &&
		maps.Equal(s.Certificates, o.Certificates)
}

func sameProbes(a, b map[string]appliance.ProbeResult) bool {
	return maps.EqualFunc(a, b, func(x, y appliance.ProbeResult) bool { return x.State == y.State })
}

// BackendKey is the key of the probe that asks a backend.
func BackendKey(address string) string { return "backend/" + address }

// RejectedKey is the key of State.Rejected.
func RejectedKey(kind, key string) string { return kind + " " + key }

// Board holds one State per appliance. It is safe for concurrent use.
type Board struct {
	mu     sync.RWMutex
	states map[string]*State
	looked map[string]bool // appliances about which something was published
	subs   []func(Change)
}

// NewBoard returns an empty board.
func NewBoard() *Board { return &Board{states: map[string]*State{}, looked: map[string]bool{}} }

// Publish replaces an appliance's state (nil: it serves nothing, or nothing is known) and
// calls the subscribers when it differs in what they read.
func (b *Board) Publish(appliance string, s *State) {
	b.mu.Lock()
	was := b.states[appliance]
	same := b.looked[appliance] && was.same(s)
	b.looked[appliance] = true
	if s == nil {
		delete(b.states, appliance)
	} else {
		b.states[appliance] = s
	}
	subs := b.subs
	b.mu.Unlock()
	if same {
		return
	}
	for _, f := range subs {
		f(Change{appliance, was, s})
	}
}

// Change is what became of an appliance's state; nil is one that serves nothing, or of which
// nothing is known.
type Change struct {
	Appliance string
	Was, Is   *State
}

// Apps are the keys of the Apps that the change is about, when it is not about the Whole.
func (c Change) Apps() map[string]bool {
	keys, was := map[string]bool{}, map[string]*appliance.Host{}
	for i, h := range c.Was.Input.Hosts {
		was[h.Key] = &c.Was.Input.Hosts[i]
	}
	for i, h := range c.Is.Input.Hosts {
		if !reflect.DeepEqual(was[h.Key], &c.Is.Input.Hosts[i]) {
			keys[h.Key] = true
		}
		delete(was, h.Key)
	}
	for key := range was {
		keys[key] = true
	}
	differ(c.Was.Rejected, c.Is.Rejected, func(key string, _, _ appliance.Rejected) {
		if host, ok := strings.CutPrefix(key, RejectedKey("host", "")); ok {
			keys[host] = true
		}
	})
	differ(c.Was.Observation.Probes, c.Is.Observation.Probes, func(key string, a, b appliance.ProbeResult) {
		if app, ok := strings.CutPrefix(key, "app/"); ok && a.State != b.State {
			keys[app] = true
		}
	})
	return keys
}

// differ calls f for the keys whose values are not the same in both.
func differ[V comparable](a, b map[string]V, f func(key string, a, b V)) {
	for key, v := range a {
		if w, ok := b[key]; !ok || v != w {
			f(key, v, w)
		}
	}
	for key, w := range b {
		if v, ok := a[key]; !ok {
			f(key, v, w)
		}
	}
}

// Whole tells whether the change is about all that the appliance serves.
func (c Change) Whole() bool {
	a, b := c.Was, c.Is
	return a == nil || b == nil || a.InSync != b.InSync || a.Node != b.Node || a.VMID != b.VMID || a.Observation.DNS.OK != b.Observation.DNS.OK
}

// Source triggers the keys that pick returns for a change of an appliance's state.
func (b *Board) Source(pick func(ctx context.Context, c runtime.Client, change Change) []resource.Key) runtime.Source {
	return func(ctx context.Context, c runtime.Client, enqueue func(resource.Key)) {
		changed := make(chan Change, 16)
		b.Subscribe(func(change Change) {
			select {
			case changed <- change:
			case <-ctx.Done():
			}
		})
		for {
			select {
			case <-ctx.Done():
				return
			case change := <-changed:
				for _, key := range pick(ctx, c, change) {
					enqueue(key)
				}
			}
		}
	}
}

// Get returns an appliance's state, nil when there is none.
func (b *Board) Get(appliance string) *State {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.states[appliance]
}

// Looked tells whether anything was ever published about an appliance, also that nothing
// is known of it. Before that readers know nothing new.
func (b *Board) Looked(appliance string) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.looked[appliance]
}

// Subscribe calls f, which must not block, with every change that is published.
// Subscriptions last as long as the board.
func (b *Board) Subscribe(f func(Change)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs = append(b.subs, f)
}
