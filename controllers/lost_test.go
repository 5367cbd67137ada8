package controllers_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// loseDatabase ends the daemon's life and gives the next one an empty database.
func (w *world) loseDatabase() {
	w.Helper()
	w.daemon.stop()
	w.must(w.store.Close())
	w.emptyStore()
	w.ledger.reset(nil)
}

// nothingDone demands that no call that changes something was made.
func (w *world) nothingDone() {
	w.Helper()
	for _, c := range w.ledger.all() {
		w.Errorf("done: %s", c.what)
	}
}

// With the database lost and the manifests applied again nothing is made a second time and
// nothing is touched, however long that stays so: each object says what to do.
func TestLostDatabase(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		before := w.traces()
		w.loseDatabase()
		w.start()
		w.apply(w.quickstart())
		w.until("the bridge says so", w.stalled(bridgeKey, "UIDUnknown"))
		time.Sleep(10 * time.Minute)
		w.nothingDone()
		if now := w.traces(); now != before {
			t.Errorf("changed:\n%s", diffLines(now, before))
		}
		if m := resource.FindCondition(w.get(bridgeKey), "Stalled").GetMessage(); !strings.Contains(m, "proxctl admin rebuild") {
			t.Errorf("it does not say what to do: %s", m)
		}
	})
}

// An App that is new to the database, with a guest of its name that the database does not
// know, does not get a second one; a copy of such a guest, or another installation's,
// keeps nobody from it.
func TestGuestOfALostObject(t *testing.T) {
	mark := ownership.Mark{Installation: installation, Kind: "App", Namespace: "default", Name: "again", UID: "11111111-2222-3333-4444-555555555555", VMID: 300}
	for name, tc := range map[string]struct {
		change func(m *ownership.Mark)
		made   bool
		hidden bool // once, by the node, which says that there is no such guest
	}{
		"of this name":            {func(*ownership.Mark) {}, false, false},
		"of this name, and hides": {func(*ownership.Mark) {}, false, true},
		"of another namespace":    {func(m *ownership.Mark) { m.Namespace = "other" }, true, false},
		"a copy":                  {func(m *ownership.Mark) { m.VMID = 299 }, true, false},
		"another installation":    {func(m *ownership.Mark) { m.Installation = "installation-2" }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				m := mark
				tc.change(&m)
				w.stranger(300)
				w.update(300, "description", "mine\n"+m.Describe(""), "tags", strings.Join(ownership.Tags(nil, m.UID), ";"))
				w.deployed()
				check := w.untouched(300)
				again := appKeyOf("again")
				if tc.hidden {
					w.node.Faults().Add(pvesim.Fault{Method: "GET", Path: "/nodes/*/lxc/300/config", Nth: 1, Status: 500, Text: "Configuration file 'nodes/pve/lxc/300.conf' does not exist"})
				}
				w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: again}\n")
				if tc.made {
					w.until("made", w.ready(again))
					check()
					return
				}
				w.until("stalled", w.stalled(again, "UIDUnknown"))
				time.Sleep(5 * time.Minute)
				check()
				if n := len(w.engine.Guests()); n != 3 {
					t.Errorf("%d guests", n)
				}
				// When the mark is taken off by hand, the guest is nobody's.
				w.update(300, "description", "mine", "tags", "web")
				w.until("made", w.ready(again))
			})
		})
	}
}

// Copies of our guests on other VMIDs change nothing; the object says that they are there.
func TestCopiesAreTold(t *testing.T) {
	for key, vmid := range map[resource.Key]int{appKey: firstVMID, applianceKey: applianceID} {
		t.Run(key.Kind, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.deployed()
				cfg, err := w.admin.LXCConfig(w.Context(), nodeName, vmid)
				w.must(err)
				w.stranger(300)
				w.update(300, "description", cfg.Description(), "tags", strings.Join(cfg.Tags(), ";"))
				check := w.untouched(300)
				w.until("told", w.has(key, "Unique", "False", "CopyFound"))
				if m := w.message(key, "Unique"); !strings.Contains(m, "guest 300") || !strings.Contains(m, "remove its tag prx-") {
					t.Errorf("it does not say what to do: %s", m)
				}
				if !w.ready(key)() {
					t.Error("the original is not ready any more")
				}
				w.mustTell(key, "CopyFound")
				time.Sleep(time.Minute)
				check()
				w.update(300, "tags", "web")
				w.until("told that it has gone", w.has(key, "Unique", "True", "Unique"))
				check = w.untouched(300)
				if key == applianceKey { // its deletion leaves what is not its own
					w.update(300, "tags", strings.Join(cfg.Tags(), ";"))
					check = w.untouched(300)
					w.remove(vhostKey, appKey, applianceKey)
					w.until("gone", w.gone(applianceKey))
				}
				check()
			})
		})
	}
}

