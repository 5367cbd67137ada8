package appliancesim

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
)

// apply makes the files of a stage live, in the order of the real agent: verify the
// stage, check the files, swap, reload what changed, verify, write the manifest, observe.
func (c *call) apply(ctx context.Context, stage string) int {
	files := c.g.FS()
	if stage == "-" {
		var err error
		if stage, err = c.unpack(); err != nil {
			return c.fail(appliance.ExitStage, "stage", oneLine(err.Error()))
		}
	}
	m, contents, err := c.readStage(stage)
	if err != nil {
		return c.fail(appliance.ExitStage, "stage", oneLine(err.Error()))
	}
	if missing := c.missing(); len(missing) > 0 {
		for _, n := range missing {
			c.say("problem packages missing %s %s", n.command, n.pkg)
		}
		return appliance.ExitMissing
	}
	if exit := c.check(contents); exit != 0 {
		return exit
	}
	changed, err := c.swap(m, contents)
	if err == nil {
		err = c.adopt()
	}
	if err != nil {
		return c.fail(appliance.ExitSystem, "files", oneLine(err.Error()))
	}
	if exit := c.reload(ctx, changed, m); exit != 0 {
		return exit
	}
	if exit := c.verify(ctx, m); exit != 0 {
		return exit
	}
	text, err := files.ReadFile(path.Join(stage, "manifest"))
	if err == nil {
		err = files.WriteFile(appliance.ManifestPath, text, 0o644)
	}
	if err != nil {
		return c.fail(appliance.ExitSystem, "manifest", oneLine(err.Error()))
	}
	_ = files.RemoveAll(path.Join(appliance.StateDir, "stage")) // left-overs do no harm
	c.say("applied %s", m.Hash)
	c.self = appliance.AgentPath
	return c.observe(ctx, m.Hash)
}

// unpack puts the archive of standard input into the stage directory.
func (c *call) unpack() (string, error) {
	files, dir := c.g.FS(), path.Join(appliance.StateDir, "stage")
	if err := files.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := files.Untar(io.LimitReader(c.p.Stdin, appliance.MaxBundleBytes), "/"); err != nil {
		return "", err
	}
	found, err := files.Glob(dir + "/*/manifest")
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("not one manifest in the archive")
	}
	return path.Dir(found[0]), nil
}

// readStage reads the whole set and holds it against its manifest.
func (c *call) readStage(stage string) (appliance.Manifest, map[string][]byte, error) {
	text, err := c.g.FS().ReadFile(path.Join(stage, "manifest"))
	if err != nil {
		return appliance.Manifest{}, nil, err
	}
	m, err := appliance.ParseManifest(text)
	if err != nil {
		return m, nil, err
	}
	contents := map[string][]byte{}
	for _, f := range m.Files {
		content, err := c.g.FS().ReadFile(path.Join(stage, "files", f.Path))
		if err != nil {
			return m, nil, err
		}
		if hashOf(content) != f.Hash {
			return m, nil, fmt.Errorf(".%s: FAILED", f.Path)
		}
		contents[f.Path] = content
	}
	return m, contents, nil
}

func (c *call) check(contents map[string][]byte) int {
	if _, err := parseDNSMasq(string(contents[appliance.DNSMasqPath])); err != nil {
		return c.fail(appliance.ExitDNSMasq, "dnsmasq", oneLine(err.Error()))
	}
	if err := checkRules(string(contents[appliance.NATPath])); err != nil {
		return c.fail(appliance.ExitNFT, "nft", oneLine(err.Error()))
	}
	if _, err := parseTable(contents[appliance.TablePath]); err != nil {
		return c.fail(appliance.ExitCaddy, "caddy", oneLine(err.Error()))
	}
	if _, err := parseCaddy(contents[appliance.ProxyPath]); err != nil {
		return c.fail(appliance.ExitCaddy, "caddy", oneLine(err.Error()))
	}
	return 0
}

