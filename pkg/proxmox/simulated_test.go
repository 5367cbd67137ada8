package proxmox_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

const templateFile = "debian-12-proximity_1.0-1_amd64.tar.zst"

// startNode serves a simulated node on the loopback and returns a client for it, by token
// or as root@pam.
func startNode(t *testing.T, asRoot bool) (*pvesim.Node, *proxmox.Client) {
	t.Helper()
	dir := t.TempDir()
	templates := filepath.Join(dir, "templates")
	if err := os.Mkdir(templates, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(templates, templateFile), []byte("never read"), 0o600); err != nil {
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
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- node.ServeAPI(listener) }()
	creds := node.Credentials()
	cfg := proxmox.Config{
		Endpoints: []string{"https://" + listener.Addr().String()}, Fingerprints: []string{creds.Fingerprint},
		TokenID: creds.TokenID, TokenSecret: creds.TokenSecret,
	}
	if asRoot {
		cfg.TokenID, cfg.TokenSecret, cfg.Username, cfg.Password = "", "", "root@pam", creds.RootPassword
	}
	client, err := proxmox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		if err := node.Close(); err != nil {
			t.Error(err)
		}
		<-served
		_ = engine.Close()
	})
	return node, client
}

// done waits for the end of a task that was just begun.
func done(t *testing.T, c *proxmox.Client) func(proxmox.UPID, error) proxmox.TaskStatus {
	return func(upid proxmox.UPID, err error) proxmox.TaskStatus {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.WaitTask(t.Context(), "pve", upid)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// TestLifeOfAGuest is what a controller does, on the wire.
func TestLifeOfAGuest(t *testing.T) {
	_, c := startNode(t, false)
	ctx, task := t.Context(), done(t, c)
	if v, err := c.Version(ctx); err != nil || !v.AtLeast(9, 0) {
		t.Fatalf("%+v %v", v, err)
	}
	if _, err := c.LXCConfig(ctx, "pve", 200); !proxmox.IsNotExist(err) {
		t.Errorf("before: %v", err)
	}
	spec := proxmox.LXCCreate{
		VMID: 200, Template: "local:vztmpl/" + templateFile, Hostname: "a1", Unprivileged: true,
		RootFS: proxmox.NewVolume("local-lvm", 1), MemoryMiB: 128, Features: proxmox.PropertyString{{Key: "nesting", Value: "1"}},
		NICs: map[int]proxmox.NIC{0: {Name: "eth0", Bridge: "vmbr0", IP: "dhcp"}},
		Tags: []string{"proximity", "prx-1"}, Description: "ours",
	}
	task(c.CreateLXC(ctx, "pve", spec))
	if _, err := c.CreateLXC(ctx, "pve", spec); !proxmox.IsVMIDTaken(err) {
		t.Errorf("second create: %v", err)
	}
	config, err := c.LXCConfig(ctx, "pve", 200)
	if err != nil || config.Description() != "ours" || !slices.Equal(config.Tags(), []string{"proximity", "prx-1"}) {
		t.Fatalf("%+v %v", config, err)
	}
	nic, ok, err := config.NIC(0)
	if !ok || err != nil || nic.HWAddr == "" {
		t.Fatalf("%+v %v", nic, err)
	}
	nic.HWAddr = ""
	if !nic.Equal(spec.NICs[0]) {
		t.Errorf("sent %s, got %s", spec.NICs[0], nic)
	}
	change := proxmox.LXCUpdate{Set: map[string]string{"cores": "2"}, Digest: config.Digest}
	if err := c.UpdateLXC(ctx, "pve", 200, change); err != nil {
		t.Fatal(err)
	}
	if err := c.UpdateLXC(ctx, "pve", 200, change); !proxmox.IsDigestConflict(err) {
		t.Errorf("stale digest: %v", err)
	}
	task(c.StartLXC(ctx, "pve", 200))
	if _, err := c.StartLXC(ctx, "pve", 200); !proxmox.IsAlreadyRunning(err) {
		t.Errorf("second start: %v", err)
	}
	if s, err := c.LXCStatus(ctx, "pve", 200); err != nil || !s.Running() {
		t.Errorf("%+v %v", s, err)
	}
	resources, err := c.ClusterResources(ctx, proxmox.GuestResources)
	if err != nil || len(resources) != 1 || resources[0].VMID != 200 || !slices.Contains(proxmox.SplitTags(resources[0].Tags), "prx-1") {
		t.Errorf("%+v %v", resources, err)
	}
	task(c.StopLXC(ctx, "pve", 200))
	if _, err := c.StopLXC(ctx, "pve", 200); !proxmox.IsNotRunning(err) {
		t.Errorf("second stop: %v", err)
	}
	task(c.DeleteLXC(ctx, "pve", 200, proxmox.LXCDelete{Purge: true}))
	if _, err := c.LXCStatus(ctx, "pve", 200); !proxmox.IsNotExist(err) {
		t.Errorf("after: %v", err)
	}
}

func TestFailedTaskTellsWhy(t *testing.T) {
	_, c := startNode(t, false)
	upid, err := c.CreateLXC(t.Context(), "pve", proxmox.LXCCreate{
		VMID: 200, Template: "local:vztmpl/nope.tar.zst", Unprivileged: true, RootFS: proxmox.NewVolume("local-lvm", 1),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.WaitTask(t.Context(), "pve", upid)
	if err == nil || !strings.Contains(err.Error(), "nope.tar.zst") || proxmox.IsUnknownOutcome(err) {
		t.Errorf("%v", err)
	}
	if _, err := c.LXCConfig(t.Context(), "pve", 200); !proxmox.IsNotExist(err) {
		t.Errorf("a failed create left its guest: %v", err)
	}
}

func TestLifeOfABridge(t *testing.T) {
	_, c := startNode(t, true)
	ctx, task := t.Context(), done(t, c)
	bridge := proxmox.InterfaceSpec{Iface: "proxlan", Type: "bridge", Autostart: true, Comments: "ours"}
	if err := c.CreateNetwork(ctx, "pve", bridge); err != nil {
		t.Fatal(err)
	}
	staged, err := c.ListNetwork(ctx, "pve")
	if err != nil || !strings.Contains(staged.Changes, "+auto proxlan") {
		t.Fatalf("%+v %v", staged, err)
	}
	if err := c.RevertNetwork(ctx, "pve"); err != nil {
		t.Fatal(err)
	}
	if n, err := c.ListNetwork(ctx, "pve"); err != nil || n.Changes != "" {
		t.Errorf("after the revert: %+v %v", n, err)
	}
	if err := c.CreateNetwork(ctx, "pve", bridge); err != nil {
		t.Fatal(err)
	}
	task(c.ReloadNetwork(ctx, "pve"))
	live, err := c.ListNetwork(ctx, "pve")
	i, ok := live.Find("proxlan")
	if err != nil || !ok || live.Changes != "" || proxmox.TrimDescription(i.Comments) != "ours" || !bool(i.Active) {
		t.Errorf("%+v %v", live, err)
	}
	bridge.CIDR, bridge.MTU = "10.20.0.254/24", 1400
	if err := c.UpdateNetwork(ctx, "pve", bridge); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteNetwork(ctx, "pve", "proxlan"); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteNetwork(ctx, "pve", "proxlan"); !proxmox.IsNotExist(err) {
		t.Errorf("second delete: %v", err)
	}
	task(c.ReloadNetwork(ctx, "pve"))
}
