package controllers_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
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
