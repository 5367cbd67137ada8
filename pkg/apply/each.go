package apply

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Failed is the outcome of a document of ApplyEach that changed nothing.
const Failed = "failed"

const (
	// eachDocuments and eachBytes bound the documents of one transaction of ApplyEach, so
	// that it holds up other writers for milliseconds.
	eachDocuments = 256
	eachBytes     = 4 << 20
)

// Each is what became of one document that was applied by itself.
type Each struct {
	Result
	Err error // why it Failed: FieldErrors, or an error of the store
}

// ApplyEach applies every document by itself: one that is wrong keeps no other from being
// applied. Results are in the order of the documents. Kinds are written in the same order
// as by ApplySet, so that a document sees what it needs of the others, if they were
// applied; a dry run sees them too. The error is about the set as a whole; nothing was applied then.
//
// Documents share transactions, but none fails for another, unless the database does: then
// the rest fails with its error. When the outcome of a transaction is unknown, so is that of
// its documents.
func (a *Applier) ApplyEach(ctx context.Context, docs []resource.Document, opts Options) ([]Each, error) {
	if len(docs) > resource.MaxDocuments {
		return nil, resource.FieldErrors{resource.Forbidden("", "",
			fmt.Sprintf("the set has %d documents; allowed are %d", len(docs), resource.MaxDocuments))}
	}
	opts, err := a.options([]Options{opts})
	if err != nil {
		return nil, err
	}
	ctx = audit.WithVerb(ctx, "apply", opts.Manager)
	results := make([]Each, len(docs))
	items := a.prepareEach(docs, results)
	kept := eachErrors(maxEachErrors)
	for len(items) > 0 {
		n := len(items)
		if !opts.DryRun { // a dry run keeps nothing: all must see one transaction
			n = eachChunk(items)
		}
		a.admitAhead(ctx, items[:n], opts)
		err := a.transact(ctx, opts.DryRun, func(tx store.Tx) error {
			for _, it := range items[:n] {
				results[it.at] = kept.bounded(a.applyEach(tx, it, opts))
			}
			return nil
		})
		if err != nil {
			if stopsAll(err) {
				n = len(items)
			}
			for _, it := range items[:n] {
				results[it.at] = failed(it, fmt.Errorf("%s: %w", it.key, err))
			}
		}
		for _, it := range items[:n] {
			if r := &results[it.at]; r.Err == nil {
				r.Err = a.show(&r.Result, opts)
			}
		}
		items = items[n:]
	}
	return results, nil
}

// maxEachErrors bounds the field errors that are kept of all documents, beside one of each.
const maxEachErrors = 10_000

// eachErrors is how many more are kept.
type eachErrors int

func (e *eachErrors) bounded(r Each) Each {
	var fields resource.FieldErrors
	if !errors.As(r.Err, &fields) || len(fields) == 0 {
		return r
	}
	if *e -= eachErrors(len(fields)); *e < 0 {
		r.Err = fields[:1:1]
	}
	return r
}

// stopsAll tells whether the next transaction has no better chance.
func stopsAll(err error) bool {
	return errors.Is(err, store.ErrReadOnly) || errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrUnknownOutcome) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// prepareEach is prepare, with the errors of each document in its result.
func (a *Applier) prepareEach(docs []resource.Document, results []Each) []item {
	items, wrong := a.prepare(docs)
	byDocument := map[int]resource.FieldErrors{}
	for _, e := range wrong {
		byDocument[e.Document] = append(byDocument[e.Document], e)
	}
	for i, errs := range byDocument {
		results[i] = failed(item{key: resource.KeyOf(docs[i].Object)}, errs.Bounded())
	}
	return items
}

func failed(it item, err error) Each {
	return Each{Result: Result{Key: it.key, Outcome: Failed}, Err: err}
}

// eachChunk is how many of the next items go into one transaction.
func eachChunk(items []item) int {
	bytes := 0
	for i, it := range items[:min(len(items), eachDocuments)] {
		if bytes += proto.Size(it.doc.Object); bytes > eachBytes && i > 0 {
			return i
		}
	}
	return min(len(items), eachDocuments)
}

// applyEach applies one item, wholly or not at all: everything is checked before it is
// written, for a transaction cannot take back a part of itself.
func (a *Applier) applyEach(tx store.Tx, it item, opts Options) Each {
	one := []item{it}
	errs, err := a.merge(tx, one, opts)
	if err != nil {
		return failed(it, err)
	}
	it = one[0]
	if len(errs) == 0 && it.kind.Relate != nil && a.needNamespace(tx, it.obj) == nil { // a missing one is found again below
		errs = it.doc.Place(it.kind.Hide(it.kind.Relate(it.obj, alone{tx, it.obj})))
	}
	if len(errs) > 0 {
		return failed(it, inDocumentOrder(errs).Bounded())
	}
	result, wrong, err := a.writeOne(tx, it)
	if len(wrong) > 0 {
		return failed(it, it.doc.Place(wrong).Bounded())
	}
	if err != nil {
		return failed(it, err)
	}
	return Each{Result: result}
}

// alone shows a transaction as it will be when one object has been written.
type alone struct {
	tx  store.Tx
	obj resource.Object
}

func (v alone) Get(key resource.Key) (resource.Object, bool) {
	if v.Writing(key) {
		return v.obj, true
	}
	return view{tx: v.tx}.Get(key)
}

func (v alone) List(kind, namespace string) []resource.Object {
	own := resource.KeyOf(v.obj)
	stored := v.tx.List(kind, namespace)
	if own.Kind != kind || namespace != "" && namespace != own.Namespace {
		return stored
	}
	list := make([]resource.Object, 0, len(stored)+1)
	for _, o := range stored {
		if resource.KeyOf(o) != own {
			list = append(list, o)
		}
	}
	return append(list, v.obj)
}

func (v alone) Writing(key resource.Key) bool { return key == resource.KeyOf(v.obj) }
