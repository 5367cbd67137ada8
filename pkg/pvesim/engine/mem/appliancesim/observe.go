package appliancesim

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// diskFree is what an appliance of this kind has left: 8 GiB less its own files.
const diskFree = int64(8<<30) / 1024

func (c *call) observe(ctx context.Context, expected string) int {
	// Guests that got no address at their boot ask again when somebody looks.
	for _, g := range c.sim.engine.Guests() {
		if g.Running() {
			g.Interfaces()
		}
	}
	self, err := c.g.FS().ReadFile(c.self)
	if err != nil {
		return 2
	}
	files := liveFiles(c.g.FS())
	o := appliance.Observation{
		Protocol: appliance.Protocol, AgentHash: hashOf(self),
		SetHash: appliance.HashSet(files), NAT: c.natState(), DiskFree: diskFree - c.g.FS().Size()/1024,
		Services: c.services(),
	}
	if o.SetHash != expected {
		o.Files = files
	}
	manifest, applied := readManifest(c.g.FS())
	if applied {
		o.Manifest = manifest.Hash
	}
	var dns *nameService
	c.sim.with(c.g, func(b *boot) {
		o.BootID = fmt.Sprintf("00000000-0000-4000-8000-%012d.%d", c.g.VMID(), b.pid)
		o.Forward, dns = b.forward, b.dns
	})
	o.DNS = checkDNS(dns, manifest, applied)
	if c.g.FS().Exists(appliance.DNSWANPath) { // taken for granted: nobody asks on the uplink here
		o.DNSWAN = appliance.Check{OK: true}
		o.Services[c.told(appliance.UnitDNSWAN)] = appliance.Service{Active: "active", Enabled: true}
	}
	if c.g.FS().Exists(appliance.CockpitPath) { // likewise
		o.Services[appliance.UnitCockpit] = appliance.Service{Active: "active", Enabled: true}
	}
	o.Upstream = appliance.Check{OK: true} // taken for granted, too
	o.Proxy = c.checkProxy(ctx, manifest, applied)
	o.Probes = c.probes(ctx)
	c.network(&o)
	for _, l := range readLeases(c.g.FS()) {
		if ip, err := netip.ParseAddr(l.ip); err == nil {
			o.Leases = append(o.Leases, appliance.Lease{Expiry: time.Unix(l.expiry, 0), MAC: l.mac, Address: ip})
		}
	}
	for _, m := range c.missing() {
		o.Missing = append(o.Missing, m.command)
	}
	_, _ = c.p.Stdout.Write(o.Encode()) // whoever asked may be gone
	return 0
}

// liveFiles are all files in the managed directories with their hashes.
func liveFiles(files *mem.FS) map[string]string {
	found := map[string]string{}
	add := func(p string) {
		if content, err := files.ReadFile(p); err == nil && p != appliance.ManifestPath {
			found[p] = hashOf(content)
		}
	}
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := files.ReadDir(dir)
		if err != nil {
			return // not there yet
		}
		for _, e := range entries {
			if e.IsDir() {
				walk(e.Path)
			} else {
				add(e.Path)
			}
		}
	}
	walk(appliance.EtcDir)
	walk(path.Dir(appliance.AgentPath))
	for _, dir := range []string{appliance.UnitDir, initDir} {
		entries, err := files.ReadDir(dir)
		if err != nil {
			continue // not there yet
		}
		for _, e := range entries {
			if strings.HasPrefix(path.Base(e.Path), "proximity-") && e.Mode&fs.ModeType == 0 {
				add(e.Path)
			}
		}
	}
	return found
}

func (c *call) services() map[string]appliance.Service {
	out := map[string]appliance.Service{}
	for _, unit := range units {
		s := appliance.Service{Active: c.g.UnitState(unit)}
		_, err := c.g.FS().Lstat(path.Join(appliance.UnitDir, "multi-user.target.wants", unit))
		s.Enabled = err == nil
		c.sim.with(c.g, func(b *boot) {
			s.Restarts = max(0, b.starts[unit]-1)
			if s.Active == "active" && unit != appliance.UnitNAT {
				s.MainPID = b.pid + 10*len(unit) + b.starts[unit] // another after each start
			}
		})
		out[c.told(unit)] = s
	}
	return out
}

func checkDNS(dns *nameService, m appliance.Manifest, applied bool) appliance.Check {
	switch {
	case !applied:
		return appliance.Check{Reason: "nothing was applied"}
	case dns == nil:
		return appliance.Check{Reason: "no answer"}
	case dns.proof != m.DNSProof:
		return appliance.Check{Reason: "answers from another configuration"}
	}
	return appliance.Check{OK: true}
}

func (c *call) checkProxy(ctx context.Context, m appliance.Manifest, applied bool) appliance.Check {
	if !applied {
		return appliance.Check{Reason: "nothing was applied"}
	}
	for _, q := range []struct{ host, want, otherwise string }{
		{appliance.ProxyProofHost, m.ProxyProof, "answers from another configuration"},
		{appliance.TableCheckHost, m.Table, "serves another table of Vhosts"},
	} {
		_, body, err := ask(ctx, c.g, "127.0.0.1:80", "/", q.host)
		switch {
		case err != nil:
			return appliance.Check{Reason: "no answer"}
		case strings.TrimSpace(body) != q.want:
			return appliance.Check{Reason: q.otherwise}
		}
	}
	return appliance.Check{OK: true}
}

// probes asks everything in the probes file at the same time.
func (c *call) probes(ctx context.Context) map[string]appliance.ProbeResult {
	results := map[string]appliance.ProbeResult{}
	text, err := c.g.FS().ReadFile(appliance.ProbesPath)
	if err != nil {
		return results
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 5 || f[0] == "#" {
			continue
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			r := c.probe(ctx, f)
			mu.Lock()
			defer mu.Unlock()
			results[f[4]] = r
		})
	}
	wg.Wait()
	return results
}

// probe asks one line: kind, address, path, Host header, key.
func (c *call) probe(ctx context.Context, f []string) appliance.ProbeResult {
	start := time.Now()
	r := appliance.ProbeResult{State: appliance.ProbeFail}
	if f[0] == appliance.ProbeTCP {
		if c.connect(ctx, f[1]) == nil {
			r.State = appliance.ProbeOK
		}
	} else if code, _, err := ask(ctx, c.g, f[1], f[2], f[3]); err == nil {
		r.Code = code
		if code >= 200 && code < 400 {
			r.State = appliance.ProbeOK
		}
	}
	r.Duration = time.Since(start)
	return r
}

func (c *call) network(o *appliance.Observation) {
	for _, i := range c.g.Interfaces() {
		for _, text := range i.Addresses {
			if p, err := netip.ParsePrefix(text); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
				o.Addresses = append(o.Addresses, appliance.Address{Interface: i.Name, Prefix: p})
			}
		}
	}
	if gw, err := netip.ParseAddr(c.g.Gateway()); err == nil {
		o.Gateway = gw
	}
}
