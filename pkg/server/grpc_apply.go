package server

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

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
	packed, err := s.core.packResult(result)
	if err != nil {
		return nil, err
	}
	answer := resultOf(result)
	answer.Object = packed
	return answer, nil
}

func applyOptionsOf(req *v1alpha1.ApplyRequest) apply.Options {
	return apply.Options{Manager: req.GetFieldManager(), DryRun: req.GetDryRun(), Force: req.GetForce(), Encoded: true}
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
	set, first, err := s.receiveSet(stream, held)
	if err != nil {
		return err
	}
	results, err := s.applyAs(ctx, set, first)
	if err != nil {
		return err
	}
	resp, err := s.core.applyResponse(results, MaxSendBytes)
	if err != nil {
		return err
	}
	return stream.SendAndClose(resp)
}

// applyAs applies a set in the way that its first request says.
func (s *resourceService) applyAs(ctx context.Context, set partSet, first *v1alpha1.ApplyRequest) ([]apply.Each, error) {
	if first.GetPerObject() {
		return s.core.applyEach(ctx, set, applyOptionsOf(first))
	}
	results, err := s.core.applySet(ctx, set.docs, applyOptionsOf(first))
	if err != nil {
		return nil, err
	}
	each := make([]apply.Each, len(results))
	for i, r := range results {
		each[i].Result = r
	}
	return each, nil
}

// applyResponse has the outcome of every document, and the objects as long as they fit
// into limit bytes: the set is stored by now, and an answer that is too large to be sent
// would make it look as if it were not.
func (c *core) applyResponse(results []apply.Each, limit int) (*v1alpha1.ApplySetResponse, error) {
	resp := &v1alpha1.ApplySetResponse{}
	errs := eachErrors{room: maxEachErrorBytes}
	for _, r := range results {
		res := resultOf(r.Result)
		resp.Results = append(resp.Results, res)
		limit -= maxResultBytes
		if r.Err != nil {
			res.Error = errs.status(r)
			limit -= proto.Size(res.GetError())
			continue
		}
		packed, err := c.packResult(r.Result)
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
// learns of all wrong documents at once. It returns the first request, without its document.
func (s *resourceService) receiveSet(stream grpc.ClientStreamingServer[v1alpha1.ApplyRequest, v1alpha1.ApplySetResponse],
	held *reservation) (set partSet, first *v1alpha1.ApplyRequest, err error) {
	set.wrong = map[int]error{}
	for ; ; set.total++ {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return set, first, set.allOrNothing(first)
		}
		if err != nil {
			return set, nil, err
		}
		if first == nil {
			first = &v1alpha1.ApplyRequest{FieldManager: req.GetFieldManager(), DryRun: req.GetDryRun(), Force: req.GetForce(), PerObject: req.GetPerObject()}
		}
		number := set.total
		if number >= MaxApplyObjects || held.bytes+int64(len(req.GetJson())) > MaxApplyBytes {
			return set, nil, apistatus.New(apistatus.RequestEntityTooLarge,
				"the set is too large, allowed are %d documents and %d bytes", MaxApplyObjects, MaxApplyBytes)
		}
		if err := held.grow(int64(len(req.GetJson()))); err != nil {
			return set, nil, err
		}
		doc, err := s.core.decodeOne(req.GetSource(), req.GetJson())
		if err == nil {
			doc.Index = number
			set.docs = append(set.docs, doc)
			continue
		}
		var fields resource.FieldErrors
		if !errors.As(err, &fields) {
			return set, nil, err
		}
		for _, f := range fields {
			f.Document = number
		}
		if set.wrongFields += len(fields); set.wrongFields > maxWrongFields {
			fields = fields[:1] // of so many, the first of each must do
		}
		set.wrong[number] = fields
	}
}

// maxWrongFields bounds the errors that are kept of the documents of a stream, beside one of each.
const maxWrongFields = 10_000

// allOrNothing is the error of a set that is applied as one: all that is wrong with its
// documents.
func (p partSet) allOrNothing(first *v1alpha1.ApplyRequest) error {
	if first.GetPerObject() || len(p.wrong) == 0 {
		return nil
	}
	var all resource.FieldErrors
	for _, number := range slices.Sorted(maps.Keys(p.wrong)) {
		var fields resource.FieldErrors
		if errors.As(p.wrong[number], &fields) {
			all = append(all, fields...)
		}
	}
	return all
}
