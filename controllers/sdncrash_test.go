package controllers_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// sdnDeed is something that a user wants of a Bridge by SDN.
type sdnDeed struct {
	name   string
	before func(w *world) // what was there
	act    func(w *world)
	done   func(w *world) func() bool
}

// sdnDeeds are the life of such a Bridge.
var sdnDeeds = []sdnDeed{
	{"create", func(*world) {}, func(w *world) { w.apply(sdnYAML(", sdn: {tag: 42}")) }, func(w *world) func() bool { return w.ready(sdnKey) }},
	{"change", sdnThere, func(w *world) {
		w.updateBridge(sdnKey, func(s *v1alpha1.BridgeSpec) { s.Mtu, s.Sdn.Tag = proto.Int32(1400), proto.Int32(43) })
	}, func(w *world) func() bool {
		return func() bool { return w.ready(sdnKey)() && w.zoneMTU("lan") == 1400 }
	}},
	{"delete", sdnThere, func(w *world) { w.remove(sdnKey) }, func(w *world) func() bool { return w.gone(sdnKey) }},
}

func sdnThere(w *world) {
	w.start()
	w.apply(sdnYAML(", sdn: {tag: 42}"))
	w.until("ready", w.ready(sdnKey))
	w.settle()
	w.daemon.stop()
}

// zoneMTU is the MTU of a zone as it runs, 0 for none.
func (w *world) zoneMTU(name string) int {
	w.Helper()
	zones, err := w.admin.SDNZones(w.Context(), proxmox.SDNRunning)
	w.must(err)
	for _, z := range zones {
		if z.Zone == name {
			return int(z.MTU)
		}
	}
	return 0
}

// sdnStrangers are a zone and a vnet of somebody else.
func (w *world) sdnStrangers() {
	w.Helper()
	w.must(w.admin.CreateSDNZone(w.Context(), proxmox.SDNZone{Zone: "theirs", Type: "simple"}))
	w.must(w.admin.CreateSDNVNet(w.Context(), proxmox.SDNVNet{VNet: "theirs", Zone: "theirs", Alias: "theirs"}))
	w.applySDN()
}

// sdnPortrait is the end of a deed, here and outside.
func (w *world) sdnPortrait() string {
	w.Helper()
	text := w.sdn()
	if o := w.get(sdnKey); o != nil {
		b := o.(*v1alpha1.Bridge)
		for _, n := range b.GetStatus().GetNodes() {
			text += fmt.Sprintf("%s ready=%v written=%v %s\n", n.GetName(), n.GetReady(), n.GetWritten(), n.GetAddress())
		}
		text += strings.Join(sortedConditions(o), "\n") + fmt.Sprintf("\ntask=%q zone=%q\n", b.GetStatus().GetTask(), b.GetStatus().GetZone())
		text = strings.ReplaceAll(text, b.GetMetadata().GetUid(), "<uid>")
	}
	return text
}

// sdnGolden is an undisturbed deed: its calls, how many transactions it took, and its end.
func sdnGolden(t *testing.T, nodes int, deed sdnDeed) (calls []point, transactions int, end string) {
	t.Run("undisturbed", func(t *testing.T) {
		t.Helper()
		inClusterNow(t, nodes, func(w *world) {
			w.sdnStrangers()
			deed.before(w)
			w.ledger.reset(nil)
			w.start()
			deed.act(w)
			w.until("done", deed.done(w))
			calls, transactions = w.ledger.all(), w.ledger.storeWrites()
			w.settle()
			end = w.sdnPortrait()
		})
	})
	return calls, transactions, end
}

