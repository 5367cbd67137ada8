package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Planned is what would become of one document or object.
type Planned struct {
	Key resource.Key
	// Result: created, configured, unchanged or deleted; affected for an object that was not
	// asked about, but for which something would be done because of what was.
	Result  string
	Changes []FieldChange
	// Steps would be taken outside, in order, unless Blocked says why not.
	Steps   []PlanStep
	Blocked *PlanBlock
	// Notes are sentences about what is not done.
	Notes []string
	// Observation that the steps start from: observed, never or none (the kind stands for
	// nothing outside); ObservedAt and Age are its time and age by the daemon's clock.
	Observation string
	ObservedAt  time.Time
	Age         time.Duration
	// Live and Planned are the object as it is and as it would be, nil for none, with
	// sensitive values hidden.
	Live, Planned resource.Object
}

// FieldChange is one field that would change; values are JSON, "" for one that is not set.
type FieldChange struct{ Path, Old, New string }

// PlanStep is one thing that would be done outside.
type PlanStep struct {
	Action string // CamelCase
	Text   string // a sentence
	Effect string // in place, restart, recreate or data loss
	By     string // another object whose controller takes it, or ""
	If     string // what it depends on, or ""
}

// PlanBlock says why nothing would be done outside.
type PlanBlock struct{ Reason, Message string }

// PlanOptions of a plan of documents.
type PlanOptions struct {
	// Manager would own the fields that the documents set.
	Manager string
	// Force takes fields over that other managers set to other values.
	Force bool
}

// Plan tells what applying the documents as one set would do, and changes nothing: a result
// for each document in their order, then other objects that are affected. Errors are those
// of ApplySet.
func (c *Client) Plan(ctx context.Context, docs []resource.Document, opts PlanOptions) ([]Planned, error) {
	reqs := make([]*v1alpha1.PlanRequest, len(docs))
	for i, d := range docs {
		data, err := d.EncodeJSON()
		if err != nil {
			return nil, err
		}
		reqs[i] = &v1alpha1.PlanRequest{Json: data, Source: d.Source, FieldManager: opts.Manager, Force: opts.Force}
	}
	planned, err := c.plan(ctx, reqs)
	return planned, locate(err, docs)
}

// PlanObjects tells what there is to do outside for objects that are there, or (deleted)
// what their deletion would do. ErrNotFound when one is not there.
func (c *Client) PlanObjects(ctx context.Context, keys []resource.Key, deleted bool) ([]Planned, error) {
	reqs := make([]*v1alpha1.PlanRequest, len(keys))
	for i, key := range keys {
		reqs[i] = &v1alpha1.PlanRequest{Key: keyMessage(key), Delete: deleted}
	}
	return c.plan(ctx, reqs)
}

func (c *Client) plan(ctx context.Context, reqs []*v1alpha1.PlanRequest) ([]Planned, error) {
	bounded, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel() // a stream that is left early ends
	stream, err := c.rpc.Plan(bounded)
	if err != nil {
		return nil, c.fail(ctx, err)
	}
	for _, req := range reqs {
		if err := stream.Send(req); errors.Is(err, io.EOF) {
			break // the daemon has answered already; Recv has its error
		} else if err != nil {
			return nil, c.fail(ctx, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, c.fail(ctx, err)
	}
	var out []Planned
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, c.fail(ctx, err)
		}
		p, err := c.planned(msg)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	if len(out) < len(reqs) {
		return nil, fmt.Errorf("the daemon answered %d results for %d requests", len(out), len(reqs))
	}
	return out, nil
}

func (c *Client) planned(msg *v1alpha1.PlanResult) (Planned, error) {
	k := msg.GetKey()
	p := Planned{
		Key: resource.Key{Kind: k.GetKind(), Namespace: k.GetNamespace(), Name: k.GetName()}, Result: msg.GetResult(),
		Notes: msg.GetNotes(), Observation: msg.GetObservation(), Age: time.Duration(msg.GetObservationAgeSeconds()) * time.Second,
	}
	for _, f := range msg.GetChanges() {
		p.Changes = append(p.Changes, FieldChange{f.GetPath(), f.GetOld(), f.GetNew()})
	}
	for _, s := range msg.GetSteps() {
		p.Steps = append(p.Steps, PlanStep{s.GetAction(), s.GetText(), s.GetEffect(), s.GetBy(), s.GetIf()})
	}
	if b := msg.GetBlocked(); b != nil {
		p.Blocked = &PlanBlock{b.GetReason(), b.GetMessage()}
	}
	var err error
	if at := msg.GetObservedAt(); at != "" {
		if p.ObservedAt, err = time.Parse(time.RFC3339, at); err != nil {
			return p, fmt.Errorf("the daemon's time of an observation: %w", err)
		}
	}
	if msg.GetLive() != nil {
		if p.Live, err = c.unpack(msg.GetLive()); err != nil {
			return p, err
		}
	}
	if msg.GetPlanned() != nil {
		p.Planned, err = c.unpack(msg.GetPlanned())
	}
	return p, err
}
