package server

import (
	"context"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store"
)

// resourceService is the gRPC form of core.
type resourceService struct {
	v1alpha1.UnimplementedResourceServiceServer
	core    *core
	gate    *gate
	metrics *metrics
}

func keyFrom(k *v1alpha1.ObjectKey) resource.Key {
	return resource.Key{Kind: k.GetKind(), Namespace: k.GetNamespace(), Name: k.GetName()}
}

func response(obj resource.Object, err error) (*v1alpha1.ObjectResponse, error) {
	if err != nil {
		return nil, err
	}
	packed, err := pack(obj)
	return &v1alpha1.ObjectResponse{Object: packed}, err
}

func (s *resourceService) Get(ctx context.Context, req *v1alpha1.GetRequest) (*v1alpha1.ObjectResponse, error) {
	return response(s.core.get(ctx, keyFrom(req.GetKey())))
}

// selection narrows one by a request's selectors. A kind that does not exist is left to
// what the selection is for.
func (s *resourceService) selection(kindName string, sel selection, labelText, fieldText string) (selection, error) {
	var err error
	if sel.labels, err = selectLabels(labelText); err != nil {
		return sel, err
	}
	kind, known := s.core.registry.Get(kindName)
	if !known && kindName != "" {
		return sel, nil
	}
	return sel, sel.selectFields(kind, fieldText)
}

func (s *resourceService) List(ctx context.Context, req *v1alpha1.ListRequest) (*v1alpha1.ListResponse, error) {
	sel, err := s.selection(req.GetKind(), selection{namespace: req.GetNamespace()}, req.GetLabelSelector(), req.GetFieldSelector())
	if err != nil {
		return nil, err
	}
	snapshot, err := s.core.listPage(ctx, req.GetKind(), sel,
		pageRequest{limit: int(req.GetLimit()), token: req.GetContinue(), encoded: true})
	if err != nil {
		return nil, err
	}
	resp := &v1alpha1.ListResponse{
		ResourceVersion: strconv.FormatUint(snapshot.Revision, 10),
		Continue:        snapshot.Continue, RemainingItemCount: int32(snapshot.Remaining),
	}
	resp.Items = make([]*anypb.Any, 0, len(snapshot.Items)+len(snapshot.Encoded))
	bytes := 0
	add := func(packed *anypb.Any) error {
		if bytes += packedBytes(packed); bytes > MaxSendBytes {
			return errListTooLarge
		}
		resp.Items = append(resp.Items, packed)
		return nil
	}
	for _, obj := range snapshot.Items {
		packed, err := pack(obj)
		if err == nil {
			err = add(packed)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(snapshot.Encoded) > 0 {
		kind, err := s.core.kind(req.GetKind())
		if err != nil {
			return nil, err
		}
		url := typeURL(kind)
		for _, encoded := range snapshot.Encoded {
			if err := add(&anypb.Any{TypeUrl: url, Value: encoded}); err != nil {
				return nil, err
			}
		}
	}
	return resp, nil
}

// packedBytes bounds what a packed object takes in a message, tags and lengths included.
func packedBytes(packed *anypb.Any) int {
	const framing = 24 // two lengths of up to 5 bytes and tags, for the item and for each of its fields
	return framing + len(packed.GetTypeUrl()) + len(packed.GetValue())
}

var errListTooLarge = apistatus.New(apistatus.RequestEntityTooLarge,
	"the list has more than %d bytes: ask for pages with a smaller limit, or narrow it by namespace or label selector", MaxSendBytes)

func (s *resourceService) Watch(req *v1alpha1.WatchRequest, stream grpc.ServerStreamingServer[v1alpha1.WatchEvent]) error {
	within := selection{namespace: req.GetNamespace(), name: req.GetName()}
	chosen, err := s.selection(req.GetKind(), within, req.GetLabelSelector(), req.GetFieldSelector())
	if err != nil {
		return err
	}
	kind := req.GetKind()
	if kind == "" {
		kind = auth.AllKinds
	}
	w, err := s.core.watch(stream.Context(), kind, chosen, req.GetResourceVersion())
	if err != nil {
		return err
	}
	defer w.close()
	defer s.metrics.watching(auth.GRPC)()
	// The headers tell the caller that the watch stands, before the first event.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	for ev := range w.events() {
		ev, keep := w.translate(ev)
		if !keep {
			continue
		}
		message, err := w.encode(ev, asMessage, encodeMessage)
		if err != nil {
			return err
		}
		if err := stream.SendMsg(encodedMessage(message)); err != nil {
			return err
		}
	}
	if err := w.err(); err != nil {
		return err
	}
	if s.gate.isStopping() {
		return apistatus.New(apistatus.ServiceUnavailable, "the server is shutting down: watch again from the last resourceVersion")
	}
	return stream.Context().Err()
}

// encodeMessage encodes an event for gRPC.
func encodeMessage(ev store.Event) ([]byte, error) {
	packed, err := packEvent(ev)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&v1alpha1.WatchEvent{
		Type: string(ev.Type), Object: packed, ResourceVersion: strconv.FormatUint(ev.Revision, 10),
	})
}

