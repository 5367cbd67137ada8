package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	// DefaultMaxObjects bounds the objects of an informer that sets no other bound: ten times
	// what a daemon is made for.
	DefaultMaxObjects = 100_000
	// MaxQueued is how many changes wait for a handler before changes of one object are
	// made one.
	MaxQueued = 1024
	// minPause and maxPause bound the pause before a daemon is tried again that has not
	// answered yet. Breaks after that are Follow's to mend.
	minPause = 100 * time.Millisecond
	maxPause = 10 * time.Second
)

// IndexFunc returns the values by which an object is found in an index. It must be pure.
type IndexFunc[T resource.Object] func(T) []string

// Options of an informer; empty fields select everything.
type Options[T resource.Object] struct {
	Namespace     string
	LabelSelector string
	FieldSelector string
	// Indexes by name, for ByIndex.
	Indexes map[string]IndexFunc[T]
	// MaxObjects bounds the cache; 0: DefaultMaxObjects.
	MaxObjects int
	// Interrupted, when set, is told of every break, before the next attempt.
	Interrupted func(error)
}

// Informer is a cache of the objects of one kind. It is safe for concurrent use.
type Informer[T resource.Object] struct {
	objects *client.Objects[T]
	opts    Options[T]
	synced  chan struct{} // closed when the first snapshot is complete

	mu       sync.RWMutex
	items    map[resource.Key]T
	index    map[string]map[string]map[resource.Key]T // by index, then value
	version  string
	handlers []*Registration[T]
	running  context.Context // nil before Run; handlers live as long as it

	// Only Run's goroutine uses what follows.
	snapshot map[resource.Key]T // a snapshot that is not complete; nil: there is none
}

// New returns an informer; Run starts it.
func New[T resource.Object](objects *client.Objects[T], opts Options[T]) *Informer[T] {
	opts.MaxObjects = cmp.Or(opts.MaxObjects, DefaultMaxObjects)
	i := &Informer[T]{objects: objects, opts: opts, synced: make(chan struct{}), items: map[resource.Key]T{}}
	i.index = map[string]map[string]map[resource.Key]T{}
	for name := range opts.Indexes {
		i.index[name] = map[string]map[resource.Key]T{}
	}
	i.index[byNamespace], i.index[byLabel] = map[string]map[resource.Key]T{}, map[string]map[resource.Key]T{}
	return i
}

// errRunTwice: an informer runs once.
var errRunTwice = errors.New("the informer was run before: make a new one")

// Run keeps the cache until the context ends, and returns its cause; or until the daemon
// refuses (ErrInvalid, ErrUnauthenticated, ErrForbidden, an unknown kind), or there are too
// many objects. A daemon that does not answer is tried again for ever. Handlers have ended
// when it returns; the cache stays as it was.
func (i *Informer[T]) Run(ctx context.Context) error {
	handling, stop := context.WithCancel(ctx)
	var workers sync.WaitGroup
	if err := i.start(handling, &workers); err != nil {
		stop()
		return err
	}
	defer workers.Wait()
	defer stop()
	pause := minPause
	for {
		i.snapshot = map[resource.Key]T{}
		synced := i.HasSynced()
		err := i.objects.Follow(ctx, client.WatchOptions{
			Namespace: i.opts.Namespace, LabelSelector: i.opts.LabelSelector, FieldSelector: i.opts.FieldSelector,
			Interrupted: i.opts.Interrupted,
		}, i.event)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !mendable(err):
			return err
		case i.HasSynced() && !synced:
			pause = minPause
		}
		if i.opts.Interrupted != nil {
			i.opts.Interrupted(err)
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)): // clients of one daemon shall not come all at once
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause = min(2*pause, maxPause)
	}
}

