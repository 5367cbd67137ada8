package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// ApplyOptions of a set.
type ApplyOptions struct {
	// Manager owns the fields that the documents set.
	Manager string
	// DryRun validates and reports, and changes nothing.
	DryRun bool
	// Force takes fields over that other managers set to other values; without it that is
	// ErrConflict, with a cause for each field.
	Force bool
	// PerObject applies every document of a set by itself: one that fails has its error in
	// its result and keeps no other from being applied.
	PerObject bool
}

// ApplyResult is what became of one document.
type ApplyResult struct {
	Key resource.Key
	// Outcome: created, configured, unchanged, or with PerObject also Failed.
	Outcome string
	// Object as it is stored; nil when the answer to a very large set had no room for it.
	Object resource.Object
	// Err is why the document failed, an *Error.
	Err error
}

// Failed is the outcome of a document that was to be applied by itself and was not.
const Failed = "failed"

// Apply creates or changes the object of one document, as an ApplySet of it does.
func (c *Client) Apply(ctx context.Context, doc resource.Document, opts ApplyOptions) (ApplyResult, error) {
	req, err := applyRequest(doc, opts)
	if err != nil {
		return ApplyResult{}, err
	}
	resp, err := c.rpc.Apply(ctx, req)
	if err != nil {
		return ApplyResult{}, locate(c.fail(ctx, err), []resource.Document{doc})
	}
	return c.result(resp)
}

func applyRequest(doc resource.Document, opts ApplyOptions) (*v1alpha1.ApplyRequest, error) {
	data, err := doc.EncodeJSON()
	return &v1alpha1.ApplyRequest{Json: data, Source: doc.Source, FieldManager: opts.Manager, DryRun: opts.DryRun, Force: opts.Force, PerObject: opts.PerObject}, err
}

func (c *Client) result(r *v1alpha1.ApplyResult) (ApplyResult, error) {
	k := r.GetKey()
	result := ApplyResult{
		Key:     resource.Key{Kind: k.GetKind(), Namespace: k.GetNamespace(), Name: k.GetName()},
		Outcome: r.GetResult(),
	}
	if st := r.GetError(); st != nil {
		result.Err = c.hinted(fromStatus(st))
	}
	if r.GetObject() == nil {
		return result, nil
	}
	var err error
	result.Object, err = c.unpack(r.GetObject())
	return result, err
}

// ApplySet creates or changes the objects of the documents, all of them or none, or with
// PerObject each by itself; results are in the order of the documents. Causes of an *Error name the documents' files and lines.
func (c *Client) ApplySet(ctx context.Context, docs []resource.Document, opts ApplyOptions) ([]ApplyResult, error) {
	bounded, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel() // a stream that is left early ends
	stream, err := c.rpc.ApplySet(bounded)
	if err != nil {
		return nil, c.fail(ctx, err)
	}
	for _, d := range docs {
		req, err := applyRequest(d, opts)
		if err != nil {
			return nil, err
		}
		err = stream.Send(req)
		if errors.Is(err, io.EOF) {
			break // the daemon has answered already; CloseAndRecv has its error
		}
		if err != nil {
			return nil, c.fail(ctx, err)
		}
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return nil, locate(c.fail(ctx, err), docs)
	}
	if len(resp.GetResults()) != len(docs) {
		return nil, fmt.Errorf("the daemon answered %d results for %d documents", len(resp.GetResults()), len(docs))
	}
	results := make([]ApplyResult, len(docs))
	for i, r := range resp.GetResults() {
		if results[i], err = c.result(r); err != nil {
			return nil, err
		}
		if results[i].Err != nil {
			results[i].Key = resource.KeyOf(docs[i].Object) // the daemon may not have got that far
			results[i].Err = locate(results[i].Err, docs)
		}
	}
	return results, nil
}

// locate puts the lines of the documents into an error's causes: what the daemon saw was
// one line of JSON for each document.
func locate(err error, docs []resource.Document) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	for i := range e.Causes {
		cause := &e.Causes[i]
		if cause.Document < 0 || cause.Document >= len(docs) {
			continue
		}
		d := docs[cause.Document]
		cause.Source, cause.Line = d.Source, d.Locate(cause.Field)
	}
	return err
}
