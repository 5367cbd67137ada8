package pvesim

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/guest"
	guestssh "github.com/proximity-pve/proximity/pkg/guest/ssh"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// clients is a node with the clients that the daemon uses on a real one.
type clients struct {
	*rig
	api *proxmox.Client
	ssh *guestssh.Client
}

func newClients(t *testing.T) *clients {
	t.Helper()
	c := &clients{rig: newRig(t, nil)}
	c.check(c.node.Boot(t.Context()))
	creds := c.node.Credentials()
	var err error
	c.api, err = proxmox.New(proxmox.Config{
		Endpoints: []string{strings.TrimSuffix(c.base, "/api2/json")}, TokenID: creds.TokenID, TokenSecret: creds.TokenSecret, Fingerprints: []string{creds.Fingerprint},
	})
	c.check(err)
	t.Cleanup(c.api.Close)
	key, err := os.ReadFile(creds.SSHPrivateKeyPath)
	c.check(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	c.check(err)
	go func() { _ = c.node.ServeSSH(l) }() // Close of the node ends it
	c.ssh, err = guestssh.New(guestssh.Config{
		Address: func(string) string { return l.Addr().String() }, User: creds.SSHUser, PrivateKey: key, HostKeys: []string{creds.SSHHostKey},
	})
	c.check(err)
	t.Cleanup(func() { _ = c.ssh.Close() })
	return c
}

func (c *clients) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// finish waits for a task that must end well.
func (c *clients) finish(upid proxmox.UPID, err error) {
	c.t.Helper()
	c.check(err)
	_, err = c.api.WaitTask(c.t.Context(), "pve", upid)
	c.check(err)
}

func (c *clients) appliance() {
	c.t.Helper()
	c.finish(c.api.CreateLXC(c.t.Context(), "pve", proxmox.LXCCreate{
		VMID: 9999, Template: "local:vztmpl/" + testTemplate, Hostname: "appliance", Unprivileged: true,
		MemoryMiB: 512, Cores: 2, Tags: []string{"proximity"}, Description: "mark: 1",
		Extra: map[string]string{"rootfs": "local-lvm:4", "net0": "name=eth0,bridge=vmbr0,ip=dhcp", "features": "nesting=1"},
	}))
	c.finish(c.api.StartLXC(c.t.Context(), "pve", 9999))
}

func TestAPIClient(t *testing.T) {
	c := newClients(t)
	ctx := t.Context()
	c.check(c.api.CreateNetwork(ctx, "pve", proxmox.InterfaceSpec{Iface: "proxlan", Type: "bridge", Autostart: true, Comments: "ours"}))
	c.finish(c.api.ReloadNetwork(ctx, "pve"))
	c.appliance()
	st, err := c.api.LXCStatus(ctx, "pve", 9999)
	c.check(err)
	if st.Name != "appliance" || st.Status != "running" {
		t.Errorf("status %+v", st)
	}
	ifs, err := c.api.LXCInterfaces(ctx, "pve", 9999)
	c.check(err)
	if len(ifs) != 2 {
		t.Errorf("interfaces %+v", ifs)
	}
	cfg, err := c.api.LXCConfig(ctx, "pve", 9999)
	c.check(err)
	c.check(c.api.UpdateLXC(ctx, "pve", 9999, proxmox.LXCUpdate{Set: map[string]string{"memory": "256"}, Digest: cfg.Digest}))
	if err := c.api.UpdateLXC(ctx, "pve", 9999, proxmox.LXCUpdate{Set: map[string]string{"memory": "128"}, Digest: cfg.Digest}); err == nil {
		t.Error("a stale digest was accepted")
	}
	res, err := c.api.ClusterResources(ctx, "vm")
	c.check(err)
	if len(res) != 1 || res[0].Tags != "proximity" {
		t.Errorf("resources %+v", res)
	}
	c.finish(c.api.StopLXC(ctx, "pve", 9999))
	c.finish(c.api.DeleteLXC(ctx, "pve", 9999, proxmox.LXCDelete{Purge: true}))
	if len(c.engine.Guests()) != 0 {
		t.Errorf("left: %v", c.engine.Guests())
	}
}

func TestGuestClient(t *testing.T) {
	c := newClients(t)
	c.appliance()
	ctx := t.Context()
	for _, mode := range []guest.Mode{guest.ModePct, guest.ModeAttach} {
		node, err := guest.NewOnNode(c.ssh, mode)
		c.check(err)
		target := guest.Target{Node: "pve", VMID: 9999}
		files := []guest.File{{Path: "/etc/x/" + string(mode), Data: []byte("hello"), Mode: 0o640}}
		c.check(guest.WriteFiles(ctx, node, target, files))
		got, err := guest.ReadFile(ctx, node, target, files[0].Path, 0)
		c.check(err)
		if string(got) != "hello" {
			t.Errorf("read back %q", got)
		}
		out, err := node.Run(ctx, target, guest.Command{Argv: []string{"env"}, Env: map[string]string{"K": "a b"}})
		c.check(err)
		if !strings.Contains(string(out.Stdout), "K=a b\n") {
			t.Errorf("environment %q", out.Stdout)
		}
		if _, err := node.Run(ctx, guest.Target{Node: "pve", VMID: 100}, guest.Command{Argv: []string{"true"}}); err == nil {
			t.Errorf("%s: a command ran in a guest that does not exist", mode)
		}
	}
}

// A bridge whose name the API refuses is written as a marked block, and what the API
// then makes of the file keeps it.
func TestHostClient(t *testing.T) {
	c := newClients(t)
	ctx := t.Context()
	node, err := guest.NewOnNode(c.ssh, guest.ModePct)
	c.check(err)
	was, err := node.ReadInterfaces(ctx, "pve")
	c.check(err)
	now, err := guest.SetBlock(was, guest.Block{Mark: "m1", Iface: "proximity-lan", Method: "manual", Options: []string{"bridge-ports none", "bridge-stp off", "bridge-fd 0"}})
	c.check(err)
	c.check(node.WriteInterfaces(ctx, "pve", was, now))
	if err := node.WriteInterfaces(ctx, "pve", was, now); err == nil {
		t.Error("a stale file was replaced")
	}
	c.check(node.ReloadNetwork(ctx, "pve"))
	network, err := c.api.ListNetwork(ctx, "pve")
	c.check(err)
	if i, ok := network.Find("proximity-lan"); !ok || network.Changes != "" {
		t.Errorf("%+v, changes %q", i, network.Changes)
	}
	c.check(c.api.CreateNetwork(ctx, "pve", proxmox.InterfaceSpec{Iface: "vmbr7", Type: "bridge"}))
	c.finish(c.api.ReloadNetwork(ctx, "pve"))
	again, err := node.ReadInterfaces(ctx, "pve")
	c.check(err)
	if !guest.HasBlock(again, "m1") {
		t.Errorf("the block is lost:\n%s", again)
	}
}
