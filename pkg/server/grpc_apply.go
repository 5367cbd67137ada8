package server

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// Apply is ApplySet for one document, without a stream around it.
func (s *resourceService) Apply(ctx context.Context, req *v1alpha1.ApplyRequest) (*v1alpha1.ApplyResult, error) {
	doc, err := s.core.decodeOne(req.GetSource(), req.GetJson())
	if err != nil {
		return nil, err
	}
	result, err := s.core.applyOne(ctx, doc, applyOptionsOf(req))
	if err != nil {
		return nil, err
	}
	packed, err := pack(result.Object)
	if err != nil {
		return nil, err
	}
	answer := resultOf(result)
	answer.Object = packed
	return answer, nil
}

func applyOptionsOf(req *v1alpha1.ApplyRequest) apply.Options {
	return apply.Options{Manager: req.GetFieldManager(), DryRun: req.GetDryRun(), Force: req.GetForce()}
}

// resultOf is a result without its object.
func resultOf(r apply.Result) *v1alpha1.ApplyResult {
	return &v1alpha1.ApplyResult{
		Key:    &v1alpha1.ObjectKey{Kind: r.Key.Kind, Namespace: r.Key.Namespace, Name: r.Key.Name},
		Result: r.Outcome,
	}
}

func (s *resourceService) ApplySet(stream grpc.ClientStreamingServer[v1alpha1.ApplyRequest, v1alpha1.ApplySetResponse]) error {
	ctx := stream.Context()
	held := s.gate.buffer.reserve()
	defer held.release()
	docs, opts, err := s.receiveSet(stream, held)
	if err != nil {
		return err
	}
	results, err := s.core.applySet(ctx, docs, opts)
	if err != nil {
		return err
	}
	resp, err := applyResponse(results, MaxSendBytes)
	if err != nil {
		return err
	}
	return stream.SendAndClose(resp)
}

// applyResponse has the outcome of every document, and the objects as long as they fit
// into limit bytes: the set is stored by now, and an answer that is too large to be sent
// would make it look as if it were not.
func applyResponse(results []apply.Result, limit int) (*v1alpha1.ApplySetResponse, error) {
	resp := &v1alpha1.ApplySetResponse{}
	for _, r := range results {
		res := resultOf(r)
		resp.Results = append(resp.Results, res)
		limit -= maxResultBytes
		packed, err := pack(r.Object)
		if err != nil {
			return nil, err
		}
		if n := packedBytes(packed); n <= limit-maxResultBytes*(len(results)-len(resp.Results)) {
			limit -= n
			res.Object = packed
		}
	}
	return resp, nil
}

// maxResultBytes bounds a result without its object: a kind, two DNS labels, an outcome.
const maxResultBytes = 256

// receiveSet reads the stream to its end and decodes every document, so that the caller
// learns of all wrong documents at once.
func (s *resourceService) receiveSet(stream grpc.ClientStreamingServer[v1alpha1.ApplyRequest, v1alpha1.ApplySetResponse],
	held *reservation) ([]resource.Document, apply.Options, error) {
	var (
		docs   []resource.Document
		opts   apply.Options
		wrong  resource.FieldErrors
		number int
	)
	for ; ; number++ {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return docs, opts, wrong.OrNil()
		}
		if err != nil {
			return nil, opts, err
		}
		if number == 0 {
			opts = applyOptionsOf(req)
		}
		if number >= MaxApplyObjects || held.bytes+int64(len(req.GetJson())) > MaxApplyBytes {
			return nil, opts, apistatus.New(apistatus.RequestEntityTooLarge,
				"the set is too large, allowed are %d documents and %d bytes", MaxApplyObjects, MaxApplyBytes)
		}
		if err := held.grow(int64(len(req.GetJson()))); err != nil {
			return nil, opts, err
		}
		doc, err := s.core.decodeOne(req.GetSource(), req.GetJson())
		if err == nil {
			doc.Index = number
			docs = append(docs, doc)
			continue
		}
		var fields resource.FieldErrors
		if !errors.As(err, &fields) {
			return nil, opts, err
		}
		for _, f := range fields {
			f.Document = number
		}
		wrong = append(wrong, fields...)
	}
}
