package controllers_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
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

// shelf keeps copies in memory.
type shelf struct {
	mu     sync.Mutex
	copies map[string][]byte
}

func (k *shelf) Keep(a *v1alpha1.Appliance, state []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.copies == nil {
		k.copies = map[string][]byte{}
	}
	k.copies[a.GetMetadata().GetUid()] = bytes.Clone(state)
	return nil
}

func (k *shelf) Kept(a *v1alpha1.Appliance) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if state, ok := k.copies[a.GetMetadata().GetUid()]; ok {
		return state, nil
	}
	return nil, appliance.ErrNotKept
}

func (k *shelf) Drop(a *v1alpha1.Appliance) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.copies, a.GetMetadata().GetUid())
	return nil
}

// ruinedEngine has an appliance's guest in which nothing of ours works from a moment on, however
// often it is booted; or that does not even start. One that is made anew is as it should be.
type ruinedEngine struct {
	*mem.Engine
	mu             sync.Mutex
	ruined, stands bool
	made           int
}

func (e *ruinedEngine) ruin(stands bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ruined, e.stands, e.made = true, stands, 0
}

func (e *ruinedEngine) Create(ctx context.Context, g engine.Guest, log io.Writer) error {
	if g.VMID == applianceID {
		e.mu.Lock()
		e.ruined = false
		e.made++
		e.mu.Unlock()
	}
	return e.Engine.Create(ctx, g, log)
}

func (e *ruinedEngine) Start(ctx context.Context, g engine.Guest) error {
	e.mu.Lock()
	broken := e.ruined && e.stands && g.VMID == applianceID
	e.mu.Unlock()
	if broken {
		return context.DeadlineExceeded
	}
	return e.Engine.Start(ctx, g)
}

func (e *ruinedEngine) Exec(ctx context.Context, vmid int, c engine.Command) (int, error) {
	e.mu.Lock()
	broken := e.ruined && vmid == applianceID && strings.Contains(strings.Join(c.Argv, " "), "agent")
	e.mu.Unlock()
	if broken {
		return 1, nil
	}
	return e.Engine.Exec(ctx, vmid, c)
}

func (e *ruinedEngine) creations() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.made
}

func inRuins(t *testing.T, story func(w *world, e *ruinedEngine)) {
	t.Helper()
	var ruins *ruinedEngine
	inWorldOn(t, func(e *mem.Engine) engine.Engine { ruins = &ruinedEngine{Engine: e}; return ruins }, func(w *world) { story(w, ruins) })
}

// repairBy says how far repairs may go.
func (w *world) repairBy(level string) {
	w.Helper()
	a := resource.Clone(w.get(applianceKey)).(*v1alpha1.Appliance)
	a.Metadata.ResourceVersion = ""
	a.Spec.Repair = proto.String(level)
	_, err := w.applier.Update(w.Context(), a)
	w.must(err)
	time.Sleep(noticed)
}

func (w *world) applianceFile(path string) string {
	w.Helper()
	g, ok := w.engine.Guest(applianceID)
	if !ok {
		w.Fatal("the appliance has no guest")
	}
	text, err := g.FS().ReadFile(path)
	w.must(err)
	return string(text)
}

// TestGuestIsMadeAnew: where it is allowed, a guest that booting does not help is made anew, with
// the CA and the leases of the one before, whenever the daemon may have died meanwhile.
func TestGuestIsMadeAnew(t *testing.T) {
	for name, tc := range map[string]struct{ stands, dies bool }{
		"it does not start": {stands: true},
		"its services are down, and the daemon dies meanwhile": {dies: true},
	} {
		t.Run(name, func(t *testing.T) {
			inRuins(t, func(w *world, e *ruinedEngine) {
				w.kept = &shelf{}
				w.deployed()
				w.repairBy("Rebuild")
				w.until("copy", func() bool {
					return resource.FindCondition(w.get(applianceKey), appliance.CondKept).GetStatus() == "True"
				})
				ca, app := w.applianceFile(guestside.CARootPath), w.get(appKey)
				leases := w.applianceFile(guestside.LeasesPath)
				e.ruin(tc.stands)
				if tc.stands {
					w.must(w.engine.Stop(w.Context(), applianceID))
				}
				time.Sleep(20 * time.Minute) // three boots are tried before
				if n := e.creations(); n != 0 {
					t.Error("made anew before booting it was tried")
				}
				phase := func() string { return w.get(applianceKey).(*v1alpha1.Appliance).GetStatus().GetRepair().GetPhase() }
				if tc.dies {
					w.within(2*time.Hour, "rebuild begins", func() bool { return phase() == "Destroying" || e.creations() == 1 })
					w.daemon.kill()
					w.daemon.bury()
					w.start()
					w.within(time.Hour, "the guest is gone", func() bool { return phase() == "Restoring" || e.creations() == 1 })
					w.daemon.kill()
					w.daemon.bury()
					w.start()
				}
				w.within(2*time.Hour, "made anew", func() bool { return e.creations() == 1 })
				w.until("everything ready", w.ready(quickstartKeys...))
				w.mustTell(applianceKey, "GuestRebuilt", "StateRestored")
				if got := w.applianceFile(guestside.CARootPath); got != ca {
					t.Error("the CA is another one")
				}
				if got := w.applianceFile(guestside.LeasesPath); !strings.Contains(got, strings.Fields(leases)[1]) {
					t.Errorf("leases %q, were %q", got, leases)
				}
				time.Sleep(12 * time.Minute) // its repairs of before count for nothing then
				if n := e.creations(); n != 1 {
					t.Errorf("made anew %d times although it works", n)
				}
				if got := w.get(appKey); got.GetMetadata().GetUid() != app.GetMetadata().GetUid() {
					t.Error("the App is another one")
				}
				if st := w.get(applianceKey).(*v1alpha1.Appliance).GetStatus(); st.GetRepair() != nil {
					t.Errorf("status %v", st.GetRepair())
				}
			})
		})
	}
}

// TestGuestIsNotMadeAnew where its state would be lost.
func TestGuestIsNotMadeAnew(t *testing.T) {
	inRuins(t, func(w *world, e *ruinedEngine) {
		w.kept = forgetful{}
		w.deployed()
		w.repairBy("Rebuild")
		e.ruin(false)
		time.Sleep(30 * time.Minute)
		if n := e.creations(); n != 0 {
			t.Errorf("made anew %d times", n)
		}
		w.mustTell(applianceKey, "GuestRestarted", "NotRebuilt")
	})
}

// forgetful keeps nothing.
type forgetful struct{}

func (forgetful) Keep(*v1alpha1.Appliance, []byte) error { return nil }
func (forgetful) Kept(*v1alpha1.Appliance) (state []byte, err error) {
	return nil, appliance.ErrNotKept
}
func (forgetful) Drop(*v1alpha1.Appliance) error { return nil }
