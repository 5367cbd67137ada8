package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

const (
	watchers       = 200
	watchPause     = 20 * time.Millisecond // 50 writes a second
	watchedWrites  = 250
	watchersEnough = 2 * time.Minute
)

// watchFigures are about how soon many watchers see a change, from the moment that the
// write is begun.
func watchFigures(b *bench) []figure {
	w := &watchArea{apiArea: &apiArea{bench: b}}
	return []figure{
		{fmt.Sprintf("watch/%d-p50", watchers), "ms", valueAtMost(3), w.of(0.5)},
		{fmt.Sprintf("watch/%d-p99", watchers), "ms", valueAtMost(15), w.of(0.99)},
	}
}

type watchArea struct {
	*apiArea
	seen shared[[]float64]
}

func (w *watchArea) of(q float64) func(context.Context) (measured, error) {
	return func(ctx context.Context) (measured, error) {
		latencies, err := w.seen.get(func() ([]float64, error) { return w.watch(ctx) })
		return measured{value: quantile(latencies, q), detail: []string{fmt.Sprintf("%d watchers, %d writes, one every %s", watchers, watchedWrites, watchPause)}}, err
	}
}

func (w *watchArea) watch(ctx context.Context) ([]float64, error) {
	api, err := w.api.get(w.open)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, watchersEnough)
	defer cancel()
	if err := api.applyAll(ctx); err != nil {
		return nil, err
	}
	list, err := api.rpc.List(ctx, &v1alpha1.ListRequest{Kind: "App", Limit: 1})
	if err != nil {
		return nil, err
	}
	var (
		wg       sync.WaitGroup
		arrivals = make([][]time.Time, watchers)
		failed   = make([]error, watchers)
	)
	for i := range watchers {
		stream, err := api.bare[i%applyConns].Watch(ctx, &v1alpha1.WatchRequest{Kind: "App", ResourceVersion: list.GetResourceVersion()})
		if err == nil {
			_, err = stream.Header() // the watch stands
		}
		if err != nil {
			return nil, err
		}
		wg.Go(func() {
			for len(arrivals[i]) < watchedWrites && failed[i] == nil {
				var ev *v1alpha1.WatchEvent
				if ev, failed[i] = stream.Recv(); failed[i] == nil && ev.GetType() != "BOOKMARK" {
					arrivals[i] = append(arrivals[i], time.Now())
				}
			}
		})
	}
	begun := make([]time.Time, watchedWrites)
	tick := time.NewTicker(watchPause)
	defer tick.Stop()
	for i := range watchedWrites {
		begun[i] = <-tick.C
		begun[i] = time.Now()
		if err := api.applyBare(ctx, i%w.objects, 1000+i); err != nil {
			return nil, err
		}
	}
	wg.Wait()
	var latencies []float64
	for i := range watchers {
		for j, at := range arrivals[i] {
			latencies = append(latencies, milliseconds(at.Sub(begun[j])))
		}
	}
	return latencies, errors.Join(failed...)
}
