package controllers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// strangeAppliance makes a guest with two NICs that is not ours, and starts it.
func (w *world) strangeAppliance(vmid int) {
	w.Helper()
	w.done(w.admin.CreateLXC(w.Context(), nodeName, proxmox.LXCCreate{
		VMID: vmid, Template: "local:vztmpl/" + templates[0], Hostname: "router", Unprivileged: true, Description: "somebody's",
		RootFS: proxmox.NewVolume("local-lvm", 4), Cores: 1, MemoryMiB: 256,
		NICs: map[int]proxmox.NIC{0: {Name: "eth0", Bridge: "vmbr0", IP: "dhcp", HWAddr: "BC:24:11:00:00:01"}, 1: {Name: "eth1", Bridge: "vmbr0", HWAddr: "BC:24:11:00:00:02"}},
	}))
	w.done(w.admin.StartLXC(w.Context(), nodeName, vmid))
}

// adopting is the quickstart's Appliance, which adopts a guest.
func (w *world) adopting(vmid int, more string) string {
	w.Helper()
	doc, found := "", false
	for line := range strings.Lines(w.documents("Appliance")) {
		if strings.HasPrefix(strings.TrimSpace(line), "vmid:") {
			continue
		}
		doc += line
		if strings.TrimSpace(line) == "spec:" {
			doc, found = doc+fmt.Sprintf("  vmid: %d\n  adopt: true\n  %s\n", vmid, more), true
		}
	}
	if !found {
		w.Fatalf("the quickstart's Appliance is written otherwise:\n%s", doc)
	}
	return doc
}

// An Appliance that adopts looks first, says what would be done to the guest and in it, and
// keeps its hands off for as long as nobody confirms. Then it is one like any other, with the
// MAC addresses that the guest had; when it goes, the guest stays.
func TestAdoptAppliance(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.apply(w.documents("Bridge"))
		w.until("bridge ready", w.ready(bridgeKey))
		w.strangeAppliance(300)
		check := w.untouched(300)
		inside := w.inside(300)
		w.apply(w.adopting(300, "driftPolicy: correct"))
		w.until("it says what would be done", w.stalled(applianceKey, "ReadOnly"))
		m := w.message(applianceKey, "Stalled")
		for _, want := range []string{"mark guest 300 (router) on node pve", "hostname", "net1", "install", "start DHCP, DNS, proxy and NAT"} {
			if !strings.Contains(m, want) {
				t.Errorf("%q is not in %q", want, m)
			}
		}
		time.Sleep(5 * time.Minute)
		check()
		if now := w.inside(300); now != inside {
			t.Errorf("changed inside:\n%s", diffLines(now, inside))
		}
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.ReadOnly = proto.Bool(false) })
		w.until("ready", w.ready(applianceKey))
		for n, mac := range []string{"BC:24:11:00:00:01", "BC:24:11:00:00:02"} {
			if got := w.setting(300, fmt.Sprint("net", n)); !strings.Contains(got, mac) {
				t.Errorf("the MAC address %s was changed: %s", mac, got)
			}
		}
		if got := w.setting(300, "description"); !strings.Contains(got, "somebody's") || !strings.Contains(got, "kind: Appliance") {
			t.Errorf("description %q", got)
		}
		w.mustTell(applianceKey, "Adopted")
		w.apply(w.documents("App", "Vhost"))
		w.until("serves", w.ready(appKey, vhostKey))
		for _, c := range w.ledger.all() {
			if strings.HasPrefix(c.what, "api POST /nodes/pve/lxc 300") || strings.HasPrefix(c.what, "api DELETE /nodes/pve/lxc/300") {
				t.Errorf("done: %s", c.what)
			}
		}
		w.remove(vhostKey, appKey, applianceKey)
		w.until("gone", w.gone(applianceKey))
		if !w.guest(300).Running() {
			t.Error("the guest was stopped")
		}
	})
}

// What may not be adopted: nothing, and another installation's. A guest that was adopted and
// is gone is not made anew.
func TestAdoptApplianceRefuses(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.apply(w.documents("Bridge"))
		w.until("bridge ready", w.ready(bridgeKey))
		w.apply(w.adopting(300, "readOnly: false"))
		w.until("nothing there", w.stalled(applianceKey, "GuestToAdoptMissing"))
		w.strangeAppliance(300)
		w.until("adopted", w.ready(applianceKey))
		w.destroy(300)
		w.until("nothing there any more", w.stalled(applianceKey, "GuestToAdoptMissing"))
		time.Sleep(5 * time.Minute)
		if n := w.creates("300"); n != 0 {
			t.Errorf("made %d times", n)
		}
	})
}

