package controllers_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// noticed bounds the repair of what somebody changed outside: a probe interval plus what
// the repair itself takes.
const noticed = 15 * time.Second

// done waits for a task that a human started.
func (w *world) done(upid proxmox.UPID, err error) {
	w.Helper()
	w.must(err)
	_, err = w.admin.WaitTask(w.Context(), nodeName, upid)
	w.must(err)
}

func (w *world) guest(vmid int) *mem.Guest {
	w.Helper()
	g, ok := w.engine.Guest(vmid)
	if !ok {
		w.Fatalf("there is no guest %d", vmid)
	}
	return g
}

func (w *world) update(vmid int, kv ...string) {
	w.Helper()
	u := proxmox.LXCUpdate{Set: map[string]string{}}
	for i := 0; i < len(kv); i += 2 {
		u.Set[kv[i]] = kv[i+1]
	}
	w.must(w.admin.UpdateLXC(w.Context(), nodeName, vmid, u))
}

func TestStoppedGuestIsStarted(t *testing.T) {
	for name, tc := range map[string]struct {
		vmid int
		key  resource.Key
	}{"app": {firstVMID, appKey}, "appliance": {applianceID, applianceKey}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.deployed()
				w.done(w.admin.StopLXC(w.Context(), nodeName, tc.vmid))
				w.within(noticed, "guest runs again", func() bool { return w.guest(tc.vmid).Running() && w.tasks("vzstart", tc.vmid) == 2 })
				w.until("everything ready", w.ready(quickstartKeys...))
				w.mustTell(tc.key, "Start", "StartDone")
			})
		})
	}
}

func TestDestroyedGuestIsMadeAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		vmid int
		key  resource.Key
	}{"app": {firstVMID, appKey}, "appliance": {applianceID, applianceKey}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.deployed()
				before := w.inside(tc.vmid)
				w.done(w.admin.StopLXC(w.Context(), nodeName, tc.vmid))
				w.done(w.admin.DeleteLXC(w.Context(), nodeName, tc.vmid, proxmox.LXCDelete{Purge: true}))
				w.until("guest made again", func() bool { return w.tasks("vzcreate", tc.vmid) == 2 })
				w.until("everything ready", w.ready(quickstartKeys...))
				if now := w.inside(tc.vmid); now != before {
					t.Errorf("the new guest is not as the old one was:\n%s", diffLines(now, before))
				}
				if n := w.tasks("vzcreate", tc.vmid); n != 2 {
					t.Errorf("created %d times", n)
				}
			})
		})
	}
}

// Whoever edits our keys finds them corrected; other keys are theirs.
func TestEditedGuestIsCorrected(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		before, err := w.admin.LXCConfig(w.Context(), nodeName, firstVMID)
		w.must(err)
		nic, _, err := before.NIC(0)
		w.must(err)
		foreign := nic
		foreign.Bridge = "vmbr0"
		w.update(firstVMID, "memory", "333", "net0", foreign.String()+",firewall=1,rate=3", "tags", "theirs", "cpuunits", "77", "hostname", "somebody")
		w.within(noticed, "corrected", func() bool {
			cfg, err := w.admin.LXCConfig(w.Context(), nodeName, firstVMID)
			w.must(err)
			now, _, err := cfg.NIC(0)
			w.must(err)
			return cfg.Value("memory") == before.Value("memory") && now.Bridge == nic.Bridge && cfg.Hostname() == before.Hostname()
		})
		w.until("everything ready", w.ready(quickstartKeys...))
		cfg, err := w.admin.LXCConfig(w.Context(), nodeName, firstVMID)
		w.must(err)
		if got := cfg.Value("cpuunits"); got != "77" {
			t.Errorf("a foreign key was changed: cpuunits %q", got)
		}
		if net := cfg.Value("net0"); !strings.Contains(net, "firewall=1") || !strings.Contains(net, "rate=3") {
			t.Errorf("what others set on the NIC is gone: %s", net)
		}
		if tags := proxmox.JoinTags(cfg.Tags()); !strings.Contains(tags, "theirs") || !strings.Contains(tags, "proximity") || !strings.Contains(tags, "prx-") {
			t.Errorf("tags %q", tags)
		}
		w.mustTell(appKey, "Updated")
		calls := len(w.ledger.all())
		time.Sleep(time.Minute)
		if more := w.ledger.since(calls); len(more) > 0 {
			t.Errorf("still at work: %v", more)
		}
	})
}

