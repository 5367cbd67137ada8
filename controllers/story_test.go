package controllers_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/resource"
)

func TestQuickstartConverges(t *testing.T) {
	inWiredWorld(t, func(w *world) {
		begin := time.Now()
		w.deployed()
		w.Logf("ready after %s of simulated time", time.Since(begin))
		w.mustTell(bridgeKey, "Write", "Active")
		w.mustTell(applianceKey, "Create", "CreateDone", "Start", "Configured")
		w.mustTell(appKey, "Create", "CreateDone", "Start", "Provisioned")
		for _, vmid := range []int{applianceID, firstVMID} {
			if n := w.tasks("vzcreate", vmid); n != 1 {
				t.Errorf("guest %d was created %d times", vmid, n)
			}
		}
		// Each of the six steps of a deployment is a condition with a time.
		for _, typ := range []string{"TemplateReady", "GuestCreated", "NetworkReady", "DNSReady", "ProxyReady", "Healthy"} {
			c := resource.FindCondition(w.get(appKey), typ)
			if c.GetStatus() != "True" || c.GetLastTransitionTime() == "" {
				t.Errorf("step %s: %v", typ, c)
			}
		}
	})
}

// In the running state nothing is written, here or there, for a minute after Ready.
func TestQuietWhenNothingChanges(t *testing.T) {
	inWiredWorld(t, func(w *world) {
		w.deployed()
		w.settle() // what Ready itself sets off, and the appliance's next look at the backends
		revision, calls, before := w.store.Revision(), len(w.ledger.all()), w.node.Stats()
		time.Sleep(time.Minute)
		for _, c := range w.ledger.since(calls) {
			t.Errorf("written outside: %s", c.what)
		}
		if now := w.store.Revision(); now != revision {
			t.Errorf("%d writes to the store:\n%s", now-revision, w.changedSince(revision))
		}
		after := w.node.Stats()
		if after.Writes != before.Writes {
			t.Errorf("the node counts %d writes", after.Writes-before.Writes)
		}
		for what, n := range after.Requests {
			if d := n - before.Requests[what]; d > 0 {
				t.Logf("%4d %s", d, what)
			}
		}
		for what, n := range after.Commands {
			if d := n - before.Commands[what]; d > 0 {
				t.Logf("%4d %s", d, what)
			}
		}
	})
}

// A restart of the daemon is no reason to change anything either.
func TestRestartChangesNothing(t *testing.T) {
	inWiredWorld(t, func(w *world) {
		w.deployed()
		w.examined() // the connection has new guests now
		calls, revision := len(w.ledger.all()), w.store.Revision()
		w.restart()
		time.Sleep(time.Minute)
		for _, c := range w.ledger.since(calls) {
			t.Errorf("written outside: %s", c.what)
		}
		if now := w.store.Revision(); now != revision {
			t.Errorf("%d writes to the store:\n%s", now-revision, w.changedSince(revision))
		}
	})
}

// Whichever order a user deletes in, nothing is left.
func TestDeleteInAnyOrder(t *testing.T) {
	for _, pause := range []time.Duration{0, 15 * time.Second} {
		for i, order := range permutations(quickstartKeys) {
			if !some(i, 3) {
				continue
			}
			name := ""
			for _, key := range order {
				name += key.Kind + " "
			}
			t.Run(fmt.Sprintf("%safter %s", name, pause), func(t *testing.T) {
				inWorld(t, func(w *world) {
					before := w.traces()
					w.deployed()
					for _, key := range order {
						w.remove(key)
						time.Sleep(pause)
					}
					w.until("everything gone", w.gone(order...))
					if now := w.traces(); now != before {
						t.Errorf("left on the node:\n%s", diffLines(now, before))
					}
				})
			})
		}
	}
}

func permutations(keys []resource.Key) [][]resource.Key {
	if len(keys) <= 1 {
		return [][]resource.Key{keys}
	}
	var out [][]resource.Key
	for i, first := range keys {
		rest := append(append([]resource.Key{}, keys[:i]...), keys[i+1:]...)
		for _, p := range permutations(rest) {
			out = append(out, append([]resource.Key{first}, p...))
		}
	}
	return out
}
