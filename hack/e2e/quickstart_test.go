package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	app   = "app/nginx-01"
	apl   = "appliance/proximity"
	host  = "nginx-01.prox.local"
	lanIP = "10.20.0.1"
)

// TestQuickstart is the story of a new user: four documents become an app in the browser,
// and nothing is left when they are deleted.
func TestQuickstart(t *testing.T) {
	story(t, "quick")
	d := start(t, t.TempDir())
	if !strings.Contains(d.first, "real LXC containers") {
		t.Errorf("the first line does not say what the guests are: %q", d.first)
	}
	before := d.inNode("ip", "-o", "link").out
	out := d.must("apply", "-f", quickDir, "--wait", "--timeout", "3m")
	t.Logf("apply --wait:\n%s", out)
	for _, want := range []string{"bridge/proximity-lan created", "appliance/proximity created", "app/nginx-01 created", "vhost/" + host + " created"} {
		if !strings.Contains(out, want) {
			t.Errorf("apply does not print %q", want)
		}
	}
	t.Run("page over HTTP", d.pageOverHTTP)
	t.Run("page over HTTPS", d.pageOverHTTPS)
	t.Run("unknown host", func(t *testing.T) {
		if code, _, err := d.web("nobody.example"); err != nil || code != 404 {
			t.Errorf("got %d, %v; want 404", code, err)
		}
	})
	t.Run("names and addresses", d.namesAndAddresses)
	t.Run("isolation", d.isolation)
	t.Run("reading commands", d.readingCommands)
	t.Run("infrastructure routes", d.infrastructureRoutes)
	t.Run("apply again changes nothing", func(t *testing.T) {
		again := d.must("apply", "-f", quickDir)
		if strings.Count(again, "unchanged") != 4 {
			t.Errorf("got:\n%s", again)
		}
	})
	t.Run("delete", func(t *testing.T) { d.deleteEverything(t, before) })
	d.stop()
}

func (d *daemon) pageOverHTTP(t *testing.T) {
	code, body, err := d.web(host)
	if err != nil || code != 200 || !strings.Contains(body, "Welcome to nginx") {
		t.Errorf("got %d, %v:\n%s", code, err, body)
	}
}

func (d *daemon) pageOverHTTPS(t *testing.T) {
	root := d.inGuest(9999, "cat", "/var/lib/proximity/caddy/pki/authorities/local/root.crt")
	if root.code != 0 {
		t.Fatalf("no root certificate: %s", root.err)
	}
	code, body, err := d.webTLS(host, []byte(root.out))
	if err != nil || code != 200 || !strings.Contains(body, "Welcome to nginx") {
		t.Errorf("got %d, %v:\n%s", code, err, body)
	}
	if _, _, err := d.webTLS(host, nil); err == nil {
		t.Error("a client without the CA accepts the certificate")
	}
}

// namesAndAddresses looks from inside the App's guest: the lease is the reserved one, the
// vhost's name leads to the proxy, the guest's own name to itself, both ways.
func (d *daemon) namesAndAddresses(t *testing.T) {
	vmid := d.vmid(app)
	addr, _ := field(d.object(app), "status", "address").(string)
	if got := d.inGuest(vmid, "ip", "-4", "-o", "addr", "show", "eth0").out; !strings.Contains(got, " "+addr+"/24 ") || !strings.Contains(got, "dynamic") {
		t.Errorf("eth0 has not got %s by DHCP: %s", addr, got)
	}
	for name, want := range map[string]string{host: lanIP, "nginx-01.lan.prox.local": addr, addr: "nginx-01.lan.prox.local"} {
		if got := d.inGuest(vmid, "getent", "-s", "hosts:dns", "hosts", name).out; !strings.Contains(got, want) {
			t.Errorf("%s resolves to %q, want %s", name, got, want)
		}
	}
	if got := d.inGuest(vmid, "cat", "/proc/self/uid_map").out; strings.Fields(got)[1] != "100000" {
		t.Errorf("the guest is not unprivileged: %s", got)
	}
}

