package controllers_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// guestBoots is how long the start of a guest takes.
const guestBoots = 5 * time.Second

// natEngine has guests that carry out the script of the NAT test: all is well.
type natEngine struct {
	*mem.Engine
	slow   atomic.Bool // the script takes very long
	broken atomic.Bool // guests other than the appliance do not start
}

func (e *natEngine) Exec(ctx context.Context, vmid int, c engine.Command) (int, error) {
	if vmid == applianceID || !slices.Contains(c.Argv, "nat-test") {
		return e.Engine.Exec(ctx, vmid, c)
	}
	if e.slow.Load() {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	_, err := io.WriteString(c.Stdout, "nat-test target deb.test:80\nnat-test dns ok x\nnat-test tcp ok connected\nnat-test forbidden ok it is not reached\n")
	return 0, err
}

// Start takes the time in which a story can see that there is a guest.
func (e *natEngine) Start(ctx context.Context, g engine.Guest) error {
	if g.VMID == applianceID {
		return e.Engine.Start(ctx, g)
	}
	select {
	case <-time.After(guestBoots):
	case <-ctx.Done():
		return ctx.Err()
	}
	if e.broken.Load() {
		return errors.New("it does not start")
	}
	return e.Engine.Start(ctx, g)
}

func inNATWorld(t *testing.T, story func(w *world, e *natEngine)) {
	t.Helper()
	t.Parallel()
	var nat *natEngine
	inWorldOn(t, func(e *mem.Engine) engine.Engine { nat = &natEngine{Engine: e}; return nat }, func(w *world) {
		w.strangers()
		w.lonelyAppliance()
		story(w, nat)
	})
}

// lonelyAppliance is one without an App.
func (w *world) lonelyAppliance() {
	w.Helper()
	w.start()
	w.apply(w.documents("Bridge", "Appliance"))
	w.until("ready", w.ready(bridgeKey, applianceKey))
	w.settle()
}

// probes are the guests that carry the mark of an operation.
func (w *world) probes() (vmids []int) {
	w.Helper()
	rows, err := w.admin.ClusterResources(w.Context(), proxmox.GuestResources)
	w.must(err)
	for _, r := range rows {
		cfg, err := w.admin.LXCConfig(w.Context(), r.Node, int(r.VMID))
		if proxmox.IsNotExist(err) {
			continue
		}
		w.must(err)
		if m := ownership.FromDescription(cfg.Description()); m != nil && m.Kind == "Operation" {
			vmids = append(vmids, int(r.VMID))
		}
	}
	return vmids
}

func (w *world) noProbe() {
	w.Helper()
	if left := w.probes(); len(left) > 0 {
		w.Errorf("left: %v", left)
	}
}

// Without an App's guest to send from one is made for the test, on the Bridge, with an address
// that no App gets; it is gone at the end, and each task of it was told.
func TestNATFromAGuestOfItsOwn(t *testing.T) {
	inNATWorld(t, func(w *world, _ *natEngine) {
		check := w.untouched(500)
		key := w.ask("nat", "TestNAT", "Appliance", "", map[string]string{"forbidden": "192.168.1.1"})
		w.until("a guest is made", func() bool { return len(w.probes()) == 1 })
		vmid := w.probes()[0]
		cfg, err := w.admin.LXCConfig(w.Context(), nodeName, vmid)
		w.must(err)
		nic, _, err := cfg.NIC(0)
		w.must(err)
		if vmid != firstVMID || !cfg.Unprivileged() || nic.Bridge != "proximity-lan" || nic.IP != "10.20.0.254/24" || nic.Gateway != "10.20.0.1" {
			t.Errorf("guest %d: %+v, unprivileged %v", vmid, nic, cfg.Unprivileged())
		}
		w.until("ended", w.ended(key, "Succeeded", "Succeeded"))
		if from := w.operation(key).GetResult()["from"]; from != "guest 20000, made for the test" {
			t.Errorf("from %q", from)
		}
		w.noProbe()
		if g := w.operation(key).GetGuest(); g != nil {
			t.Errorf("status %v", g)
		}
		w.mustTell(key, "GuestForTest", "Create", "Start", "Shutdown", "Destroy", "GuestRemoved")
		check()
		// Its VMID is free again.
		w.apply(w.documents("App"))
		w.until("the App is ready", w.ready(appKey))
	})
}

// It is gone in every outcome: the guest does not start, the time is over, the operation is
// deleted, the daemon dies.
func TestGuestOfANATTestIsRemoved(t *testing.T) {
	for name, tc := range map[string]struct {
		before func(w *world, e *natEngine)
		during func(w *world, e *natEngine, key resource.Key)
		phase  string
	}{
		"it does not start": {func(_ *world, e *natEngine) { e.broken.Store(true) }, nil, "Succeeded"}, // from the appliance, which is said
		"the time is over":  {func(_ *world, e *natEngine) { e.slow.Store(true) }, nil, "Failed"},
		"the operation is deleted": {func(_ *world, e *natEngine) { e.slow.Store(true) },
			func(w *world, _ *natEngine, key resource.Key) { w.remove(key) }, ""},
		"the daemon dies": {func(_ *world, e *natEngine) { e.slow.Store(true) },
			func(w *world, e *natEngine, _ resource.Key) { w.restart() }, "Failed"},
	} {
		t.Run(name, func(t *testing.T) {
			inNATWorld(t, func(w *world, e *natEngine) {
				tc.before(w, e)
				key := w.ask("nat", "TestNAT", "Appliance", "1m", map[string]string{"forbidden": "192.168.1.1"})
				w.until("a guest is made", func() bool { return len(w.probes()) == 1 })
				if tc.during != nil {
					time.Sleep(10 * time.Second)
					tc.during(w, e, key)
				}
				w.until("ended", func() bool {
					return tc.phase == "" && w.get(key) == nil || tc.phase != "" && w.operation(key).GetPhase() == tc.phase && w.operation(key).GetGuest() == nil
				})
				w.noProbe()
			})
		})
	}
}

// What cannot be removed for the lack of rights is removed when they are given back, though the
// operation has ended.
func TestGuestOfANATTestWaitsForRights(t *testing.T) {
	inNATWorld(t, func(w *world, e *natEngine) {
		e.slow.Store(true)
		key := w.ask("nat", "TestNAT", "Appliance", "1m", map[string]string{"forbidden": "192.168.1.1"})
		w.until("it runs", func() bool { p := w.probes(); return len(p) == 1 && w.guest(p[0]).Running() })
		giveBack := w.takeRights("/vms")
		w.until("ended", func() bool { p := w.operation(key).GetPhase(); return p == "Succeeded" || p == "Failed" })
		time.Sleep(5 * time.Minute)
		if len(w.probes()) != 1 || w.operation(key).GetGuest() == nil {
			t.Fatal("the guest is gone, or forgotten")
		}
		giveBack()
		w.until("removed", func() bool { return w.operation(key).GetGuest() == nil })
		w.noProbe()
	})
}

// A guest whose mark somebody took off is nobody's: it is left as it is.
func TestGuestOfANATTestThatIsNotOursAnyMore(t *testing.T) {
	inNATWorld(t, func(w *world, e *natEngine) {
		e.slow.Store(true)
		key := w.ask("nat", "TestNAT", "Appliance", "1m", map[string]string{"forbidden": "192.168.1.1"})
		w.until("it runs", func() bool { p := w.probes(); return len(p) == 1 && w.guest(p[0]).Running() })
		vmid := w.probes()[0]
		w.daemon.stop()
		w.update(vmid, "description", "mine now", "tags", "mine")
		check := w.untouched(vmid)
		w.ledger.reset(nil)
		w.start()
		w.until("ended", func() bool { return w.operation(key).GetPhase() == "Failed" && w.operation(key).GetGuest() == nil })
		time.Sleep(time.Minute)
		check()
	})
}

// The addresses of Apps are left alone also where the network is full of them.
func TestGuestOfANATTestTakesNoAppsAddress(t *testing.T) {
	inNATWorld(t, func(w *world, _ *natEngine) {
		w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: last}\nspec: {state: Stopped, network: {address: 10.20.0.254}}\n")
		w.until("it has its address", func() bool { return w.app("last").GetStatus().GetAddress() == "10.20.0.254" })
		key := w.ask("nat", "TestNAT", "Appliance", "", map[string]string{"forbidden": "192.168.1.1"})
		var had *v1alpha1.OperationGuest
		w.until("ended", func() bool {
			if g := w.operation(key).GetGuest(); g != nil {
				had = proto.CloneOf(g)
			}
			return w.ended(key, "Succeeded", "Succeeded")()
		})
		if had.GetAddress() != "10.20.0.253/24" || had.GetVmid() == w.app("last").GetStatus().GetVmid() {
			t.Errorf("it had %v", had)
		}
		if out := w.operation(key).GetResult()["from"]; !strings.Contains(out, "made for the test") {
			t.Errorf("from %q", out)
		}
	})
}
