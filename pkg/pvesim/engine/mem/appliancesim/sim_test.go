package appliancesim_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

func TestFromNothingToThePage(t *testing.T) {
	f := newFixture(t, "debian-12-proximity_1.0_amd64.tar.zst")
	if _, exit := f.exec(nil, appliance.ObserveArgv("")...); exit != 2 {
		t.Fatalf("a guest without an agent: exit %d", exit)
	}
	b := render(t, input())
	f.firstApply(b)
	f.bootApp()

	o := f.observe(b.Hash)
	if o.Files != nil || len(appliance.Diff(b, o)) != 0 {
		t.Errorf("steady state: %d files, %q", len(o.Files), appliance.Diff(b, o))
	}
	if l, ok := o.Lease(appMAC); !ok || l.Address.String() != "10.20.0.50" {
		t.Errorf("lease: %+v, %t", l, ok)
	}
	if p := o.Probe("app/default/nginx-01"); p.State != appliance.ProbeOK || p.Code != 200 {
		t.Errorf("probe of the app: %+v", p)
	}
	if p := o.Probe("vhost/default/nginx-01"); p.State != appliance.ProbeOK {
		t.Errorf("probe through the proxy: %+v", p)
	}
	if p := o.Probe("tcp/default/nginx-01"); p.State != appliance.ProbeFail {
		t.Errorf("probe of a closed port: %+v", p)
	}
	wan, ok := o.AddressOf("eth0")
	if !ok {
		t.Fatal("no WAN address")
	}

	// From the node, through the proxy; from the LAN, by name.
	toProxy := func(port string) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, network, _ string) (net.Conn, error) {
			return f.e.Dial(ctx, network, net.JoinHostPort(wan.Addr().String(), port))
		}
	}
	for url, want := range map[string]string{
		"http://nginx-01.prox.local/x":    "the app at /x",
		"http://nginx-01.prox.local/down": "503: this application has no running backend\n",
		"http://elsewhere.prox.local/":    "404: no application is published under this name\n",
	} {
		if got, err := get(t.Context(), toProxy("80"), url, nil); err != nil || got != want {
			t.Errorf("%s: %q, %v", url, got, err)
		}
	}
	if got, err := get(t.Context(), f.app.Dial, "http://nginx-01.prox.local/lan", nil); err != nil || got != "the app at /lan" {
		t.Errorf("from the LAN by name: %q, %v", got, err)
	}
	pem, exit := f.exec(nil, "/bin/sh", appliance.AgentPath, "ca-root")
	roots := x509.NewCertPool()
	if exit != 0 || !roots.AppendCertsFromPEM([]byte(pem)) {
		t.Fatalf("ca-root: exit %d, %q", exit, pem)
	}
	if got, err := get(t.Context(), toProxy("443"), "https://nginx-01.prox.local/s", roots); err != nil || got != "the app at /s" {
		t.Errorf("by HTTPS: %q, %v", got, err)
	}
	if got, err := get(t.Context(), toProxy("443"), "https://elsewhere.prox.local/", roots); err == nil {
		t.Errorf("HTTPS of an unknown name: %q", got)
	}
}

func TestNames(t *testing.T) {
	f := newFixture(t, "debian-12-proximity_1.0_amd64.tar.zst")
	in := input()
	f.firstApply(render(t, in))
	f.bootApp()
	resolves := func(name, want string) {
		t.Helper()
		got, err := f.app.Resolve(name)
		if want == "" && err == nil || want != "" && (err != nil || !slices.Equal(got, []string{want})) {
			t.Errorf("%s: %v, %v; want %q", name, got, err, want)
		}
	}
	resolves("nginx-01.prox.local", "10.20.0.1")
	resolves("nginx-01.lan.prox.local", "10.20.0.50")
	resolves("prox-appliance.lan.prox.local", "10.20.0.1")
	resolves("nobody.prox.local", "")
	in.Vhosts = nil
	f.apply(render(t, in))
	resolves("nginx-01.prox.local", "10.20.0.50")
	in.Hosts = nil
	r := f.apply(render(t, in))
	resolves("nginx-01.lan.prox.local", "")
	if len(r.Observation.Leases) != 0 {
		t.Errorf("leases of a removed guest: %+v", r.Observation.Leases)
	}
}

