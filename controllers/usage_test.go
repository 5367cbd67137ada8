package controllers_test

import (
	"testing"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// used asks what is used.
func (w *world) used(of, name, timespan string) *v1alpha1.UsageList {
	w.Helper()
	list, err := w.daemon.usage.Report(w.Context(), runtime.NewClient(w.store), &v1alpha1.UsageRequest{Of: of, Name: name, Range: timespan})
	w.must(err)
	return list
}

// What is used now costs Proxmox nothing; a graph is one request, once for all who ask, and
// nothing of it is in the store. A guest that moves is followed.
func TestUsage(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		w.deployed()
		time.Sleep(time.Minute)
		revision, before := w.store.Revision(), w.node.Stats()
		for range 20 {
			for _, of := range []string{"apps", "nodes", "namespaces", "appliances"} {
				w.used(of, "", "")
			}
		}
		if after := w.node.Stats(); after.Reads != before.Reads {
			t.Errorf("%d reads for what is used now", after.Reads-before.Reads)
		}
		app := w.used("apps", "nginx-01", "").Items[0]
		if c := app.GetCurrent(); app.GetNode() != "pve" || app.GetGuests() != 1 || c.GetMemory() <= 0 || c.GetMemoryLimit() != 256<<20 || c.GetCpuLimit() != 1 || app.GetAgeSeconds() > 10 {
			t.Errorf("the App: %v", app)
		}
		nodes := w.used("nodes", "", "").Items
		if len(nodes) != 3 || nodes[0].GetGuests() != 2 || nodes[1].GetGuests() != 0 || nodes[0].GetCurrent().GetMemoryLimit() != float64(16*gib) {
			t.Errorf("nodes: %v", nodes)
		}
		for range 10 {
			w.used("apps", "", "hour")
			w.used("namespaces", "", "hour") // the same graph
			w.used("nodes", "", "day")
			w.used("appliances", "", "year")
		}
		time.Sleep(3 * time.Second)
		hour := w.used("apps", "nginx-01", "hour")
		if h := hour.GetItems()[0].GetHistory(); hour.GetPending() != 0 || len(h) == 0 || h[len(h)-1].GetMemory() <= 0 {
			t.Errorf("an hour: %v", hour)
		}
		if day := w.used("nodes", "pve2", "day"); day.GetPending() != 0 || len(day.GetItems()) != 1 || len(day.GetItems()[0].GetHistory()) == 0 {
			t.Errorf("a day: %v", day)
		}
		for _, of := range []string{"namespaces", "appliances"} {
			timespan := map[string]string{"namespaces": "hour", "appliances": "year"}[of]
			if list := w.used(of, "", timespan); list.GetPending() != 0 || list.GetNote() != "" {
				t.Errorf("%s: %v", of, list)
			}
		}
		after := w.node.Stats()
		for what, most := range map[string]int{"GET /nodes/{node}/lxc/{vmid}/rrddata": 2, "GET /nodes/{node}/rrddata": 3} {
			if n := after.Requests[what] - before.Requests[what]; n != most {
				t.Errorf("%d times %s, want %d", n, what, most)
			}
		}
		if now := w.store.Revision(); now != revision {
			t.Errorf("%d writes to the store:\n%s", now-revision, w.changedSince(revision))
		}
		w.migrate(firstVMID, "pve", "pve2")
		w.within(noticed, "seen where it is", func() bool { return w.used("apps", "nginx-01", "").Items[0].GetNode() == "pve2" })
		w.peers[0].node.SetOnline(false)
		time.Sleep(time.Minute)
		if list := w.used("apps", "nginx-01", "week"); list.GetPending() != 1 {
			t.Errorf("%v", list)
		}
		time.Sleep(10 * time.Second)
		if list := w.used("apps", "nginx-01", "week"); list.GetNote() == "" || list.GetPending() != 0 {
			t.Errorf("a node that is away is not told of: %v", list)
		}
	})
}
