package daemon_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/daemon"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem/appliancesim"
)

// A Proxmox VE node of which nothing but the API can be reached: an API token and, where
// its version needs one, a user for consoles are all that the quickstart takes.
func TestQuickstartThroughConsoles(t *testing.T) {
	dir := t.TempDir()
	templates := filepath.Join(dir, "templates")
	must(t, os.Mkdir(templates, 0o700))
	for _, name := range []string{"debian-12-proximity_1.0-1_amd64.tar.zst", "debian-12-standard_12.12-1_amd64.tar.zst"} {
		must(t, os.WriteFile(filepath.Join(templates, name), nil, 0o600))
	}
	engine, err := mem.New(mem.Config{TemplateDir: templates})
	must(t, err)
	appliancesim.Install(engine)
	node, err := pvesim.New(pvesim.Config{Dir: filepath.Join(dir, "node"), Engine: engine, TemplateDir: templates,
		Packages: map[string]string{"pve-manager": "9.1.9", "pve-container": "6.1.3"}})
	must(t, err)
	must(t, node.Boot(t.Context()))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- node.ServeAPI(l) }()
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
		<-served
		_ = engine.Close()
	})
	creds := node.Credentials()
	secret := filepath.Join(dir, "secret")
	must(t, os.WriteFile(secret, []byte(creds.TokenSecret+"\n"), 0o600))
	r := startWith(t, daemon.Config{DataDir: filepath.Join(dir, "data"), Proxmox: daemon.ProxmoxConfig{
		Endpoints: []string{"https://" + l.Addr().String()}, Fingerprint: creds.Fingerprint, TokenID: creds.TokenID, TokenSecretFile: secret,
		ApplianceTemplate: "debian-12-proximity", GuestAccess: daemon.GuestAccess{Mode: "console"},
	}})
	yaml := strings.Replace(quickstartYAML(t), "interfaceName: proximity-lan", "interfaceName: proxlan", 1)
	if code, out := r.call("POST", "/apis/proximity/v1alpha1/apply", yaml); code != 200 {
		t.Fatalf("apply: %d %v", code, out)
	}
	for _, path := range quickstartObjects {
		r.until(path+" ready", func() bool { return r.ready(path) })
	}
	// One console per guest, kept, and nothing beside the API.
	if n := node.Stats().Requests["POST /nodes/{node}/lxc/{vmid}/termproxy"]; n < 1 || n > 6 {
		t.Errorf("%d consoles were opened", n)
	}
	if got := node.Stats().Commands; len(got) != 0 {
		t.Errorf("commands on the node: %v", got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
