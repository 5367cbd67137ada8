package guest_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/guest/ssh"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

const templateFile = "debian-12-proximity_1.0-1_amd64.tar.zst"

// simulated is a simulated node with guest 100 running and guest 101 stopped.
type simulated struct {
	api *proxmox.Client
	way *guest.OnNode
}

func newSimulated(t *testing.T, mode guest.Mode) simulated {
	t.Helper()
	dir := t.TempDir()
	templates := filepath.Join(dir, "templates")
	if err := errors.Join(os.Mkdir(templates, 0o700), os.WriteFile(filepath.Join(templates, templateFile), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	engine, err := mem.New(mem.Config{Dir: filepath.Join(dir, "guests"), TemplateDir: templates})
	if err != nil {
		t.Fatal(err)
	}
	node, err := pvesim.New(pvesim.Config{Dir: filepath.Join(dir, "node"), Engine: engine, TemplateDir: templates})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 2)
	listen := func(serve func(net.Listener) error) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { served <- serve(l) }()
		return l.Addr().String()
	}
	creds := node.Credentials()
	key, err := os.ReadFile(creds.SSHPrivateKeyPath)
	if err != nil {
		t.Fatal(err)
	}
	address := listen(node.ServeSSH)
	client, err := ssh.New(ssh.Config{
		Address: func(string) string { return address }, User: creds.SSHUser, PrivateKey: key, HostKeys: []string{creds.SSHHostKey},
	})
	if err != nil {
		t.Fatal(err)
	}
	way, err := guest.NewOnNode(client, mode)
	if err != nil {
		t.Fatal(err)
	}
	api, err := proxmox.New(proxmox.Config{
		Endpoints: []string{"https://" + listen(node.ServeAPI)}, Fingerprints: []string{creds.Fingerprint},
		TokenID: creds.TokenID, TokenSecret: creds.TokenSecret,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = way.Close()
		api.Close()
		if err := node.Close(); err != nil {
			t.Error(err)
		}
		<-served
		<-served
		_ = engine.Close()
	})
	s := simulated{api, way}
	s.create(t, 100)
	s.create(t, 101)
	s.wait(t)(api.StartLXC(t.Context(), "pve", 100))
	return s
}

func (s simulated) create(t *testing.T, vmid int) {
	t.Helper()
	s.wait(t)(s.api.CreateLXC(t.Context(), "pve", proxmox.LXCCreate{
		VMID: vmid, Template: "local:vztmpl/" + templateFile, Unprivileged: true, RootFS: proxmox.NewVolume("local-lvm", 1),
	}))
}

func (s simulated) wait(t *testing.T) func(proxmox.UPID, error) {
	return func(upid proxmox.UPID, err error) {
		t.Helper()
		if err == nil {
			_, err = s.api.WaitTask(t.Context(), "pve", upid)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSimulatedGuest(t *testing.T) {
	for _, mode := range []guest.Mode{guest.ModePct, guest.ModeAttach} {
		t.Run(string(mode), func(t *testing.T) {
			s := newSimulated(t, mode)
			stopped := guest.Target{Node: "pve", VMID: 101}
			if _, err := s.way.Run(t.Context(), stopped, guest.Command{Argv: []string{"true"}}); !errors.Is(err, guest.ErrNotRunning) {
				t.Errorf("stopped: %v", err)
			}
			absent := guest.Target{Node: "pve", VMID: 102}
			want := guest.ErrNoGuest
			if mode == guest.ModeAttach {
				want = guest.ErrNotRunning
			}
			if _, err := s.way.Run(t.Context(), absent, guest.Command{Argv: []string{"true"}}); !errors.Is(err, want) {
				t.Errorf("absent: %v", err)
			}
			files := []guest.File{{Path: "/etc/prox/a", Data: []byte("A\n")}, {Path: "/srv/it's b", Data: []byte{0, 1, 255}, Mode: 0o600}}
			for range 2 {
				if err := guest.WriteFiles(t.Context(), s.way, target, files); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range files {
				if got, err := guest.ReadFile(t.Context(), s.way, target, f.Path, 0); err != nil || string(got) != string(f.Data) {
					t.Errorf("%s: %q %v", f.Path, got, err)
				}
			}
			res, err := s.way.Run(t.Context(), target, guest.Command{Argv: []string{"ls", "/etc/prox", "/var/lib/proximity"}})
			if err != nil || strings.Contains(string(res.Stdout), ".prx-") || strings.Contains(string(res.Stdout), "stage-") {
				t.Errorf("left behind: %s %v", res.Stdout, err)
			}
			if err := guest.RemoveFiles(t.Context(), s.way, target, "/etc/prox/a"); err != nil {
				t.Error(err)
			}
			if _, err := guest.ReadFile(t.Context(), s.way, target, "/etc/prox/a", 0); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("removed: %v", err)
			}
		})
	}
}

// A bridge whose name the network API refuses, from the first byte to the last.
func TestSimulatedInterfaces(t *testing.T) {
	s := newSimulated(t, guest.ModePct)
	ctx := t.Context()
	was, err := s.way.ReadInterfaces(ctx, "pve")
	if err != nil {
		t.Fatal(err)
	}
	with, err := guest.SetBlock(was, lan)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.way.WriteInterfaces(ctx, "pve", was, with); err != nil {
		t.Fatal(err)
	}
	if err := s.way.WriteInterfaces(ctx, "pve", was, with); !errors.Is(err, guest.ErrChanged) {
		t.Errorf("a stale write: %v", err)
	}
	if err := s.way.ReloadNetwork(ctx, "pve"); err != nil {
		t.Fatal(err)
	}
	network, err := s.api.ListNetwork(ctx, "pve")
	if i, ok := network.Find("proximity-lan"); err != nil || !ok || !bool(i.Active) {
		t.Errorf("%+v %v", network, err)
	}
	// Somebody makes another bridge through the API, so the file is written anew.
	if err := s.api.CreateNetwork(ctx, "pve", proxmox.InterfaceSpec{Iface: "vmbr7", Type: "bridge", Autostart: true}); err != nil {
		t.Fatal(err)
	}
	s.wait(t)(s.api.ReloadNetwork(ctx, "pve"))
	rewritten, err := s.way.ReadInterfaces(ctx, "pve")
	if err != nil || !guest.HasBlock(rewritten, lan.Mark) {
		t.Fatalf("the block is not known again: %v\n%s", err, rewritten)
	}
	if again, err := guest.SetBlock(rewritten, lan); err != nil || string(again) != string(rewritten) {
		t.Errorf("an unchanged block is written again: %v\n%s", err, again)
	}
	if err := s.way.WriteInterfaces(ctx, "pve", rewritten, guest.RemoveBlock(rewritten, lan.Mark)); err != nil {
		t.Fatal(err)
	}
	if err := s.way.ReloadNetwork(ctx, "pve"); err != nil {
		t.Fatal(err)
	}
	network, err = s.api.ListNetwork(ctx, "pve")
	if _, ok := network.Find("proximity-lan"); err != nil || ok {
		t.Errorf("still there: %+v %v", network, err)
	}
	if _, ok := network.Find("vmbr7"); !ok {
		t.Error("somebody else's bridge is gone")
	}
}
