package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

const (
	// watchBuffer is the capacity of a watcher's channel: it saves switches between
	// goroutines; what bounds a watcher is Options.MaxWatchLag.
	watchBuffer = 64
	// watchChunk bounds the events that a watcher takes at a time from ring or log.
	watchChunk = 256
	// watchRoom is the number of events that a watcher keeps room for: most take one or a few
	// at a time, and there may be thousands of watchers.
	watchRoom = 4
)

// watcher is a cursor in the event log with a goroutine that delivers from it.
type watcher struct {
	engine *Engine
	opts   store.WatchOptions
	start  *view // for a watch that begins with a snapshot

	events chan store.Event
	cursor uint64 // revision of the last event that was delivered or passed over
	told   uint64 // revision of the last event or bookmark that was delivered
	// pace is the store's revision when the watcher last took an event.
	pace   atomic.Uint64
	ctx    context.Context
	cancel context.CancelCauseFunc // its cause is the watch's error
}

// errStopped is the cause of an end that the client wanted.
var errStopped = errors.New("stopped")

// Watch implements store.Store.
func (e *Engine) Watch(ctx context.Context, opts store.WatchOptions) (store.Watcher, error) {
	if opts.Kind != "" {
		if _, err := e.codec.layout(opts.Kind); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &watcher{engine: e, opts: opts, events: make(chan store.Event, watchBuffer)}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	if err := e.addWatcher(w); err != nil {
		w.cancel(err)
		return nil, err
	}
	go w.run()
	return w, nil
}

// addWatcher registers a watcher and fixes where it starts. Both happen under the lock,
// so that Close and the committer's check for slow watchers see it from then on.
func (e *Engine) addWatcher(w *watcher) error {
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	if e.closed() {
		return store.ErrClosed
	}
	if len(e.watchers) >= e.opts.MaxWatchers {
		return fmt.Errorf("%w: %d watchers are open", store.ErrTooMany, len(e.watchers))
	}
	now := e.current.Load()
	from, oldest := w.opts.From, e.compacted()
	switch {
	case from == 0:
		w.start, from = now, now.revision
	case from < oldest:
		return fmt.Errorf("%w: revision %d was asked for, %d is the oldest", store.ErrCompacted, from, oldest)
	case from > now.revision:
		return fmt.Errorf("%w: revision %d was asked for, the store is at %d (was it restored from a backup?)",
			store.ErrCompacted, from, now.revision)
	}
	w.cursor, w.told = from, from
	w.pace.Store(now.revision)
	e.watchers[w] = struct{}{}
	e.watching.Add(1)
	return nil
}

func (e *Engine) removeWatcher(w *watcher) {
	e.watchMu.Lock()
	delete(e.watchers, w)
	e.watchMu.Unlock()
	e.watching.Done()
}

// cutSlowWatchers ends the watchers that have stopped taking events. It is called by the
// committer after each publication and never waits for a watcher. One that takes them,
// however slowly, goes on as long as the log has what it needs next.
func (e *Engine) cutSlowWatchers(head uint64) {
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	for w := range e.watchers {
		if missed := head - w.pace.Load(); missed > e.opts.MaxWatchLag {
			w.cancel(fmt.Errorf("%w: it took no event while %d were published", store.ErrSlow, missed))
		}
	}
}

func (w *watcher) Events() <-chan store.Event { return w.events }

func (w *watcher) Stop() { w.cancel(errStopped) }

// Err is meaningful once Events is closed; before that the watch is running.
func (w *watcher) Err() error {
	select {
	case <-w.ctx.Done():
	default:
		return nil
	}
	return clientError(context.Cause(w.ctx))
}

// clientError hides the ends that the client brought about itself.
func clientError(err error) error {
	if errors.Is(err, store.ErrSlow) || errors.Is(err, store.ErrClosed) || errors.Is(err, errWatch) {
		return err
	}
	return nil
}

// errWatch marks a failure of the watch itself, such as an unreadable log.
var errWatch = errors.New("watch failed")

func (w *watcher) run() {
	defer w.engine.removeWatcher(w)
	defer close(w.events)
	if !w.deliverSnapshot() {
		return
	}
	var bookmark *time.Timer // runs while changes have passed that the watcher was not told of
	room := make([]Event, watchRoom)
	for {
		events, advanced, err := w.engine.eventsAfter(w.cursor, watchChunk, room)
		if err != nil {
			w.cancel(err)
			return
		}
		for _, ev := range events {
			if ev.version != nil && w.within(ev.Key) && !w.deliver(ev.Event, ev.version) {
				return
			}
			w.cursor = ev.Revision
		}
		clear(room) // or it would hold objects that nobody needs any more
		w.keptPace()
		if w.told == w.cursor && bookmark != nil {
			bookmark.Stop()
			bookmark = nil
		} else if w.told < w.cursor && bookmark == nil {
			bookmark = time.NewTimer(store.BookmarkPeriod)
		}
		if len(events) > 0 {
			advanced = always // there may be more; a bookmark that is due comes first
		}
		if !w.await(advanced, &bookmark) {
			return
		}
	}
}

// always is ready.
var always = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// await waits until there may be more events, and sends the bookmark if it is due before.
// It answers false when the watch has ended.
func (w *watcher) await(advanced <-chan struct{}, bookmark **time.Timer) bool {
	var due <-chan time.Time
	if *bookmark != nil {
		due = (*bookmark).C
	}
	select {
	case <-due:
		*bookmark = nil
		return w.send(store.Event{Type: store.Bookmark, Revision: w.cursor})
	default:
	}
	select {
	case <-due:
		*bookmark = nil
		return w.send(store.Event{Type: store.Bookmark, Revision: w.cursor})
	case <-advanced:
		return true
	case <-w.ctx.Done():
		return false
	}
}

// deliverSnapshot sends what there is, and the bookmark that ends it.
func (w *watcher) deliverSnapshot() bool {
	v := w.start
	if v == nil {
		return true
	}
	w.start = nil // the snapshot can be collected once it is delivered
	for _, kind := range w.engine.reg.Kinds() {
		if w.opts.Kind != "" && w.opts.Kind != kind.Name {
			continue
		}
		ended := false
		walk(v.kinds[kind.Name], w.opts.Namespace, "", func(o *version) bool {
			if w.within(o.name()) {
				ended = !w.deliver(store.Event{Type: store.Added, Encoded: o.encoded, Revision: o.revision}, o)
			}
			return !ended
		})
		if ended {
			return false
		}
	}
	return w.send(store.Event{Type: store.Bookmark, Revision: v.revision})
}

// within tells whether the watch is about objects of that key.
func (w *watcher) within(key resource.Key) bool {
	return (w.opts.Kind == "" || w.opts.Kind == key.Kind) &&
		(w.opts.Namespace == "" || w.opts.Namespace == key.Namespace) &&
		(w.opts.Name == "" || w.opts.Name == key.Name)
}

// deliver sends the event of a version if it is selected, or answers false when the watch
// has ended. All who watch share the decoded object.
func (w *watcher) deliver(ev store.Event, v *version) bool {
	decode := v.Object
	if w.opts.MetadataOnly {
		decode = v.bare
	}
	var err error
	if ev.Object, err = decode(); err != nil {
		w.cancel(fmt.Errorf("%w: %w", errWatch, err))
		return false
	}
	if w.opts.Match != nil && !w.opts.Match(ev.Object) {
		return true
	}
	return w.send(ev)
}

// send delivers one event, or answers false when the watch has ended. An ended watch
// delivers nothing more, even if there is room.
func (w *watcher) send(ev store.Event) bool {
	if w.ctx.Err() != nil {
		return false
	}
	select {
	case w.events <- ev:
		w.told = ev.Revision
		w.keptPace()
		return true
	case <-w.ctx.Done():
		return false
	}
}

func (w *watcher) keptPace() { w.pace.Store(w.engine.current.Load().revision) }

// eventsAfter returns events above a revision from the ring or, further back, from the
// log. Without events it returns a channel that is closed when there are some. What fits
// into room is put there.
func (e *Engine) eventsAfter(from uint64, limit int, room []Event) ([]Event, <-chan struct{}, error) {
	events, advanced, ok := e.ring.after(from, limit, room)
	if ok {
		return events, advanced, nil
	}
	if e.log == nil {
		return nil, nil, fmt.Errorf("%w: events after revision %d are gone", store.ErrSlow, from)
	}
	// The log may hold a commit that is not published yet, or whose commit is just
	// failing: what is above the published revision does not exist for a watcher.
	_, head := e.ring.bounds()
	events, err := e.log.Events(from, head, limit)
	switch {
	case errors.Is(err, store.ErrCompacted): // it was there when the watch began
		return nil, nil, fmt.Errorf("%w: events after revision %d were compacted meanwhile", store.ErrSlow, from)
	case err != nil:
		return nil, nil, fmt.Errorf("%w: %w", errWatch, err)
	case len(events) == 0:
		return nil, nil, fmt.Errorf("%w: the log has no events from revision %d to %d", errWatch, from, head)
	}
	for i := range events {
		ev := &events[i]
		if l := e.codec.layouts[ev.Key.Kind]; l != nil {
			ev.version = &version{layout: l, key: treeKey(ev.Key.Namespace, ev.Key.Name), encoded: ev.Encoded, revision: ev.Revision}
		}
	}
	return events, nil, nil
}
