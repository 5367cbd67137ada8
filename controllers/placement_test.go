package controllers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const gib = int64(1) << 30

// placedApp is an App that asks for room.
func placedApp(name, memory, placement string) string {
	return fmt.Sprintf("---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec: {resources: {memory: %s}, placement: %s}\n", name, memory, placement)
}

func (w *world) placementOf(key resource.Key) *v1alpha1.PlacementStatus {
	w.Helper()
	switch o := w.get(key).(type) {
	case *v1alpha1.App:
		return o.GetStatus().GetPlacement()
	case *v1alpha1.Appliance:
		return o.GetStatus().GetPlacement()
	}
	w.Fatalf("%s has no placement", key)
	return nil
}

// message is that of a condition.
func (w *world) message(key resource.Key, condition string) string {
	return resource.FindCondition(w.get(key), condition).GetMessage()
}

// creates counts the requests that make a guest.
func (w *world) creates(vmid string) (n int) {
	for _, c := range w.ledger.all() {
		if strings.HasSuffix(c.what, "/lxc "+vmid) {
			n++
		}
	}
	return n
}

// The appliance comes to the node with the most memory, its Apps after it, and each says why,
// and why not the others. What was chosen stays when the others are better later.
func TestPlacedWhereThereIsMemory(t *testing.T) {
	inCluster(t, 4, func(w *world) {
		w.node.SetMemory(16*gib, 14*gib)
		w.peers[1].node.SetMaintenance(true)
		w.peers[2].node.SetOnline(false)
		w.deployed()
		p := w.placementOf(applianceKey)
		if p.GetNode() != "pve2" || !strings.Contains(p.GetReason(), "most free memory (14.0 GiB) of the 2 nodes that fit") {
			t.Errorf("the appliance: %v", p)
		}
		for node, why := range map[string]string{"pve": "less free memory (2.0 GiB)", "pve3": "in maintenance", "pve4": "offline"} {
			for _, o := range p.GetOthers() {
				if o.GetNode() == node && !strings.Contains(o.GetReason(), why) {
					t.Errorf("%s: %s, want %s", node, o.GetReason(), why)
				}
			}
		}
		if len(p.GetOthers()) != 3 {
			t.Errorf("others: %v", p.GetOthers())
		}
		app := w.placementOf(appKey)
		if app.GetNode() != "pve2" || !strings.Contains(fmt.Sprint(app.GetOthers()), "leads to no other") {
			t.Errorf("the App: %v", app)
		}
		w.mustTell(appKey, "Placed")
		w.mustTell(applianceKey, "Placed")
		w.node.SetMemory(64*gib, gib)
		w.peers[1].node.SetMaintenance(false)
		w.peers[2].node.SetOnline(true)
		w.restart()
		time.Sleep(time.Minute)
		w.until("as before", w.ready(quickstartKeys...))
		w.followed(firstVMID, "pve2")
		w.followed(applianceID, "pve2")
	})
}

// Two that come at once do not both get the last memory, and who got none gets it when it is
// free, also across a restart.
func TestLastMemoryIsGivenOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.node.SetMemory(16*gib, 2*gib)
		w.apply(placedApp("a", "8Gi", "{}") + placedApp("b", "8Gi", "{strategy: spread}"))
		a, b := appKeyOf("a"), appKeyOf("b")
		first, second := a, b
		w.until("one is there", func() bool {
			if w.ready(b)() {
				first, second = b, a
			}
			return w.ready(first)()
		})
		w.until("the other waits", w.has(second, "Ready", "False", "MemoryShort"))
		if text := w.message(second, "Placed"); !strings.Contains(text, "no node fits: pve: ") || !strings.Contains(text, "8.0 GiB are needed") {
			t.Errorf("it says: %s", text)
		}
		w.restart()
		w.examined()
		revision := w.store.Revision()
		time.Sleep(5 * time.Minute)
		if now := w.store.Revision(); now != revision {
			t.Errorf("%d writes while it waits:\n%s", now-revision, w.changedSince(revision))
		}
		if !w.has(second, "Ready", "False", "MemoryShort")() {
			t.Errorf("the last memory was given twice:\n%s", w.objects())
		}
		w.remove(first)
		w.until("the other gets it", w.ready(second))
	})
}

