package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/store"
)

const convergeWorkers = 16

// convergeFigures are about a controller that does nothing but say in each object's status
// that it has seen it, on many new objects.
func convergeFigures(b *bench) []figure {
	c := &convergeArea{bench: b}
	many := fmt.Sprint(b.objects)
	return []figure{
		{"converge/" + many, "s", valueAtMost(2.5), c.wall},
		{"converge/" + many + "-per-object", "reconciles", valueAtMost(1.1), c.reconciles},
	}
}

type convergeArea struct {
	*bench
	seen shared[converged]
}

type converged struct {
	seconds, raw float64
	reconciles   float64 // per object
}

func (c *convergeArea) wall(ctx context.Context) (measured, error) {
	r, err := c.seen.get(func() (converged, error) { return c.converge(ctx) })
	return measured{value: r.seconds, yardstick: r.raw, against: fmt.Sprintf("as many writes with bare bbolt Batch by %d writers", convergeWorkers)}, err
}

func (c *convergeArea) reconciles(ctx context.Context) (measured, error) {
	r, err := c.seen.get(func() (converged, error) { return c.converge(ctx) })
	return measured{value: r.reconciles}, err
}

// noting is the reconciler.
type noting struct{ calls atomic.Int64 }

// Reconcile says that it has seen the object.
func (n *noting) Reconcile(_ context.Context, s *runtime.Session[*v1alpha1.App]) (runtime.Result, error) {
	n.calls.Add(1)
	s.True("Seen", "Seen", "it was seen")
	return runtime.Result{}, nil
}

// Finalize has nothing to do.
func (n *noting) Finalize(context.Context, *runtime.Session[*v1alpha1.App]) (runtime.Result, error) {
	return runtime.Result{}, nil
}

func (c *convergeArea) converge(ctx context.Context) (out converged, err error) {
	dir, err := c.temp("converge")
	if err != nil {
		return out, err
	}
	raw, err := openRaw(dir, c.objects)
	if err != nil {
		return out, err
	}
	defer raw.db.Close()
	raw.db.MaxBatchSize = convergeWorkers
	load, err := writeFor(ctx, c.slice, convergeWorkers, c.objects, func(i, _ int) error { return raw.batch(i) })
	if err != nil {
		return out, err
	}
	out.raw = float64(c.objects) / load.rate
	st, err := storeOfBare(filepath.Join(dir, "proximity.db"), c.objects)
	if err != nil {
		return out, err
	}
	defer st.Close()
	n := &noting{}
	controller := runtime.New(runtime.Options[*v1alpha1.App]{
		Kind: "App", Reconciler: n, Ready: []string{"Seen"}, Resync: time.Hour, Workers: convergeWorkers,
	})
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	begun := time.Now()
	changes := st.Stats().Changes
	go func() {
		defer close(ended)
		runtime.NewManager(st, slog.New(slog.DiscardHandler), nil, controller).Run(running)
	}()
	defer func() { stop(); <-ended }()
	watch, err := st.Watch(ctx, store.WatchOptions{Kind: "App", From: st.Revision()})
	if err != nil {
		return out, err
	}
	defer watch.Stop()
	for seen := map[string]bool{}; len(seen) < c.objects; {
		ev, ok := <-watch.Events()
		if !ok {
			return out, fmt.Errorf("the watch ended with %d of %d objects seen: %w", len(seen), c.objects, watch.Err())
		}
		if app, isApp := ev.Object.(*v1alpha1.App); isApp && len(app.GetStatus().GetConditions()) > 0 {
			seen[app.GetMetadata().GetName()] = true
		}
	}
	out.seconds = time.Since(begun).Seconds()
	if err := pause(ctx, time.Second); err != nil { // whatever its own writes trigger
		return out, err
	}
	out.reconciles = float64(n.calls.Load()) / float64(c.objects)
	if st.Stats().Changes-changes < uint64(c.objects) {
		err = fmt.Errorf("%d changes for %d objects", st.Stats().Changes-changes, c.objects)
	}
	return out, err
}
