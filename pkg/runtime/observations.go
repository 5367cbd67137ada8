package runtime

import (
	"container/list"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// MaxObservations bounds the objects of one kind whose last observation is kept; the one
// that was looked at longest ago makes room. It is as many as a set has documents.
const MaxObservations = 20_000

// observations are what a controller saw last of each object. It is memory only: after a
// restart nothing is known until the controller has looked again.
type observations struct {
	mu    sync.Mutex
	max   int
	byKey map[resource.Key]*list.Element
	age   *list.List // of *observation, the newest first
}

type observation struct {
	key  resource.Key
	uid  string
	at   time.Time
	what any
}

func newObservations(most int) *observations {
	return &observations{max: most, byKey: map[resource.Key]*list.Element{}, age: list.New()}
}

// remember replaces what was seen of an object. what must not be changed any more.
func (o *observations) remember(key resource.Key, uid string, what any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e := o.byKey[key]; e != nil {
		o.age.Remove(e)
	} else if o.age.Len() >= o.max {
		delete(o.byKey, o.age.Remove(o.age.Back()).(*observation).key)
	}
	o.byKey[key] = o.age.PushFront(&observation{key, uid, time.Now(), what})
}

// last returns what was seen of the object with that uid, and when; nil and zero for nothing.
func (o *observations) last(key resource.Key, uid string) (any, time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.byKey[key]
	if e == nil || e.Value.(*observation).uid != uid {
		return nil, time.Time{}
	}
	seen := e.Value.(*observation)
	return seen.what, seen.at
}

// forget drops what was seen of an object that is gone.
func (o *observations) forget(key resource.Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e := o.byKey[key]; e != nil {
		o.age.Remove(e)
		delete(o.byKey, key)
	}
}