// editInterfaces changes the node's file as an administrator at its console does.
func (w *world) editInterfaces(edit func([]byte) []byte) {
	w.Helper()
	host, err := guest.NewOnNode(w.shellOf(0), guest.ModeAttach)
	w.must(err)
	defer host.Close()
	was, err := host.ReadInterfaces(w.Context(), nodeName)
	w.must(err)
	w.must(host.WriteInterfaces(w.Context(), nodeName, was, edit(was)))
	w.must(host.ReloadNetwork(w.Context(), nodeName))
}

func (w *world) hasBridge(name string) bool {
	w.Helper()
	all, err := w.engine.Bridges(w.Context())
	w.must(err)
	for _, b := range all {
		if b == name {
			return true
		}
	}
	return false
}

func TestRemovedBridgeIsWrittenAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		before := w.interfaces()
		w.editInterfaces(func(was []byte) []byte {
			at := bytes.Index(was, []byte("# proximity:begin"))
			return append(bytes.TrimSpace(was[:at]), '\n')
		})
		if w.hasBridge("proximity-lan") {
			t.Fatal("the bridge is still there")
		}
		w.within(noticed, "bridge is back", func() bool { return w.hasBridge("proximity-lan") })
		w.until("everything ready", w.ready(quickstartKeys...))
		if now := strings.TrimSpace(w.interfaces()); now != strings.TrimSpace(before) {
			t.Errorf("the file is not as it was:\n%s", diffLines(now, before))
		}
	})
}

// What the service manager does not repair by itself the daemon does, and says so.
func TestApplianceIsRepaired(t *testing.T) {
	for name, tc := range map[string]struct {
		harm  func(w *world, g *mem.Guest)
		event string
	}{
		"rules flushed": {func(w *world, g *mem.Guest) { w.sim.FlushRules(g) }, "Repaired"},
		"vhosts deleted": {func(w *world, g *mem.Guest) {
			_, err := w.engine.Exec(w.Context(), applianceID, engine.Command{Argv: []string{"rm", appliance.VhostsPath}, Stdout: io.Discard, Stderr: io.Discard})
			w.must(err)
		}, "Repaired"},
		"dnsmasq killed": {func(w *world, g *mem.Guest) { g.KillUnit(appliance.UnitDNSMasq) }, "ServiceRestarted"},
		"caddy killed":   {func(w *world, g *mem.Guest) { g.KillUnit(appliance.UnitCaddy) }, "ServiceRestarted"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.deployed()
				time.Sleep(noticed) // a first look, to compare with
				tc.harm(w, w.guest(applianceID))
				w.within(noticed, "told", func() bool { return w.told(applianceKey, tc.event) })
				w.within(noticed, "everything ready", w.ready(quickstartKeys...))
			})
		})
	}
}

func TestStateOfAnApp(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		set := func(state string) {
			a := resource.Clone(w.app("nginx-01"))
			a.Spec.State = proto.String(state)
			_, err := w.applier.Update(w.Context(), a)
			w.must(err)
		}
		set("Stopped")
		w.within(noticed, "stopped", func() bool {
			return !w.guest(firstVMID).Running() && w.app("nginx-01").GetStatus().GetState() == "Stopped"
		})
		w.until("ready as it is stopped", w.ready(appKey))
		if cfg := w.config(firstVMID); strings.Contains(cfg, "onboot: 1") {
			t.Errorf("a stopped App would start with the node:\n%s", cfg)
		}
		address := w.app("nginx-01").GetStatus().GetAddress()
		time.Sleep(time.Minute)
		if w.guest(firstVMID).Running() {
			t.Error("it was started by somebody")
		}
		set("Running")
		w.within(noticed, "running", func() bool { return w.guest(firstVMID).Running() })
		w.until("everything ready", w.ready(quickstartKeys...))
		if now := w.app("nginx-01").GetStatus().GetAddress(); now != address {
			t.Errorf("address %s, was %s", now, address)
		}
		w.mustTell(appKey, "Shutdown", "ShutdownDone")
	})
}
