package controllers_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/appliance"
	guestside "github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// stuckEngine has a guest in which every program of ours fails from a moment on, until it is
// booted; worse, until it has been booted some times.
type stuckEngine struct {
	*mem.Engine
	mu    sync.Mutex
	boots int // that it still takes; 0 = it works
	seen  []time.Time
}

func (e *stuckEngine) stick(boots int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.boots, e.seen = boots, nil
}

func (e *stuckEngine) Start(ctx context.Context, g engine.Guest) error {
	e.mu.Lock()
	if g.VMID == applianceID {
		e.seen = append(e.seen, time.Now())
		e.boots = max(0, e.boots-1)
	}
	e.mu.Unlock()
	return e.Engine.Start(ctx, g)
}

func (e *stuckEngine) Exec(ctx context.Context, vmid int, c engine.Command) (int, error) {
	e.mu.Lock()
	stuck := e.boots > 0 && vmid == applianceID && strings.Contains(strings.Join(c.Argv, " "), "agent")
	e.mu.Unlock()
	if stuck {
		return 1, nil // and not a word
	}
	return e.Engine.Exec(ctx, vmid, c)
}

func (e *stuckEngine) bootTimes() []time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]time.Time(nil), e.seen...)
}

// TestGuestIsBootedWhenServicesStayDown: what repairs of the inside cannot bring back a boot of
// the guest can; each is told, they become rarer, and one that helped is the last.
func TestGuestIsBootedWhenServicesStayDown(t *testing.T) {
	var stuck *stuckEngine
	inWorldOn(t, func(e *mem.Engine) engine.Engine { stuck = &stuckEngine{Engine: e}; return stuck }, func(w *world) {
		w.deployed()
		time.Sleep(noticed)
		began := time.Now()
		stuck.stick(3)
		time.Sleep(time.Minute)
		if n := len(stuck.bootTimes()); n != 0 {
			t.Fatalf("booted %d times within a minute", n)
		}
		time.Sleep(15 * time.Minute)
		boots := stuck.bootTimes()
		if len(boots) != 3 {
			t.Fatalf("booted %d times: %v", len(boots), boots)
		}
		if d := boots[0].Sub(began); d < 90*time.Second || d > 2*time.Minute {
			t.Errorf("first boot after %s", d)
		}
		if first, second := boots[1].Sub(boots[0]), boots[2].Sub(boots[1]); first < 3*time.Minute || second < 6*time.Minute {
			t.Errorf("pauses %s and %s", first, second)
		}
		if !w.told(applianceKey, "GuestRestarted") {
			t.Error("no event tells of it")
		}
		w.until("everything ready", w.ready(quickstartKeys...))
		if r := w.get(applianceKey).(*v1alpha1.Appliance).GetStatus().GetRepair(); r.GetAttempts() != 3 || r.GetLevel() != "Guest" {
			t.Errorf("status %v", r)
		}
		time.Sleep(15 * time.Minute)
		if n := len(stuck.bootTimes()); n != 3 {
			t.Errorf("booted %d times although it works", n)
		}
		if st := w.get(applianceKey).(*v1alpha1.Appliance).GetStatus(); st.GetRepair() != nil || st.GetDownSince() != "" || st.GetUpSince() == "" {
			t.Errorf("status %v", st)
		}
	})
}

// unsuppliedEngine has a guest that gets no packages from a moment on.
type unsuppliedEngine struct {
	*mem.Engine
	cut atomic.Bool
}

func (e *unsuppliedEngine) Exec(ctx context.Context, vmid int, c engine.Command) (int, error) {
	if e.cut.Load() && vmid == applianceID && c.Argv[len(c.Argv)-1] == "install" {
		return guestside.ExitMissing, nil
	}
	return e.Engine.Exec(ctx, vmid, c)
}

// TestLostPackageIsAnOutage: an appliance that lost a program and does not get it again is not said
// to serve as before; it is booted for it, and what is done and what is not allowed is named.
func TestLostPackageIsAnOutage(t *testing.T) {
	const program = "/usr/sbin/dnsmasq"
	var supplies *unsuppliedEngine
	inWorldOn(t, func(e *mem.Engine) engine.Engine { supplies = &unsuppliedEngine{Engine: e}; return supplies }, func(w *world) {
		w.deployed()
		time.Sleep(noticed)
		condition := func(typ string) *v1alpha1.Condition { return resource.FindCondition(w.get(applianceKey), typ) }
		named := func(reason, word string) func() bool {
			return func() bool {
				c := condition(appliance.CondRepaired)
				return c.GetStatus() == "False" && c.GetReason() == reason && strings.Contains(c.GetMessage(), word)
			}
		}
		if c := condition(appliance.CondRepaired); c != nil {
			t.Errorf("while all works: %v", c)
		}

		supplies.cut.Store(true)
		g, _ := w.engine.Guest(applianceID)
		stub, err := g.FS().ReadFile(program)
		w.must(err)
		w.must(g.FS().Remove(program))
		_, err = w.engine.Exec(w.Context(), applianceID, engine.Command{Argv: []string{"systemctl", "stop", guestside.UnitDNSMasq}})
		w.must(err)
		time.Sleep(time.Minute)
		for _, typ := range []string{"Ready", appliance.CondDNS, appliance.CondPackages} {
			if c := condition(typ); c.GetStatus() != "False" {
				t.Errorf("%s is %s (%s) without the name service", typ, c.GetStatus(), c.GetReason())
			}
		}
		if !named("Restarting", "before the guest is booted")() {
			t.Errorf("after a minute: %v", condition(appliance.CondRepaired))
		}
		w.within(2*time.Minute, "boot is named", named("Repairing", "Guest"))
		w.mustTell(applianceKey, "GuestRestarted")
		w.within(15*time.Minute, "what is not allowed is named", named("NotAllowed", "Rebuild"))
		w.repairBy("Services")
		w.within(time.Minute, "what is not allowed is named", named("NotAllowed", "Services"))
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.ReadOnly = proto.Bool(true) })
		w.within(time.Minute, "what is not allowed is named", named("NotAllowed", "readOnly"))
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.ReadOnly = nil })

		supplies.cut.Store(false)
		w.must(g.FS().WriteFile(program, stub, 0o755))
		w.until("everything ready", w.ready(quickstartKeys...))
		w.until("nothing is named", func() bool { return condition(appliance.CondRepaired) == nil })
	})
}
