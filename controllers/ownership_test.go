package controllers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// untouched makes sure that a guest stays what it is, up to the end of the story.
func (w *world) untouched(vmid int) (check func()) {
	w.Helper()
	config, running := w.config(vmid), w.guest(vmid).Running()
	return func() {
		w.Helper()
		if now := w.config(vmid); now != config || w.guest(vmid).Running() != running {
			w.Errorf("guest %d was touched:\n%s", vmid, diffLines(now, config))
		}
		for _, c := range w.ledger.all() {
			if strings.Contains(c.what, fmt.Sprintf("/lxc/%d", vmid)) || strings.Contains(c.what, fmt.Sprintf("guest %d:", vmid)) {
				w.Errorf("guest %d: %s", vmid, c.what)
			}
		}
	}
}

// appYAML is an App on a VMID.
func appYAML(name string, vmid int) string {
	return fmt.Sprintf("---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec: {vmid: %d}\n", name, vmid)
}

// A guest on a wanted VMID that is not ours is told, never touched, and no reason not to
// delete the object; when it is gone, the VMID is taken.
func TestForeignGuestOnTheWantedVMID(t *testing.T) {
	for name, tc := range map[string]struct {
		description string
		reason      string
	}{
		"nobody's":             {"a precious guest", "VMIDTaken"},
		"another installation": {ownership.Mark{Installation: "installation-2", Kind: "App", Namespace: "default", Name: "wanted", UID: "u", VMID: 300}.Describe(""), "VMIDTaken"},
		"another object":       {ownership.Mark{Installation: installation, Kind: "App", Namespace: "default", Name: "lost", UID: "u", VMID: 300}.Describe(""), "VMIDTaken"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.stranger(300)
				w.update(300, "description", tc.description)
				check := w.untouched(300)
				w.start()
				w.apply(w.quickstart() + appYAML("wanted", 300))
				wanted := resource.Key{Kind: "App", Namespace: "default", Name: "wanted"}
				w.until("stalled", w.stalled(wanted, tc.reason))
				w.until("the others ready", w.ready(quickstartKeys...))
				time.Sleep(time.Minute)
				check()
				w.done(w.admin.DeleteLXC(w.Context(), nodeName, 300, proxmox.LXCDelete{}))
				w.within(noticed, "the VMID is free now", w.ready(wanted))

				w.stranger(301)
				check = w.untouched(301)
				w.apply(appYAML("other", 301))
				other := resource.Key{Kind: "App", Namespace: "default", Name: "other"}
				w.until("stalled", w.stalled(other, "VMIDTaken"))
				w.remove(other)
				w.until("deleted", w.gone(other))
				check()
			})
		})
	}
}

// A clone has the description of its original, but not its VMID.
func TestCopyOfOurGuest(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		cfg, err := w.admin.LXCConfig(w.Context(), nodeName, firstVMID)
		w.must(err)
		// On a VMID that no object has, it is nobody's business.
		w.stranger(300)
		w.update(300, "description", cfg.Description())
		check := w.untouched(300)
		time.Sleep(time.Minute)
		check()
		w.until("the others ready", w.ready(quickstartKeys...))

		// In the original's place it is not taken for the original.
		w.daemon.stop()
		mark := ownership.FromDescription(cfg.Description())
		mark.VMID = 300
		w.update(firstVMID, "description", mark.Describe(""))
		w.ledger.reset(nil)
		check = w.untouched(firstVMID)
		w.start()
		w.within(noticed, "told", w.stalled(appKey, "VMIDIsCopy"))
		w.remove(appKey)
		w.until("deleted", w.gone(appKey))
		check()
	})
}

// A guest that carries our tag on another VMID keeps a second one from being made.
func TestGuestOfOursElsewhere(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.stranger(300)
		w.update(300, "tags", ownership.UIDTag(w.app("nginx-01").GetMetadata().GetUid()))
		w.until("still ready", w.ready(quickstartKeys...))
		w.done(w.admin.StopLXC(w.Context(), nodeName, firstVMID))
		w.done(w.admin.DeleteLXC(w.Context(), nodeName, firstVMID, proxmox.LXCDelete{}))
		check := w.untouched(300)
		w.until("told", w.stalled(appKey, "UIDElsewhere"))
		check()
	})
}

