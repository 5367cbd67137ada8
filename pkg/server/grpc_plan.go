package server

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

type planStream = grpc.BidiStreamingServer[v1alpha1.PlanRequest, v1alpha1.PlanResult]

// Plan reads the whole request before it answers: the documents are one set.
func (s *resourceService) Plan(stream planStream) error {
	held := s.gate.buffer.reserve()
	defer held.release()
	items, opts, err := s.receivePlan(stream, held)
	if err != nil {
		return err
	}
	results, err := s.core.plan(stream.Context(), items, opts)
	if err != nil {
		return err
	}
	for _, r := range results {
		msg, err := r.message()
		if err != nil {
			return err
		}
		if err := stream.Send(msg); err != nil {
			return err
		}
	}
	return nil
}

// receivePlan reads the stream to its end and decodes every document, so that the caller
// learns of all wrong documents at once.
func (s *resourceService) receivePlan(stream planStream, held *reservation) ([]planItem, apply.Options, error) {
	var (
		items []planItem
		opts  apply.Options
		wrong resource.FieldErrors
	)
	for number := 0; ; number++ {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return items, opts, wrong.OrNil()
		}
		if err != nil {
			return nil, opts, err
		}
		if number == 0 {
			opts = apply.Options{Manager: req.GetFieldManager(), Force: req.GetForce()}
		}
		if number >= MaxApplyObjects || held.bytes+int64(len(req.GetJson())) > MaxApplyBytes {
			return nil, opts, apistatus.New(apistatus.RequestEntityTooLarge,
				"the set is too large, allowed are %d documents and %d bytes", MaxApplyObjects, MaxApplyBytes)
		}
		if err := held.grow(int64(len(req.GetJson()))); err != nil {
			return nil, opts, err
		}
		item, err := s.planItem(req, number)
		var fields resource.FieldErrors
		switch {
		case errors.As(err, &fields):
			for _, f := range fields {
				f.Document = number
			}
			wrong = append(wrong, fields...)
		case err != nil:
			return nil, opts, err
		}
		items = append(items, item)
	}
}

func (s *resourceService) planItem(req *v1alpha1.PlanRequest, number int) (planItem, error) {
	switch hasDocument := len(req.GetJson()) > 0; {
	case hasDocument == (req.GetKey() != nil):
		return planItem{}, apistatus.New(apistatus.BadRequest, "request %d: allowed is either a document or a key", number)
	case hasDocument && req.GetDelete():
		return planItem{}, apistatus.New(apistatus.BadRequest, "request %d: a deletion takes a key, not a document", number)
	case !hasDocument:
		return planItem{key: keyFrom(req.GetKey()), delete: req.GetDelete()}, nil
	}
	doc, err := s.core.decodeOne(req.GetSource(), req.GetJson())
	doc.Index = number
	return planItem{doc: &doc}, err
}

// message is a result on the wire.
func (p planned) message() (*v1alpha1.PlanResult, error) {
	msg := &v1alpha1.PlanResult{
		Key:    &v1alpha1.ObjectKey{Kind: p.key.Kind, Namespace: p.key.Namespace, Name: p.key.Name},
		Result: p.result, Notes: p.plan.Notes,
	}
	msg.Observation, msg.ObservedAt, msg.ObservationAgeSeconds = p.observation()
	for _, c := range p.changes {
		msg.Changes = append(msg.Changes, &v1alpha1.FieldChange{Path: c.Path, Old: c.Old, New: c.New})
	}
	for _, st := range p.plan.Steps {
		msg.Steps = append(msg.Steps, &v1alpha1.PlanStep{Action: st.Action, Text: st.Description, Effect: st.Effect, By: st.By, If: st.If})
	}
	if p.plan.Blocked != "" {
		msg.Blocked = &v1alpha1.PlanBlock{Reason: p.plan.BlockedReason, Message: p.plan.Blocked}
	}
	live, next := p.shown()
	var err error
	if msg.Live, err = pack(live); err != nil {
		return nil, err
	}
	msg.Planned, err = pack(next)
	return msg, err
}
