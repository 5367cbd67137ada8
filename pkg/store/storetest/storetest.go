// Package storetest holds a store to its contract. Every backend runs Run, the cases that
// pin down each sentence of the package comment of store; RunModel, which compares random
// operations with a small reference; and RunWatchers, which looks for gaps in watches
// through writes, restarts and compaction.
//
// The cases use nothing but the interface, so a client of a remote store can run them too.
package storetest

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// MaxWatchLag is what the backend under test must be opened with, so that the cases need
// not write a default's worth of events to make a watcher slow.
const MaxWatchLag = 2000

// Backend is a store under test and what can be done to it from outside.
type Backend struct {
	Store store.Store
	// Reopen closes the newest store and opens one on the same data. It is nil when the
	// backend forgets; cases about restarts are then skipped.
	Reopen func(t *testing.T) store.Store
	// Compact makes the log begin at a revision. It is nil when the backend cannot be told
	// to; cases about compaction are then skipped.
	Compact func(ctx context.Context, upTo uint64) error
}

// Opener opens an empty store with the kinds of Registry and a MaxWatchLag of MaxWatchLag.
// It registers the clean-up that closes it.
type Opener func(t *testing.T) Backend

// RunClock runs the cases about time. Each is a bubble of testing/synctest, so it is for
// backends that wait for nothing outside.
func RunClock(t *testing.T, open Opener) {
	for _, c := range clockCases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := open(t)
				c.run(&env{T: t, st: b.Store, backend: b})
			})
		})
	}
}

// Registry has the kinds of the tests: App (namespaced), Bridge (cluster-scoped), and
// Event (without spec and status). Other kinds are unknown to it.
func Registry() *resource.Registry {
	reg, err := resource.NewRegistry(
		resource.Definition{Message: &v1alpha1.App{}},
		resource.Definition{Message: &v1alpha1.Bridge{}},
		resource.Definition{Message: &v1alpha1.Event{}},
	)
	if err != nil {
		panic(err) // three constants
	}
	return reg
}

// testCase is one sentence of the contract.
type testCase struct {
	name string
	run  func(e *env)
}

// Run runs every case, each on a store of its own.
func Run(t *testing.T, open Opener) { RunExcept(t, open, nil) }

// MinCases is how many cases every backend must run for its run to mean anything.
const MinCases = 120

// RunExcept is Run for a backend that cannot express some cases: why, by the beginning of
// their names. Reasons are printed and counted. One that excepts nothing is an error, and so
// are fewer cases than MinCases.
func RunExcept(t *testing.T, open Opener, except map[string]string) {
	ran, seen, all, left := 0, 0, 0, map[string]int{}
	defer func() {
		if seen < all {
			return // the command line asked for some cases only
		}
		for name, why := range except {
			if t.Logf("%d cases %q are not for this backend: %s", left[name], name, why); left[name] == 0 {
				t.Errorf("no case begins with %q", name)
			}
		}
		if t.Logf("%d cases ran", ran); ran < MinCases {
			t.Errorf("only %d cases ran, want at least %d", ran, MinCases)
		}
	}()
	for _, cases := range [][]testCase{
		createCases, updateCases, statusCases, deleteCases, txCases, readCases, pageCases, watchCases, lifeCases, restartCases, auditCases,
	} {
		all += len(cases)
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				seen++
				for name, why := range except {
					if strings.HasPrefix(c.name, name) {
						left[name]++
						t.Skip("not for this backend: " + why)
					}
				}
				b := open(t)
				c.run(&env{T: t, st: b.Store, backend: b})
				ran++ // not reached by cases that skip themselves
			})
		}
	}
}
