package controllers_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/proximity-pve/proximity/pkg/pvesim"
)

// Every request that the life of the quickstart makes goes wrong once, in every way
// (soupFaults): reads by their path, each write for itself. Within three simulated minutes
// everything is as it would have been, with one guest for each object. A life in which the
// fault hit nothing is no proof, and fails.

var pathParameter = regexp.MustCompile(`\{[a-z]+\}`)

// requestsOfALife lists the requests that a life makes while everything is made, and while it is
// removed: reads by their paths' patterns, writes one by one.
func requestsOfALife(t *testing.T) (creating, deleting []pvesim.Fault, deployed, empty string) {
	t.Run("undisturbed", func(t *testing.T) {
		inWorldNow(t, func(w *world) {
			w.strangers()
			empty = w.portrait()
			before := w.node.Stats().Requests
			reads := func() (faults []pvesim.Fault) {
				now := w.node.Stats().Requests
				for _, what := range slices.Sorted(maps.Keys(now)) {
					if path, read := strings.CutPrefix(what, "GET "); read && now[what] > before[what] {
						faults = append(faults, pvesim.Fault{Method: "GET", Path: pathParameter.ReplaceAllString(path, "*"), Nth: 1})
					}
				}
				before = now
				return faults
			}
			w.start()
			w.apply(w.apiQuickstart())
			w.until("quickstart ready", w.ready(quickstartKeys...))
			w.settle()
			creating, deployed = reads(), w.portrait()
			before = w.node.Stats().Requests // the portrait reads, too
			w.remove(quickstartKeys...)
			w.until("everything gone", w.gone(quickstartKeys...))
			deleting = reads()
		})
	})
	for _, f := range writes {
		if f.Method == "DELETE" || strings.HasSuffix(f.Path, "/shutdown") || f.Nth == 2 && f.Method == "PUT" {
			f.Nth = 1
			deleting = append(deleting, f)
		} else {
			creating = append(creating, f)
		}
	}
	return creating, deleting, deployed, empty
}

// meaningless: a fault of a task has no meaning for a request that starts none.
func meaningless(call, how pvesim.Fault) bool {
	return strings.HasPrefix(string(how.Action), "task-") && (call.Method == "GET" || strings.HasSuffix(call.Path, "/network") && call.Method == "POST" || strings.HasSuffix(call.Path, "/proxlan"))
}

func TestEveryFaultOfEveryRequest(t *testing.T) {
	creating, deleting, deployed, empty := requestsOfALife(t)
	if len(soupFaults) < 15 || len(creating) < 15 || len(deleting) < 10 {
		t.Fatalf("%d faults, %d requests while creating, %d while deleting: that is too little", len(soupFaults), len(creating), len(deleting))
	}
	var mu sync.Mutex
	lives, n := 0, 0
	tell := func(phase string, call pvesim.Fault, story func(w *world, f pvesim.Fault)) {
		for _, name := range slices.Sorted(maps.Keys(soupFaults)) {
			f := soupFaults[name]
			if meaningless(call, f) {
				continue
			}
			if n++; !some(n, 40) {
				continue
			}
			f.Method, f.Path, f.Nth = call.Method, call.Path, call.Nth
			t.Run(fmt.Sprintf("%s %s %s #%d, %s", phase, f.Method, f.Path, f.Nth, name), func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.strangers()
					story(w, f)
					if w.node.Faults().Fired() == 0 {
						w.Error("the fault hit nothing")
					}
					mu.Lock()
					defer mu.Unlock()
					lives++
				})
			})
		}
	}
	for _, call := range creating {
		tell("create", call, func(w *world, f pvesim.Fault) {
			w.node.Faults().Add(f)
			w.start()
			w.apply(w.apiQuickstart())
			w.untilHelped("quickstart ready", w.ready(quickstartKeys...))
			w.settle()
			w.once()
			if now := w.portrait(); now != deployed {
				w.Errorf("not the same end:\n%s", diffLines(now, deployed))
			}
		})
	}
	for _, call := range deleting {
		tell("delete", call, func(w *world, f pvesim.Fault) {
			w.start()
			w.apply(w.apiQuickstart())
			w.until("quickstart ready", w.ready(quickstartKeys...))
			w.settle()
			w.node.Faults().Add(f)
			w.remove(quickstartKeys...)
			w.untilHelped("everything gone", w.gone(quickstartKeys...))
			if now := w.portrait(); now != empty {
				w.Errorf("left on the node:\n%s", diffLines(now, empty))
			}
			w.once()
		})
	}
}

// untilHelped is until, with a human who unlocks guests that a task left locked, as they are told.
func (w *world) untilHelped(what string, ok func() bool) {
	w.Helper()
	s := &soup{world: w, foreign: map[int]func(){}, did: map[string]int{}}
	n := 0
	w.until(what, func() bool {
		if n++; n%200 == 0 {
			s.unlockAll()
		}
		return ok()
	})
}

// once demands that no guest was made a second time.
func (w *world) once() {
	w.Helper()
	for _, vmid := range []int{applianceID, firstVMID} {
		if n := w.tasks("vzcreate", vmid); n > 1 {
			w.Errorf("guest %d was created %d times", vmid, n)
		}
	}
}
