package server

import (
	"context"
	"errors"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// partSet is a set of documents that are applied each by itself. The documents that could
// not even be read are in wrong; Index of a document is its place among all of them.
type partSet struct {
	docs  []resource.Document
	wrong map[int]error
	total int
	// wrongFields counts the errors in wrong.
	wrongFields int
}

// applyEach applies each document by itself; results are in the order of the set.
func (c *core) applyEach(ctx context.Context, set partSet, opts apply.Options) ([]apply.Each, error) {
	switch {
	case set.total == 0:
		return nil, apistatus.New(apistatus.BadRequest, "the set has no documents")
	case set.total > MaxApplyObjects:
		return nil, apistatus.New(apistatus.RequestEntityTooLarge, "the set has %d documents, allowed are %d", set.total, MaxApplyObjects)
	}
	results := make([]apply.Each, set.total)
	for i, err := range set.wrong {
		results[i] = apply.Each{Result: apply.Result{Outcome: apply.Failed}, Err: err}
	}
	allowed := c.admitEach(ctx, set.docs, results)
	applied, err := c.applier.ApplyEach(ctx, allowed, opts)
	if err != nil {
		return nil, err
	}
	for i, r := range applied {
		at := allowed[i].Index
		var fields resource.FieldErrors
		if errors.As(r.Err, &fields) {
			for _, f := range fields {
				f.Document = at
			}
		}
		results[at] = r
	}
	return results, nil
}

// admitEach returns the documents that the caller may apply.
func (c *core) admitEach(ctx context.Context, docs []resource.Document, results []apply.Each) []resource.Document {
	type scope struct{ kind, namespace string }
	verdicts := map[scope]error{}
	allowed := make([]resource.Document, 0, len(docs))
	for _, d := range docs {
		key := c.place(d.Object)
		s := scope{key.Kind, key.Namespace}
		err, known := verdicts[s]
		if !known {
			if err = authorize(ctx, auth.VerbApply, s.kind, s.namespace); err == nil {
				err = c.userWritable(s.kind)
			}
			verdicts[s] = err
		}
		if err != nil {
			results[d.Index] = apply.Each{Result: apply.Result{Key: key, Outcome: apply.Failed}, Err: err}
			continue
		}
		allowed = append(allowed, d)
	}
	return allowed
}

// eachErrors makes the Status of failed documents, as many whole ones as fit into their
// room; the others keep reason and the beginning of the message.
type eachErrors struct{ room int }

// Bytes of the errors of one answer, and of one that is cut.
const (
	maxEachErrorBytes = 16 << 20
	shortMessageBytes = 200
)

func (e *eachErrors) status(r apply.Each) *v1alpha1.Status {
	st := apistatus.From(apistatus.About(r.Key, r.Err))
	bytes := len(st.GetMessage())
	for _, c := range st.GetDetails().GetCauses() {
		bytes += len(c.GetMessage()) + len(c.GetField()) + len(c.GetSource()) + len(c.GetReason())
	}
	if e.room -= bytes; e.room < 0 {
		st = apistatus.Short(st, shortMessageBytes)
	}
	return st
}
