package controllers_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/store"
)

// What a controller is told of the store may be late, lost or told twice.

// errStreamLost is how a watch ends that lost its stream.
var errStreamLost = errors.New("the stream was lost")

// spoiledWatches are the watches of a daemon, some of which go wrong.
type spoiledWatches struct {
	mu   sync.Mutex
	open map[*spoiledWatch]bool
}

func newSpoiledWatches() *spoiledWatches { return &spoiledWatches{open: map[*spoiledWatch]bool{}} }

// watchSpoils are the ways in which a watch goes wrong.
//
//	lost      it ends, and who watches has to open it again
//	late      nothing comes for a while, then everything
//	replayed  what came last comes again, oldest first
//	hidden    the next events do not come, and after a while it ends, as one does that missed some
var watchSpoils = []string{"lost", "late", "replayed", "hidden"}

// spoil lets all watches of a kind go wrong, for so long where that means something, and
// returns how many there are.
func (s *spoiledWatches) spoil(kind, how string, d time.Duration) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.open {
		if w.kind != kind {
			continue
		}
		select {
		case w.spoils <- watchSpoil{how, d}:
			n++
		default: // something is wrong with it already
		}
	}
	return n
}

type watchSpoil struct {
	how string
	d   time.Duration
}

// rememberedEvents is how many events a replay repeats at most.
const rememberedEvents = 8

// spoiledWatch passes on what another one delivers, more or less.
type spoiledWatch struct {
	store.Watcher
	kind   string
	events chan store.Event
	spoils chan watchSpoil
	ctx    context.Context
	cancel context.CancelFunc

	mu  sync.Mutex
	err error
}

func (s *spoiledWatches) watch(ctx context.Context, from store.Watcher, kind string) store.Watcher {
	w := &spoiledWatch{Watcher: from, kind: kind, events: make(chan store.Event), spoils: make(chan watchSpoil, 1)}
	w.ctx, w.cancel = context.WithCancel(ctx)
	s.mu.Lock()
	s.open[w] = true
	s.mu.Unlock()
	go func() {
		w.run()
		w.cancel()
		s.mu.Lock()
		delete(s.open, w)
		s.mu.Unlock()
	}()
	return w
}

func (w *spoiledWatch) run() {
	defer close(w.events)
	var last []store.Event
	var end <-chan time.Time // of one that hides events
	for {
		select {
		case ev, ok := <-w.Watcher.Events():
			switch {
			case !ok:
				return
			case end != nil: // hidden
				continue
			case ev.Type != store.Bookmark:
				last = append(last, ev)
				last = last[max(0, len(last)-rememberedEvents):]
			}
			if !w.send(ev) {
				return
			}
		case <-end:
			w.lose()
			return
		case spoil := <-w.spoils:
			switch spoil.how {
			case "lost":
				w.lose()
				return
			case "late":
				select {
				case <-time.After(spoil.d):
				case <-w.ctx.Done():
					return
				}
			case "hidden":
				end = time.After(spoil.d)
			case "replayed":
				for _, ev := range slices.Clone(last) {
					if !w.send(ev) {
						return
					}
				}
			}
		}
	}
}

func (w *spoiledWatch) send(ev store.Event) bool {
	select {
	case w.events <- ev:
		return true
	case <-w.ctx.Done():
		return false
	}
}

func (w *spoiledWatch) lose() {
	w.mu.Lock()
	w.err = errStreamLost
	w.mu.Unlock()
	w.Watcher.Stop()
}

func (w *spoiledWatch) Events() <-chan store.Event { return w.events }

func (w *spoiledWatch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.err, w.Watcher.Err())
}

func (w *spoiledWatch) Stop() {
	w.cancel()
	w.Watcher.Stop()
}

// Watch is the daemon's way to be told what changes.
func (m mortalStore) Watch(ctx context.Context, opts store.WatchOptions) (store.Watcher, error) {
	from, err := m.Store.Watch(ctx, opts)
	if spoiled := m.daemon.world.watches; spoiled != nil && err == nil {
		return spoiled.watch(ctx, from, opts.Kind), nil
	}
	return from, err
}

// Whatever goes wrong with the watches at whichever moment, the life of the quickstart is what
// it is without.
func TestLifeWithSpoiledWatches(t *testing.T) {
	g := golden(t)
	for i, how := range watchSpoils {
		for seed := range 3 {
			if !some(3*i+seed, 3) {
				continue
			}
			t.Run(how, func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.strangers()
					w.watches = newSpoiledWatches()
					spoiled, done := 0, make(chan struct{})
					ctx, cancel := context.WithCancel(w.Context())
					go func() {
						defer close(done)
						for n := seed; ctx.Err() == nil; n++ {
							spoiled += w.watches.spoil(soupKinds[n%len(soupKinds)], how, 3*time.Second)
							select {
							case <-ctx.Done():
							case <-time.After(time.Duration(200+170*seed) * time.Millisecond):
							}
						}
					}()
					w.deployed()
					w.restart()
					time.Sleep(soupLook)
					cancel()
					<-done
					time.Sleep(5 * time.Second)
					w.settle()
					w.until("ready", w.ready(quickstartKeys...))
					if now := w.portrait(); now != g.deployed {
						t.Errorf("not the same end:\n%s", diffLines(now, g.deployed))
					}
					w.createdOnce()
					if spoiled < 20 {
						t.Errorf("only %d watches went wrong", spoiled)
					}
					w.remove(quickstartKeys...)
					w.until("everything gone", w.gone(quickstartKeys...))
					if now := w.portrait(); now != g.empty {
						t.Errorf("left on the node:\n%s", diffLines(now, g.empty))
					}
				})
			})
		}
	}
}

// soupKinds are the kinds whose watches go wrong.
var soupKinds = []string{"Bridge", "Appliance", "App", "Vhost", "Cluster", "Secret", "Operation"}

// spoilWatches lets the watches of a kind go wrong.
func (s *soup) spoilWatches() {
	kind, how := pick(s, soupKinds), pick(s, watchSpoils)
	d := time.Duration(s.rand.Int64N(int64(10 * time.Second)))
	n := s.watches.spoil(kind, how, d)
	s.did["watches spoiled"] += n
	s.note("", "watches: %s %s for %s (%d)", kind, how, d.Round(time.Millisecond), n)
}
