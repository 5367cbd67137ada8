package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// WatchLoad says how much RunWatchers does.
type WatchLoad struct {
	Watchers int
	Writers  int
	Rounds   int // each ends with a compaction and a restart, where the backend can
	Writes   int // transactions of a writer in a round
}

// RunWatchers lets watchers come and go while writers write, the log is compacted and the
// store restarts. Each watcher resumes where it stopped, or begins anew where it was told
// to. All that it was sent is held against what the writers were told.
func RunWatchers(t *testing.T, open Opener, load WatchLoad) {
	b := open(t)
	c := &crowd{backend: b, st: b.Store, log: map[uint64]change{}}
	ctx, cancel := context.WithCancel(bg)
	defer cancel()
	var watchers sync.WaitGroup
	seen := make([]*visits, load.Watchers)
	for i := range seen {
		seen[i] = &visits{}
		watchers.Go(func() { c.follow(ctx, rand.New(rand.NewPCG(uint64(i), 2)), seen[i]) })
	}
	for round := range load.Rounds {
		var writers sync.WaitGroup
		for w := range load.Writers {
			rng := rand.New(rand.NewPCG(uint64(round), uint64(w)))
			writers.Go(func() { c.write(t, rng, load.Writes) })
		}
		writers.Wait()
		if b.Compact != nil {
			head, margin := c.store().Revision(), uint64(load.Writes)
			if err := b.Compact(ctx, head-min(head-1, margin)); err != nil {
				t.Fatal(err)
			}
		}
		if b.Reopen != nil {
			c.replace(b.Reopen(t))
		}
	}
	cancel()
	watchers.Wait()

	c.revisions = slices.Sorted(maps.Keys(c.log))
	events, relists := 0, 0
	for i, v := range seen {
		if v.err != nil {
			t.Errorf("watcher %d: %v", i, v.err)
		}
		for _, segment := range v.segments {
			if err := c.check(segment); err != nil {
				t.Errorf("watcher %d: %v", i, err)
			}
			events += len(segment.events)
		}
		relists += v.relists
	}
	t.Logf("%d changes, %d events delivered, %d times told to list again", len(c.log), events, relists)
	if len(c.log) < load.Rounds*load.Writers*load.Writes/2 || events < len(c.log) || (b.Compact != nil && relists == 0) {
		t.Errorf("the run did too little to mean anything")
	}
}

// change is what the log must say of a revision.
type change struct {
	typ store.EventType
	key resource.Key
}

// crowd is what writers and watchers share.
type crowd struct {
	backend Backend
	mu      sync.Mutex
	st      store.Store
	log     map[uint64]change // by the writers, once acknowledged
	// revisions are the keys of log in order, once all writers are done.
	revisions []uint64
}

func (c *crowd) store() store.Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.st
}

func (c *crowd) replace(st store.Store) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.st = st
}

// write does transactions of one or two changes and notes them when they are acknowledged.
func (c *crowd) write(t *testing.T, rng *rand.Rand, n int) {
	for range n {
		var made map[uint64]change
		_, err := c.store().Update(bg, func(tx store.Tx) error {
			made = map[uint64]change{}
			for range 1 + rng.IntN(2) {
				a := appIn("default", fmt.Sprint(rng.IntN(20)))
				key, typ := resource.KeyOf(a), store.Added
				o, err := tx.Create(a)
				if errors.Is(err, store.ErrAlreadyExists) && rng.IntN(2) == 0 {
					typ = store.Deleted
					o, err = tx.Delete(key, store.Preconditions{})
				} else if errors.Is(err, store.ErrAlreadyExists) {
					typ = store.Modified
					o, err = tx.UpdateStatus(with(a, setState(fmt.Sprint(rng.Int64()))))
				}
				if err != nil {
					return err
				}
				made[rev(o)] = change{typ, key}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
			return
		}
		c.mu.Lock()
		for revision, what := range made {
			c.log[revision] = what
		}
		c.mu.Unlock()
	}
}

// segment is what one watch delivered.
type segment struct {
	from   uint64
	events []store.Event
}

// visits is what one watcher has seen in all its watches.
type visits struct {
	segments []segment
	relists  int
	err      error
}

// follow watches, stops at random, and resumes, until the context ends.
func (c *crowd) follow(ctx context.Context, rng *rand.Rand, v *visits) {
	start := c.store().Revision()
	from := start
	for ctx.Err() == nil {
		st := c.store()
		if rng.IntN(4) == 0 { // resume somewhere it has been before
			from = start + rng.Uint64N(from-start+1)
		}
		w, err := st.Watch(ctx, store.WatchOptions{From: from})
		switch {
		case errors.Is(err, store.ErrCompacted): // list again
			v.relists++
			from = max(from, st.Revision())
			continue
		case errors.Is(err, store.ErrClosed), errors.Is(err, context.Canceled):
			runtime.Gosched() // it is being opened again
			continue
		case err != nil:
			v.err = err
			return
		}
		s := segment{from: from}
		for limit := rng.IntN(500); len(s.events) < limit; {
			ev, ok := <-w.Events()
			if !ok {
				break
			}
			s.events = append(s.events, ev)
			from = ev.Revision
		}
		w.Stop()
		for range w.Events() { // what was under way is not part of the segment
		}
		if err := w.Err(); err != nil && !errors.Is(err, store.ErrClosed) && !errors.Is(err, store.ErrSlow) {
			v.err = err
			return
		}
		v.segments = append(v.segments, s)
	}
}

// check holds what a watch delivered against the log: all of it above from, in order, once.
func (c *crowd) check(s segment) error {
	first, _ := slices.BinarySearch(c.revisions, s.from+1)
	revisions := c.revisions[first:]
	for i, ev := range s.events {
		if i >= len(revisions) || ev.Revision != revisions[i] {
			return fmt.Errorf("watch from %d: event %d has revision %d, the log has %v there", s.from, i, ev.Revision, revisions[min(i, len(revisions)):min(i+1, len(revisions))])
		}
		if got := (change{ev.Type, resource.KeyOf(ev.Object)}); got != c.log[ev.Revision] {
			return fmt.Errorf("watch from %d: revision %d is %v, the log has %v", s.from, ev.Revision, got, c.log[ev.Revision])
		}
	}
	return nil
}
