package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store"
)

func mustPack(t *testing.T, obj proto.Message) *anypb.Any {
	t.Helper()
	packed, err := anypb.New(obj)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func unpackNamespace(t *testing.T, packed *anypb.Any, err error) *v1alpha1.Namespace {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var ns v1alpha1.Namespace
	if err := packed.UnmarshalTo(&ns); err != nil {
		t.Fatal(err)
	}
	return &ns
}

func TestResourceService(t *testing.T) {
	f := start(t)
	c, ctx := f.resources(), t.Context()
	key := &v1alpha1.ObjectKey{Kind: "Namespace", Name: "a"}

	created, err := c.Create(ctx, &v1alpha1.CreateRequest{Object: mustPack(t, namespace("a", "1"))}, asAdmin)
	ns := unpackNamespace(t, created.GetObject(), err)
	if ns.GetMetadata().GetUid() == "" || ns.GetMetadata().GetGeneration() != 1 {
		t.Errorf("created %v", ns)
	}
	stale := proto.CloneOf(ns)
	ns.Spec.Description = proto.String("2")
	updated, err := c.Update(ctx, &v1alpha1.UpdateRequest{Object: mustPack(t, ns)}, asAdmin)
	if ns = unpackNamespace(t, updated.GetObject(), err); ns.GetMetadata().GetGeneration() != 2 {
		t.Errorf("updated %v", ns)
	}
	stale.Spec.Description = proto.String("3")
	_, err = c.Update(ctx, &v1alpha1.UpdateRequest{Object: mustPack(t, stale)}, asAdmin)
	if st := apistatus.FromGRPC(err); status.Code(err) != codes.Aborted || st.GetReason() != "Conflict" || st.GetDetails().GetName() != "a" {
		t.Errorf("stale update: %v, details %v", err, st)
	}
	ns.Status = &v1alpha1.NamespaceStatus{Phase: proto.String("Active")}
	ns.Spec.Description = proto.String("not through the status")
	ns.Metadata.ResourceVersion = ""
	withStatus, err := c.UpdateStatus(ctx, &v1alpha1.UpdateRequest{Object: mustPack(t, ns)}, asAdmin)
	if ns = unpackNamespace(t, withStatus.GetObject(), err); ns.GetSpec().GetDescription() != "2" || ns.GetStatus().GetPhase() != "Active" {
		t.Errorf("status %v", ns)
	}
	got, err := c.Get(ctx, &v1alpha1.GetRequest{Key: key}, asAdmin)
	if !proto.Equal(unpackNamespace(t, got.GetObject(), err), ns) {
		t.Errorf("got %v, want %v", got, ns)
	}
	list, err := c.List(ctx, &v1alpha1.ListRequest{Kind: "Namespace", LabelSelector: "!x"}, asAdmin)
	if err != nil || len(list.GetItems()) != 3 || list.GetResourceVersion() != fmt.Sprint(f.store.Revision()) {
		t.Errorf("list %v, %v", list, err)
	}
	_, err = c.Delete(ctx, &v1alpha1.DeleteRequest{Key: key, Uid: "other"}, asAdmin)
	if status.Code(err) != codes.Aborted {
		t.Errorf("delete of another uid: %v", err)
	}
	_, err = c.Delete(ctx, &v1alpha1.DeleteRequest{Key: key, Uid: ns.GetMetadata().GetUid()}, asAdmin)
	if err != nil {
		t.Errorf("delete: %v", err)
	}
	_, err = c.Get(ctx, &v1alpha1.GetRequest{Key: key}, asAdmin)
	if status.Code(err) != codes.NotFound || apistatus.FromGRPC(err).GetReason() != "NotFound" {
		t.Errorf("get after delete: %v", err)
	}
	kinds, err := c.Kinds(ctx, &v1alpha1.KindsRequest{}, asAdmin)
	if err != nil || len(kinds.GetKinds()) != len(f.registry.Kinds()) {
		t.Errorf("kinds %v, %v", kinds, err)
	}
}

func TestResourceServiceRefuses(t *testing.T) {
	f := start(t)
	c, ctx := f.resources(), t.Context()
	unknown := namespace("a", "")
	unknown.Spec.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 0x01}) // field 127, varint 1
	wrongKind := namespace("a", "")
	wrongKind.Kind = proto.String("App")
	create := func(obj proto.Message) error {
		_, err := c.Create(ctx, &v1alpha1.CreateRequest{Object: mustPack(t, obj)}, asAdmin)
		return err
	}
	get := func(kind, ns, name string) error {
		_, err := c.Get(ctx, &v1alpha1.GetRequest{Key: &v1alpha1.ObjectKey{Kind: kind, Namespace: ns, Name: name}}, asAdmin)
		return err
	}
	call := func(_ any, err error) error { return err }
	for name, tt := range map[string]struct {
		err    error
		code   codes.Code
		reason string
	}{
		"no object":           {call(c.Create(ctx, &v1alpha1.CreateRequest{}, asAdmin)), codes.InvalidArgument, "BadRequest"},
		"another message":     {create(durationpb.New(1)), codes.NotFound, "NotFound"},
		"status as an object": {create(&v1alpha1.Status{}), codes.NotFound, "NotFound"},
		"unknown field":       {create(unknown), codes.InvalidArgument, "Invalid"},
		"wrong kind":          {create(wrongKind), codes.InvalidArgument, "Invalid"},
		"no kind":             {create(&v1alpha1.Namespace{}), codes.InvalidArgument, "Invalid"},
		"no metadata": {create(&v1alpha1.Namespace{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Namespace")}),
			codes.InvalidArgument, "BadRequest"},
		"garbage": {call(c.Create(ctx, &v1alpha1.CreateRequest{Object: &anypb.Any{
			TypeUrl: "type.googleapis.com/proximity.v1alpha1.Namespace", Value: []byte{0xff}}}, asAdmin)), codes.InvalidArgument, "BadRequest"},
		"patch of no type": {call(c.Patch(ctx, &v1alpha1.PatchRequest{Key: &v1alpha1.ObjectKey{Kind: "Namespace", Name: "default"}, Patch: []byte(`{}`)}, asAdmin)),
			codes.InvalidArgument, "BadRequest"},
		"patch of a system kind": {call(c.Patch(ctx, &v1alpha1.PatchRequest{Type: typeMerge, Patch: []byte(`{}`),
			Key: &v1alpha1.ObjectKey{Kind: "Event", Namespace: "default", Name: "e"}}, asAdmin)), codes.PermissionDenied, "Forbidden"},
		"no name":             {get("Namespace", "", ""), codes.InvalidArgument, "BadRequest"},
		"unknown kind":        {get("Nothing", "", "a"), codes.NotFound, "NotFound"},
		"kind in lower case":  {get("namespace", "", "default"), codes.NotFound, "NotFound"},
		"namespace missing":   {get("App", "", "a"), codes.InvalidArgument, "BadRequest"},
		"namespace too many":  {get("Bridge", "default", "a"), codes.InvalidArgument, "BadRequest"},
		"bad selector":        {call(c.List(ctx, &v1alpha1.ListRequest{Kind: "App", LabelSelector: "a in ("}, asAdmin)), codes.InvalidArgument, "BadRequest"},
		"selector too long":   {call(c.List(ctx, &v1alpha1.ListRequest{Kind: "App", LabelSelector: strings.Repeat("a", MaxSelectorBytes+1)}, asAdmin)), codes.InvalidArgument, "BadRequest"},
		"list of no kind":     {call(c.List(ctx, &v1alpha1.ListRequest{}, asAdmin)), codes.NotFound, "NotFound"},
		"message too large":   {create(namespace("a", strings.Repeat("x", MaxBodyBytes+1))), codes.ResourceExhausted, "TooManyRequests"},
		"namespace not there": {create(app("nowhere", "web")), codes.InvalidArgument, "Invalid"},
	} {
		if st := apistatus.FromGRPC(tt.err); status.Code(tt.err) != tt.code || st.GetReason() != tt.reason {
			t.Errorf("%s: %v (%s), want %s with %s", name, tt.err, st.GetReason(), tt.code, tt.reason)
		}
	}
}

func app(namespace, name string) *v1alpha1.App {
	return &v1alpha1.App{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:     &v1alpha1.AppSpec{Source: &v1alpha1.AppSource{Template: proto.String("debian-12-standard")}},
	}
}

// applySet sends documents and returns the answer.
func (f *fixture) applySet(first *v1alpha1.ApplyRequest, more ...*v1alpha1.ApplyRequest) (*v1alpha1.ApplySetResponse, error) {
	f.t.Helper()
	stream, err := f.resources().ApplySet(f.t.Context(), asAdmin)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, req := range append([]*v1alpha1.ApplyRequest{first}, more...) {
		if stream.Send(req) != nil {
			break // the answer says why
		}
	}
	return stream.CloseAndRecv()
}

func document(json, source string) *v1alpha1.ApplyRequest {
	return &v1alpha1.ApplyRequest{Json: []byte(json), Source: source}
}

func TestApplySet(t *testing.T) {
	f := start(t)
	resp, err := f.applySet(document(namespaceJSON("a", "1"), ""), document(namespaceJSON("b", "1"), ""))
	if err != nil || len(resp.GetResults()) != 2 || resp.GetResults()[1].GetKey().GetName() != "b" || resp.GetResults()[1].GetResult() != "created" {
		t.Fatalf("%v, %v", resp, err)
	}
	if ns := unpackNamespace(t, resp.GetResults()[0].GetObject(), nil); ns.GetMetadata().GetUid() == "" {
		t.Errorf("object %v", ns)
	}
	resp, err = f.applySet(&v1alpha1.ApplyRequest{Json: []byte(namespaceJSON("a", "2")), DryRun: true}, document(namespaceJSON("c", "1"), ""))
	if err != nil || resp.GetResults()[0].GetResult() != "configured" || resp.GetResults()[1].GetResult() != "created" {
		t.Fatalf("dry run: %v, %v", resp, err)
	}
	if got := f.do("GET", apiRoot+"/namespaces/c", ""); got.code != 404 {
		t.Errorf("the dry run wrote: %s", got.body)
	}
	if got := f.do("GET", apiRoot+"/namespaces/a", ""); !strings.Contains(got.body, `"description":"1"`) {
		t.Errorf("the dry run wrote: %s", got.body)
	}
}

func TestApplySetTellsEveryWrongDocument(t *testing.T) {
	f := start(t)
	_, err := f.applySet(document(namespaceJSON("a", "1"), "a.yaml"),
		document(strings.Replace(namespaceJSON("b", "1"), "description", "descripton", 1), "b.yaml"),
		document(`{`, "c.yaml"), document(``, "d.yaml"), document(namespaceJSON("e", "1")+"\n---\n"+namespaceJSON("e2", "1"), "e.yaml"))
	st := apistatus.FromGRPC(err)
	if status.Code(err) != codes.InvalidArgument {
		t.Fatalf("%v", err)
	}
	var sources []string
	for _, c := range st.GetDetails().GetCauses() {
		sources = append(sources, fmt.Sprintf("%s:%d", c.GetSource(), c.GetDocument()))
	}
	if got := strings.Join(sources, " "); got != "b.yaml:1 c.yaml:2 d.yaml:3 e.yaml:4" {
		t.Errorf("causes of %s: %v", got, st)
	}
	if got := f.do("GET", apiRoot+"/namespaces/a", ""); got.code != 404 {
		t.Errorf("a set with wrong documents applied another: %s", got.body)
	}
}

func TestApplySetBounds(t *testing.T) {
	f := start(t)
	if _, err := f.applySet(document("", "")); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an empty document: %v", err)
	}
	stream, err := f.resources().ApplySet(t.Context(), asAdmin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CloseAndRecv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a set of no documents: %v", err)
	}
	f.server.gate.buffer = newBuffer(100)
	if _, err := f.applySet(document(namespaceJSON("a", strings.Repeat("x", 200)), "")); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("no room for the body: %v", err)
	}
	f.server.gate.buffer = newBuffer(MaxBufferedBytes)
	big := document(strings.Repeat(" ", MaxBodyBytes-1000)+namespaceJSON("a", ""), "")
	_, err = f.applySet(big, big, big, big, big, big, big, big, big, big, big, big, big, big, big, big, big)
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "too large") {
		t.Errorf("a set of 68 MiB: %v", err)
	}
}