// rebuild asks for a rebuild and waits for its end.
func (w *world) rebuild(name string, dry bool, phase string) *v1alpha1.OperationStatus {
	w.Helper()
	key := resource.Key{Kind: "Operation", Namespace: resource.SystemNamespace, Name: name}
	_, err := w.applier.Create(w.Context(), &v1alpha1.Operation{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Operation"),
		Metadata: &v1alpha1.ObjectMeta{Name: key.Name, Namespace: key.Namespace},
		Spec: &v1alpha1.OperationSpec{
			Action: proto.String("Rebuild"), Target: &v1alpha1.ObjectReference{Kind: proto.String("Cluster"), Name: proto.String("default")},
			Arguments: map[string]string{"dryRun": fmt.Sprint(dry)},
		},
	})
	w.must(err)
	w.until("rebuild ended", func() bool { p := w.operation(key).GetPhase(); return p == "Succeeded" || p == "Failed" })
	if st := w.operation(key); st.GetPhase() != phase {
		w.Fatalf("%s: %s\n%s", st.GetPhase(), st.GetMessage(), strings.Join(st.GetLog(), "\n"))
	}
	return w.operation(key)
}

// After a rebuild every object has its uid, VMID, address and MAC address back and goes on
// with the guests that are there. Nothing outside was touched. A second rebuild does nothing.
func TestRebuild(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.apply("---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: second}\n")
		second := appKeyOf("second")
		w.until("ready", w.ready(second))
		// The new database must not give the addresses anew in the order of names.
		w.remove(appKey)
		w.until("gone", w.gone(appKey))
		before, had := w.traces(), w.app("second")
		w.loseDatabase()
		w.start()
		w.apply(w.withoutApp() + "---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: second}\n")
		w.until("stalled", w.stalled(bridgeKey, "UIDUnknown"))
		foreign := w.get(applianceKey).GetMetadata().GetUid()
		st := w.rebuild("dry", true, "Succeeded")
		if st.GetResult()["taken"] != "3" || st.GetResult()["refused"] != "0" || w.get(applianceKey).GetMetadata().GetUid() != foreign {
			t.Errorf("dry run: %v\n%s", st.GetResult(), strings.Join(st.GetLog(), "\n"))
		}
		w.owned("owned", second)
		st = w.rebuild("real", false, "Succeeded")
		if st.GetResult()["taken"] != "3" {
			t.Errorf("rebuild: %v\n%s", st.GetResult(), strings.Join(st.GetLog(), "\n"))
		}
		w.until("ready", w.ready(bridgeKey, applianceKey, second))
		now := w.app("second")
		if now.GetMetadata().GetUid() != had.GetMetadata().GetUid() || now.GetStatus().GetVmid() != had.GetStatus().GetVmid() ||
			now.GetStatus().GetAddress() != had.GetStatus().GetAddress() || now.GetStatus().GetMac() != had.GetStatus().GetMac() {
			t.Errorf("status %v, had %v", now.GetStatus(), had.GetStatus())
		}
		if got := w.traces(); got != before {
			t.Errorf("changed on the node:\n%s", diffLines(got, before))
		}
		for _, c := range w.ledger.all() {
			if strings.HasPrefix(c.what, "api ") || strings.HasPrefix(c.what, "host") {
				t.Errorf("done: %s", c.what)
			}
		}
		if w.get(resource.Key{Kind: "App", Namespace: "default", Name: "owned"}) == nil {
			t.Error("what it owns was collected")
		}
		if st = w.rebuild("again", false, "Succeeded"); st.GetResult()["taken"] != "0" {
			t.Errorf("a second rebuild: %v\n%s", st.GetResult(), strings.Join(st.GetLog(), "\n"))
		}
	})
}

// owned makes a suspended App that another object owns.
func (w *world) owned(name string, owner resource.Key) {
	w.Helper()
	o := w.get(owner)
	_, err := w.applier.Create(w.Context(), &v1alpha1.App{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: owner.Namespace, OwnerReferences: []*v1alpha1.OwnerReference{
			{ApiVersion: resource.APIVersion, Kind: owner.Kind, Name: owner.Name, Uid: o.GetMetadata().GetUid()},
		}},
		Spec: &v1alpha1.AppSpec{Suspend: proto.Bool(true)},
	})
	w.must(err)
}

// withoutApp is the quickstart's Bridge and Appliance.
func (w *world) withoutApp() string {
	var kept []string
	for _, doc := range strings.Split(w.quickstart(), "\n---\n") {
		if strings.Contains(doc, "kind: Bridge") || strings.Contains(doc, "kind: Appliance") {
			kept = append(kept, doc)
		}
	}
	return strings.Join(kept, "\n---\n") + "\n"
}

