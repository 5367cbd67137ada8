package access

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/store"
)

// rewatchDelay is the pause before a watch that ended, or a look that failed, is tried again.
const rewatchDelay = 200 * time.Millisecond

// Follower keeps something that is made of a few kinds up to date. Refresh makes it anew at
// once, which whoever has changed such an object does before it says so: what was taken from
// somebody is gone when the request that took it is answered. Run follows all other changes.
type Follower struct {
	store   store.Store
	kinds   []string
	rebuild func(ctx context.Context) error

	mu      sync.Mutex // one at a time
	changes sync.Mutex
	notify  []func()
}

// NewFollower returns a Follower that calls rebuild, which reads the kinds from the store.
// Nothing is called before Refresh or Run.
func NewFollower(st store.Store, kinds []string, rebuild func(ctx context.Context) error) *Follower {
	return &Follower{store: st, kinds: kinds, rebuild: rebuild}
}

// Follows tells whether objects of the kind are part of it.
func (f *Follower) Follows(kind string) bool {
	for _, k := range f.kinds {
		if k == kind {
			return true
		}
	}
	return false
}

// OnChange calls fn after every rebuild, in the goroutine that made it: it must be quick.
func (f *Follower) OnChange(fn func()) {
	f.changes.Lock()
	defer f.changes.Unlock()
	f.notify = append(f.notify, fn)
}

// Refresh reads the kinds now.
func (f *Follower) Refresh(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.rebuild(ctx); err != nil {
		return err
	}
	f.changes.Lock()
	defer f.changes.Unlock()
	for _, fn := range f.notify {
		fn()
	}
	return nil
}

// Run follows the kinds until ctx ends.
func (f *Follower) Run(ctx context.Context, log *slog.Logger) {
	changed := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for _, kind := range f.kinds {
		wg.Go(func() { f.watch(ctx, kind, changed, log) })
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-changed:
			if err := f.Refresh(ctx); err != nil && ctx.Err() == nil {
				log.Warn("could not read who may do what, trying again", "error", err)
				pause(ctx)
				mark(changed)
			}
		}
	}
	wg.Wait()
}

func (f *Follower) watch(ctx context.Context, kind string, changed chan<- struct{}, log *slog.Logger) {
	for ctx.Err() == nil {
		w, err := f.store.Watch(ctx, store.WatchOptions{Kind: kind})
		if err == nil {
			for range w.Events() {
				mark(changed)
			}
			err = w.Err()
			w.Stop()
		}
		if ctx.Err() == nil {
			log.Warn("watch ended, opening it again", "watched", kind, "error", err)
			pause(ctx)
		}
	}
}

func mark(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default: // it is marked already
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(rewatchDelay):
	}
}