func TestApplyResponseFits(t *testing.T) {
	results := make([]apply.Each, 50)
	for i := range results {
		obj := namespace(fmt.Sprint("n", i), strings.Repeat("x", 100*i))
		results[i].Result = apply.Result{Key: resource.KeyOf(obj), Outcome: apply.Created, Object: obj}
		if i%2 == 0 {
			encoded, err := proto.Marshal(obj)
			if err != nil {
				t.Fatal(err)
			}
			results[i].Object, results[i].Encoded = nil, encoded
		}
	}
	c := &core{registry: kinds.Registry()}
	for _, limit := range []int{50 * maxResultBytes, 30_000, 100_000, MaxSendBytes} {
		resp, err := c.applyResponse(results, limit)
		if err != nil {
			t.Fatal(err)
		}
		objects := 0
		for i, r := range resp.GetResults() {
			if r.GetKey().GetName() != fmt.Sprint("n", i) || r.GetResult() != apply.Created {
				t.Errorf("result %d is %v", i, r)
			}
			if r.GetObject() != nil {
				objects++
				if obj, err := r.GetObject().UnmarshalNew(); err != nil || !proto.Equal(obj, namespace(fmt.Sprint("n", i), strings.Repeat("x", 100*i))) {
					t.Errorf("object %d is %v (%v)", i, obj, err)
				}
			}
		}
		if size := proto.Size(resp); size > limit || len(resp.GetResults()) != len(results) {
			t.Errorf("%d results in %d bytes, limit %d", len(resp.GetResults()), size, limit)
		}
		if (objects == len(results)) != (limit == MaxSendBytes) || (objects == 0) != (limit == 50*maxResultBytes) {
			t.Errorf("%d objects within %d bytes", objects, limit)
		}
	}
}

