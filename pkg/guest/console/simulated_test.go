package console

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// TestSimulatedNode runs programs through the console of a simulated node, by API token.
func TestSimulatedNode(t *testing.T) {
	dir := t.TempDir()
	const template = "debian-12-standard_12.12-1_amd64.tar.zst"
	if err := os.WriteFile(filepath.Join(dir, template), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := mem.New(mem.Config{TemplateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	node, err := pvesim.New(pvesim.Config{Dir: filepath.Join(dir, "node"), Engine: e, TemplateDir: dir,
		Packages: map[string]string{"pve-manager": "9.1.9", "pve-container": "6.1.3"}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- node.ServeAPI(l) }()
	creds := node.Credentials()
	api, err := proxmox.New(proxmox.Config{
		Endpoints: []string{"https://" + l.Addr().String()}, Fingerprints: []string{creds.Fingerprint},
		TokenID: creds.TokenID, TokenSecret: creds.TokenSecret,
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{API: api})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.Close()
		api.Close()
		if err := node.Close(); err != nil {
			t.Error(err)
		}
		<-served
		_ = e.Close()
	})
	upid, err := api.CreateLXC(t.Context(), "pve", proxmox.LXCCreate{
		VMID: 100, Template: "local:vztmpl/" + template, RootFS: proxmox.NewVolume("local-lvm", 1), Unprivileged: true, Extra: map[string]string{"cmode": "shell"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.WaitTask(t.Context(), "pve", upid); err != nil {
		t.Fatal(err)
	}
	if upid, err = api.StartLXC(t.Context(), "pve", 100); err != nil {
		t.Fatal(err)
	}
	if _, err := api.WaitTask(t.Context(), "pve", upid); err != nil {
		t.Fatal(err)
	}
	target := guest.Target{Node: "pve", VMID: 100}
	res, err := r.Run(t.Context(), target, guest.Command{Argv: []string{"sh", "-c", "cat; echo oops >&2; exit 3"}, Stdin: strings.NewReader("line\x00\n")})
	if err != nil || res.ExitCode != 3 || !bytes.Equal(res.Stdout, []byte("line\x00\n")) || string(res.Stderr) != "oops\n" {
		t.Errorf("%+v, %v", res, err)
	}
}
