package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	seen shared[sights]
}

// sights are when events were seen, in milliseconds.
type sights struct {
	latencies []float64 // of every watcher and event
	first     []float64 // of each event's first watcher
	median    []float64 // of each event's watcher in the middle, after the first
	last      []float64 // of each event's last one, after the first
	raw       []float64 // a bare write just before each, for no event is before its write is durable
}

func (w *watchArea) of(q float64) func(context.Context) (measured, error) {
	return func(ctx context.Context) (measured, error) {
		s, err := w.seen.get(func() (sights, error) { return w.watch(ctx) })
		if err != nil {
			return measured{}, err
		}
		at := func(values []float64) string { return number(quantile(values, q)) }
		return measured{value: quantile(s.latencies, q), yardstick: quantile(s.raw, q), against: "bare bbolt, Update", detail: []string{
			fmt.Sprintf("%d watchers, %d writes, one every %s", watchers, watchedWrites, watchPause),
			fmt.Sprintf("the first watcher after %s ms, the one in the middle %s ms later, the last one %s ms later", at(s.first), at(s.median), at(s.last)),
		}}, nil
	}
}

func (w *watchArea) watch(ctx context.Context) (sights, error) {
	api, err := w.api.get(w.open)
	if err != nil {
		return sights{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, watchersEnough)
	defer cancel()
	if err := api.applyAll(ctx); err != nil {
		return sights{}, err
	}
	list, err := api.rpc.List(ctx, &v1alpha1.ListRequest{Kind: "App", Limit: 1})
	if err != nil {
		return sights{}, err
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
			return sights{}, err
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
	out := sights{}
	begun := make([]time.Time, watchedWrites)
	tick := time.NewTicker(watchPause)
	defer tick.Stop()
	for i := range watchedWrites {
		<-tick.C
		took, err := timed(func() error { return api.raw.put(i % w.objects) })
		if err != nil {
			return sights{}, fmt.Errorf("yardstick: %w", err)
		}
		out.raw = append(out.raw, 1000*took)
		begun[i] = time.Now()
		if err := api.applyBare(ctx, i%w.objects, 1000+i); err != nil {
			return sights{}, err
		}
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return sights{}, err
	}
	for j := range begun {
		event := make([]float64, watchers)
		for i := range event {
			event[i] = milliseconds(arrivals[i][j].Sub(begun[j]))
		}
		first := slices.Min(event)
		out.latencies = append(out.latencies, event...)
		out.first = append(out.first, first)
		out.median, out.last = append(out.median, quantile(event, 0.5)-first), append(out.last, slices.Max(event)-first)
	}
	return out, nil
}
