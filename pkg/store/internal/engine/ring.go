package engine

import (
	"slices"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Event is a change with what a log needs to know of it. Its Object is nil: the goroutines
// of watchers decode what they deliver.
type Event struct {
	store.Event
	Key  resource.Key
	Time time.Time // of the transaction
	// version that the change made; nil: of a kind that this registry does not know.
	version *version
	// was there before, within or the status alone are what is another one when that is known,
	// and the change has this origin: what its record is made of.
	was         *version
	within      *within
	statusAlone bool
	origin      *audit.Origin
	// Audit is the record of the change; nil: it needs none. Only on the way to the log.
	Audit *audit.Record
}

// ring holds the newest events. Revisions in it have no gaps among the store's own.
type ring struct {
	maxEvents int
	maxBytes  int64

	mu     sync.RWMutex
	events []Event
	bytes  int64
	floor  uint64 // all events with a revision above it are in the ring
	head   uint64 // newest published revision
	// advanced is closed when head moves, and replaced.
	advanced chan struct{}
}

func newRing(head uint64, maxEvents int, maxBytes int64) *ring {
	return &ring{maxEvents: maxEvents, maxBytes: maxBytes, floor: head, head: head, advanced: make(chan struct{})}
}

// append adds the events of a commit and lets the oldest go. The newest commit stays
// whole, however large, so that a watcher who waits for it finds it.
func (r *ring) append(events []Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.events)
	for _, e := range events {
		e.Audit = nil
		r.events = append(r.events, e)
		r.bytes += int64(len(e.Encoded))
	}
	drop := 0
	for drop < before && (len(r.events)-drop > r.maxEvents || r.bytes > r.maxBytes) {
		r.bytes -= int64(len(r.events[drop].Encoded))
		drop++
	}
	r.discard(drop)
	r.head = events[len(events)-1].Revision
	close(r.advanced)
	r.advanced = make(chan struct{})
}

// compact lets events up to that revision go.
func (r *ring) compact(upTo uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.firstAfter(upTo)
	for _, e := range r.events[:n] {
		r.bytes -= int64(len(e.Encoded))
	}
	r.discard(n)
	r.floor = max(r.floor, upTo)
}

// discard removes the n oldest events. The slots are cleared, so that the objects can be
// collected; the slice moves to fresh memory when append next grows it.
func (r *ring) discard(n int) {
	if n == 0 {
		return
	}
	r.floor = r.events[n-1].Revision
	clear(r.events[:n])
	r.events = r.events[n:]
}

// after returns a copy, in room if there is enough, of up to limit events with a revision
// above from, and a channel that is closed when there are more. It answers false when the
// ring starts later.
func (r *ring) after(from uint64, limit int, room []Event) (events []Event, advanced <-chan struct{}, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if from < r.floor {
		return nil, nil, false
	}
	tail := r.events[r.firstAfter(from):]
	return append(room[:0], tail[:min(limit, len(tail))]...), r.advanced, true
}

func (r *ring) bounds() (floor, head uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.floor, r.head
}

func (r *ring) firstAfter(revision uint64) int {
	i, _ := slices.BinarySearchFunc(r.events, revision, func(e Event, rev uint64) int {
		if e.Revision <= rev {
			return -1
		}
		return 1
	})
	return i
}
