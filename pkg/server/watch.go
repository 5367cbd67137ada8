package server

import (
	"context"
	"strconv"

	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store"
)

// watch is one watcher's view of the store's events, narrowed by a selection.
type watch struct {
	watcher store.Watcher
	sel     selection
	// member remembers, for a watch with a label or field selector, whether the watcher has an
	// object. Objects that are in neither state were not seen yet. It holds at most one
	// entry per object of the kind.
	member map[resource.Key]bool
	// live: what comes are changes, which others watch too; before that it is the snapshot.
	live    bool
	encoded *eventOnce
	shown   func(resource.Object) resource.Object // core.shown
}

// watch begins a watch. kind may be auth.AllKinds. An empty from begins with the objects
// there are; otherwise it is the revision after which changes are wanted.
func (c *core) watch(ctx context.Context, kind string, sel selection, from string) (*watch, error) {
	opts := store.WatchOptions{Kind: kind, Namespace: sel.namespace, Name: sel.name}
	if kind == auth.AllKinds {
		opts.Kind = ""
	} else if _, err := c.kind(kind); err != nil {
		return nil, err
	}
	err := authorize(ctx, auth.VerbWatch, kind, sel.namespace)
	if err != nil {
		return nil, err
	}
	if opts.From, err = c.parseRevision(from); err != nil {
		return nil, err
	}
	w := &watch{sel: sel, live: opts.From != 0, encoded: &c.encoded, shown: c.shown}
	if sel.narrowed() {
		w.member = map[resource.Key]bool{}
	}
	if w.watcher, err = c.store.Watch(ctx, opts); err != nil {
		return nil, err
	}
	return w, nil
}

// parseRevision reads a resourceVersion. One that the store has not reached yet comes
// from another database (a restored one): like a compacted one, it means list again.
func (c *core) parseRevision(from string) (uint64, error) {
	if from == "" {
		return 0, nil
	}
	rev, err := strconv.ParseUint(from, 10, 64)
	if err != nil {
		return 0, apistatus.New(apistatus.BadRequest, "resourceVersion %.40q: allowed is one that the server gave out", from)
	}
	if newest := c.store.Revision(); rev > newest {
		return 0, apistatus.New(apistatus.Expired, "resourceVersion %d is newer than the database (%d): list again", rev, newest)
	}
	return rev, nil
}

// events are the store's events; each must go through translate. The channel is closed
// at the end of the watch, err then says why.
func (w *watch) events() <-chan store.Event { return w.watcher.Events() }

// err is nil when the caller or the server ended the watch.
func (w *watch) err() error { return w.watcher.Err() }

// translate narrows an event to the selection. An object that stops matching is gone for
// this watcher, one that begins to match is new. After a resume the watch does not know
// what the watcher has: it then says MODIFIED for a match and, once per object, DELETED
// for a mismatch; both are harmless to a watcher that keeps objects by name.
func (w *watch) translate(ev store.Event) (store.Event, bool) {
	w.live = w.live || ev.Type == store.Bookmark
	if shown := w.shown(ev.Object); shown != ev.Object {
		ev.Object, ev.Encoded = shown, nil
	}
	if w.member == nil || ev.Type == store.Bookmark {
		return ev, true
	}
	key := resource.KeyOf(ev.Object)
	has, seen := w.member[key]
	matches := w.sel.matches(ev.Object)
	switch {
	case ev.Type == store.Deleted:
		delete(w.member, key)
		return ev, has || !seen
	case matches:
		if seen && !has {
			ev.Type = store.Added
		}
		w.member[key] = true
		return ev, true
	}
	w.member[key] = false
	if ev.Type == store.Added {
		return ev, false
	}
	ev.Type = store.Deleted
	return ev, has || !seen
}

// encode returns a translated event in a form; changes are encoded once for all.
func (w *watch) encode(ev store.Event, form eventForm, encode func(store.Event) ([]byte, error)) ([]byte, error) {
	if !w.live || ev.Object == nil {
		return encode(ev)
	}
	return w.encoded.encode(ev, form, encode)
}

func (w *watch) close() { w.watcher.Stop() }
