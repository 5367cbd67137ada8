package runtime

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// rewatchDelay is the pause before a watch that ended is opened again.
const rewatchDelay = 100 * time.Millisecond

// watchOwn queues the controller's own kind. Changes of the status and of bookkeeping
// metadata do not count, or every status write would cause another reconcile.
func (c *Controller) watchOwn(ctx context.Context, m *Manager) {
	seen := map[resource.Key]*v1alpha1.ObjectMeta{}
	m.follow(ctx, store.WatchOptions{Kind: c.kind, MetadataOnly: true}, func(ev store.Event) {
		if ev.Type == store.Bookmark {
			c.first.listed()
			return
		}
		key := resource.KeyOf(ev.Object)
		if ev.Type == store.Deleted {
			c.first.looked(key)
			c.forget(key)
			delete(seen, key)
			return
		}
		trigger := triggerMeta(ev.Object.GetMetadata())
		if old, ok := seen[key]; ok && proto.Equal(old, trigger) {
			return
		}
		seen[key] = trigger
		c.first.expect(key)
		c.queue.Add(key)
	})
}

// triggerMeta is the part of the metadata whose change is a reason to reconcile.
func triggerMeta(m *v1alpha1.ObjectMeta) *v1alpha1.ObjectMeta {
	return &v1alpha1.ObjectMeta{
		Uid: m.GetUid(), Generation: m.GetGeneration(), DeletionTimestamp: m.GetDeletionTimestamp(),
		Labels: m.GetLabels(), Annotations: m.GetAnnotations(),
	}
}

func (c *Controller) watchOther(ctx context.Context, m *Manager, w Watch) {
	last := map[resource.Key]string{} // what was read, of the objects that there are
	m.follow(ctx, store.WatchOptions{Kind: w.Kind, MetadataOnly: w.MetadataOnly}, func(ev store.Event) {
		if ev.Type == store.Bookmark || w.unread(last, ev) {
			return
		}
		for _, key := range w.Map(ctx, m.client, ev.Object) {
			c.queue.Add(key)
		}
	})
}

// unread tells whether an event is a change of what nobody reads; last is what was read before.
func (w Watch) unread(last map[resource.Key]string, ev store.Event) bool {
	if w.Reads == nil {
		return false
	}
	key := resource.KeyOf(ev.Object)
	if ev.Type == store.Deleted {
		delete(last, key)
		return false
	}
	was, known := last[key]
	last[key] = w.Reads(ev.Object)
	return known && last[key] == was
}

// follow calls fn for every event of a watch, bookmarks included, until ctx ends. A watch that fails (cut off as
// too slow, compacted) is opened again with a snapshot, so that no object is missed; fn
// sees objects again then.
func (m *Manager) follow(ctx context.Context, what store.WatchOptions, fn func(store.Event)) {
	for ctx.Err() == nil {
		w, err := m.store.Watch(ctx, what)
		if err == nil {
			for ev := range w.Events() {
				fn(ev)
			}
			err = w.Err()
			w.Stop()
		}
		if ctx.Err() != nil {
			return
		}
		m.log.Warn("watch ended, opening it again", "watched", what.Kind, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(rewatchDelay):
		}
	}
}
