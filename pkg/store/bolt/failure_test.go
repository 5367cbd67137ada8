package bolt_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

// openGood opens a store with one good object in its file and none of its events in
// memory, so that watches from the beginning read the file.
func openGood(t *testing.T, path string, opts bolt.Options) *bolt.Store {
	t.Helper()
	st := open(t, path, bolt.Options{})
	mustCreate(t, st, bridge("good"))
	closeStore(t, st)
	return open(t, path, opts)
}

// expectReadOnly checks a store whose last write failed: it says so, refuses writes, and
// shows what it showed before.
func expectReadOnly(t *testing.T, st *bolt.Store, before store.Stats, why string) {
	t.Helper()
	if err := create(st, bridge("later")); !errors.Is(err, store.ErrReadOnly) || !strings.Contains(err.Error(), why) {
		t.Errorf("a later write got %v", err)
	}
	if err := st.Compact(bg, st.Revision()); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("a compaction got %v", err)
	}
	s := st.Stats()
	if !s.ReadOnly || !strings.Contains(s.LastFailure, why) || s.Revision != before.Revision || s.Objects != before.Objects || s.Commits != before.Commits {
		t.Errorf("stats were %+v and are %+v", before, s)
	}
	if !has(st, bridge("good")) || has(st, bridge("bad")) {
		t.Error("reads do not show the last good state")
	}
	if _, err := st.List(bg, "Bridge", store.ListOptions{}); err != nil {
		t.Error(err)
	}
	// A watch that must read the file sees nothing of the failed commit either.
	w, err := st.Watch(bg, store.WatchOptions{From: s.Compacted})
	if err != nil {
		t.Fatal(err)
	}
	events := collect(t, w, int(s.Revision-s.Compacted))
	w.Stop()
	for ev := range w.Events() {
		t.Errorf("event %v of the failed commit", ev)
	}
	if last := events[len(events)-1]; last.Revision != s.Revision {
		t.Errorf("the last event is at %d, the store at %d", last.Revision, s.Revision)
	}
}

func TestFailedCommitMakesTheStoreReadOnly(t *testing.T) {
	for _, where := range []string{"before", "after"} {
		t.Run(where+" the sync", func(t *testing.T) {
			var broken atomic.Bool
			fault := func() error {
				if broken.Load() {
					return errors.New("no luck")
				}
				return nil
			}
			opts := bolt.Options{}.WithFaults(fault, nil)
			if where == "after" {
				opts = bolt.Options{}.WithFaults(nil, fault)
			}
			path := newPath(t)
			st := openGood(t, path, opts)
			before := st.Stats()
			broken.Store(true)
			if err := create(st, bridge("bad")); !errors.Is(err, store.ErrReadOnly) {
				t.Fatalf("got %v", err)
			}
			broken.Store(false) // it is not tried again
			expectReadOnly(t, st, before, "no luck")
			closeStore(t, st)

			// What was not acknowledged may be there after a restart, as a whole, or not.
			st = open(t, path, bolt.Options{})
			if !has(st, bridge("good")) || has(st, bridge("bad")) != (where == "after") || has(st, bridge("later")) {
				t.Errorf("objects after the restart: %d", st.Stats().Objects)
			}
			mustCreate(t, st, bridge("new"))
		})
	}
}

// A sync that fails once may succeed the second time, for pages that the kernel has
// dropped: the second time must not come.
func TestFailedCommitIsNotTriedAgain(t *testing.T) {
	commits := 0
	var armed atomic.Bool
	path := newPath(t)
	st := openGood(t, path, bolt.Options{}.WithFaults(nil, func() error {
		if !armed.Load() {
			return nil
		}
		if commits++; commits == 1 {
			return errors.New("no luck")
		}
		return nil
	}))
	before := st.Stats()
	armed.Store(true)
	if err := create(st, bridge("bad")); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("got %v", err)
	}
	expectReadOnly(t, st, before, "no luck")
	closeStore(t, st)
	if commits != 1 {
		t.Errorf("%d commits", commits)
	}
}

// Transactions that ran on top of a failed commit fail with it, even those that only read.
func TestAllThatBuiltOnAFailedCommitFails(t *testing.T) {
	var armed atomic.Bool
	arrived, fail := make(chan struct{}), make(chan struct{})
	st := open(t, newPath(t), bolt.Options{}.WithFaults(func() error {
		if !armed.Load() {
			return nil
		}
		close(arrived)
		<-fail
		return errors.New("no luck")
	}, nil))
	// The very first write: after one that was alone, others would wait for the next one's end.
	armed.Store(true)
	errs := make([]error, 30)
	var wg sync.WaitGroup
	wg.Go(func() { errs[0] = create(st, bridge("bad")) })
	<-arrived
	seen := make(chan struct{}, len(errs))
	for i := 1; i < len(errs); i++ {
		wg.Go(func() {
			_, errs[i] = st.Update(bg, func(tx store.Tx) error {
				defer func() { seen <- struct{}{} }()
				if _, err := tx.Get(keyOf("bad")); err != nil {
					t.Errorf("transaction %d does not see the one before it: %v", i, err)
				}
				if i%2 == 0 {
					return nil
				}
				_, err := tx.Create(event("e", int32(i)))
				return err
			})
		})
	}
	for range len(errs) - 1 {
		<-seen
	}
	close(fail)
	wg.Wait()
	for i, err := range errs {
		if !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("transaction %d: got %v", i, err)
		}
	}
}

// Nothing may show a change while a power failure could still take it back.
func TestNothingShowsBeforeItIsDurable(t *testing.T) {
	var armed atomic.Bool
	arrived, proceed := make(chan struct{}), make(chan struct{})
	hold := func() error {
		if armed.Swap(false) {
			close(arrived)
			<-proceed
		}
		return nil
	}
	st := openGood(t, newPath(t), bolt.Options{}.WithFaults(nil, hold))
	before := st.Revision()
	w, err := st.Watch(bg, store.WatchOptions{From: before})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	armed.Store(true)
	answered := make(chan error, 1)
	go func() { answered <- create(st, bridge("new")) }()
	<-arrived
	fromFile, err := st.Watch(bg, store.WatchOptions{From: st.Stats().Compacted})
	if err != nil {
		t.Fatal(err)
	}
	collect(t, fromFile, 1)
	select {
	case ev := <-w.Events():
		t.Errorf("event %v", ev)
	case ev := <-fromFile.Events():
		t.Errorf("event %v from the file", ev)
	case err := <-answered:
		t.Errorf("answer %v", err)
	default:
	}
	if has(st, bridge("new")) || st.Revision() != before || st.Stats().Objects != 1 {
		t.Error("reads show it")
	}
	close(proceed)
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if !has(st, bridge("new")) {
		t.Error("it is acknowledged and not there")
	}
	collect(t, w, 1)
	fromFile.Stop()
}