// Whatever is broken from outside is seen and repaired.
func TestDrift(t *testing.T) {
	f := newFixture(t, "debian-12-proximity_1.0_amd64.tar.zst")
	b := render(t, input())
	f.firstApply(b)
	for name, c := range map[string]struct {
		damage func()
		want   string
	}{
		"file deleted":  {func() { _ = f.box.FS().Remove(appliance.ProxyPath) }, "proxy.json is missing"},
		"table deleted": {func() { _ = f.box.FS().Remove(appliance.TablePath) }, "vhosts.table is missing"},
		"file changed":  {func() { _ = f.box.FS().WriteFile(appliance.NATPath, []byte("x"), 0o644) }, "nat.nft differs"},
		"file added":    {func() { _ = f.box.FS().WriteFile(appliance.HostsDir+"/evil", []byte("x"), 0o644) }, "evil is not part of it (any more)"},
		"rules flushed": {func() { f.sim.FlushRules(f.box) }, "firewall table is missing"},
		"stopped":       {func() { f.exec(nil, "systemctl", "stop", appliance.UnitCaddy) }, "proximity-caddy.service is inactive"},
		"disabled":      {func() { f.exec(nil, "systemctl", "disable", appliance.UnitNAT) }, "does not start at boot"},
		"apply was cut": {func() { _ = f.box.FS().Remove(appliance.ManifestPath) }, "did not come to its end"},
	} {
		c.damage()
		d := appliance.Diff(b, f.observe(b.Hash))
		if !slices.ContainsFunc(d, func(line string) bool { return strings.Contains(line, c.want) }) {
			t.Errorf("%s: want %q in %q", name, c.want, d)
		}
		f.apply(b)
	}
	if r := f.apply(b); len(r.Actions) != 0 {
		t.Errorf("with nothing to do: %q", r.Actions)
	}
}

// A change of Vhosts is one of the table: nothing is loaded or restarted.
func TestVhostsAreData(t *testing.T) {
	f := newFixture(t, "debian-12-proximity_1.0_amd64.tar.zst")
	in := input()
	f.firstApply(render(t, in))
	in.Vhosts = append(in.Vhosts, appliance.Vhost{Key: "default/two", UID: "v2", Hosts: []string{"two.prox.local"}})
	r := f.apply(render(t, in))
	if slices.ContainsFunc(r.Actions, func(a string) bool {
		return strings.Contains(a, appliance.UnitCaddy) || strings.Contains(a, "proxy.json")
	}) {
		t.Errorf("one Vhost more: %q", r.Actions)
	}
	wan, _ := r.Observation.AddressOf("eth0")
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return f.e.Dial(ctx, network, net.JoinHostPort(wan.Addr().String(), "80"))
	}
	if got, err := get(t.Context(), dial, "http://two.prox.local/", nil); err != nil || got != "503: this application has no running backend\n" {
		t.Errorf("the new Vhost: %q, %v", got, err)
	}
}

func TestKilledServiceComesBack(t *testing.T) {
	f := newFixture(t, "debian-12-proximity_1.0_amd64.tar.zst")
	b := render(t, input())
	f.firstApply(b)
	before := f.observe(b.Hash).Services[appliance.UnitDNSMasq]
	if !f.box.KillUnit(appliance.UnitDNSMasq) {
		t.Fatal("dnsmasq did not run")
	}
	waitUntil(t, func() bool { return len(appliance.Diff(b, f.observe(b.Hash))) == 0 })
	after := f.observe(b.Hash).Services[appliance.UnitDNSMasq]
	if after.MainPID == before.MainPID || after.Restarts != before.Restarts+1 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestEverythingComesBackAfterABoot(t *testing.T) {
	f := newFixture(t, "debian-12-proximity_1.0_amd64.tar.zst")
	b := render(t, input())
	f.firstApply(b)
	boot := f.observe(b.Hash).BootID
	if err := f.e.Stop(t.Context(), applianceID); err != nil {
		t.Fatal(err)
	}
	if err := f.e.Start(t.Context(), f.box.Spec()); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return len(appliance.Diff(b, f.observe(b.Hash))) == 0 })
	if f.observe(b.Hash).BootID == boot {
		t.Error("the boot id did not change")
	}
}