// Of many that come at once no more are made than there is room for.
func TestRoomIsNotGivenTwice(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.node.SetMemory(32*gib, 2*gib)
		set := ""
		var keys []resource.Key
		for i := range 24 {
			name := fmt.Sprintf("app-%02d", i)
			keys = append(keys, appKeyOf(name))
			set += placedApp(name, "5Gi", "{}")
		}
		w.apply(set)
		time.Sleep(2 * time.Minute)
		ready, waiting := 0, 0
		for _, key := range keys {
			if w.ready(key)() {
				ready++
			}
			if w.has(key, "Ready", "False", "MemoryShort")() {
				waiting++
			}
		}
		if ready != 5 || waiting != 19 { // 28.75 GiB are free beside the quickstart's guests
			t.Errorf("%d are ready, %d wait", ready, waiting)
		}
	})
}

// A storage that is full, its data or its metadata, or away, takes nothing: nothing is asked
// of it, what runs goes on, and what waits is made when there is room.
func TestStorageFillsUp(t *testing.T) {
	for reason, tc := range map[string]struct {
		what string
		fill func(w *world, full bool)
	}{
		"StorageFull data": {"storage local-lvm is 9", func(w *world, full bool) {
			bytes := int64(0)
			if full {
				bytes = 340 * gib
			}
			w.node.FillStorage("local-lvm", bytes, 0)
		}},
		"StorageFull metadata": {"the metadata of storage local-lvm is 97 % full", func(w *world, full bool) {
			share := 0.1
			if full {
				share = 0.975
			}
			w.node.FillStorage("local-lvm", 0, share)
		}},
		"StorageInactive": {"storage local-lvm is not active", func(w *world, full bool) { w.node.SetStorageDown("local-lvm", full) }},
	} {
		t.Run(reason, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.deployed()
				tc.fill(w, true)
				time.Sleep(time.Minute)
				key := appKeyOf("late")
				w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: late}\n")
				w.until("told", w.has(key, "Ready", "False", strings.Fields(reason)[0]))
				if text := w.message(key, "Placed"); !strings.Contains(text, tc.what) {
					t.Errorf("it says: %s", text)
				}
				time.Sleep(10 * time.Minute)
				if n := w.creates("20001"); n != 0 {
					t.Errorf("%d attempts to make it", n)
				}
				if !w.ready(quickstartKeys...)() {
					t.Errorf("what runs suffers:\n%s", w.objects())
				}
				tc.fill(w, false)
				w.until("made when there is room", w.ready(key))
				if n := w.creates("20001"); n != 1 {
					t.Errorf("made %d times", n)
				}
			})
		})
	}
}

// A named node is taken, waited for and told of by its name; another spec chooses anew as
// long as nothing was made.
func TestNamedNode(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		w.deployed() // on pve
		app := func(spec string) {
			w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: late}\nspec: " + spec + "\n")
		}
		key := appKeyOf("late")
		w.peers[1].node.SetOnline(false)
		time.Sleep(10 * time.Second)
		app("{node: pve3}")
		w.until("waited for", w.has(key, "Placed", "False", "NodeOffline"))
		app("{node: nowhere}")
		w.until("told", w.stalled(key, "NodeNotFound"))
		app("{node: pve2}")
		w.until("told", w.has(key, "Placed", "False", "ApplianceOnOtherNode"))
		app("{placement: {avoid: [pve]}}")
		w.until("told", w.has(key, "Placed", "False", "NoNodeFits"))
		if text := w.message(key, "Placed"); strings.Contains(text, "pve: ") || !strings.Contains(text, "pve2: Appliance proximity is on node pve") || !strings.Contains(text, "pve3: it is offline") {
			t.Errorf("it says: %s", text)
		}
		if n := w.creates("20001"); n != 0 {
			t.Errorf("%d attempts to make it", n)
		}
		app("{placement: {nodes: [pve, pve2]}}")
		w.until("ready", w.ready(key))
		if p := w.placementOf(key); p.GetNode() != "pve" || !strings.Contains(p.GetReason(), "only node that fits") {
			t.Errorf("%v", p)
		}
	})
}

