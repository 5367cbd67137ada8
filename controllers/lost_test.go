package controllers_test

import (
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// loseDatabase ends the daemon's life and gives the next one an empty database.
func (w *world) loseDatabase() {
	w.Helper()
	w.daemon.stop()
	w.must(w.store.Close())
	w.emptyStore()
	w.ledger.reset(nil)
}

// nothingDone demands that no call that changes something was made.
func (w *world) nothingDone() {
	w.Helper()
	for _, c := range w.ledger.all() {
		w.Errorf("done: %s", c.what)
	}
}

// With the database lost and the manifests applied again nothing is made a second time and
// nothing is touched, however long that stays so: each object says what to do.
func TestLostDatabase(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		before := w.traces()
		w.loseDatabase()
		w.start()
		w.apply(w.quickstart())
		w.until("the bridge says so", w.stalled(bridgeKey, "UIDUnknown"))
		time.Sleep(10 * time.Minute)
		w.nothingDone()
		if now := w.traces(); now != before {
			t.Errorf("changed:\n%s", diffLines(now, before))
		}
		if m := resource.FindCondition(w.get(bridgeKey), "Stalled").GetMessage(); !strings.Contains(m, "proxctl admin rebuild") {
			t.Errorf("it does not say what to do: %s", m)
		}
	})
}

// An App that is new to the database, with a guest of its name that the database does not
// know, does not get a second one; a copy of such a guest, or another installation's,
// keeps nobody from it.
func TestGuestOfALostObject(t *testing.T) {
	mark := ownership.Mark{Installation: installation, Kind: "App", Namespace: "default", Name: "again", UID: "11111111-2222-3333-4444-555555555555", VMID: 300}
	for name, tc := range map[string]struct {
		change func(m *ownership.Mark)
		made   bool
	}{
		"of this name":         {func(*ownership.Mark) {}, false},
		"of another namespace": {func(m *ownership.Mark) { m.Namespace = "other" }, true},
		"a copy":               {func(m *ownership.Mark) { m.VMID = 299 }, true},
		"another installation": {func(m *ownership.Mark) { m.Installation = "installation-2" }, true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				m := mark
				tc.change(&m)
				w.stranger(300)
				w.update(300, "description", "mine\n"+m.Describe(""), "tags", strings.Join(ownership.Tags(nil, m.UID), ";"))
				w.deployed()
				check := w.untouched(300)
				again := appKeyOf("again")
				w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: again}\n")
				if tc.made {
					w.until("made", w.ready(again))
					check()
					return
				}
				w.until("stalled", w.stalled(again, "UIDUnknown"))
				time.Sleep(5 * time.Minute)
				check()
				if n := len(w.engine.Guests()); n != 3 {
					t.Errorf("%d guests", n)
				}
				// When the mark is taken off by hand, the guest is nobody's.
				w.update(300, "description", "mine", "tags", "web")
				w.until("made", w.ready(again))
			})
		})
	}
}

// Copies of our guests on other VMIDs change nothing; the App says that they are there.
func TestCopiesAreTold(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		cfg, err := w.admin.LXCConfig(w.Context(), nodeName, firstVMID)
		w.must(err)
		w.stranger(300)
		w.update(300, "description", cfg.Description(), "tags", strings.Join(cfg.Tags(), ";"))
		check := w.untouched(300)
		w.until("told", w.has(appKey, "Unique", "False", "CopyFound"))
		if !w.ready(appKey)() {
			t.Error("the original is not ready any more")
		}
		w.mustTell(appKey, "CopyFound")
		time.Sleep(time.Minute)
		check()
		w.update(300, "tags", "web")
		w.until("told that it has gone", w.has(appKey, "Unique", "True", "Unique"))
	})
}
