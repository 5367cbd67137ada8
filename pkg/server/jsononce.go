package server

import (
	"sync"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// maxJSONKept bounds the objects whose JSON is kept: events that watchers take within a
// moment of each other. One that comes later encodes anew.
const maxJSONKept = 128

// jsonOnce encodes an object of an event once for all who watch over REST. Objects are
// told apart by identity: the store hands out the same one to everybody, and never
// changes it.
type jsonOnce struct {
	mu      sync.Mutex
	entries map[resource.Object]*jsonEntry
	order   []resource.Object // the oldest first
}

type jsonEntry struct {
	once sync.Once
	data []byte
	err  error
}

// encode returns the object's JSON, which must not be changed.
func (j *jsonOnce) encode(obj resource.Object) ([]byte, error) {
	e := j.entry(obj)
	e.once.Do(func() { e.data, e.err = resource.EncodeJSON(obj) })
	return e.data, e.err
}

func (j *jsonOnce) entry(obj resource.Object) *jsonEntry {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.entries[obj]; e != nil {
		return e
	}
	if j.entries == nil {
		j.entries = map[resource.Object]*jsonEntry{}
	}
	if len(j.order) >= maxJSONKept {
		delete(j.entries, j.order[0])
		j.order = append(j.order[:0], j.order[1:]...)
	}
	e := &jsonEntry{}
	j.entries[obj] = e
	j.order = append(j.order, obj)
	return e
}