func (w *world) staged() string {
	w.Helper()
	net, err := w.admin.ListNetwork(w.Context(), nodeName)
	w.must(err)
	return net.Changes
}

// bridgeYAML is a Bridge with an interface name.
func bridgeYAML(name, iface string) string {
	return fmt.Sprintf(`
apiVersion: proximity/v1alpha1
kind: Bridge
metadata: {name: %s}
spec: {interfaceName: %s, subnet: 10.30.0.0/24}
`, name, iface)
}

// Somebody else's staged changes would go live with ours, or be lost: neither is done,
// whichever way the bridge is written, when it is made and when it is removed.
func TestForeignPendingChanges(t *testing.T) {
	for _, iface := range []string{"proxlan", "proximity-lan"} {
		t.Run(iface, func(t *testing.T) {
			inWorld(t, func(w *world) {
				key := resource.Key{Kind: "Bridge", Name: "lan"}
				stage := func(name string) {
					w.must(w.admin.CreateNetwork(w.Context(), nodeName, proxmox.InterfaceSpec{Iface: name, Type: "bridge", Comments: "somebody's"}))
				}
				stage("vmbr7")
				pending, live := w.staged(), w.interfaces()
				w.start()
				w.apply(bridgeYAML("lan", iface))
				w.until("stalled", w.stalled(key, "ForeignPendingChanges"))
				time.Sleep(time.Minute)
				if w.staged() != pending || w.interfaces() != live || w.hasBridge("vmbr7") {
					t.Error("the node's network was changed")
				}
				w.done(w.admin.ReloadNetwork(w.Context(), nodeName))
				w.within(noticed, "ready when nothing is pending", w.ready(key))

				stage("vmbr8")
				pending, live = w.staged(), w.interfaces()
				w.remove(key)
				w.until("stalled", w.stalled(key, "ForeignPendingChanges"))
				if w.staged() != pending || w.interfaces() != live {
					t.Error("the node's network was changed")
				}
				w.must(w.admin.RevertNetwork(w.Context(), nodeName))
				w.within(noticed, "deleted when nothing is pending", w.gone(key))
				if w.hasBridge(iface) {
					t.Error("the bridge is left")
				}
			})
		})
	}
}

func TestInterfaceOfSomebodyElse(t *testing.T) {
	inWorld(t, func(w *world) {
		w.strangers()
		before := w.traces()
		w.start()
		w.apply(bridgeYAML("lan", "theirs"))
		key := resource.Key{Kind: "Bridge", Name: "lan"}
		w.until("stalled", w.stalled(key, "InterfaceTaken"))
		w.remove(key)
		w.until("deleted", w.gone(key))
		if now := w.traces(); now != before {
			t.Errorf("changed on the node:\n%s", diffLines(now, before))
		}
	})
}

// Ours was replaced by somebody else's of the same name: that is theirs now.
func TestBridgeThatSomebodyTookOver(t *testing.T) {
	inWorld(t, func(w *world) {
		key := resource.Key{Kind: "Bridge", Name: "lan"}
		w.start()
		w.apply(bridgeYAML("lan", "proxlan"))
		w.until("ready", w.ready(key))
		w.daemon.stop()
		w.must(w.admin.UpdateNetwork(w.Context(), nodeName, proxmox.InterfaceSpec{Iface: "proxlan", Type: "bridge", Autostart: true, Comments: "mine"}))
		w.done(w.admin.ReloadNetwork(w.Context(), nodeName))
		before := w.traces()
		w.start()
		w.until("told", w.stalled(key, "InterfaceTaken"))
		w.remove(key)
		w.until("deleted", w.gone(key))
		if now := w.traces(); now != before {
			t.Errorf("changed on the node:\n%s", diffLines(now, before))
		}
	})
}

