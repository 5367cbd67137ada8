package main

import (
	"context"
	"fmt"
	"path/filepath"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

// storeFigures are about the store alone: no admission, no RPC.
func storeFigures(b *bench) []figure {
	s := &storeArea{bench: b}
	return []figure{
		{"store/writes-1", "writes/s", ratioAtLeast(0.5), s.writes(1)},
		{"store/writes-64", "writes/s", ratioAtLeast(0.7), s.writes(64)},
		{"store/writes-256", "writes/s", ratioAtLeast(0.7), s.writes(256)},
	}
}

type storeArea struct {
	*bench
	sides shared[*sides]
}

// sides are a store and its yardstick with the same objects.
type sides struct {
	store *bolt.Store
	raw   *rawDatabase
	apps  []*v1alpha1.App // made before, for the cost of making them is not the store's
}

func (s *storeArea) open() (*sides, error) {
	dir, err := s.temp("store")
	if err != nil {
		return nil, err
	}
	raw, err := openRaw(dir, s.objects)
	if err != nil {
		return nil, fmt.Errorf("yardstick: %w", err)
	}
	s.atEnd(raw.db.Close)
	st, err := filledStore(filepath.Join(dir, "proximity.db"), s.objects)
	if err != nil {
		return nil, err
	}
	s.atEnd(st.Close)
	return &sides{st, raw, madeUpApps(s.objects)}, nil
}

// writes is the rate of durable writes, each in a transaction of its own and acknowledged
// before its writer does the next one.
func (s *storeArea) writes(writers int) func(context.Context) (measured, error) {
	return func(ctx context.Context) (measured, error) {
		both, err := s.sides.get(s.open)
		if err != nil {
			return measured{}, err
		}
		raw, against := both.raw.put, "bare bbolt, Update"
		if writers > 1 {
			raw, against = both.raw.batch, "bare bbolt, Batch"
			both.raw.db.MaxBatchSize = writers // else a batch waits for writers that are in it already
		}
		before := both.store.Stats()
		var latencies []float64
		value, of, err := turns(ctx, s.rounds, func() (float64, error) {
			l, err := writeFor(ctx, s.slice, writers, s.objects, func(i, version int) error { return both.write(ctx, i, version) })
			latencies = append(latencies, l.latencies...)
			return l.rate, err
		}, func() (float64, error) {
			l, err := writeFor(ctx, s.slice, writers, s.objects, func(i, _ int) error { return raw(i) })
			return l.rate, err
		})
		if err != nil {
			return measured{}, err
		}
		after := both.store.Stats()
		return measured{value: value, yardstick: of, against: against, detail: []string{fmt.Sprintf("p50 %s ms, p99 %s ms, %s writes per commit",
			number(quantile(latencies, 0.5)), number(quantile(latencies, 0.99)),
			number(float64(after.Changes-before.Changes)/float64(max(1, after.Commits-before.Commits))))}}, nil
	}
}

// write changes an App. Like the yardstick it asks for nothing back but that it is durable:
// not for the object as it is stored, decoded.
func (s *sides) write(ctx context.Context, i, version int) error {
	app := s.apps[i]
	setVersion(app, version)
	_, err := s.store.Update(ctx, func(tx store.Tx) error {
		_, err := store.Put(tx, app)
		return err
	})
	return err
}

// fillChunk bounds the objects of one transaction of filledStore.
const fillChunk = 2000

// filledStore makes a store with made-up Apps, as controllers would have left them.
func filledStore(path string, objects int) (*bolt.Store, error) {
	return storeOf(path, objects, func(i int) *v1alpha1.App { return madeUpApp(i, 0) })
}

// storeOfBare makes a store with Apps that no controller has seen, and that are not
// suspended.
func storeOfBare(path string, objects int) (*bolt.Store, error) {
	return storeOf(path, objects, func(i int) *v1alpha1.App {
		app := madeUpApp(i, 0)
		app.Status, app.Spec.Suspend = nil, nil
		return app
	})
}

func storeOf(path string, objects int, make func(i int) *v1alpha1.App) (*bolt.Store, error) {
	st, err := bolt.Open(path, kinds.Registry(), bolt.Options{})
	if err != nil {
		return nil, err
	}
	for first := 0; first < objects; first += fillChunk {
		_, err := st.Update(context.Background(), func(tx store.Tx) error {
			for i := first; i < min(first+fillChunk, objects); i++ {
				if err := createApp(tx, make(i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			_ = st.Close() // the first error is the one to tell
			return nil, fmt.Errorf("fill the store: %w", err)
		}
	}
	return st, nil
}

func createApp(tx store.Tx, app *v1alpha1.App) error {
	if _, err := tx.Create(app); err != nil {
		return err
	}
	_, err := tx.UpdateStatus(app)
	return err
}
