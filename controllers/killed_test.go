package controllers_test

import (
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

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

// undisturbed is what a life in which nothing goes wrong leaves behind.
type undisturbed struct {
	empty, deployed      string  // portraits
	creations, deletions []point // the calls that change something
}

func golden(t *testing.T) (g undisturbed) {
	t.Run("undisturbed", func(t *testing.T) {
		inWorldNow(t, func(w *world) {
			w.strangers()
			g.empty = w.portrait()
			w.deployed()
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

// examined waits until the connection was examined since, which is done every five minutes.
// An examination in the midst of a change tells of what is staged or missing for a moment, and
// the next one takes that back: a write that is no fault of who has come to rest.
func (w *world) examined() { time.Sleep(6 * time.Minute) }

// die runs a daemon until it is killed at the point and nothing of it is left; act is what
// the user does meanwhile.
func (w *world) die(p point, after bool, act func()) {
	w.Helper()
	d := w.start()
	w.ledger.reset(map[point]trap{p: {after, func() error { d.kill(); return errDead }}})
	act()
	w.until("crash", func() bool { return w.ledger.sprung() > 0 })
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

// controllerKinds are the kinds that have a controller.
func (w *world) controllerKinds() (kinds []string) {
	w.Helper()
	w.start()
	for _, c := range w.daemon.controllers {
		kinds = append(kinds, c.Kind())
	}
	return kinds
}