// However many Apps come at once, nodes and storages are looked at for all of them.
func TestPlacingManyAsksOnce(t *testing.T) {
	const apps = 40
	inCluster(t, 3, func(w *world) {
		w.deployed()
		time.Sleep(time.Minute)
		before := w.node.Stats()
		begin, set := time.Now(), ""
		var keys []resource.Key
		for i := range apps {
			name := fmt.Sprintf("app-%02d", i)
			keys = append(keys, appKeyOf(name))
			set += fmt.Sprintf("---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec: {resources: {disk: 1Gi}}\n", name)
		}
		w.apply(set)
		w.until("all ready", w.ready(keys...))
		looks, after := int(time.Since(begin)/(5*time.Second))+2, w.node.Stats()
		for what, most := range map[string]int{
			"GET /nodes/{node}/storage": 3 * looks, "GET /nodes/{node}/storage/{storage}/content": 3 * (looks/6 + 2), "GET /nodes/{node}/disks/lvmthin": 3 * (looks/6 + 2), "GET /storage": 1,
		} {
			n := after.Requests[what] - before.Requests[what]
			t.Logf("%d of %d %s within %s", n, most, what, time.Since(begin))
			if n > most {
				t.Errorf("%d times %s, allowed are %d", n, what, most)
			}
		}
	})
}

// Over a Bridge that spans the nodes, Apps come to any of them: where memory is, or spread,
// with what is reserved for those that are not made yet counted; and all work there.
func TestPlacedOverNodes(t *testing.T) {
	inCluster(t, 4, func(w *world) {
		w.node.SetMemory(16*gib, 12*gib)
		w.peers[1].node.SetMemory(16*gib, 14*gib)
		w.peers[2].node.FillStorage("local-lvm", 345*gib, 0)
		w.start()
		w.apply(w.sdnQuickstart())
		w.until("quickstart ready", w.ready(applianceKey, appKey))
		if at := w.placementOf(applianceKey).GetNode(); at != "pve2" { // 14 of 16 GiB are free
			t.Fatalf("the appliance is on %s: %v", at, w.placementOf(applianceKey))
		}
		set := ""
		var keys []resource.Key
		for i := range 3 {
			name := fmt.Sprintf("big-%d", i)
			keys = append(keys, appKeyOf(name))
			set += placedApp(name, "6Gi", "{}")
		}
		w.apply(set)
		waiting := 0
		w.until("two have room", func() bool {
			ready := 0
			waiting = 0
			for _, key := range keys {
				if w.ready(key)() {
					ready++
				}
				if w.has(key, "Placed", "False", "NoNodeFits")() {
					waiting++
				}
			}
			return ready == 2 && waiting == 1
		})
		for _, key := range keys {
			if text := w.message(key, "Placed"); strings.Contains(text, "no node fits") {
				for _, part := range []string{"pve: ", "pve2: ", "pve3: ", "of memory are free", "pve4: storage local-lvm is 9"} {
					if !strings.Contains(text, part) {
						t.Errorf("%s is not told: %s", part, text)
					}
				}
			} else if at := w.placementOf(key).GetNode(); at != "pve2" {
				t.Errorf("%s is on %s: %s", key, at, text)
			}
		}
		w.remove(keys...)
		w.until("gone", w.gone(keys...))
		w.node.SetMemory(16*gib, gib)
		w.peers[1].node.SetMemory(16*gib, gib)
		time.Sleep(10 * time.Second)
		set, keys = "", nil
		for i := range 9 {
			name := fmt.Sprintf("spread-%d", i)
			keys = append(keys, appKeyOf(name))
			set += placedApp(name, "128Mi", "{strategy: spread, avoid: [pve4]}")
		}
		w.apply(set)
		w.until("all ready", w.ready(keys...))
		on := map[string]int{}
		for _, o := range w.list("App") {
			on[o.(*v1alpha1.App).GetStatus().GetNode()]++
		}
		if len(on) != 3 || on["pve"] < 3 || on["pve2"] < 3 || on["pve3"] < 3 {
			t.Errorf("ten Apps are on %v", on)
		}
	})
}

