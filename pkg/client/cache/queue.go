package cache

import (
	"container/list"
	"context"
	"sync"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// change is what a handler has not been told yet about one object. Neither: nothing is left
// to be told, but that the first snapshot ends here.
type change[T resource.Object] struct {
	key     resource.Key
	obj     T // as it is now, where has
	has     bool
	gone    Tombstone[T]
	endsAll bool // the mark: the first snapshot ends here

	before bool          // the handler has the object when this is told
	prev   *list.Element // the change of the object that waits before this one; nil: none
}

// queue are the changes that wait for one handler, in order. The cache puts in, one
// goroutine takes out.
type queue[T resource.Object] struct {
	most   int
	synced chan struct{} // closed when the handler is past the mark
	wake   chan struct{} // has room for one: something waits

	mu      sync.Mutex
	waiting *list.List                     // of *change[T]
	newest  map[resource.Key]*list.Element // the last change that waits, by object
	told    map[resource.Key]T             // what the handler knows; only its own goroutine writes
}

func newQueue[T resource.Object](most int) *queue[T] {
	return &queue[T]{
		most: most, synced: make(chan struct{}), wake: make(chan struct{}, 1),
		waiting: list.New(), newest: map[resource.Key]*list.Element{}, told: map[resource.Key]T{},
	}
}

func (q *queue[T]) put(key resource.Key, obj T) { q.add(&change[T]{key: key, obj: obj, has: true}) }

func (q *queue[T]) remove(key resource.Key, gone Tombstone[T]) {
	q.add(&change[T]{key: key, gone: gone})
}

// mark ends the first snapshot: what was put in before is what the handler has to be told
// to be in sync.
func (q *queue[T]) mark() { q.add(&change[T]{endsAll: true}) }

func (q *queue[T]) add(c *change[T]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	last := q.newest[c.key]
	switch {
	case c.endsAll:
		q.waiting.PushBack(c)
	case last == nil:
		_, c.before = q.told[c.key]
		q.newest[c.key] = q.waiting.PushBack(c)
	case q.waiting.Len() < q.most:
		c.before, c.prev = last.Value.(*change[T]).has, last
		q.newest[c.key] = q.waiting.PushBack(c)
	default:
		q.merge(last, c)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// merge makes one of the last change of an object that waits and a later one: at the place
// of the first, with the outcome of the second. An object that came and went meanwhile is
// nothing to be told.
func (q *queue[T]) merge(last *list.Element, c *change[T]) {
	first := last.Value.(*change[T])
	c.before, c.prev = first.before, first.prev
	if c.has || c.before {
		last.Value = c
		return
	}
	q.waiting.Remove(last)
	if q.newest[c.key] = c.prev; c.prev == nil {
		delete(q.newest, c.key)
	}
}

// take takes the oldest change out. What it makes the handler know is noted at once: a
// change that comes while the handler is called comes after it.
func (q *queue[T]) take() (c *change[T], old T, had bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := q.waiting.Front()
	if first == nil {
		return nil, old, false
	}
	c = q.waiting.Remove(first).(*change[T])
	if c.endsAll {
		return c, old, false
	}
	if last := q.newest[c.key]; last == first {
		delete(q.newest, c.key)
	} else {
		q.forget(last, first)
	}
	old, had = q.told[c.key]
	if c.has {
		q.told[c.key] = c.obj
	} else {
		delete(q.told, c.key)
	}
	return c, old, had
}

// forget ends the chain of an object's changes, which begins with last, before gone.
func (q *queue[T]) forget(last, gone *list.Element) {
	for e := last; e != nil; e = e.Value.(*change[T]).prev {
		if c := e.Value.(*change[T]); c.prev == gone {
			c.prev = nil
			return
		}
	}
}

// run tells the handler until the context ends.
func (q *queue[T]) run(ctx context.Context, h Handler[T]) {
	for ctx.Err() == nil {
		c, old, had := q.take()
		if c == nil {
			select {
			case <-q.wake:
			case <-ctx.Done():
			}
			continue
		}
		switch {
		case c.endsAll:
			close(q.synced)
		case c.has && had && h.Update != nil:
			h.Update(old, c.obj)
		case c.has && !had && h.Add != nil:
			h.Add(c.obj)
		case !c.has && had && h.Delete != nil:
			h.Delete(c.gone)
		}
	}
}