func (s *resourceService) Create(ctx context.Context, req *v1alpha1.CreateRequest) (*v1alpha1.ObjectResponse, error) {
	obj, err := s.core.unpack(req.GetObject())
	if err != nil {
		return nil, err
	}
	return response(s.core.create(ctx, obj, apply.Options{Manager: req.GetFieldManager(), DryRun: req.GetDryRun()}))
}

func (s *resourceService) Update(ctx context.Context, req *v1alpha1.UpdateRequest) (*v1alpha1.ObjectResponse, error) {
	obj, err := s.core.unpack(req.GetObject())
	if err != nil {
		return nil, err
	}
	return response(s.core.update(ctx, obj, apply.Options{Manager: req.GetFieldManager(), DryRun: req.GetDryRun(), Force: req.GetForce()}))
}

func (s *resourceService) UpdateStatus(ctx context.Context, req *v1alpha1.UpdateRequest) (*v1alpha1.ObjectResponse, error) {
	obj, err := s.core.unpack(req.GetObject())
	if err != nil {
		return nil, err
	}
	return response(s.core.updateStatus(ctx, obj, apply.Options{DryRun: req.GetDryRun()}))
}

func (s *resourceService) Patch(ctx context.Context, req *v1alpha1.PatchRequest) (*v1alpha1.ObjectResponse, error) {
	opts := apply.Options{Manager: req.GetFieldManager(), DryRun: req.GetDryRun(), Force: req.GetForce()}
	return response(s.core.patch(ctx, keyFrom(req.GetKey()), apply.PatchType(req.GetType()), req.GetPatch(), opts))
}

func (s *resourceService) Delete(ctx context.Context, req *v1alpha1.DeleteRequest) (*v1alpha1.ObjectResponse, error) {
	pre := store.Preconditions{UID: req.GetUid(), ResourceVersion: req.GetResourceVersion()}
	return response(s.core.delete(ctx, keyFrom(req.GetKey()), pre, apply.Options{DryRun: req.GetDryRun(), Force: req.GetForce()}))
}

func (s *resourceService) Kinds(ctx context.Context, _ *v1alpha1.KindsRequest) (*v1alpha1.KindsResponse, error) {
	if err := authorize(ctx, auth.VerbGet, auth.Discovery, ""); err != nil {
		return nil, err
	}
	resp := &v1alpha1.KindsResponse{}
	for _, k := range s.core.registry.Kinds() {
		resp.Kinds = append(resp.Kinds, &v1alpha1.KindInfo{
			Kind: k.Name, Plural: k.Plural, ShortNames: k.ShortNames, Namespaced: k.Namespaced,
			Categories: k.Categories, ApplyOrder: int32(k.ApplyOrder),
		})
	}
	return resp, nil
}
