package mem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// Config says where an Engine keeps its guests and what it imitates.
type Config struct {
	// Dir keeps one snapshot per guest; "" keeps nothing beyond the process.
	Dir string
	// TemplateDir, when set, must hold the template file that Create names
	// (engine.ErrTemplateNotExist otherwise). Its content is not read: the guest's first
	// files follow from the template's name (debian-12-..., alpine-3.22-...).
	TemplateDir string
	// Uplink is the bridge that always exists and has a DHCP server; "" is vmbr0.
	Uplink string
	// Log receives what went wrong in the background; nil discards it.
	Log *slog.Logger
	// Fabric is what carries tunnels to the engines of other nodes; nil is nothing.
	Fabric *Fabric
}

// Engine implements engine.Engine in memory.
type Engine struct {
	cfg     Config
	log     *slog.Logger
	nextPID atomic.Int64
	cut     atomic.Bool // the uplink leads nowhere

	mu      sync.RWMutex
	guests  map[int]*Guest
	bridges map[string]engine.Bridge
	dhcp    map[string]DHCPFunc
	// dhcpTurn is which attachment of a server, of all so far, each of them is.
	dhcpTurn  map[string]int
	dhcpTurns int
	dns       DNSFunc
	byPath    map[string]Program
	byName    map[string]Program
	packages  map[string]Package
	uplink    uplinkPool

	volMu   sync.Mutex // for volumes and the grafts of all guests; taken before FS locks
	volumes map[string]*volume
}

var _ engine.Engine = (*Engine)(nil)

// firstPID is where init processes of guests are counted from; the numbers below
// belong to the node itself.
const firstPID = 1000

// New makes an engine and loads the guests that Config.Dir holds, all stopped.
func New(cfg Config) (*Engine, error) {
	if cfg.Uplink == "" {
		cfg.Uplink = "vmbr0"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		cfg:      cfg,
		log:      cfg.Log,
		guests:   map[int]*Guest{},
		bridges:  map[string]engine.Bridge{},
		dhcp:     map[string]DHCPFunc{},
		dhcpTurn: map[string]int{},
		byPath:   map[string]Program{},
		byName:   map[string]Program{},
		packages: map[string]Package{},
		volumes:  map[string]*volume{},
	}
	e.nextPID.Store(firstPID)
	e.bridges[cfg.Uplink] = engine.Bridge{Name: cfg.Uplink, Address: nodeAddress + "/24"}
	e.registerBuiltins()
	if cfg.Dir != "" {
		if err := errors.Join(e.loadVolumes(), e.load()); err != nil {
			return nil, fmt.Errorf("load guests: %w", err)
		}
	}
	cfg.Fabric.join(e)
	return e, nil
}

// Name implements engine.Engine.
func (e *Engine) Name() string { return "mem" }

// Guest returns the guest of that VMID, running or not.
func (e *Engine) Guest(vmid int) (*Guest, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	g, ok := e.guests[vmid]
	return g, ok
}

// Guests returns all guests in the order of their VMIDs.
func (e *Engine) Guests() []*Guest {
	e.mu.RLock()
	all := make([]*Guest, 0, len(e.guests))
	for _, g := range e.guests {
		all = append(all, g)
	}
	e.mu.RUnlock()
	sort.Slice(all, func(i, j int) bool { return all[i].vmid < all[j].vmid })
	return all
}

func (e *Engine) lookup(vmid int) (*Guest, error) {
	if g, ok := e.Guest(vmid); ok {
		return g, nil
	}
	return nil, fmt.Errorf("guest %d: %w", vmid, engine.ErrNotExist)
}