// Without a way onto the node a name with a hyphen cannot be written; another can.
func TestWithoutHostAccess(t *testing.T) {
	inWorld(t, func(w *world) {
		w.hostAccess = false
		w.strangers()
		before := w.traces()
		w.start()
		w.apply(bridgeYAML("lan", "proximity-lan") + "---" + bridgeYAML("other", "proxlan"))
		lan, other := resource.Key{Kind: "Bridge", Name: "lan"}, resource.Key{Kind: "Bridge", Name: "other"}
		w.until("stalled", w.stalled(lan, "HostAccessMissing"))
		if c := resource.FindCondition(w.get(lan), "Stalled"); !strings.Contains(c.GetMessage(), "proximityl") {
			t.Errorf("no name is proposed: %s", c.GetMessage())
		}
		w.until("the API-legal one ready", w.ready(other))
		w.remove(lan, other)
		w.until("deleted", w.gone(lan, other))
		if now := w.traces(); now != before {
			t.Errorf("left on the node:\n%s", diffLines(now, before))
		}
	})
}

// Host access that was taken away later leaves what is there in peace, and its deletion
// says what is missing.
func TestHostAccessTakenAway(t *testing.T) {
	inWorld(t, func(w *world) {
		key := resource.Key{Kind: "Bridge", Name: "lan"}
		before := w.traces()
		w.start()
		w.apply(bridgeYAML("lan", "proximity-lan"))
		w.until("ready", w.ready(key))
		w.daemon.stop()
		w.hostAccess = false
		w.start()
		time.Sleep(time.Minute)
		if !w.ready(key)() {
			t.Errorf("not ready any more:\n%s", w.objects())
		}
		w.remove(key)
		w.until("stalled", w.stalled(key, "HostAccessMissing"))
		w.daemon.stop()
		w.hostAccess = true
		w.start()
		w.until("deleted", w.gone(key))
		if now := strings.TrimSpace(w.traces()); now != strings.TrimSpace(before) {
			t.Errorf("left on the node:\n%s", diffLines(now, before))
		}
	})
}

// What was written on a node that is away now is not forgotten with the object.
func TestBridgeOnANodeThatIsAway(t *testing.T) {
	inWorld(t, func(w *world) {
		key := resource.Key{Kind: "Bridge", Name: "lan"}
		w.start()
		w.apply(bridgeYAML("lan", "proxlan"))
		w.until("ready", w.ready(key))
		w.daemon.stop()
		b := resource.Clone(w.get(key)).(*v1alpha1.Bridge)
		b.Status.Nodes = append(b.Status.Nodes, &v1alpha1.BridgeNode{Name: proto.String("pve2"), Ready: proto.Bool(true), Written: proto.Bool(true)})
		_, err := runtime.NewClient(w.store).UpdateStatus(w.Context(), b)
		w.must(err)
		w.start()
		time.Sleep(time.Minute)
		w.remove(key)
		w.until("told", w.has(key, "Ready", "False", "NodeOffline"))
		if w.hasBridge("proxlan") {
			t.Error("it is not removed where that can be done")
		}
		b = resource.Clone(w.get(key)).(*v1alpha1.Bridge)
		b.Spec.DeletionPolicy = proto.String("Orphan")
		_, err = w.applier.Update(w.Context(), b)
		w.must(err)
		w.until("let go of", w.gone(key))
	})
}

// An App that was never made, for want of a template, is deleted all the same.
func TestDeletionOfWhatWasNeverMade(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		before := w.traces()
		w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: never}\nspec: {source: {template: windows-11}}\n")
		key := resource.Key{Kind: "App", Namespace: "default", Name: "never"}
		w.until("stalled", w.stalled(key, "TemplateMissing"))
		w.remove(key)
		w.until("deleted", w.gone(key))
		if now := w.traces(); now != before {
			t.Errorf("left on the node:\n%s", diffLines(now, before))
		}
	})
}

// Protection that a human set in Proxmox holds against a deletion here.
func TestProtectedGuest(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.update(firstVMID, "protection", "1")
		w.remove(appKey)
		w.until("stalled", w.stalled(appKey, "Protected"))
		if m := resource.FindCondition(w.get(appKey), "Stalled").GetMessage(); !strings.Contains(m, fmt.Sprintf("pct set %d --protection 0", firstVMID)) {
			t.Errorf("it does not say what to do: %s", m)
		}
		if !w.guest(firstVMID).Running() {
			t.Error("it was stopped")
		}
		w.update(firstVMID, "protection", "0")
		w.until("deleted", w.gone(appKey))
	})
}
