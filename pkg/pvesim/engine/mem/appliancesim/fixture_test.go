package appliancesim_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem/appliancesim"
)

const (
	applianceID = 9999
	appID       = 101
	appMAC      = "BC:24:11:00:00:01"
)

// fixture is a node in memory with an appliance and an app guest on its LAN.
type fixture struct {
	t   *testing.T
	e   *mem.Engine
	sim *appliancesim.Sim
	app *mem.Guest
	box *mem.Guest
}

func newFixture(t *testing.T, template string) *fixture {
	t.Helper()
	e, err := mem.New(mem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	f := &fixture{t: t, e: e, sim: appliancesim.Install(e)}
	if err := e.ApplyNetwork(t.Context(), []engine.Bridge{{Name: "lan0"}}); err != nil {
		t.Fatal(err)
	}
	f.box = f.boot(engine.Guest{VMID: applianceID, Hostname: "prox-appliance", Template: template, NICs: []engine.NIC{
		{Index: 0, Name: "eth0", Bridge: "vmbr0", HWAddr: "BC:24:11:00:99:00", IP: "dhcp"},
		{Index: 1, Name: "eth1", Bridge: "lan0", HWAddr: "BC:24:11:00:99:01", IP: "10.20.0.1/24"},
	}})
	return f
}

func (f *fixture) boot(g engine.Guest) *mem.Guest {
	f.t.Helper()
	if err := f.e.Create(f.t.Context(), g, io.Discard); err != nil {
		f.t.Fatal(err)
	}
	if err := f.e.Start(f.t.Context(), g); err != nil {
		f.t.Fatal(err)
	}
	guest, _ := f.e.Guest(g.VMID)
	return guest
}

func (f *fixture) bootApp() {
	f.t.Helper()
	f.app = f.boot(engine.Guest{VMID: appID, Hostname: "nginx-01", Template: "debian-12-standard_12.12-1_amd64.tar.zst", NICs: []engine.NIC{
		{Index: 0, Name: "eth0", Bridge: "lan0", HWAddr: appMAC, IP: "dhcp"},
	}})
	if _, err := f.app.ServeHTTP(80, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "the app at "+r.URL.Path)
	})); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) exec(stdin io.Reader, argv ...string) (out string, exit int) {
	f.t.Helper()
	var b bytes.Buffer
	exit, err := f.e.Exec(f.t.Context(), applianceID, engine.Command{Argv: argv, Stdin: stdin, Stdout: &b, Stderr: &b})
	if err != nil {
		f.t.Fatal(err)
	}
	return b.String(), exit
}

func (f *fixture) observe(hash string) appliance.Observation {
	f.t.Helper()
	out, exit := f.exec(nil, appliance.ObserveArgv(hash)...)
	o, err := appliance.ParseObservation([]byte(out))
	if err != nil || exit != 0 {
		f.t.Fatalf("observe: exit %d, %v\n%s", exit, err, out)
	}
	return o
}

func (f *fixture) firstApply(b appliance.Bundle) appliance.Result {
	f.t.Helper()
	if out, exit := f.exec(appliance.Stage(b), "tar", "-x", "-o", "-C", "/", "-f", "-"); exit != 0 {
		f.t.Fatalf("unpack: %d %s", exit, out)
	}
	out, exit := f.exec(nil, "/bin/sh", appliance.StageDir(b)+"/agent", "apply", appliance.StageDir(b))
	return f.mustBeLive(b, out, exit)
}

func (f *fixture) apply(b appliance.Bundle) appliance.Result {
	f.t.Helper()
	out, exit := f.exec(appliance.Stage(b), "/bin/sh", appliance.AgentPath, "apply", "-")
	return f.mustBeLive(b, out, exit)
}

func (f *fixture) mustBeLive(b appliance.Bundle, out string, exit int) appliance.Result {
	f.t.Helper()
	r, err := appliance.ParseApply([]byte(out), exit)
	if err != nil {
		f.t.Fatalf("apply: %v\n%s", err, out)
	}
	if d := appliance.Diff(b, *r.Observation); len(d) != 0 {
		f.t.Fatalf("after apply: %q", d)
	}
	return r
}

// get asks through a guest's or the node's network.
func get(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), url string, roots *x509.CertPool) (string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func input() appliance.Input {
	return appliance.Input{
		Name: "prox-appliance", UID: "u1", InstallationID: "i1", Zone: "prox.local", NAT: true,
		LAN:       netip.MustParsePrefix("10.20.0.1/24"),
		DHCPStart: netip.MustParseAddr("10.20.0.100"), DHCPEnd: netip.MustParseAddr("10.20.0.250"),
		Forbidden: []netip.Prefix{netip.MustParsePrefix("192.168.50.2/32")},
		Hosts:     []appliance.Host{{Key: "default/nginx-01", Hostname: "nginx-01", MAC: appMAC, Address: netip.MustParseAddr("10.20.0.50")}},
		Vhosts: []appliance.Vhost{{
			Key: "default/nginx-01", UID: "v1", Hosts: []string{"nginx-01.prox.local"},
			Rules: []appliance.Rule{{Backends: []appliance.Backend{{Address: "10.20.0.50:80"}}}, {Path: "/down"}},
		}},
		Probes: []appliance.Probe{
			{Key: "app/default/nginx-01", Kind: appliance.ProbeHTTP, Address: "10.20.0.50:80"},
			{Key: "tcp/default/nginx-01", Kind: appliance.ProbeTCP, Address: "10.20.0.50:81"},
			{Key: "vhost/default/nginx-01", Kind: appliance.ProbeHTTP, Address: "127.0.0.1:80", Host: "nginx-01.prox.local"},
		},
	}
}

func render(t *testing.T, in appliance.Input) appliance.Bundle {
	t.Helper()
	b, err := appliance.Render(in)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// waitUntil polls for what a service manager does in its own time.
func waitUntil(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come true")
		}
	}
}