// mendable tells whether time may heal an error.
func mendable(err error) bool {
	for _, class := range []error{client.ErrUnavailable, client.ErrBusy, client.ErrTimeout, client.ErrInternal, client.ErrExpired} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// start lets the handlers that are there begin.
func (i *Informer[T]) start(ctx context.Context, workers *sync.WaitGroup) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running != nil {
		return errRunTwice
	}
	i.running = ctx
	for _, r := range i.handlers {
		r.launch(ctx)
	}
	// Handlers that are added later are waited for too.
	workers.Go(func() {
		<-ctx.Done()
		i.mu.RLock()
		all := slices.Clone(i.handlers)
		i.mu.RUnlock()
		for _, r := range all {
			r.Remove()
		}
	})
	return nil
}

// event is one event of the watch.
func (i *Informer[T]) event(ev client.EventOf[T]) error {
	switch ev.Type {
	case client.Restarted:
		i.snapshot = map[resource.Key]T{}
		return nil
	case client.Bookmark:
		if i.snapshot != nil {
			i.replace(i.snapshot, ev.ResourceVersion)
			i.snapshot = nil
			return nil
		}
		i.mu.Lock()
		i.version = ev.ResourceVersion
		i.mu.Unlock()
		return nil
	}
	key := resource.KeyOf(ev.Object)
	if i.snapshot != nil {
		if i.snapshot[key] = ev.Object; len(i.snapshot) > i.opts.MaxObjects {
			return i.tooMany()
		}
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.version = ev.ResourceVersion
	if ev.Type == client.Deleted {
		i.remove(key, ev.Object, false)
		return nil
	}
	if i.put(key, ev.Object); len(i.items) > i.opts.MaxObjects {
		return i.tooMany()
	}
	return nil
}

func (i *Informer[T]) tooMany() error {
	return fmt.Errorf("%w: more than %d objects for one informer; narrow it by namespace or selector, or set Options.MaxObjects", client.ErrTooLarge, i.opts.MaxObjects)
}

// replace makes the cache what a snapshot is, and tells the differences.
func (i *Informer[T]) replace(now map[resource.Key]T, version string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, key := range sortedKeys(i.items) {
		if _, still := now[key]; !still {
			i.remove(key, i.items[key], true)
		}
	}
	for _, key := range sortedKeys(now) {
		old, had := i.items[key]
		if had && old.GetMetadata().GetResourceVersion() == now[key].GetMetadata().GetResourceVersion() &&
			old.GetMetadata().GetUid() == now[key].GetMetadata().GetUid() {
			continue
		}
		i.put(key, now[key])
	}
	i.version = version
	if !i.HasSynced() {
		close(i.synced)
		for _, r := range i.handlers {
			r.queue.mark()
		}
	}
}

// put stores an object. i.mu must be held.
func (i *Informer[T]) put(key resource.Key, obj T) {
	if old, had := i.items[key]; had {
		i.unindex(key, old)
	}
	i.items[key] = obj
	i.reindex(key, obj)
	for _, r := range i.handlers {
		r.queue.put(key, obj)
	}
}

// remove forgets an object. i.mu must be held.
func (i *Informer[T]) remove(key resource.Key, last T, unknown bool) {
	old, had := i.items[key]
	if !had {
		return // selected by a watch that was resumed, and never here
	}
	i.unindex(key, old)
	delete(i.items, key)
	for _, r := range i.handlers {
		r.queue.remove(key, Tombstone[T]{Object: last, Unknown: unknown})
	}
}

// HasSynced tells whether the cache has had a whole snapshot.
func (i *Informer[T]) HasSynced() bool {
	select {
	case <-i.synced:
		return true
	default:
		return false
	}
}

// WaitForSync waits until HasSynced; an error is the context's cause.
func (i *Informer[T]) WaitForSync(ctx context.Context) error { return await(ctx, i.synced) }

func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ResourceVersion is the revision up to which the cache has seen everything; "" before the
// first snapshot is complete.
func (i *Informer[T]) ResourceVersion() string {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.version
}
