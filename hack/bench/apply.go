package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply/ownership"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

const (
	applyClients = 64
	// applyConns is the number of connections that the clients share.
	applyConns = 8
	// bulkObjects is how many objects a call of the bulk figure has, rawBulk how many its
	// yardstick has in a transaction.
	bulkObjects, rawBulk = 1000, 256
)

// document is what a person's document of a made-up App has, as JSON. It is made once:
// its versions differ in one place, so that a client that measures has no work of its own.
type document struct{ before, after []byte }

func newDocument(i int) (document, error) {
	const version = 987654321
	app := madeUpApp(i, version)
	app.Status, app.Metadata.Finalizers = nil, nil
	data, err := resource.EncodeJSON(app)
	if err != nil {
		return document{}, err
	}
	before, after, found := bytes.Cut(data, fmt.Append(nil, version))
	if !found {
		return document{}, fmt.Errorf("the document of %s does not have its version", app.Metadata.Name)
	}
	return document{before, after}, nil
}

func newDocuments(n int) ([]document, error) {
	documents := make([]document, n)
	var err error
	for i := range documents {
		if documents[i], err = newDocument(i); err != nil {
			return nil, err
		}
	}
	return documents, nil
}

// of is the document as a version has it.
func (d document) of(version int) []byte {
	const digits = 20
	data := make([]byte, 0, len(d.before)+digits+len(d.after))
	return append(strconv.AppendInt(append(data, d.before...), int64(version), 10), d.after...)
}

// applyMany is the rate of durable applies of one changed App each, by many clients. Its
// yardstick is what a call that does nothing and a write that is nothing else allow
// together, when each takes its share of the same processors one after the other.
func (a *apiArea) applyMany(ctx context.Context) (measured, error) {
	load, err := a.many.get(func() (*manyApplies, error) { return a.measureMany(ctx) })
	if err != nil {
		return measured{}, err
	}
	limit := 1 / (1/load.echo + 1/load.batch)
	return measured{value: load.rate, yardstick: limit, against: "an echo with TLS and token check and bare bbolt Batch, together",
		detail: append([]string{fmt.Sprintf("echo alone %s/s, Batch alone %s/s", number(load.echo), number(load.batch))}, load.stages...)}, nil
}

// applyManyP99 is the time that 99 of 100 of the same calls took.
func (a *apiArea) applyManyP99(ctx context.Context) (measured, error) {
	load, err := a.many.get(func() (*manyApplies, error) { return a.measureMany(ctx) })
	if err != nil {
		return measured{}, err
	}
	return measured{value: quantile(load.latencies, 0.99), detail: []string{fmt.Sprintf("p50 %s ms", number(quantile(load.latencies, 0.5)))}}, nil
}

type manyApplies struct {
	rate, echo, batch float64 // per second
	latencies         []float64
	stages            []string
}

func (a *apiArea) measureMany(ctx context.Context) (*manyApplies, error) {
	api, err := a.api.get(a.open)
	if err != nil {
		return nil, err
	}
	if err := api.applyAll(ctx); err != nil {
		return nil, err
	}
	echoed := make([][]byte, a.objects)
	for i := range echoed {
		echoed[i] = api.documents[i].of(0)
	}
	api.raw.db.MaxBatchSize = applyClients
	out := &manyApplies{}
	var rates, echoes, batches []float64
	run := func(rates *[]float64, write func(i, version int) error) error {
		l, err := writeFor(ctx, a.slice, applyClients, a.objects, write)
		*rates = append(*rates, l.rate)
		out.latencies = append(out.latencies, l.latencies...)
		return err
	}
	for range a.rounds {
		if err := run(&rates, func(i, version int) error { return api.applyBare(ctx, i, version) }); err != nil {
			return nil, err
		}
		latencies := out.latencies // of applies alone
		err := errors.Join(
			run(&echoes, func(i, _ int) error {
				_, err := api.echo[i%applyConns].Apply(ctx, &v1alpha1.ApplyRequest{Json: echoed[i]})
				return err
			}),
			run(&batches, func(i, _ int) error { return api.raw.batch(i) }))
		if err != nil {
			return nil, fmt.Errorf("yardstick: %w", err)
		}
		out.latencies = latencies
	}
	out.rate, out.echo, out.batch = median(rates), median(echoes), median(batches)
	out.stages, err = stages(out.echo, out.batch)
	return out, err
}

