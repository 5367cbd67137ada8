package controllers_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// A daemon is killed right before, and right after, each call of an undisturbed run that
// changes something outside. The next daemon must bring the world to the very state that
// the undisturbed run ends in, with nothing done twice.

// full, from the environment, tells every story of every family.
var full = os.Getenv("PROXIMITY_FULL") != ""

// some tells whether the n-th story of a family is told under the race detector, where
// it is one of so many.
func some(n, of int) bool { return full || !underRace || n%of == 0 }

// strangers puts things of other people on the node, which nothing may touch.
func (w *world) strangers() {
	w.Helper()
	w.must(w.admin.CreateNetwork(w.Context(), nodeName, proxmox.InterfaceSpec{Iface: "theirs", Type: "bridge", Autostart: true, Comments: "somebody's"}))
	w.done(w.admin.ReloadNetwork(w.Context(), nodeName))
	w.stranger(500)
}

// stranger makes a guest that is not ours.
func (w *world) stranger(vmid int) {
	w.Helper()
	w.done(w.admin.CreateLXC(w.Context(), nodeName, proxmox.LXCCreate{
		VMID: vmid, Template: "local:vztmpl/" + templates[1], Hostname: "theirs", Unprivileged: true, Description: "somebody's",
		RootFS: proxmox.NewVolume("local-lvm", 2), NICs: map[int]proxmox.NIC{0: {Name: "eth0", Bridge: "vmbr0", IP: "dhcp"}},
	}))
}

// run is what an undisturbed life leaves behind.
type undisturbed struct {
	empty, deployed      string  // portraits
	creations, deletions []point // the calls that change something
	transactions         int     // until everything was ready, less what varies
}

func golden(t *testing.T) (g undisturbed) {
	t.Run("undisturbed", func(t *testing.T) {
		inWorldNow(t, func(w *world) {
			w.strangers()
			g.empty = w.portrait()
			w.deployed()
			g.transactions = w.ledger.storeWrites() * 3 / 4
			w.settle()
			g.deployed, g.creations = w.portrait(), w.ledger.all()
			w.ledger.reset(nil)
			w.remove(quickstartKeys...)
			w.until("everything gone", w.gone(quickstartKeys...))
			g.deletions = w.ledger.all()
			if now := w.portrait(); now != g.empty {
				t.Errorf("left on the node:\n%s", diffLines(now, g.empty))
			}
		})
	})
	if len(g.creations) < 10 || len(g.deletions) < 6 {
		t.Fatalf("an undisturbed run makes %d and %d calls: the ledger misses some", len(g.creations), len(g.deletions))
	}
	return g
}

// settle lets what Ready itself sets off come to its end.
func (w *world) settle() { time.Sleep(20 * time.Second) }

// die runs a daemon until it is killed at the point and nothing of it is left; act is what
// the user does meanwhile. done is reached if the point is not.
func (w *world) die(p point, after bool, act func(), done func() bool) {
	w.Helper()
	d := w.start()
	w.ledger.reset(map[point]trap{p: {after, func() error { d.kill(); return errDead }}})
	act()
	w.until("crash", func() bool { return w.ledger.sprung() > 0 || done() })
	switch {
	case w.ledger.sprung() > 0:
	case strings.HasSuffix(p.what, "agent apply -"):
		// The App may come in time for the appliance's first configuration: then there is no
		// other, and the daemon is killed here.
		d.kill()
	default:
		w.Fatalf("the run never came to %s #%d", p.what, p.nth)
	}
	d.bury()
}

func (w *world) createdOnce() {
	w.Helper()
	for _, vmid := range []int{applianceID, firstVMID} {
		if n := w.tasks("vzcreate", vmid); n != 1 {
			w.Errorf("guest %d was created %d times", vmid, n)
		}
	}
}