// swap writes what differs, removes what is not in the set, and returns what changed.
func (c *call) swap(m appliance.Manifest, contents map[string][]byte) (changed []string, err error) {
	files := c.g.FS()
	live := liveFiles(files)
	stale := c.staleLeases(contents)
	for _, dir := range []string{appliance.HostsDir, appliance.DHCPHostsDir, path.Dir(appliance.AgentPath)} {
		if err := files.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	for _, f := range m.Files {
		if live[f.Path] != f.Hash {
			c.say("changed %s", f.Path)
			changed = append(changed, f.Path)
			if err := files.MkdirAll(path.Dir(f.Path), 0o755); err != nil {
				return nil, err
			}
			if err := files.WriteFile(f.Path+".new", contents[f.Path], 0o644); err != nil {
				return nil, err
			}
			if f.Mode&0o111 != 0 {
				if err := files.Chmod(f.Path+".new", 0o755); err != nil {
					return nil, err
				}
			}
			if err := files.Rename(f.Path+".new", f.Path); err != nil {
				return nil, err
			}
		}
		delete(live, f.Path)
	}
	for p := range live {
		c.say("removed %s", p)
		changed = append(changed, p)
		if err := files.Remove(p); err != nil {
			return nil, err
		}
	}
	if len(stale) > 0 {
		keep := slices.DeleteFunc(readLeases(files), func(l leaseLine) bool { return stale[l.mac+" "+l.ip] })
		return changed, writeLeases(files, keep)
	}
	return changed, nil
}

// staleLeases are leases on an address that is reserved for another, or of a guest
// whose reservation goes.
func (c *call) staleLeases(contents map[string][]byte) map[string]bool {
	owner, stays, had := map[string]string{}, map[string]bool{}, map[string]bool{}
	for p, content := range contents {
		if !strings.HasPrefix(p, appliance.DHCPHostsDir+"/") {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(content)), "\n")
		if f := strings.Split(lines[len(lines)-1], ","); len(f) == 3 {
			owner[f[1]], stays[f[0]] = f[0], true
		}
	}
	for _, line := range dataLines(c.g.FS(), appliance.DHCPHostsDir) {
		had[strings.Split(line, ",")[0]] = true
	}
	stale := map[string]bool{}
	for _, l := range readLeases(c.g.FS()) {
		if to, reserved := owner[l.ip]; reserved && to != l.mac || had[l.mac] && !stays[l.mac] {
			stale[l.mac+" "+l.ip] = true
		}
	}
	return stale
}

// reload brings the services to what the files say, touching only what has to change.
func (c *call) reload(ctx context.Context, changed []string, m appliance.Manifest) int {
	touched := func(p string) bool { return slices.Contains(changed, p) }
	for _, unit := range units {
		if out, exit := c.output(ctx, "systemctl", "enable", unit); exit != 0 {
			return c.fail(appliance.ExitSystem, "enable", oneLine(out))
		}
	}
	if touched(appliance.NATPath) || touched(appliance.SysctlPath) || c.natState() != appliance.NATOK {
		c.say("action load nat")
		if exit := c.natStart(); exit != 0 {
			return exit
		}
	}
	if c.g.UnitState(appliance.UnitNAT) != "active" {
		if exit := c.service(ctx, "start", appliance.UnitNAT); exit != 0 {
			return exit
		}
	}
	var dns *nameService
	var proxy *proxy
	c.sim.with(c.g, func(b *boot) { dns, proxy = b.dns, b.proxy })
	if touched(appliance.DNSMasqPath) || touched(path.Join(appliance.UnitDir, appliance.UnitDNSMasq)) || dns == nil || dns.proof != m.DNSProof {
		if exit := c.service(ctx, "restart", appliance.UnitDNSMasq); exit != 0 {
			return exit
		}
	}
	if proxy == nil || touched(path.Join(appliance.UnitDir, appliance.UnitCaddy)) {
		return c.service(ctx, "restart", appliance.UnitCaddy)
	}
	if touched(appliance.TablePath) {
		proxy.follow()
	}
	if touched(appliance.ProxyPath) || !c.checkProxy(ctx, m, true).OK {
		c.say("action reload %s", appliance.UnitCaddy)
		if err := proxy.load(); err != nil {
			return c.fail(appliance.ExitBadProxy, "caddy", oneLine(err.Error()))
		}
		proxy.follow()
	}
	return 0
}

// verify waits until the services answer from this set. A service of Type=simple counts
// as started before it does.
func (c *call) verify(ctx context.Context, m appliance.Manifest) int {
	const tries, pause = 200, 10 * time.Millisecond
	for i := 0; ; i++ {
		exit, reason := c.works(ctx, m)
		if exit == 0 {
			return 0
		}
		if i == tries {
			return c.fail(exit, "verify", reason)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return c.fail(exit, "verify", reason)
		}
	}
}

func (c *call) works(ctx context.Context, m appliance.Manifest) (exit int, reason string) {
	var dns *nameService
	c.sim.with(c.g, func(b *boot) { dns = b.dns })
	if state := c.natState(); state != appliance.NATOK {
		return appliance.ExitBadNAT, "nat " + string(state)
	}
	if check := checkDNS(dns, m, true); !check.OK {
		return appliance.ExitBadDNS, "dns fail " + check.Reason
	}
	if check := c.checkProxy(ctx, m, true); !check.OK {
		return appliance.ExitBadProxy, "proxy fail " + check.Reason
	}
	return 0, ""
}
