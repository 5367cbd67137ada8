package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadInput: what is wrong is named by file, line and field, and nothing is applied.
func TestBadInput(t *testing.T) {
	story(t, "all")
	d := start(t, t.TempDir())
	good := "apiVersion: proximity/v1alpha1\nkind: Bridge\nmetadata: {name: good}\nspec: {subnet: 10.30.0.0/24, interfaceName: good}\n"
	set := func(extra string) []byte { return []byte(good + "---\n" + extra) }
	for _, tc := range []struct {
		name string
		data []byte
		want []string
	}{
		{"unknown field", set("apiVersion: proximity/v1alpha1\nkind: Bridge\nmetadata: {name: b}\nspec:\n  subnett: 10.31.0.0/24\n"), []string{":10:", "spec.subnett", "subnet"}},
		{"wrong type", set("apiVersion: proximity/v1alpha1\nkind: Bridge\nmetadata: {name: b}\nspec:\n  subnet: 10.31.0.0/24\n  mtu: large\n"), []string{":11:", "spec.mtu", "large"}},
		{"bad CIDR", set("apiVersion: proximity/v1alpha1\nkind: Bridge\nmetadata: {name: b}\nspec:\n  subnet: 10.31.0.0/33\n"), []string{":10:", "spec.subnet", "10.31.0.0/33"}},
		{"range outside", set(applianceYAML("10.30.0.1", "10.31.0.10", "10.31.0.20")), []string{"spec.dhcp.start", "10.31.0.10", "10.30.0.0/24"}},
		{"address outside", set(applianceYAML("10.99.0.1", "10.30.0.10", "10.30.0.20")), []string{"spec.lan.address", "10.99.0.1", "10.30.0.0/24"}},
		{"duplicate host", set(vhostYAML("v1", "x.prox.local") + "---\n" + vhostYAML("v2", "x.prox.local")), []string{"spec.hosts[0]", "x.prox.local"}},
		{"empty", nil, []string{"no documents"}},
		{"5 MiB", append([]byte(good), []byte(strings.Repeat("# x\n", 5<<20/4))...), []string{"4 MiB", "bad.yaml"}},
		{"binary", []byte("\x7fELF\x00\x01\xff\xfe\x00"), []string{"bad.yaml"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bad.yaml")
			if err := os.WriteFile(path, tc.data, 0o600); err != nil {
				t.Fatal(err)
			}
			r := d.proxctl("apply", "-f", path)
			if r.code != 1 {
				t.Errorf("exit code %d, want 1", r.code)
			}
			for _, want := range tc.want {
				if !strings.Contains(r.err, want) {
					t.Errorf("no %q in: %.500s", want, r.err)
				}
			}
			if out := d.must("get", "bridges", "-o", "name"); strings.TrimSpace(out) != "" {
				t.Errorf("something was applied: %s", out)
			}
		})
	}
}

func applianceYAML(lan, from, to string) string {
	return "apiVersion: proximity/v1alpha1\nkind: Appliance\nmetadata: {name: a}\nspec:\n  bridgeRef: {name: good}\n  lan: {address: " + lan +
		"}\n  dhcp: {start: " + from + ", end: " + to + "}\n  dns: {zone: a.test}\n"
}

func vhostYAML(name, host string) string {
	return "apiVersion: proximity/v1alpha1\nkind: Vhost\nmetadata: {name: " + name + "}\nspec:\n  hosts: [" + host + "]\n  rules: [{backends: [{address: \"10.30.0.9:80\"}]}]\n"
}

// TestDisputes: what only the live objects decide is said in conditions, and the older wins.
func TestDisputes(t *testing.T) {
	story(t, "all")
	d := quickstart(t)
	second := vhostYAML("second", host)
	if r := d.proxctlIn(second, "apply", "-f", "-"); r.code != 0 {
		t.Fatalf("apply: %s", r.err)
	}
	eventually(t, "the newcomer is told", func() bool {
		status, reason, _ := d.condition("vhost/second", "Ready")
		conflict, _, _ := d.condition("vhost/second", "Conflict")
		return status == "False" && reason == "Conflict" && conflict == "True"
	})
	if !d.serves() {
		t.Error("the older Vhost is no longer served")
	}
	d.must("delete", "vhost/second")

	// A guest that is not ours has the VMID that an App asks for: its guest is left alone.
	taken := "apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: greedy}\nspec: {vmid: 9999}\n"
	if r := d.proxctlIn(taken, "apply", "-f", "-"); r.code != 0 {
		t.Fatalf("apply: %s", r.err)
	}
	eventually(t, "the App is stalled", func() bool {
		status, reason, _ := d.condition("app/greedy", "Stalled")
		return status == "True" && reason == "VMIDTaken"
	})
	d.must("delete", "app/greedy")
	if !d.serves() {
		t.Error("the appliance was touched")
	}
}