// applyBare applies a changed App over a connection that decodes nothing of the answer.
func (a *api) applyBare(ctx context.Context, i, version int) error {
	result, err := a.bare[i%applyConns].Apply(ctx, &v1alpha1.ApplyRequest{Json: a.documents[i].of(version), FieldManager: "bench"})
	if err == nil && result.GetResult() != "configured" {
		err = fmt.Errorf("apply of a changed App: %q, want configured", result.GetResult())
	}
	return err
}

// stages are the costs of the steps of one apply, each measured by itself in one goroutine
// but for the two that the yardstick has measured already.
func stages(echo, batch float64) ([]string, error) {
	reg := kinds.Registry()
	kind, _ := reg.Get("App")
	tracker := ownership.New(reg)
	doc, err := newDocument(1)
	if err != nil {
		return nil, err
	}
	data := doc.of(1)
	docs, err := resource.DecodeDocuments(reg, "", data)
	if err != nil {
		return nil, err
	}
	live, _, err := tracker.Apply(kind, nil, docs[0], resource.Clone(docs[0].Object), "bench", false)
	if err != nil {
		return nil, err
	}
	live.(*v1alpha1.App).Status = madeUpStatus(1)
	stored, err := proto.Marshal(live)
	if err != nil {
		return nil, err
	}
	docs[0].Object.(*v1alpha1.App).Spec.Env[0].Value = proto.String("2")
	each := func(do func() error) (float64, error) {
		const turns = 2000
		took, err := timed(func() error {
			for range turns {
				if err := do(); err != nil {
					return err
				}
			}
			return nil
		})
		return 1e6 * took / turns, err
	}
	text := []string{fmt.Sprintf("rpc %s us", number(1e6/echo))}
	for _, stage := range []struct {
		name string
		do   func() error
	}{
		{"decode", func() error { _, err := resource.DecodeDocument(reg, "", data); return err }},
		{"merge", func() error {
			next, err := kind.DecodeWithoutStatus(stored)
			if err == nil && !tracker.Again(next, docs[0], "bench") {
				err = errors.New("not the short way")
			}
			return err
		}},
		{"validate", func() error { return kind.Check(live).OrNil() }},
		{"encode", func() error { _, err := proto.Marshal(live); return err }},
	} {
		us, err := each(stage.do)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", stage.name, err)
		}
		text = append(text, fmt.Sprintf("%s %s us", stage.name, number(us)))
	}
	return []string{"one apply: " + strings.Join(append(text, fmt.Sprintf("store %s us", number(1e6/batch))), ", ")}, nil
}

// bulk is the rate of objects in sets that are applied one after the other.
func (a *apiArea) bulk(ctx context.Context) (measured, error) {
	api, err := a.api.get(a.open)
	if err != nil {
		return measured{}, err
	}
	version := int(time.Now().UnixNano() % 1e9)
	per := min(bulkObjects, a.objects)
	if err := api.applyAll(ctx); err != nil {
		return measured{}, err
	}
	apart := max(1, a.objects/per) // neighbours would share the pages of the database
	value, of, err := turns(ctx, a.rounds, func() (float64, error) {
		version++
		took, err := timed(func() error { return api.applyApart(ctx, per, apart, version) })
		return float64(per) / took, err
	}, func() (float64, error) {
		took, err := timed(func() error { return api.raw.bulk(rawBulk, per, apart) })
		return float64(per) / took, err
	})
	return measured{value: value, yardstick: of, against: fmt.Sprintf("bare bbolt, %d per transaction", rawBulk),
		detail: []string{fmt.Sprintf("%d changed objects a call", per)}}, err
}

// applyAll applies all Apps once. The first apply to an object that nobody has applied yet
// is another work than the ones after it, which is what is measured.
func (a *api) applyAll(ctx context.Context) error {
	_, err := a.applied.get(func() (bool, error) { return true, a.applyApart(ctx, len(a.documents), 1, -1) })
	return err
}

// applyApart applies n Apps in one call, with others in between that it leaves out.
func (a *api) applyApart(ctx context.Context, n, apart, version int) error {
	stream, err := a.bare[0].ApplySet(ctx)
	if err != nil {
		return err
	}
	for i := range n {
		if err := stream.Send(&v1alpha1.ApplyRequest{Json: a.documents[i*apart].of(version), FieldManager: "bench"}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	resp, err := stream.CloseAndRecv()
	if err == nil && len(resp.GetResults()) != n {
		err = fmt.Errorf("%d results of %d", len(resp.GetResults()), n)
	}
	return err
}