// A daemon is killed before and after each call outside, and each transaction of the store:
// the next one brings everything to the end that an undisturbed run has.
func TestCrashWithSDN(t *testing.T) {
	for _, deed := range sdnDeeds {
		t.Run(deed.name, func(t *testing.T) {
			calls, transactions, end := sdnGolden(t, 2, deed)
			if len(calls) < 2 {
				t.Fatalf("an undisturbed run makes the calls %v", calls)
			}
			points := slices.Clone(calls)
			for n := range transactions {
				points = append(points, point{storeWrite, n + 1})
			}
			for i, p := range points {
				for j, after := range []bool{false, true} {
					if !some(i+j, 3) {
						continue
					}
					t.Run(fmt.Sprintf("%02d after=%v %s #%d", i, after, p.what, p.nth), func(t *testing.T) {
						inCluster(t, 2, func(w *world) {
							w.sdnStrangers()
							deed.before(w)
							d := w.start()
							w.ledger.reset(map[point]trap{p: {after, func() error { d.kill(); return errDead }}})
							deed.act(w)
							// Of the last transactions some runs have fewer.
							w.until("crash", func() bool { return w.ledger.sprung() > 0 || p.what == storeWrite && deed.done(w)() })
							d.kill()
							d.bury()
							w.start()
							w.until("done", deed.done(w))
							w.settle()
							if now := w.sdnPortrait(); now != end {
								t.Errorf("not the same end:\n%s", diffLines(now, end))
							}
						})
					})
				}
			}
		})
	}
}

// Deletion is the first thing that the next daemon hears of what the last one was at.
func TestSDNDeletionAfterCrash(t *testing.T) {
	deed := sdnDeeds[0]
	calls, _, _ := sdnGolden(t, 2, deed)
	for i, p := range calls {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%02d after=%v %s", i, after, p.what), func(t *testing.T) {
				inCluster(t, 2, func(w *world) {
					w.sdnStrangers()
					before := w.sdn()
					d := w.start()
					w.ledger.reset(map[point]trap{p: {after, func() error { d.kill(); return errDead }}})
					deed.act(w)
					w.until("crash", func() bool { return w.ledger.sprung() > 0 })
					d.bury()
					w.remove(sdnKey)
					w.start()
					w.until("gone", w.gone(sdnKey))
					if now := w.sdn(); now != before {
						t.Errorf("left:\n%s", diffLines(now, before))
					}
				})
			})
		}
	}
}

// sdnCalls are all requests in the life of a Bridge by SDN, reads and writes.
var sdnCalls = []pvesim.Fault{
	{Method: "GET", Path: "/cluster/status"},
	{Method: "GET", Path: "/cluster/sdn/zones"},
	{Method: "GET", Path: "/cluster/sdn/zones/lan"},
	{Method: "GET", Path: "/cluster/sdn/vnets"},
	{Method: "GET", Path: "/cluster/sdn/controllers"},
	{Method: "GET", Path: "/nodes/pve/sdn/zones/lan/content"},
	{Method: "GET", Path: "/nodes/pve2/sdn/zones/lan/content"},
	{Method: "GET", Path: "/nodes/pve2/network"},
	{Method: "GET", Path: "/nodes/pve2/tasks"},
	{Method: "POST", Path: "/cluster/sdn/zones"},
	{Method: "POST", Path: "/cluster/sdn/vnets"},
	{Method: "PUT", Path: "/cluster/sdn/zones/lan"},
	{Method: "PUT", Path: "/cluster/sdn/vnets/lan"},
	{Method: "PUT", Path: "/cluster/sdn"},
	{Method: "PUT", Path: "/nodes/pve2/network"},
	{Method: "DELETE", Path: "/cluster/sdn/vnets/lan"},
	{Method: "DELETE", Path: "/cluster/sdn/zones/lan"},
}

// sdnFailures are those of every request, and those of the tasks that some start.
var sdnFailures = func() map[string]pvesim.Fault {
	all := maps.Clone(failures)
	maps.Copy(all, map[string]pvesim.Fault{
		"task dies":                  {Action: pvesim.ActTaskDies},
		"task dies, after its work":  {Action: pvesim.ActTaskDies, After: true},
		"task vanishes":              {Action: pvesim.ActTaskVanishes},
		"task fails":                 {Action: pvesim.ActTaskFails},
		"task fails after its work":  {Action: pvesim.ActTaskFails, After: true},
		"task warns":                 {Action: pvesim.ActTaskWarns},
		"half of the answer":         {Action: pvesim.ActTruncate},
		"a login page":               {Action: pvesim.ActHTML},
		"no quorum":                  {Status: 500, Text: "cluster not ready - no quorum?"},
		"the other node goes away":   {Action: pvesim.ActOffline, Node: "pve2"},
		"somebody has the SDN lock":  {Status: 500, Text: "invalid lock token provided!"},
		"error, after the effect":    {After: true, Status: 500, Text: "got timeout"},
		"unauthorized for a moment":  {Action: pvesim.ActUnauthorized},
		"unknown outcome, not begun": {Status: 599, Text: "Too many redirections"},
	})
	return all
}()

