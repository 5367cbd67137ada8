package main

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// apiFigures are about the way from a client to the disk and back, over TLS and with the
// check of a token, without controllers.
func apiFigures(b *bench) []figure {
	a := &apiArea{bench: b}
	many := fmt.Sprint(b.objects)
	return []figure{
		{"api/apply-1", "ms", ratioAtMost(2), a.applyOne},
		{"api/apply-64", "objects/s", ratioAtLeast(0.55), a.applyMany},
		{"api/apply-64-p99", "ms", valueAtMost(25), a.applyManyP99},
		{"api/apply-bulk", "objects/s", ratioAtLeast(0.5), a.bulk},
		{"api/list-grpc-" + many, "ms", ratioAtMost(3.5), a.listGRPC},
		{"api/list-rest-" + many, "ms", ratioAtMost(2), a.listREST},
	}
}

type apiArea struct {
	*bench
	api  shared[*api]
	many shared[*manyApplies]
}

// applyOne is the median time of one client that applies one changed App after the other;
// each is durable before the answer. The Go client, which encodes documents and decodes
// answers, is beside it.
func (a *apiArea) applyOne(ctx context.Context) (measured, error) {
	api, err := a.api.get(a.open)
	if err != nil {
		return measured{}, err
	}
	if err := api.applyAll(ctx); err != nil {
		return measured{}, err
	}
	var all []float64
	p50 := func(write func(i, version int) error) (float64, []float64, error) {
		l, err := writeFor(ctx, a.slice, 1, a.objects, write)
		return quantile(l.latencies, 0.5), l.latencies, err
	}
	value, of, err := turns(ctx, a.rounds, func() (float64, error) {
		v, latencies, err := p50(func(i, version int) error { return api.applyBare(ctx, i, version) })
		all = append(all, latencies...)
		return v, err
	}, func() (float64, error) {
		v, _, err := p50(func(i, _ int) error { return api.raw.put(i) })
		return v, err
	})
	if err != nil {
		return measured{}, err
	}
	whole, _, err := p50(func(i, version int) error { return api.applyChanged(ctx, i, version) })
	return measured{value: value, yardstick: of, against: "bare bbolt, Update",
		detail: []string{fmt.Sprintf("medians; p99 %s ms; by the Go client, which encodes and decodes objects, %s ms", number(quantile(all, 0.99)), number(whole))}}, err
}

func (a *api) applyChanged(ctx context.Context, i, version int) error {
	app := madeUpApp(i, version)
	app.Status, app.Metadata.Finalizers = nil, nil // what a person's document has not got
	result, err := a.client.Apply(ctx, resource.Document{Object: app, Source: "bench"}, client.ApplyOptions{Manager: "bench"})
	if err == nil && result.Outcome != "configured" {
		err = fmt.Errorf("apply of a changed App: %q, want configured", result.Outcome)
	}
	return err
}

// listGRPC is the time until a client has the answer in memory, its objects still encoded.
func (a *apiArea) listGRPC(ctx context.Context) (measured, error) {
	api, err := a.api.get(a.open)
	if err != nil {
		return measured{}, err
	}
	size := 0
	list := func() error {
		resp, err := api.rpc.List(ctx, &v1alpha1.ListRequest{Kind: "App"})
		if err == nil && len(resp.GetItems()) != a.objects {
			err = fmt.Errorf("listed %d Apps of %d", len(resp.GetItems()), a.objects)
		}
		if size == 0 && err == nil {
			size = proto.Size(resp)
		}
		return err
	}
	m, err := a.list(ctx, list, "proto.Marshal of the same objects", func(app *v1alpha1.App) ([]byte, error) { return proto.Marshal(app) })
	if err != nil {
		return m, err
	}
	decoded, err := timed(func() error { _, err := api.client.List(ctx, "App", client.ListOptions{}); return err })
	m.detail = []string{fmt.Sprintf("%.1f MB; with all objects decoded by the Go client: %s ms", float64(size)/1e6, number(decoded*1000))}
	return m, err
}

// listREST is the time until a client has read the whole answer.
func (a *apiArea) listREST(ctx context.Context) (measured, error) {
	api, err := a.api.get(a.open)
	if err != nil {
		return measured{}, err
	}
	var size int64
	m, err := a.list(ctx, func() (err error) { size, err = api.download(ctx, "/apis/proximity/v1alpha1/apps"); return err },
		"protojson.Marshal of the same objects", func(app *v1alpha1.App) ([]byte, error) { return protojson.Marshal(app) })
	m.detail = []string{fmt.Sprintf("%.1f MB, not compressed", float64(size)/1e6)}
	return m, err
}

// list compares a list with encoding the same objects, after one of each for warmth.
func (a *apiArea) list(ctx context.Context, list func() error, against string, encode func(*v1alpha1.App) ([]byte, error)) (measured, error) {
	api, err := a.api.get(a.open)
	if err != nil {
		return measured{}, err
	}
	all, err := api.client.List(ctx, "App", client.ListOptions{}) // as they are by now
	if err != nil {
		return measured{}, err
	}
	encodeAll := func() error {
		for _, app := range all.Items {
			if _, err := encode(app.(*v1alpha1.App)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := list(); err != nil {
		return measured{}, err
	}
	const more = 3 // a list is short: take more turns
	value, of, err := turns(ctx, more*a.rounds, func() (float64, error) { return timed(list) }, func() (float64, error) { return timed(encodeAll) })
	return measured{value: value * 1000, yardstick: of * 1000, against: against}, err
}