// Under readOnly an Appliance that was made by us is looked at and nothing of it is changed:
// neither the guest, nor what is inside; what would be is told. It goes on serving.
func TestReadOnlyAppliance(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.settle()
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.ReadOnly = proto.Bool(true) })
		time.Sleep(time.Minute)
		if !w.ready(quickstartKeys...)() {
			t.Errorf("not ready, though nothing is to be done:\n%s", w.objects())
		}
		calls := len(w.ledger.all())
		w.sim.FlushRules(w.guest(applianceID))
		w.until("the inside is told", w.stalled(applianceKey, "ReadOnly"))
		if m := w.message(applianceKey, "Stalled"); !strings.Contains(m, "bring the configuration up to date") {
			t.Errorf("message %q", m)
		}
		w.update(applianceID, "memory", "333")
		w.until("the guest is told", func() bool { return strings.Contains(w.message(applianceKey, "Stalled"), "memory") })
		w.done(w.admin.StopLXC(w.Context(), nodeName, applianceID))
		w.until("that it is stopped is told", func() bool { return strings.Contains(w.message(applianceKey, "Stalled"), "start guest 9999") })
		time.Sleep(10 * time.Minute)
		for _, c := range w.ledger.since(calls) {
			if strings.Contains(c.what, "9999") && !strings.Contains(c.what, "agent observe") {
				t.Errorf("done: %s", c.what)
			}
		}
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.ReadOnly = nil })
		w.until("all is put right", w.ready(quickstartKeys...))
		if got := w.setting(applianceID, "memory"); got == "333" {
			t.Error("memory was not set")
		}
	})
}

// protection, set by hand, keeps a guest from being destroyed; suspend keeps everything from it.
func TestProtectedAndSuspendedAppliance(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.settle()
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.Suspend = proto.Bool(true) })
		w.until("suspended", w.has(applianceKey, "Ready", "Unknown", "Suspended"))
		calls := len(w.ledger.all())
		w.done(w.admin.StopLXC(w.Context(), nodeName, applianceID))
		time.Sleep(5 * time.Minute)
		for _, c := range w.ledger.since(calls) {
			if strings.Contains(c.what, "9999") {
				t.Errorf("done: %s", c.what)
			}
		}
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.Suspend = nil })
		w.until("ready", w.ready(quickstartKeys...))
		w.update(applianceID, "protection", "1")
		w.remove(vhostKey, appKey, applianceKey)
		w.until("told", w.stalled(applianceKey, "Protected"))
		time.Sleep(time.Minute)
		if !w.guest(applianceID).Running() {
			t.Error("the protected guest was stopped")
		}
		w.update(applianceID, "protection", "0")
		w.until("gone", w.gone(applianceKey))
	})
}

// A guest with less isolation than ours have is looked at, which says so, and is taken over only
// where the spec says that it may be weaker, for which the API asks for a verb of its own.
func TestAdoptWeakerGuest(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.stranger(300)
		w.update(300, "features", "nesting=1,keyctl=1")
		check := w.untouched(300)
		key := appKeyOf("mine")
		w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: mine}\nspec: {vmid: 300, adopt: true}\n")
		w.until("it says what would be done", w.stalled(key, "ReadOnly"))
		if m := w.message(key, "Stalled"); !strings.Contains(m, "takes spec.adoptWeaker") || !strings.Contains(m, "keyctl") {
			t.Errorf("message %q", m)
		}
		w.edit(key, func(s *v1alpha1.AppSpec) { s.ReadOnly = proto.Bool(false) })
		w.until("refused", w.stalled(key, "GuestToAdoptWeaker"))
		time.Sleep(5 * time.Minute)
		check()
		w.edit(key, func(s *v1alpha1.AppSpec) { s.AdoptWeaker = proto.Bool(true) })
		w.until("adopted", w.ready(key))
		if got := w.setting(300, "features"); !strings.Contains(got, "keyctl=1") {
			t.Errorf("features %q", got)
		}
	})
}