// Two guests with one mark are refused by name, and the rest is taken back.
func TestRebuildRefusesWhatIsNotClear(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		mark := ownership.Mark{Installation: installation, Kind: "App", Namespace: "default", Name: "nginx-01", UID: "11111111-2222-3333-4444-555555555555", VMID: 300}
		w.stranger(300)
		w.update(300, "description", mark.Describe(""))
		cfg, err := w.admin.LXCConfig(w.Context(), nodeName, firstVMID)
		w.must(err)
		w.stranger(301) // a copy
		w.update(301, "description", cfg.Description())
		w.loseDatabase()
		w.start()
		w.apply(w.quickstart())
		w.until("stalled", w.stalled(bridgeKey, "UIDUnknown"))
		st := w.rebuild("real", false, "Failed")
		log := strings.Join(st.GetLog(), "\n")
		for _, want := range []string{"refused: App default/nginx-01", "guest 300 on node pve", fmt.Sprintf("guest %d on node pve", firstVMID), "guest 301 on node pve is a copy"} {
			if !strings.Contains(log, want) {
				t.Errorf("%q is not in\n%s", want, log)
			}
		}
		w.until("the others are ready", w.ready(bridgeKey, applianceKey))
		w.until("the App says so", w.stalled(appKey, "UIDUnknown"))
		copied := w.untouched(301)
		w.done(w.admin.DeleteLXC(w.Context(), nodeName, 300, proxmox.LXCDelete{}))
		w.rebuild("second", false, "Succeeded")
		w.until("ready", w.ready(quickstartKeys...))
		copied()
		if n := w.tasks("vzcreate", firstVMID); n != 1 {
			t.Errorf("created %d times", n)
		}
	})
}

// A guest that no object stands for any more keeps its address while it runs: no App gets it.
func TestAddressOfAnOrphan(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.edit(appKey, func(s *v1alpha1.AppSpec) { s.DeletionPolicy = proto.String("Orphan") })
		had := w.app("nginx-01").GetStatus().GetAddress()
		w.remove(appKey)
		w.until("gone", w.gone(appKey))
		w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: another}\nspec: {packages: [nginx], ports: [{name: http, port: 80}]}\n")
		w.until("ready", w.ready(appKeyOf("another")))
		if got := w.app("another").GetStatus().GetAddress(); got == had || !w.guest(firstVMID).Running() {
			t.Errorf("it got %s, which guest %d has", got, firstVMID)
		}
	})
}

// A guest that was left behind and lost its marks, too, is found by nobody who looks for them:
// where an App gets its address, the App says whose it is.
func TestAddressThatAnotherMachineHas(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.edit(appKey, func(s *v1alpha1.AppSpec) { s.DeletionPolicy = proto.String("Orphan") })
		had, mac := w.app("nginx-01").GetStatus().GetAddress(), w.app("nginx-01").GetStatus().GetMac()
		w.remove(appKey)
		w.until("gone", w.gone(appKey))
		w.update(firstVMID, "tags", "mine", "description", "mine")
		w.guest(firstVMID).KillUnit("nginx")
		w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: another}\nspec: {packages: [nginx], ports: [{name: http, port: 80}]}\n")
		another := appKeyOf("another")
		w.until("told", w.has(another, "Healthy", "False", "AddressConflict"))
		if got := w.message(another, "Healthy"); !strings.Contains(got, mac) || !strings.Contains(got, had) {
			t.Errorf("it names neither %s nor %s: %s", mac, had, got)
		}
		w.done(w.admin.StopLXC(w.Context(), nodeName, firstVMID))
		w.until("ready", w.ready(another))
	})
}

// A Bridge that is new to the database, with interfaces of its name on some of the nodes
// only, is begun on none: a rebuild takes them back.
func TestBridgeOfALostDatabaseOnSomeNodes(t *testing.T) {
	inCluster(t, 2, func(w *world) {
		w.deployed()
		w.daemon.stop()
		w.editInterfaces(func(was []byte) []byte {
			return append(bytes.TrimSpace(was[:bytes.Index(was, []byte("# proximity:begin"))]), '\n')
		})
		w.start()
		w.loseDatabase()
		w.start()
		w.apply(w.quickstart())
		w.until("the bridge says so", w.stalled(bridgeKey, "UIDUnknown"))
		w.until("and so does what is on it", w.has(vhostKey, "Ready", "False", "ApplianceNotReady"))
		time.Sleep(time.Minute)
		if strings.Contains(w.interfaces(), "proximity:begin") {
			t.Error("it was written on the first node")
		}
		w.rebuild("real", false, "Succeeded")
		w.until("ready", w.ready(quickstartKeys...))
	})
}
