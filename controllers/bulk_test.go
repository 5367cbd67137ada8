package controllers_test

import (
	"fmt"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/bulk"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// crowd deploys the quickstart's network, made wide enough, with so many Apps in it.
func (w *world) crowd(apps int) []resource.Key {
	w.Helper()
	o, err := w.store.Get(w.Context(), resource.Key{Kind: "Cluster", Name: "default"})
	w.must(err)
	cl := resource.Clone(o).(*v1alpha1.Cluster)
	cl.Spec.VmidEnd = proto.Int32(firstVMID + 9999)
	_, err = w.applier.Update(w.Context(), cl)
	w.must(err)
	w.start()
	set := strings.NewReplacer("10.20.0.0/24", "10.20.0.0/16", "end: 10.20.0.250", "end: 10.20.100.250").Replace(w.quickstart())
	w.apply(set)
	w.until("quickstart ready", w.ready(quickstartKeys...))
	set = ""
	keys := []resource.Key{appKey}
	for i := 1; i < apps; i++ {
		name := fmt.Sprintf("app-%05d", i)
		keys = append(keys, appKeyOf(name))
		set += fmt.Sprintf("---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec: {resources: {disk: 1Gi}}\n", name)
	}
	w.apply(set)
	ready := w.ready(keys...)
	for begin := time.Now(); !ready(); time.Sleep(time.Second) {
		if time.Since(begin) > time.Hour {
			w.Fatalf("%d Apps are not ready within an hour", apps)
		}
	}
	return keys
}

// asked counts the requests of a stretch of simulated time.
func (w *world) asked(stretch time.Duration) map[string]int {
	w.Helper()
	revision, before := w.store.Revision(), w.node.Stats()
	time.Sleep(stretch)
	after := w.node.Stats()
	if now := w.store.Revision(); now != revision {
		w.Errorf("%d writes to the store:\n%s", now-revision, w.changedSince(revision))
	}
	if after.Writes != before.Writes {
		w.Errorf("the node counts %d writes", after.Writes-before.Writes)
	}
	n := map[string]int{}
	for what, count := range after.Requests {
		if d := count - before.Requests[what]; d > 0 {
			n[what] = d
		}
	}
	return n
}

// A minute in which nothing changes costs what the observer's looks cost and what the one
// appliance and its bridge do, however many Apps there are.
func TestCrowdIsWatchedInBulk(t *testing.T) {
	apps := 60
	if full {
		apps = 500
	}
	inWorld(t, func(w *world) {
		w.crowd(apps)
		time.Sleep(2 * time.Minute) // every App has been confirmed by a look
		n := w.asked(time.Minute)
		const looks = int(time.Minute / bulk.DefaultPeriod)
		audits := looks * bulk.AuditBudget(apps, bulk.DefaultPeriod)
		// The appliance is looked at directly once per probe, as often as the observer looks.
		for what, most := range map[string]int{
			"GET /nodes/{node}/lxc":                       looks,
			"GET /nodes/{node}/tasks":                     looks/6 + 1,
			"GET /cluster/resources":                      looks + looks + 1,
			"GET /nodes/{node}/lxc/{vmid}/config":         audits + looks + 1,
			"GET /nodes/{node}/lxc/{vmid}/interfaces":     audits + looks + 1,
			"GET /nodes/{node}/lxc/{vmid}/status/current": looks + 1,
			"GET /nodes": 2*looks + 2,
		} {
			if n[what] > most {
				t.Errorf("%d times %s, allowed are %d", n[what], what, most)
			}
			t.Logf("%4d of %4d %s", n[what], most, what)
			delete(n, what)
		}
		rest := 0
		for what, count := range n {
			t.Logf("%4d %s", count, what)
			rest += count
		}
		if most := 2 * looks; rest > most { // of the bridge and of the connection itself
			t.Errorf("%d other requests, allowed are %d", rest, most)
		}
	})
}

// In a crowd too, what lists show is repaired at once, and what only the configuration shows
// within the time that the audit takes for all.
func TestDriftInACrowd(t *testing.T) {
	const apps = 36
	inWorld(t, func(w *world) {
		keys := w.crowd(apps)
		time.Sleep(time.Minute)
		vmid := func(key resource.Key) int { return int(w.get(key).(*v1alpha1.App).GetStatus().GetVmid()) }
		config := func(id int) proxmox.LXCConfig {
			cfg, err := w.admin.LXCConfig(w.Context(), nodeName, id)
			w.must(err)
			return cfg
		}
		stopped, edited, gone, hidden := vmid(keys[11]), vmid(keys[17]), vmid(keys[23]), vmid(keys[31])

		w.done(w.admin.StopLXC(w.Context(), nodeName, stopped))
		w.within(noticed, "started again", func() bool { return w.guest(stopped).Running() })

		w.update(edited, "memory", "333")
		w.within(noticed, "memory corrected", func() bool { return config(edited).Value("memory") == "512" })

		w.done(w.admin.StopLXC(w.Context(), nodeName, gone))
		w.done(w.admin.DeleteLXC(w.Context(), nodeName, gone, proxmox.LXCDelete{Purge: true}))
		w.within(noticed, "made again", func() bool { return w.tasks("vzcreate", gone) == 2 })

		looks := (apps + bulk.AuditBudget(apps, bulk.DefaultPeriod) - 1) / bulk.AuditBudget(apps, bulk.DefaultPeriod)
		before := config(hidden).Value("net0")
		w.update(hidden, "net0", strings.Replace(before, "bridge=proximity-lan", "bridge=vmbr0", 1))
		w.within(time.Duration(looks+1)*bulk.DefaultPeriod+noticed, "bridge corrected", func() bool { return config(hidden).Value("net0") == before })
		w.until("all ready", w.ready(keys...))
		w.createdOnceBut(gone)
	})
}

// createdOnceBut demands that no App's guest was created twice but one.
func (w *world) createdOnceBut(vmid int) {
	w.Helper()
	for _, o := range w.list("App") {
		id := int(o.(*v1alpha1.App).GetStatus().GetVmid())
		if n := w.tasks("vzcreate", id); id != vmid && n != 1 {
			w.Errorf("guest %d was created %d times", id, n)
		}
	}
}

// For a day nothing is written, here or there, and what is read is what each kind may read:
//
//	App        the observer's look and its audit (package bulk)
//	Appliance  one look at its guest per probe, three requests and one command inside; a
//	           command a minute for certificates
//	Bridge     the nodes and the network of each per probe, and with a block in the
//	           interfaces file that file
//	Cluster    the list of nodes per probe; an examination every five minutes
//	Vhost      nothing: the appliance's probe asks for all
//
// Under the race detector it is twenty minutes; hack/test.sh has the day.
func TestQuietForADay(t *testing.T) {
	stretch := 20 * time.Minute
	if full || !underRace {
		stretch = 24 * time.Hour
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	inWorld(t, func(w *world) {
		w.deployed()
		time.Sleep(6 * time.Minute) // the connection is examined every five, and has new guests now
		commands := w.node.Stats().Commands
		n := w.asked(stretch)
		looks, probes := int(stretch/bulk.DefaultPeriod)+1, int(stretch/(10*time.Second))+1
		minutes, examinations := int(stretch/time.Minute)+1, int(stretch/(5*time.Minute))+1
		rest := 0
		budget := map[string]int{
			"GET /cluster/resources":                      2*looks + 3*examinations, // App, Appliance
			"GET /nodes/{node}/lxc":                       looks,                    // App
			"GET /nodes/{node}/tasks":                     looks/6 + 1,              // App
			"GET /nodes/{node}/lxc/{vmid}/config":         2*looks + 2*examinations, // App's audit, Appliance
			"GET /nodes/{node}/lxc/{vmid}/interfaces":     looks,                    // App's audit
			"GET /nodes/{node}/lxc/{vmid}/status/current": looks,                    // Appliance
			"GET /nodes":                2*looks + examinations,  // Bridge, Cluster
			"GET /nodes/{node}/network": probes + 2*examinations, // Bridge
		}
		for what, got := range n {
			if most, named := budget[what]; !named {
				rest += got
			} else if got > most {
				t.Errorf("%d times %s, allowed are %d", got, what, most)
			}
			t.Logf("%6d of %6d %s", got, budget[what], what)
		}
		if most := 2*looks + 20*examinations; rest > most {
			t.Errorf("%d other requests, allowed are %d", rest, most)
		}
		run := 0
		for what, count := range w.node.Stats().Commands {
			if d := count - commands[what]; d > 0 {
				t.Logf("%6d %s", d, what)
				run += d
			}
		}
		if most := looks + probes + minutes + 4*examinations; run > most {
			t.Errorf("%d commands were run, allowed are %d", run, most)
		}
	})
}