func TestWatchOverGRPC(t *testing.T) {
	f := start(t)
	stream, err := f.resources().Watch(t.Context(), &v1alpha1.WatchRequest{Kind: "Namespace", LabelSelector: "tier=web"}, asAdmin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil { // the watch stands before the first event
		t.Fatal(err)
	}
	f.put(namespace("a", "", "tier=web"))
	f.put(namespace("a", ""))
	var got []string
	for len(got) < 3 {
		ev, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ev.GetType())
		if ev.GetType() != "BOOKMARK" && unpackNamespace(t, ev.GetObject(), nil).GetMetadata().GetName() != "a" {
			t.Errorf("event %v", ev)
		}
	}
	if fmt.Sprint(got) != "[BOOKMARK ADDED DELETED]" {
		t.Errorf("events %v", got)
	}
}

func TestHealthAndReflection(t *testing.T) {
	f := start(t)
	health := healthpb.NewHealthClient(f.conn)
	check := func() healthpb.HealthCheckResponse_ServingStatus {
		resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "proximity.v1alpha1.ResourceService"})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetStatus()
	}
	if got := check(); got != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health %s", got)
	}
	f.mu.Lock()
	f.unready = errors.New("not yet")
	f.mu.Unlock()
	if got := check(); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health while not ready %s", got)
	}
	stream, err := reflectionpb.NewServerReflectionClient(f.conn).ServerReflectionInfo(t.Context(), asAdmin)
	if err != nil {
		t.Fatal(err)
	}
	req := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(req); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil || len(resp.GetListServicesResponse().GetService()) < 4 {
		t.Errorf("reflection: %v, %v", resp, err)
	}
}