// Each request fails once in every way, in one life per way and with PROXIMITY_FULL in one
// of its own; the end is the same, soon.
func TestFailingSDNRequests(t *testing.T) {
	ends := map[string]string{}
	for _, deed := range sdnDeeds[:2] {
		_, _, ends[deed.name] = sdnGolden(t, 3, deed)
	}
	story := func(calls []pvesim.Fault, how pvesim.Fault) func(*testing.T) {
		return func(t *testing.T) {
			inCluster(t, 3, func(w *world) {
				w.sdnStrangers()
				before := w.sdn()
				w.start()
				for _, deed := range sdnDeeds {
					for _, f := range calls {
						how := how
						how.Method, how.Path, how.Nth = f.Method, f.Path, 1
						w.node.Faults().Add(how)
					}
					deed.act(w)
					// Some time for all of them to happen; then they stop, and all is well soon.
					for begin := time.Now(); time.Since(begin) < 2*time.Minute && !deed.done(w)(); time.Sleep(glance) {
					}
					w.node.Faults().Clear()
					w.peers[0].node.SetOnline(true)
					w.until(deed.name, deed.done(w))
					w.settle()
					if now := w.sdnPortrait(); ends[deed.name] != "" && now != ends[deed.name] {
						t.Errorf("%s: not the same end:\n%s", deed.name, diffLines(now, ends[deed.name]))
					}
				}
				if now := w.sdn(); now != before {
					t.Errorf("left:\n%s", diffLines(now, before))
				}
				if w.node.Faults().Fired() == 0 {
					t.Error("nothing failed")
				}
			})
		}
	}
	for i, name := range slices.Sorted(maps.Keys(sdnFailures)) {
		if !some(i, 3) {
			continue
		}
		t.Run(name, story(sdnCalls, sdnFailures[name]))
		for _, call := range sdnCalls {
			if full {
				t.Run(fmt.Sprintf("%s/%s %s", name, call.Method, call.Path), story([]pvesim.Fault{call}, sdnFailures[name]))
			}
		}
	}
}

// After the database was lost a Bridge by SDN is not taken for a stranger's, nor made again:
// a rebuild gives it back.
func TestSDNLostDatabase(t *testing.T) {
	inCluster(t, 2, func(w *world) {
		w.start()
		w.apply(sdnYAML(""))
		w.until("ready", w.ready(sdnKey))
		w.settle()
		uid, before := w.bridge(sdnKey).GetMetadata().GetUid(), w.sdn()
		w.loseDatabase()
		w.start()
		w.apply(sdnYAML(""))
		w.until("told", w.stalled(sdnKey, "UIDUnknown"))
		if m := resource.FindCondition(w.get(sdnKey), "Stalled").GetMessage(); !strings.Contains(m, uid) {
			t.Errorf("it says: %s", m)
		}
		w.rebuild("real", false, "Succeeded")
		w.until("ready", w.ready(sdnKey))
		w.settle()
		if now := w.bridge(sdnKey).GetMetadata().GetUid(); now != uid {
			t.Errorf("uid %s, was %s", now, uid)
		}
		if now := w.sdn(); now != before {
			t.Errorf("changed:\n%s", diffLines(now, before))
		}
		w.remove(sdnKey)
		w.until("deleted", w.gone(sdnKey))
		if at := w.bridgeAt("lan"); len(at) > 0 || w.zoneMTU("lan") != 0 {
			t.Errorf("left on %v", at)
		}
	})
}