// A plan says on which node the guest would be made and why, from what was seen last, and
// what is not done about one that is elsewhere than the spec would have it.
func TestPlanTellsOfPlacement(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		w.deployed()
		plan := func(doc string) runtime.Plan {
			docs, err := resource.DecodeDocuments(w.registry, "plan.yaml", []byte(doc))
			w.must(err)
			results, err := w.applier.ApplySet(w.Context(), docs, apply.Options{Manager: "story", DryRun: true})
			w.must(err)
			before := w.node.Stats()
			plans, err := w.daemon.manager.Plan(w.Context(), []runtime.Change{{Key: results[0].Key, Desired: results[0].Object}})
			w.must(err)
			if after := w.node.Stats(); after.Reads != before.Reads {
				t.Errorf("%d reads for a plan", after.Reads-before.Reads)
			}
			return plans.Changes[0]
		}
		p := plan("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: late}\n")
		notes := strings.Join(p.Notes, "\n")
		if !strings.Contains(notes, "node pve is chosen: it is the only node that fits") || !strings.Contains(notes, "pve2: Appliance proximity is on node pve") {
			t.Errorf("notes: %s", notes)
		}
		if !strings.Contains(fmt.Sprint(p.Steps), "on node pve from") {
			t.Errorf("steps: %v", p.Steps)
		}
		p = plan(strings.Replace(w.quickstartApp(), "spec:", "spec:\n  placement: {avoid: [pve]}", 1))
		if notes := strings.Join(p.Notes, "\n"); len(p.Steps) != 0 || !strings.Contains(notes, "guest 20000 stays on node pve, though spec.placement.avoid names it") {
			t.Errorf("steps %v, notes: %s", p.Steps, notes)
		}
	})
}

// quickstartApp is the document of the quickstart's App.
func (w *world) quickstartApp() string {
	w.Helper()
	for _, doc := range strings.Split(w.quickstart(), "\n---\n") {
		if strings.Contains(doc, "kind: App\n") {
			return doc
		}
	}
	w.Fatal("the quickstart has no App")
	return ""
}

// An appliance for which no node fits says so once, and comes when one does.
func TestApplianceWaitsForANode(t *testing.T) {
	inCluster(t, 2, func(w *world) {
		w.node.SetStorageDown("local-lvm", true)
		w.peers[0].node.SetMaintenance(true)
		w.start()
		w.apply(w.quickstart())
		w.until("told", w.has(applianceKey, "Placed", "False", "NoNodeFits"))
		if text := w.message(applianceKey, "Placed"); text != "no node fits: pve: storage local-lvm is not active; pve2: it is in maintenance" {
			t.Errorf("it says: %s", text)
		}
		w.mustTell(applianceKey, "NoNodeFits")
		w.examined()
		revision := w.store.Revision()
		time.Sleep(5 * time.Minute)
		if now := w.store.Revision(); now != revision {
			t.Errorf("%d writes while it waits:\n%s", now-revision, w.changedSince(revision))
		}
		w.peers[0].node.SetMaintenance(false)
		w.until("ready", w.ready(quickstartKeys...))
		if at := w.placementOf(applianceKey).GetNode(); at != "pve2" {
			t.Errorf("it is on %s", at)
		}
	})
}
