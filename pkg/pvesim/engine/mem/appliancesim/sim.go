package appliancesim

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"sync"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// Where Debian's packages put the programs.
const (
	dnsmasqBinary = "/usr/sbin/dnsmasq"
	caddyBinary   = "/usr/bin/caddy"
	nftBinary     = "/usr/sbin/nft"

	stub = "\x7fSIM simulated program\n"
)

// Sim is the appliance software of one engine.
type Sim struct {
	engine *mem.Engine

	mu    sync.Mutex
	boots map[int]*boot // by VMID, the current or last boot
}

// boot is what a running appliance has in memory: it is gone with the boot.
type boot struct {
	pid     int // of init: tells boots apart
	dns     *nameService
	proxy   *proxy
	rules   string // hash of the nat.nft that is loaded, "" = none
	forward bool
	starts  map[string]int // of each service
}

// Install registers the software with an engine. Guests made from a template whose
// name contains "proximity" have it from the start; in others the agent's install verb
// brings it, as packages.
func Install(e *mem.Engine) *Sim {
	s := &Sim{engine: e, boots: map[int]*boot{}}
	e.Register(dnsmasqBinary, s.runDNSMasq)
	e.Register(caddyBinary, s.runCaddy)
	e.Register(nftBinary, func(context.Context, *mem.Process) int { return 0 })
	e.Register("sh", s.runShell)
	for name, file := range map[string]string{"dnsmasq-base": dnsmasqBinary, "caddy": caddyBinary, "nftables": nftBinary} {
		e.AddPackage(mem.Package{Name: name, Version: "1.0-1", Files: map[string]string{file: stub}})
	}
	e.SetDNS(s.resolve)
	return s
}

// FlushRules removes the firewall table of an appliance, as "nft flush ruleset" does.
func (s *Sim) FlushRules(g *mem.Guest) {
	s.with(g, func(b *boot) { b.rules = "" })
	g.SetForwarding(false) // forwarding is still on, but nothing masquerades
}

// with gives f the memory of the guest's current boot, under the lock.
func (s *Sim) with(g *mem.Guest, f func(*boot)) {
	pid := s.initPID(g)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.boots[g.VMID()]
	if b == nil || b.pid != pid {
		b = &boot{pid: pid, starts: map[string]int{}}
		s.boots[g.VMID()] = b
	}
	f(b)
}

func (s *Sim) initPID(g *mem.Guest) int {
	st, err := s.engine.Status(context.Background(), g.VMID())
	if err != nil {
		return 0 // destroyed meanwhile
	}
	return st.InitPID
}

// runShell runs the agent, which is simulated as a whole, and interprets other scripts.
func (s *Sim) runShell(ctx context.Context, p *mem.Process) int {
	if len(p.Argv) < 2 || path.Base(p.Argv[1]) != "agent" {
		return mem.Shell(ctx, p)
	}
	if !p.Guest.FS().Exists(p.Argv[1]) {
		fmt.Fprintf(p.Stderr, "sh: 0: cannot open %s: No such file\n", p.Argv[1])
		return 2
	}
	return s.runAgent(ctx, p, p.Argv[1], p.Argv[2:])
}

// resolve answers for every appliance by its LAN address.
func (s *Sim) resolve(nameserver, name string) ([]string, bool) {
	address, err := netip.ParseAddr(nameserver)
	if err != nil {
		return nil, false
	}
	s.mu.Lock()
	var found *nameService
	for vmid, b := range s.boots {
		if b.dns != nil && b.dns.address == address {
			if g, ok := s.engine.Guest(vmid); ok && g.Running() {
				found = b.dns
			}
		}
	}
	s.mu.Unlock()
	if found == nil {
		return nil, false
	}
	return found.resolve(strings.ToLower(strings.TrimSuffix(name, ".")))
}

// equipped writes what a template with the software contains.
func equipped(g *mem.Guest) {
	if !strings.Contains(g.Spec().Template, "proximity") {
		return
	}
	for _, file := range []string{dnsmasqBinary, caddyBinary, nftBinary} {
		if !g.FS().Exists(file) {
			_ = g.FS().WriteFile(file, []byte(stub), 0o755) // the directories are in every guest
		}
	}
}

// readManifest reads the live manifest; ok false when nothing was applied.
func readManifest(fs *mem.FS) (appliance.Manifest, bool) {
	text, err := fs.ReadFile(appliance.ManifestPath)
	if err != nil {
		return appliance.Manifest{}, false
	}
	m, err := appliance.ParseManifest(text)
	return m, err == nil
}
