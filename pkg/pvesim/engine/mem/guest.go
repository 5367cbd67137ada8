package mem

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// Guest is one container in memory. All methods are safe for concurrent use.
type Guest struct {
	vmid  int
	eng   *Engine
	fs    *FS
	hangs atomic.Bool

	saver  saver
	grafts []graft // of the engine's volumes; Engine.volMu guards it

	mu         sync.Mutex
	spec       engine.Guest
	run        *boot // nil while stopped
	forwarding bool
	snaps      map[string]tree // root file systems by snapshot
}

// boot is what exists only between one start and the next stop.
type boot struct {
	ctx     context.Context
	cancel  context.CancelFunc
	pid     int
	started time.Time
	leases  map[string]lease // by interface name
	ports   map[int]func(net.Conn)
	units   map[string]*unit
	running sync.WaitGroup // programs and connections
}

// stopGrace bounds the wait for programs that do not watch their context.
const stopGrace = 2 * time.Second

func newGuest(e *Engine, spec engine.Guest) *Guest {
	g := &Guest{vmid: spec.VMID, eng: e, spec: spec}
	g.fs = newFS(g.changed)
	return g
}

// VMID returns the guest's number.
func (g *Guest) VMID() int { return g.vmid }

// Spec returns what the node passed last to Create, Start or Update.
func (g *Guest) Spec() engine.Guest {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.spec
}

// FS returns the guest's root file system. It may be used while the guest is stopped.
func (g *Guest) FS() *FS { return g.fs }

// Running reports whether the guest has an init process.
func (g *Guest) Running() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.run != nil
}

// HangOnShutdown makes the guest ignore the halt signal, as a guest with a stuck
// unmount does; Stop still kills it.
func (g *Guest) HangOnShutdown(hang bool) { g.hangs.Store(hang) }

// SetForwarding says whether the guest routes for those that have it as gateway
// (net.ipv4.ip_forward and masquerading in one). It is off after every boot.
func (g *Guest) SetForwarding(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forwarding = on
}

// Serve makes handle answer connections to that TCP port while the guest runs; it
// replaces what served the port before. Each connection gets its own goroutine, and
// the handler closes the connection. A stopped guest gives engine.ErrNotRunning.
func (g *Guest) Serve(port int, handle func(net.Conn)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.run == nil {
		return fmt.Errorf("serve port %d of guest %d: %w", port, g.vmid, engine.ErrNotRunning)
	}
	g.run.ports[port] = handle
	return nil
}

// Unserve closes the port; connections that are open stay.
func (g *Guest) Unserve(port int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.run != nil {
		delete(g.run.ports, port)
	}
}

// Serving reports whether something listens on the port.
func (g *Guest) Serving(port int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.run != nil && g.run.ports[port] != nil
}

func (g *Guest) start(spec engine.Guest) error {
	if g.Running() {
		return fmt.Errorf("guest %d is running already", g.vmid)
	}
	setupGuest(g.fs, spec)
	g.mount(spec.Mounts)
	ctx, cancel := context.WithCancel(context.Background())
	b := &boot{
		ctx:     ctx,
		cancel:  cancel,
		pid:     int(g.eng.nextPID.Add(1)),
		started: time.Now(),
		leases:  map[string]lease{},
		ports:   map[int]func(net.Conn){},
		units:   map[string]*unit{},
	}
	g.mu.Lock()
	if g.run != nil {
		g.mu.Unlock()
		cancel()
		return fmt.Errorf("guest %d is running already", g.vmid)
	}
	g.spec, g.run, g.forwarding = spec, b, false
	g.mu.Unlock()
	g.saveOrLog()
	g.startEnabledUnits()
	for _, nic := range spec.NICs {
		g.address(nic) // it asks for a lease; one that gets none asks again at the next look
	}
	return nil
}

// stop ends the guest: every program's context is cancelled, then the call waits for
// the programs, at most stopGrace, so that a stuck one cannot hold the node.
func (g *Guest) stop() {
	g.mu.Lock()
	b := g.run
	g.run = nil
	g.mu.Unlock()
	if b == nil {
		return
	}
	b.cancel()
	done := make(chan struct{})
	go func() {
		b.running.Wait()
		close(done)
	}()
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		g.eng.log.Warn("programs outlive their guest", "vmid", g.vmid)
	}
	g.unmount()
	g.saveOrLog()
}

// enter counts one more activity of a running guest; leave (the returned boot's
// running.Done) must follow. It gives nil for a stopped guest.
func (g *Guest) enter() *boot {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.run != nil {
		g.run.running.Add(1)
	}
	return g.run
}

func (g *Guest) update(spec engine.Guest) error {
	if g.Running() {
		g.mount(spec.Mounts)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.run == nil {
		return fmt.Errorf("update guest %d: %w", g.vmid, engine.ErrNotRunning)
	}
	kept := map[string]lease{}
	for _, nic := range spec.NICs {
		for _, old := range g.spec.NICs {
			if l, ok := g.run.leases[nic.Name]; ok && old == nic {
				kept[nic.Name] = l
			}
		}
	}
	g.spec, g.run.leases = spec, kept
	return nil
}

func (g *Guest) status() engine.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := engine.Status{DiskBytes: g.fs.Size()}
	if g.run == nil {
		return st
	}
	up := time.Since(g.run.started)
	st.Running = true
	st.InitPID = g.run.pid
	st.Uptime = up
	st.CPUTime = up / 200                                // an idle guest uses half a percent of a core
	st.MemBytes = int64(24+8*len(g.run.units)) << 20     // init, and each service
	st.NetIn, st.NetOut = int64(up/time.Second)*90, 4096 // broadcast chatter
	if limit := int64(g.spec.MemoryMiB) << 20; limit > 0 && st.MemBytes > limit {
		st.MemBytes = limit
	}
	return st
}