// Create implements engine.Engine: the guest's first files follow from the
// template's name.
func (e *Engine) Create(ctx context.Context, spec engine.Guest, log io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := e.checkTemplate(spec.Template); err != nil && spec.Archive == "" {
		return err
	}
	g := newGuest(e, spec)
	writeBase(g.fs, spec.Template)
	setupGuest(g.fs, spec)
	e.mu.Lock()
	if _, exists := e.guests[spec.VMID]; exists {
		e.mu.Unlock()
		return fmt.Errorf("guest %d exists already", spec.VMID)
	}
	e.guests[spec.VMID] = g
	e.mu.Unlock()
	if err := g.save(); err != nil {
		e.mu.Lock()
		delete(e.guests, spec.VMID)
		e.mu.Unlock()
		return fmt.Errorf("save guest %d: %w", spec.VMID, err)
	}
	fmt.Fprintf(log, "extracting archive '%s'\n", spec.Template)
	fmt.Fprintf(log, "Total bytes read: %d (simulated in memory)\n", g.fs.Size())
	return nil
}

func (e *Engine) checkTemplate(name string) error {
	if e.cfg.TemplateDir == "" {
		return nil
	}
	if name == "" || strings.ContainsAny(name, "/\\") {
		return fmt.Errorf("template %q: %w", name, engine.ErrTemplateNotExist)
	}
	if _, err := os.Stat(filepath.Join(e.cfg.TemplateDir, name)); err != nil {
		return fmt.Errorf("template %q: %w", name, engine.ErrTemplateNotExist)
	}
	return nil
}

// Destroy implements engine.Engine. A guest that still runs is stopped first.
func (e *Engine) Destroy(_ context.Context, vmid int) error {
	g, ok := e.Guest(vmid)
	if !ok {
		return nil
	}
	g.stop()
	e.mu.Lock()
	delete(e.guests, vmid)
	e.mu.Unlock()
	return g.removeSnapshot()
}

// Start implements engine.Engine. Enabled units start in the background, as they do
// behind a real init.
func (e *Engine) Start(ctx context.Context, spec engine.Guest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g, err := e.lookup(spec.VMID)
	if err != nil {
		return err
	}
	if err := e.checkBridges(spec.NICs); err != nil {
		return err
	}
	return g.start(spec)
}

// Stop implements engine.Engine.
func (e *Engine) Stop(_ context.Context, vmid int) error {
	g, err := e.lookup(vmid)
	if err != nil {
		return err
	}
	g.stop()
	return nil
}

// Shutdown implements engine.Engine. It takes no time, except for a guest that was
// told to hang (Guest.HangOnShutdown).
func (e *Engine) Shutdown(ctx context.Context, vmid int, timeout time.Duration) error {
	g, err := e.lookup(vmid)
	if err != nil {
		return err
	}
	if g.hangs.Load() && g.Running() {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return fmt.Errorf("guest %d: %w", vmid, engine.ErrShutdownTimeout)
		}
	}
	g.stop()
	return nil
}

// Update implements engine.Engine: limits and NICs of a running guest.
func (e *Engine) Update(_ context.Context, spec engine.Guest) error {
	g, err := e.lookup(spec.VMID)
	if err != nil {
		return err
	}
	if err := e.checkBridges(spec.NICs); err != nil {
		return err
	}
	return g.update(spec)
}

func (e *Engine) checkBridges(nics []engine.NIC) error {
	for _, nic := range nics {
		if !e.hasBridge(nic.Bridge) {
			return fmt.Errorf("bridge '%s': %w", nic.Bridge, engine.ErrBridgeNotExist)
		}
	}
	return nil
}

// Status implements engine.Engine. The figures are plausible, not measured.
func (e *Engine) Status(_ context.Context, vmid int) (engine.Status, error) {
	g, err := e.lookup(vmid)
	if err != nil {
		return engine.Status{}, err
	}
	return g.status(), nil
}

// Interfaces implements engine.Engine; lo comes first, as in ip address.
func (e *Engine) Interfaces(_ context.Context, vmid int) ([]engine.Interface, error) {
	g, err := e.lookup(vmid)
	if err != nil {
		return nil, err
	}
	if !g.Running() {
		return nil, fmt.Errorf("guest %d: %w", vmid, engine.ErrNotRunning)
	}
	return g.Interfaces(), nil
}

// Close stops every guest's programs and writes what has not been saved yet.
func (e *Engine) Close() error {
	var first error
	for _, g := range e.Guests() {
		g.stop()
		if err := g.save(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
