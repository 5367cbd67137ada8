package server

import (
	"sync"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Bounds of what is kept: events that watchers take within a moment of each other. A
// watcher that comes later encodes anew.
const (
	maxEventsKept     = 128
	maxEventBytesKept = 8 << 20
)

// eventForm is one of the ways in which watchers get events.
type eventForm int

const (
	asMessage    eventForm = iota // a v1alpha1.WatchEvent, for gRPC
	asLine                        // a line of JSON
	asServerSent                  // a server-sent event
	eventForms                    // how many there are
)

// eventOnce encodes an event once for all who watch. Objects are told apart by identity:
// the store hands out the same one to everybody, and never changes it. What is selected,
// and what may be seen, is each watcher's own matter, and decided before.
type eventOnce struct {
	mu      sync.Mutex
	entries map[eventKey]*eventEntry
	order   []eventKey // the oldest first
	bytes   int
}

// eventKey has the type, because the same change may be an object that is new for one
// watcher and a changed one for another.
type eventKey struct {
	object   resource.Object
	typ      store.EventType
	revision uint64
}

type eventEntry struct {
	forms [eventForms]struct {
		once sync.Once
		data []byte
		err  error
	}
	// bytes of all forms, and whether they still count; the eventOnce's lock guards both.
	bytes int
	gone  bool
}

// encode returns the event in a form, which must not be changed; encode is called when
// nobody has had it yet.
func (o *eventOnce) encode(ev store.Event, form eventForm, encode func(store.Event) ([]byte, error)) ([]byte, error) {
	e := o.entry(eventKey{ev.Object, ev.Type, ev.Revision})
	f := &e.forms[form]
	f.once.Do(func() {
		f.data, f.err = encode(ev)
		o.count(e, len(f.data))
	})
	return f.data, f.err
}

func (o *eventOnce) entry(key eventKey) *eventEntry {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e := o.entries[key]; e != nil {
		return e
	}
	if o.entries == nil {
		o.entries = map[eventKey]*eventEntry{}
	}
	if len(o.order) >= maxEventsKept {
		o.forgetOldest()
	}
	e := &eventEntry{}
	o.entries[key] = e
	o.order = append(o.order, key)
	return e
}

// count adds the bytes of an entry and lets others go for it, the oldest first.
func (o *eventOnce) count(e *eventEntry, bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e.gone {
		return // those who have it keep it for as long as they need it
	}
	e.bytes += bytes
	o.bytes += bytes
	for o.bytes > maxEventBytesKept {
		o.forgetOldest() // ends with e itself at the latest
	}
}

func (o *eventOnce) forgetOldest() {
	key := o.order[0]
	e := o.entries[key]
	e.gone = true
	o.bytes -= e.bytes
	delete(o.entries, key)
	o.order = append(o.order[:0], o.order[1:]...)
}