// TestWaysOfTheBridge: an API-legal name goes through the Proxmox API, and an appliance that
// is made from the plain template installs its packages from the repository.
func TestWaysOfTheBridge(t *testing.T) {
	story(t, "all")
	d := start(t, t.TempDir())
	docs := `apiVersion: proximity/v1alpha1
kind: Bridge
metadata: {name: lan}
spec: {interfaceName: proxlan, subnet: 10.40.0.0/24}
---
apiVersion: proximity/v1alpha1
kind: Appliance
metadata: {name: plain}
spec:
  vmid: 9000
  template: debian-12-standard
  bridgeRef: {name: lan}
  lan: {address: 10.40.0.1}
  dhcp: {start: 10.40.0.100, end: 10.40.0.200}
  dns: {zone: plain.test}
`
	if r := d.proxctlIn(docs, "apply", "-f", "-", "--wait", "--timeout", "3m"); r.code != 0 {
		t.Fatalf("apply: exit code %d\n%s%s", r.code, r.out, r.err)
	}
	if got := field(d.object("bridge/lan"), "status", "method"); got != "API" {
		t.Errorf("method %v, want API", got)
	}
	if out := d.inNode("ip", "-o", "link", "show", "proxlan"); out.code != 0 {
		t.Errorf("no bridge: %s", out.err)
	}
	if r := d.inGuest(9000, "dpkg-query", "-W", "caddy", "nftables"); r.code != 0 {
		t.Errorf("packages are not installed: %s", r.err)
	}
	d.must("delete", "appliance/plain", "bridge/lan")
	if out := d.inNode("ip", "-o", "link", "show", "proxlan"); out.code == 0 {
		t.Error("the bridge is still there")
	}
}

// TestBridgeBySDN: the network of an SDN zone carries real guests, with room for the tunnels'
// headers, and leaves nothing on the node.
func TestBridgeBySDN(t *testing.T) {
	story(t, "all")
	d := start(t, t.TempDir())
	docs := `apiVersion: proximity/v1alpha1
kind: Bridge
metadata: {name: lan}
spec: {backend: sdn, interfaceName: proxlan, subnet: 10.40.0.0/24}
---
apiVersion: proximity/v1alpha1
kind: Appliance
metadata: {name: plain}
spec:
  vmid: 9000
  bridgeRef: {name: lan}
  lan: {address: 10.40.0.1}
  dhcp: {start: 10.40.0.100, end: 10.40.0.200}
  dns: {zone: plain.test}
---
apiVersion: proximity/v1alpha1
kind: App
metadata: {name: site, namespace: default}
spec: {vmid: 9001, network: {applianceRef: {name: plain}}}
`
	if r := d.proxctlIn(docs, "apply", "-f", "-", "--wait", "--timeout", "3m"); r.code != 0 {
		t.Fatalf("apply: exit code %d\n%s%s", r.code, r.out, r.err)
	}
	if got := field(d.object("bridge/lan"), "status", "method"); got != "SDN" {
		t.Errorf("method %v, want SDN", got)
	}
	if out := d.inNode("ip", "-o", "link", "show", "proxlan"); out.code != 0 || !strings.Contains(out.out, "mtu 1450") {
		t.Errorf("the bridge is not as it should be: %s%s", out.out, out.err)
	}
	if r := d.inGuest(9001, "ip", "-o", "link", "show", "eth0"); r.code != 0 || !strings.Contains(r.out, "mtu 1450") {
		t.Errorf("the guest's interface is not as it should be: %s%s", r.out, r.err)
	}
	d.must("delete", "app/site", "appliance/plain", "bridge/lan")
	if out := d.inNode("ip", "-o", "link", "show", "proxlan"); out.code == 0 {
		t.Error("the bridge is still there")
	}
}