func TestPackagesAreInstalledWhereMissing(t *testing.T) {
	f := newFixture(t, "debian-12-standard_12.12-1_amd64.tar.zst")
	b := render(t, input())
	f.exec(appliance.Stage(b), "tar", "-x", "-o", "-C", "/", "-f", "-")
	agent := appliance.StageDir(b) + "/agent"
	out, exit := f.exec(nil, "/bin/sh", agent, "apply", appliance.StageDir(b))
	var failed *appliance.AgentError
	if _, err := appliance.ParseApply([]byte(out), exit); !errors.As(err, &failed) || failed.Exit != appliance.ExitMissing {
		t.Fatalf("without packages: %v", err)
	}
	if out, _ := f.exec(nil, "/bin/sh", agent, "packages"); !strings.Contains(out, "missing dnsmasq dnsmasq-base\n") {
		t.Errorf("packages: %q", out)
	}
	if out, exit := f.exec(nil, "/bin/sh", agent, "install"); exit != 0 || !strings.HasSuffix(out, "end\n") {
		t.Fatalf("install: %d %q", exit, out)
	}
	f.firstApply(b)
}

func TestRefusedAndDamaged(t *testing.T) {
	f := newFixture(t, "debian-12-proximity_1.0_amd64.tar.zst")
	b := render(t, input())
	f.firstApply(b)
	archive, err := io.ReadAll(appliance.Stage(b))
	if err != nil {
		t.Fatal(err)
	}
	spoiled := bytes.Replace(archive, []byte("no-ping"), []byte("no-pong"), 1)
	for name, stdin := range map[string][]byte{"empty": nil, "cut": archive[:len(archive)/2], "spoiled": spoiled} {
		if out, exit := f.exec(bytes.NewReader(stdin), "/bin/sh", appliance.AgentPath, "apply", "-"); exit != appliance.ExitStage {
			t.Errorf("%s: exit %d, %q", name, exit, out)
		}
	}
	if d := appliance.Diff(b, f.observe(b.Hash)); len(d) != 0 {
		t.Errorf("a damaged stage changed something: %q", d)
	}
	if out, exit := f.exec(nil, "/bin/sh", appliance.AgentPath, "nat-test", "10.20.0.1", "80", "192.168.50.2"); exit != 0 ||
		out != "nat-test dns ok 10.20.0.1\nnat-test tcp ok connected\nnat-test forbidden ok refused by rule\nend\n" {
		t.Errorf("nat-test: %d %q", exit, out)
	}
	if _, exit := f.exec(nil, "/bin/sh", appliance.AgentPath, "dance"); exit != appliance.ExitUsage {
		t.Errorf("unknown verb: exit %d", exit)
	}
}

func TestEgressNeedsTheRules(t *testing.T) {
	f := newFixture(t, "debian-12-proximity_1.0_amd64.tar.zst")
	b := render(t, input())
	f.firstApply(b)
	f.bootApp()
	outside := f.boot(engine.Guest{VMID: 200, Hostname: "outside", NICs: []engine.NIC{{Name: "eth0", Bridge: "vmbr0", HWAddr: "BC:24:11:00:02:00", IP: "192.168.50.77/24"}}})
	if _, err := outside.ServeHTTP(80, http.NotFoundHandler()); err != nil {
		t.Fatal(err)
	}
	reach := func() error {
		c, err := f.app.Dial(t.Context(), "tcp", "192.168.50.77:80")
		if err == nil {
			err = c.Close()
		}
		return err
	}
	if err := reach(); err != nil {
		t.Errorf("with the rules: %v", err)
	}
	f.sim.FlushRules(f.box)
	if reach() == nil {
		t.Error("reached without rules")
	}
	f.apply(b)
	if err := reach(); err != nil {
		t.Errorf("with the rules again: %v", err)
	}
	in := input()
	in.NAT = false
	f.apply(render(t, in))
	if reach() == nil {
		t.Error("reached from an isolated network")
	}
}

// Init scripts stand for units of guests in memory.
func TestAlpineSet(t *testing.T) {
	f := newFixture(t, "alpine-3.22-proximity_1.0_amd64.tar.xz")
	in := input()
	in.OS = "alpine"
	b := render(t, in)
	f.firstApply(b)
	o := f.observe(b.Hash)
	if s := o.Services["proximity-dnsmasq"]; len(o.Services) != 3 || s.Active != "active" || !s.Enabled {
		t.Errorf("services: %+v", o.Services)
	}
	f.exec(nil, "rm", "/etc/init.d/proximity-caddy")
	if d := appliance.Diff(b, f.observe(b.Hash)); len(d) != 1 || d[0] != "/etc/init.d/proximity-caddy is missing" {
		t.Errorf("without an init script: %q", d)
	}
	f.apply(b)
}
