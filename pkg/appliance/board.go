package appliance

import (
	"sync"
	"time"
)

// Board is where the latest Observation of each appliance is published. The appliance
// controller fills it once per probe; App and Vhost controllers read it, so that one
// call into a guest serves all of them. It holds one Observation per appliance and
// forgets nothing until told to.
//
// Methods are safe for concurrent use. An Observation that was published must not be
// changed any more by anyone.
type Board struct {
	mu          sync.RWMutex
	entries     map[string]boardEntry
	subscribers map[int]func(appliance string)
	nextID      int
}

type boardEntry struct {
	observation Observation
	at          time.Time
}

// NewBoard returns an empty Board.
func NewBoard() *Board {
	return &Board{entries: map[string]boardEntry{}, subscribers: map[int]func(string){}}
}

// Publish replaces the observation of an appliance and tells every subscriber, in the
// caller's goroutine.
func (b *Board) Publish(appliance string, o Observation) {
	b.mu.Lock()
	b.entries[appliance] = boardEntry{observation: o, at: time.Now()}
	b.mu.Unlock()
	b.notify(appliance)
}

// Forget drops the observation of an appliance (it was deleted, or is known to be
// down) and tells every subscriber.
func (b *Board) Forget(appliance string) {
	b.mu.Lock()
	delete(b.entries, appliance)
	b.mu.Unlock()
	b.notify(appliance)
}

// Get returns the latest observation of an appliance and how old it is.
func (b *Board) Get(appliance string) (o Observation, age time.Duration, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e, ok := b.entries[appliance]
	if !ok {
		return Observation{}, 0, false
	}
	return e.observation, time.Since(e.at), true
}

// Subscribe calls f with the appliance's name after every Publish and Forget, until
// cancel is called. f must not block (put the name into a queue). A call that was
// already under way may still arrive after cancel.
func (b *Board) Subscribe(f func(appliance string)) (cancel func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := b.nextID
	b.nextID++
	b.subscribers[id] = f
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subscribers, id)
	}
}

// notify calls the subscribers outside the lock, so that they may use the Board.
func (b *Board) notify(appliance string) {
	b.mu.RLock()
	fs := make([]func(string), 0, len(b.subscribers))
	for _, f := range b.subscribers {
		fs = append(fs, f)
	}
	b.mu.RUnlock()
	for _, f := range fs {
		f(appliance)
	}
}
