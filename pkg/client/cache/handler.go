package cache

import (
	"context"
	"sync"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Handler is told of changes of the cache, one call at a time; functions that are nil are
// left out. Objects are shared and must not be changed.
type Handler[T resource.Object] struct {
	// Add is called for an object that the handler was not told of.
	Add func(obj T)
	// Update is called with the object as the handler was told last, and as it is now. The
	// two may have different uids: it was deleted and made again.
	Update func(old, obj T)
	// Delete is called for an object that is gone.
	Delete func(Tombstone[T])
}

// Tombstone is an object that is gone.
type Tombstone[T resource.Object] struct {
	// Object as it last was or, where that is Unknown, as it was last seen.
	Object T
	// Unknown: the deletion happened while nobody looked; a new snapshot does not have the
	// object.
	Unknown bool
}

// Registration is a handler of an informer.
type Registration[T resource.Object] struct {
	queue  *queue[T]
	ended  chan struct{} // closed when the handler is called no more
	launch func(ctx context.Context)
	Remove func() // takes the handler off and waits for the call that is under way; not for use inside of it
}

// Handle adds a handler. It is told of what the cache has, and of every change after that,
// from when Run begins until it ends.
func (i *Informer[T]) Handle(h Handler[T]) *Registration[T] {
	i.mu.Lock()
	defer i.mu.Unlock()
	r := &Registration[T]{queue: newQueue[T](MaxQueued), ended: make(chan struct{})}
	for _, key := range sortedKeys(i.items) {
		r.queue.put(key, i.items[key])
	}
	if i.HasSynced() {
		r.queue.mark()
	}
	var once sync.Once
	stop := context.CancelFunc(func() {})
	r.launch = func(ctx context.Context) {
		ctx, stop = context.WithCancel(ctx)
		go func() {
			defer close(r.ended)
			r.queue.run(ctx, h)
		}()
	}
	r.Remove = func() {
		once.Do(func() {
			i.mu.Lock()
			defer i.mu.Unlock()
			i.handlers = without(i.handlers, r)
			if stop(); i.running == nil {
				close(r.ended)
			}
		})
		<-r.ended
	}
	i.handlers = append(i.handlers, r)
	if i.running != nil {
		r.launch(i.running)
	}
	return r
}

func without[T any](all []*T, one *T) []*T {
	var rest []*T
	for _, r := range all {
		if r != one {
			rest = append(rest, r)
		}
	}
	return rest
}

// WaitForSync waits until the handler was told of everything that the first snapshot had; an
// error is the context's cause.
func (r *Registration[T]) WaitForSync(ctx context.Context) error { return await(ctx, r.queue.synced) }

// Waiting is how many changes wait for the handler.
func (r *Registration[T]) Waiting() int {
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	return r.queue.waiting.Len()
}
