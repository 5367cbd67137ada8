package controllers_test

import (
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim/access"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// takeRights takes the daemon's rights below a path away and returns what gives them back.
func (w *world) takeRights(below string) (giveBack func()) {
	w.Helper()
	store := w.node.Access()
	var had []access.ACL
	for _, a := range store.ACLs() {
		if strings.HasPrefix(a.Subject, "proximity@pve") && strings.HasPrefix(a.Path, below) {
			had = append(had, a)
		}
	}
	if len(had) == 0 {
		w.Fatal("the daemon has no rights")
	}
	w.must(store.SetACLs(had, true))
	return func() { w.Helper(); w.must(store.SetACLs(had, false)) }
}

// A token that suddenly sees nothing is no reason to make or lose anything: neither for what
// is there, nor for an App that is new. What to grant is in the conditions.
func TestTokenThatSeesNothing(t *testing.T) {
	for _, below := range []string{"/", "/vms"} {
		t.Run(below, func(t *testing.T) { inWorld(t, func(w *world) { w.withoutRights(below) }) })
	}
}

func (w *world) withoutRights(below string) {
	t := w.T
	w.deployed()
	before := w.traces()
	giveBack := w.takeRights(below)
	w.ledger.reset(nil)
	w.until("the App says so", w.stalled(appKey, "Forbidden"))
	w.until("the appliance says so", w.stalled(applianceKey, "Forbidden"))
	w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: late}\n")
	if below == "/vms" {
		w.until("the new App says so", w.stalled(appKeyOf("late"), "GuestsNotVisible"))
	}
	time.Sleep(10 * time.Minute)
	for _, c := range w.ledger.all() {
		if strings.HasPrefix(c.what, "api ") {
			t.Errorf("done: %s", c.what)
		}
	}
	if now := w.traces(); now != before {
		t.Errorf("changed:\n%s", diffLines(now, before))
	}
	giveBack()
	w.until("ready again", w.ready(append(quickstartKeys, appKeyOf("late"))...))
	for _, vmid := range []int{applianceID, firstVMID} {
		if n := w.tasks("vzcreate", vmid); n != 1 {
			t.Errorf("guest %d was created %d times", vmid, n)
		}
	}
}

// The same with the database lost: an empty list of guests says nothing.
func TestTokenThatSeesNothingAndALostDatabase(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		before := w.traces()
		w.loseDatabase()
		giveBack := w.takeRights("/")
		w.start()
		w.apply(w.quickstart())
		time.Sleep(10 * time.Minute)
		for _, c := range w.ledger.all() {
			if strings.HasPrefix(c.what, "api ") {
				t.Errorf("done: %s", c.what)
			}
		}
		if now := w.traces(); now != before {
			t.Errorf("changed:\n%s", diffLines(now, before))
		}
		giveBack()
		w.until("then it is told", w.stalled(bridgeKey, "UIDUnknown"))
		w.rebuild("real", false, "Succeeded")
		w.until("ready", w.ready(quickstartKeys...))
	})
}

// What the Proxmox UI makes of a guest of ours: a clone of a snapshot, a backup restored
// beside it. Both have its tags and its description, and the backup its MAC addresses. They
// are told and left alone; when the object goes, they stay.
func TestCloneAndRestore(t *testing.T) {
	for key, vmid := range map[resource.Key]int{appKey: firstVMID, applianceKey: applianceID} {
		t.Run(key.Kind, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.deployed()
				w.done(w.admin.CreateSnapshot(w.Context(), nodeName, vmid, "before", ""))
				w.done(w.admin.CloneLXC(w.Context(), nodeName, vmid, proxmox.LXCClone{NewID: 300, Snapshot: "before", Full: true}))
				w.done(w.admin.Vzdump(w.Context(), nodeName, proxmox.Vzdump{VMIDs: []int{vmid}, Storage: "local", Mode: "snapshot", Compress: "zstd"}))
				backups, err := w.admin.Backups(w.Context(), nodeName, "local", vmid)
				w.must(err)
				if len(backups) != 1 {
					t.Fatalf("backups %v", backups)
				}
				w.done(w.admin.RestoreLXC(w.Context(), nodeName, proxmox.LXCRestore{VMID: 301, Backup: string(backups[0].Volid), Storage: "local-lvm", Unprivileged: true}))
				clone, restored := w.untouched(300), w.untouched(301)
				w.until("told", w.has(key, "Unique", "False", "CopyFound"))
				w.until("ready", w.ready(quickstartKeys...))
				time.Sleep(time.Minute)
				clone()
				restored()
				if n := w.tasks("vzcreate", vmid); n != 1 {
					t.Errorf("created %d times", n)
				}
				w.done(w.admin.DeleteSnapshot(w.Context(), nodeName, vmid, "before", false))
				w.remove(vhostKey, appKey)
				if key == applianceKey {
					w.remove(applianceKey)
				}
				w.until("gone", w.gone(key))
				clone()
				restored()
			})
		})
	}
}

// An App that waits for its address because its appliance is stalled says so, with what the
// appliance waits for.
func TestAppNamesItsStalledAppliance(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.done(w.admin.CreateSnapshot(w.Context(), nodeName, applianceID, "before", ""))
		w.done(w.admin.CloneLXC(w.Context(), nodeName, applianceID, proxmox.LXCClone{NewID: 702, Snapshot: "before", Full: true}))
		w.done(w.admin.DeleteLXC(w.Context(), nodeName, applianceID, proxmox.LXCDelete{Purge: true, Force: true}))
		w.until("the appliance says so", w.stalled(applianceKey, "UIDElsewhere"))
		w.done(w.admin.StopLXC(w.Context(), nodeName, firstVMID))
		w.done(w.admin.StartLXC(w.Context(), nodeName, firstVMID))
		w.until("the App says so", w.has(appKey, "NetworkReady", "False", "NoAddress"))
		if got := w.message(appKey, "NetworkReady"); !strings.Contains(got, "guest 702 carries the tag") {
			t.Errorf("it does not say why the appliance is not ready: %s", got)
		}
	})
}
