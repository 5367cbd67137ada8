package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

const (
	// collectBatch bounds the deletions of one transaction: as many objects of
	// store.MaxObjectBytes fit into store.MaxTxBytes with room for the events about them.
	collectBatch = 32
	// namespaceKind is never collected: only admission knows whether a namespace is empty.
	namespaceKind = "Namespace"
	// reasonOwnerGone is the reason of the event about a collected object.
	reasonOwnerGone = "OwnerGone"
)

// Collector deletes objects whose owners are all gone, in the background.
//
// An owner is known by its uid. It is gone when it is no longer in the store: one whose
// deletion waits for a finalizer still counts, so a dependent outlives its owner by a
// moment and never the other way round. Deletion of a dependent is ordinary: its own
// finalizers are respected, and its own dependents follow it.
//
// Objects that own one another in a circle keep one another; deleting one of them
// ends the circle. References to kinds that this daemon does not have are taken to be
// alive. Nothing is decided before all objects of all kinds were seen.
//
// The Collector keeps no state of its own: it may be killed at any time, and what it has
// not done yet the next one finds again. Its memory is bounded by the store's contents.
type Collector struct {
	store     store.Store
	reg       *resource.Registry
	rec       *Recorder
	log       *slog.Logger
	collected *prometheus.CounterVec
}

// NewCollector makes a collector of a store's objects. Its metric is registered with
// metrics unless that is nil.
func NewCollector(st store.Store, reg *resource.Registry, log *slog.Logger, metrics prometheus.Registerer) *Collector {
	c := &Collector{
		store: st, reg: reg, log: log, rec: NewRecorder(NewClient(st), "garbage-collector", log),
		collected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "proximity_garbage_collected_total", Help: "Objects deleted because their owners were gone, by kind.",
		}, []string{"kind"}),
	}
	if metrics != nil {
		metrics.MustRegister(c.collected)
	}
	return c
}

// Run collects until ctx ends. A watch that fails is opened again with a new snapshot.
func (c *Collector) Run(ctx context.Context) {
	ctx = audit.WithController(ctx, "garbage-collector")
	for ctx.Err() == nil {
		err := c.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		c.log.Warn("garbage collector's watch ended, opening it again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(rewatchDelay):
		}
	}
}

// always is ready.
var always = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// watch follows all kinds from a snapshot on and deletes what becomes due. Deleting and
// watching take turns, so that a flood of either does not hold up the other.
func (c *Collector) watch(ctx context.Context) error {
	w, err := c.store.Watch(ctx, store.WatchOptions{MetadataOnly: true})
	if err != nil {
		return err
	}
	defer w.Stop()
	g := newOwnerGraph(c.reg)
	var pause <-chan time.Time // set while a failed transaction waits for its next try
	backoff := minBackoff
	for {
		var work <-chan struct{}
		if pause == nil && len(g.due) > 0 {
			work = always
		}
		select {
		case ev, ok := <-w.Events():
			if !ok {
				return w.Err()
			}
			g.see(ev)
		case <-pause:
			pause = nil
		case <-work:
			if err := c.collect(ctx, g); err == nil {
				backoff = minBackoff
			} else if ctx.Err() == nil {
				c.log.Warn("garbage was not collected, trying again", "objects", len(g.due), "after", backoff, "error", err)
				pause, backoff = time.After(backoff), min(2*backoff, maxBackoff)
			}
		}
	}
}

// collect deletes a batch of what is due. An object that was changed since it was judged
// is left alone: the event about the change is on its way and has it judged again.
func (c *Collector) collect(ctx context.Context, g *ownerGraph) error {
	batch := make(map[resource.Key]ownedObject, collectBatch)
	for key, o := range g.due {
		if len(batch) == collectBatch {
			break
		}
		batch[key] = o
	}
	var deleted []resource.Key
	_, err := c.store.Update(ctx, func(tx store.Tx) error {
		for key, o := range batch {
			_, err := tx.Delete(key, store.Preconditions{UID: o.uid, ResourceVersion: o.version})
			switch {
			case errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict):
			case err != nil:
				return err
			default:
				deleted = append(deleted, key)
				c.tell(tx, key, o)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete objects whose owners are gone: %w", err)
	}
	for key := range batch {
		delete(g.due, key)
	}
	for _, key := range deleted {
		c.collected.WithLabelValues(key.Kind).Inc()
		c.log.Info("deleted: its owners are gone", "kind", key.Kind, "namespace", key.Namespace, "name", key.Name)
	}
	return nil
}

// tell records why an object went, in the transaction of its deletion. Events of events
// there are none, and an event that can't be written keeps nothing from being deleted.
func (c *Collector) tell(tx store.Tx, key resource.Key, o ownedObject) {
	if k, ok := c.reg.Get(key.Kind); !ok || k.System {
		return
	}
	owner := o.owners[0]
	text := fmt.Sprintf("deleted, for its owner %s %s is gone", owner.GetKind(), owner.GetName())
	if n := len(o.owners); n > 1 {
		text = fmt.Sprintf("deleted, for its %d owners are gone, %s %s and others", n, owner.GetKind(), owner.GetName())
	}
	if err := c.rec.write(tx, key, o.uid, "Normal", reasonOwnerGone, text); err != nil {
		c.log.Warn("event was not recorded", "reason", reasonOwnerGone, "error", err)
	}
}