// faultyApplier fails or panics in Create.
type faultyApplier struct {
	Applier
	create func() error
}

func (a faultyApplier) Create(context.Context, resource.Object, ...apply.Options) (resource.Object, error) {
	return nil, a.create()
}

func TestUnexpectedErrorsShowNothing(t *testing.T) {
	const inside = "canary: /var/lib/secret"
	for name, fault := range map[string]func() error{
		"error": func() error { return errors.New(inside) },
		"panic": func() error { panic(inside) },
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, options{applier: func(a Applier) Applier { return faultyApplier{a, fault} }})
			got := f.do("POST", apiRoot+"/namespaces", namespaceJSON("a", ""), "X-Request-Id: the-request")
			if got.code != 500 || got.reason() != "InternalError" || strings.Contains(got.body, "canary") || !strings.Contains(got.body, "the-request") {
				t.Errorf("REST: %d %s", got.code, got.body)
			}
			_, err := f.resources().Create(t.Context(), &v1alpha1.CreateRequest{Object: mustPack(t, namespace("a", ""))}, asAdmin)
			if status.Code(err) != codes.Internal || strings.Contains(fmt.Sprint(err, apistatus.FromGRPC(err)), "canary") {
				t.Errorf("gRPC: %v", err)
			}
			if log := f.log.String(); strings.Count(log, "canary") < 2 || !strings.Contains(log, "the-request") {
				t.Error("the log does not have the errors with their requests")
			}
		})
	}
}

func TestStoreThatOnlyReads(t *testing.T) {
	f := start(t, options{applier: func(a Applier) Applier {
		return faultyApplier{a, func() error { return fmt.Errorf("Namespace a: %w", store.ErrReadOnly) }}
	}})
	if got := f.do("POST", apiRoot+"/namespaces", namespaceJSON("a", "")); got.code != 503 || !strings.Contains(got.body, "read-only") {
		t.Errorf("%d %s", got.code, got.body)
	}
	if got := f.do("GET", apiRoot+"/namespaces", ""); got.code != 200 {
		t.Errorf("reading: %d", got.code)
	}
}