// isolation: the internet is reached through NAT, the node's own network is not.
func (d *daemon) isolation(t *testing.T) {
	vmid := d.vmid(app)
	get := func(url string) run {
		return d.inGuest(vmid, "curl", "-s", "-S", "--max-time", "3", url)
	}
	wan, _ := field(d.object(apl), "status", "wanAddress").(string)
	wan, _, _ = strings.Cut(wan, "/")
	if r := get("http://www.internet.test/"); !strings.Contains(r.out, "internet reached from "+wan) {
		t.Errorf("through NAT: %q %s", r.out, r.err)
	}
	for _, forbidden := range []string{"http://192.168.50.2:8006/", "http://192.168.50.1:53/"} {
		if r := get(forbidden); r.code == 0 {
			t.Errorf("%s is reached from a guest", forbidden)
		}
	}
}

func (d *daemon) readingCommands(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"get", "apps"}, "nginx-01"},
		{[]string{"get", "all", "-o", "wide"}, "proximity-lan"},
		{[]string{"get", "all", "-o", "yaml"}, "interfaceName: proximity-lan"},
		{[]string{"get", "all", "-o", "name"}, "app/nginx-01"},
		{[]string{"get", "bridges,appliances,apps", "-A", "-o", "json"}, `"kind": "Appliance"`},
		{[]string{"describe", "app", "nginx-01"}, "Provisioned"},
		{[]string{"logs", app}, "nginx"},
		{[]string{"logs", apl}, "dnsmasq"},
		{[]string{"wait", "--for=condition=Ready", app, "--timeout=60s"}, ""},
		{[]string{"wait", "--for=condition=Ready", "apps", "--all", "--timeout=60s"}, ""},
		{[]string{"test-nat"}, "Succeeded"},
	} {
		if out := d.must(tc.args...); !strings.Contains(out, tc.want) {
			t.Errorf("proxctl %s does not print %q:\n%s", strings.Join(tc.args, " "), tc.want, out)
		}
	}
	if r := d.proxctl("get", "app/nope"); r.code != 3 {
		t.Errorf("get of a missing object: exit code %d, want 3", r.code)
	}
	if r := d.proxctl("get", "--nonsense"); r.code != 2 {
		t.Errorf("unknown flag: exit code %d, want 2", r.code)
	}
}

func (d *daemon) infrastructureRoutes(t *testing.T) {
	for path, want := range map[string]string{
		"/api/v1/system/infrastructure/status":                           `"ready":true`,
		"/api/v1/system/proxy/status":                                    host,
		"/api/v1/system/infrastructure/appliance/logs?wait=30s&lines=20": `"phase":"Succeeded"`,
		"/apis/proximity/v1alpha1/namespaces/default/apps/nginx-01":      `"kind":"App"`,
		"/apis/proximity/v1alpha1/apps":                                  `"kind":"AppList"`,
		"/api/openapi.json":                                              `"openapi"`,
		"/metrics":                                                       "proximity_store_revision",
	} {
		code, body, err := d.api(path, d.adminToken())
		if compact := strings.NewReplacer(`": `, `":`, "\n", "").Replace(body); err != nil || code != 200 || !strings.Contains(compact, want) {
			t.Errorf("%s: %d, %v, no %q in:\n%.600s", path, code, err, want, body)
		}
		if code, _, _ := d.api(path, ""); code != 401 {
			t.Errorf("%s without a token: %d, want 401", path, code)
		}
	}
	for _, open := range []string{"/healthz", "/readyz"} {
		if code, _, err := d.api(open, ""); err != nil || code != 200 {
			t.Errorf("%s: %d, %v", open, code, err)
		}
	}
}

// deleteEverything expects that nothing of ours is left on the node.
func (d *daemon) deleteEverything(t *testing.T, linksBefore string) {
	d.must("delete", "-f", quickDir, "--timeout", "2m")
	if out := d.must("get", "all", "-A", "-o", "name"); strings.TrimSpace(out) != "" {
		t.Errorf("objects are left:\n%s", out)
	}
	if out := d.inNode("lxc-ls", "-P", d.Node.LXCPath).out; strings.TrimSpace(out) != "" {
		t.Errorf("guests are left: %s", out)
	}
	names := func(links string) (out []string) {
		for _, l := range strings.Split(strings.TrimSpace(links), "\n") {
			if f := strings.Fields(l); len(f) > 1 {
				out = append(out, f[1])
			}
		}
		return out
	}
	if got, want := names(d.inNode("ip", "-o", "link").out), names(linksBefore); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("links are %v, were %v", got, want)
	}
	file, err := os.ReadFile(filepath.Join(d.dir, "node/pve/etc/network/interfaces"))
	if err != nil || strings.Contains(string(file), "proximity-lan") {
		t.Errorf("the bridge is still configured: %v\n%s", err, file)
	}
}