// eachPoint tells the story with each point, but for repetitions: how often the appliance is
// configured depends on what comes together.
func eachPoint(t *testing.T, points []point, story func(w *world, p point, after bool)) {
	points = slices.DeleteFunc(slices.Clone(points), func(p point) bool { return p.nth > 1 })
	for i, p := range points {
		for j, after := range []bool{false, true} {
			if !some(i+j, 3) { // now one side, now the other
				continue
			}
			side := map[bool]string{false: "before", true: "after"}[after]
			t.Run(fmt.Sprintf("%02d %s %s", i, side, p.what), func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.strangers()
					story(w, p, after)
				})
			})
		}
	}
}

func TestCrashWhileCreating(t *testing.T) {
	g := golden(t)
	eachPoint(t, g.creations, func(w *world, p point, after bool) {
		w.die(p, after, func() { w.apply(w.quickstart()) }, w.ready(quickstartKeys...))
		w.start()
		w.until("quickstart ready", w.ready(quickstartKeys...))
		w.settle()
		if now := w.portrait(); now != g.deployed {
			w.Errorf("not the same end:\n%s", diffLines(now, g.deployed))
		}
		w.createdOnce()
	})
}

func TestCrashWhileDeleting(t *testing.T) {
	g := golden(t)
	eachPoint(t, g.deletions, func(w *world, p point, after bool) {
		w.deployed()
		w.daemon.stop()
		w.die(p, after, func() { w.remove(quickstartKeys...) }, w.gone(quickstartKeys...))
		w.start()
		w.until("everything gone", w.gone(quickstartKeys...))
		if now := w.portrait(); now != g.empty {
			w.Errorf("left on the node:\n%s", diffLines(now, g.empty))
		}
		w.createdOnce()
	})
}

// Deletion is the first thing that the next daemon hears of what the last one was at.
func TestDeletionAfterCrash(t *testing.T) {
	g := golden(t)
	eachPoint(t, g.creations, func(w *world, p point, after bool) {
		w.die(p, after, func() { w.apply(w.quickstart()) }, w.ready(quickstartKeys...))
		w.remove(quickstartKeys...)
		w.start()
		w.until("everything gone", w.gone(quickstartKeys...))
		if now := w.portrait(); now != g.empty {
			w.Errorf("left on the node:\n%s", diffLines(now, g.empty))
		}
	})
}

// TestCrashAtTheStore kills the daemon at its transactions; each, with PROXIMITY_FULL.
func TestCrashAtTheStore(t *testing.T) {
	g := golden(t)
	step := 9
	if full {
		step = 1
	}
	for n := step; n <= g.transactions; n += step {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d after=%v", n, after), func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.strangers()
					w.die(point{storeWrite, n}, after, func() { w.apply(w.quickstart()) }, w.ready(quickstartKeys...))
					w.start()
					w.until("quickstart ready", w.ready(quickstartKeys...))
					w.settle()
					if now := w.portrait(); now != g.deployed {
						w.Errorf("not the same end:\n%s", diffLines(now, g.deployed))
					}
					w.createdOnce()
				})
			})
		}
	}
}

// What an App's guest had is not taken for what its successor has.
func TestCrashWhileCreatingAgain(t *testing.T) {
	recreate := func(w *world) {
		w.done(w.admin.StopLXC(w.Context(), nodeName, firstVMID))
		w.done(w.admin.DeleteLXC(w.Context(), nodeName, firstVMID, proxmox.LXCDelete{Purge: true}))
	}
	eachPoint(t, []point{{"api POST /nodes/pve/lxc 20000", 1}, {"api POST /nodes/pve/lxc/20000/status/start", 1}}, func(w *world, p point, after bool) {
		w.deployed()
		w.settle()
		want := w.portrait()
		w.daemon.stop()
		recreate(w)
		w.die(p, after, func() {}, func() bool { return false })
		w.start()
		w.until("quickstart ready", func() bool { return w.tasks("vzcreate", firstVMID) == 2 && w.ready(quickstartKeys...)() })
		w.settle()
		if now := w.portrait(); now != want {
			w.Errorf("not the same end:\n%s", diffLines(now, want))
		}
		if n := w.tasks("vzcreate", firstVMID); n != 2 {
			w.Errorf("created %d times", n)
		}
	})
}
