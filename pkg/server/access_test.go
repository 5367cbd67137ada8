package server

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/server/openapi"
)

var allMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}

// restRoute is one method of one path that the server serves.
type restRoute struct {
	method, path string
	kind         string
}

// restRoutes walks the routing tables themselves, so that a new route is in the test
// without a line here.
func restRoutes(f *fixture) []restRoute {
	var all []restRoute
	add := func(rt *route, path, kind string) {
		for _, m := range rt.allowed() {
			all = append(all, restRoute{m, path, kind})
		}
	}
	for _, path := range slices.Sorted(maps.Keys(f.server.rest.fixed)) {
		add(f.server.rest.fixed[path], path, "")
	}
	for _, k := range f.registry.Kinds() {
		targets := []target{{plural: k.Plural}, {namespace: "default", plural: k.Plural}}
		for _, sub := range []string{"", subresourceStatus, subresourcePlan, subresourceUsage, subresourceValues} {
			targets = append(targets, target{plural: k.Plural, name: "x", subresource: sub}, target{namespace: "default", plural: k.Plural, name: "x", subresource: sub})
		}
		for _, t := range targets {
			if rt := f.server.rest.kinds.shape(k, t); rt != nil {
				add(rt, t.path(), k.Name)
			}
		}
	}
	return all
}

// bodyFor is a body that would be accepted, so that nothing but the credential is wrong.
func bodyFor(r restRoute) (string, []string) {
	if r.method == http.MethodGet || r.method == http.MethodDelete || strings.HasPrefix(r.path, "/api/") {
		return "", nil
	}
	if strings.HasSuffix(r.path, "/apply") || strings.HasSuffix(r.path, "/plan") {
		return appJSON, []string{"Content-Type: application/yaml"}
	}
	body := fmt.Sprintf(`{"apiVersion":"proximity/v1alpha1","kind":%q,"metadata":{"name":"x"}}`, r.kind)
	if r.method == http.MethodPatch {
		return body, []string{"Content-Type: application/apply-patch+yaml"}
	}
	return body, []string{"Content-Type: application/json"}
}

func TestEveryRouteNeedsACredential(t *testing.T) {
	f := start(t)
	open := 0
	for _, r := range restRoutes(f) {
		body, headers := bodyFor(r)
		name := r.method + " " + r.path
		for credential, want := range map[string]int{
			"":                                     401,
			"Authorization: Bearer wrong":          401,
			"Authorization: " + adminToken:         401,
			"Authorization: Bearer":                401,
			"Cookie: token=" + adminToken:          401,
			"X-Api-Key: " + adminToken:             401,
			"Authorization: Basic " + "eDp5":       401,
			"Authorization: Bearer " + nobodyToken: 403,
		} {
			h := slices.Clone(headers)
			if credential != "" {
				h = append(h, credential)
			}
			if auth.IsOpen(auth.REST, name) {
				want, open = 200, open+1
				if strings.HasPrefix(r.path, openapi.AuthPath) {
					want = 405 // this server has no users
				}
				if r.path == WebhookPath {
					want = 400 // no repository is named
				}
			}
			path := r.path
			if want == 401 {
				path += "?token=" + adminToken + "&access_token=" + adminToken
			}
			resp := f.open(context.Background(), r.method, path, body, h...)
			resp.Body.Close()
			got := resp.StatusCode
			if got != want {
				t.Errorf("%s with %q: %d, want %d", name, credential, got, want)
			}
			if got == 401 && resp.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s: a 401 without WWW-Authenticate", name)
			}
		}
	}
	if open == 0 {
		t.Error("no open route seen")
	}
	if n := f.store.Stats().Objects; n != 2 {
		t.Errorf("%d objects besides the two namespaces were written", n-2)
	}
}

func TestNobodyMayDoAnything(t *testing.T) {
	f := start(t)
	for _, r := range restRoutes(f) {
		if auth.IsOpen(auth.REST, r.method+" "+r.path) {
			continue
		}
		body, headers := bodyFor(r)
		for _, query := range []string{"", "?watch=1"} {
			if query != "" && (r.method != http.MethodGet || r.kind == "" || strings.HasSuffix(r.path, "/status")) {
				continue
			}
			resp := f.open(context.Background(), r.method, r.path+query, body, append(headers, "Authorization: Bearer "+nobodyToken)...)
			resp.Body.Close()
			if resp.StatusCode != 403 {
				t.Errorf("%s %s%s: %d, want 403", r.method, r.path, query, resp.StatusCode)
			}
		}
	}
}

func TestUnknownPathsTellNothingWithoutACredential(t *testing.T) {
	f := start(t)
	for _, path := range []string{"/", "/api/v1", "/apis/other", apiRoot + "/nothings", apiRoot + "/apps/a/b/c", "/healthz/", "//healthz",
		"/debug/pprof/", "/api/v1/system", "/.git/config", apiRoot + "/apps/..%2f..%2fmetrics", "/healthz%2f..%2fmetrics"} {
		for _, method := range allMethods {
			resp := f.open(context.Background(), method, path, "")
			resp.Body.Close()
			if resp.StatusCode != 401 {
				t.Errorf("%s %s: %d, want 401", method, path, resp.StatusCode)
			}
		}
		if got := f.do("GET", path, ""); got.code != 404 || got.reason() != "NotFound" {
			t.Errorf("GET %s as admin: %d %s, want a Status 404", path, got.code, got.body)
		}
	}
	resp := f.open(context.Background(), "GET", "/version", "", "Authorization: Bearer "+adminToken, "Authorization: Bearer "+adminToken)
	resp.Body.Close()
	if resp.StatusCode != 401 {
		t.Errorf("two credentials: %d, want 401", resp.StatusCode)
	}
}

// rpc calls any method with an empty (or given) request and returns the code of the
// first answer.
func (f *fixture) rpc(ctx context.Context, method string, in proto.Message, md protoreflect.MethodDescriptor, opts ...grpc.CallOption) codes.Code {
	f.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, opts...)
	if err != nil {
		return status.Code(err)
	}
	_ = stream.SendMsg(in)
	_ = stream.CloseSend()
	return status.Code(stream.RecvMsg(dynamicpb.NewMessage(md.Output())))
}

// eachMethod calls visit for every method of every service that the server registered.
func (f *fixture) eachMethod(visit func(full string, md protoreflect.MethodDescriptor)) {
	f.t.Helper()
	rpc := f.server.newGRPC(f.server.tls)
	defer rpc.Stop()
	for service, info := range rpc.GetServiceInfo() {
		if _, known := grpcSubjects[service]; !known {
			f.t.Errorf("service %s is not in grpcSubjects", service)
		}
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		if err != nil {
			f.t.Fatal(err)
		}
		for _, m := range info.Methods {
			visit("/"+service+"/"+m.Name, d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(m.Name)))
		}
	}
}

// request fills a request with the least that gets past decoding.
func request(f *fixture, md protoreflect.MethodDescriptor) proto.Message {
	packed, err := pack(namespace("x", ""))
	if err != nil {
		f.t.Fatal(err)
	}
	key := &v1alpha1.ObjectKey{Kind: "Namespace", Name: "x"}
	switch md.Input().Name() {
	case "GetRequest":
		return &v1alpha1.GetRequest{Key: key}
	case "ListRequest":
		return &v1alpha1.ListRequest{Kind: "Namespace"}
	case "CreateRequest":
		return &v1alpha1.CreateRequest{Object: packed}
	case "UpdateRequest":
		return &v1alpha1.UpdateRequest{Object: packed}
	case "PatchRequest":
		return &v1alpha1.PatchRequest{Key: key, Type: typeMerge, Patch: []byte(`{}`)}
	case "DeleteRequest":
		return &v1alpha1.DeleteRequest{Key: key}
	case "ApplyRequest":
		return &v1alpha1.ApplyRequest{Json: []byte(namespaceJSON("x", ""))}
	case "PlanRequest":
		return &v1alpha1.PlanRequest{Json: []byte(namespaceJSON("x", ""))}
	}
	return dynamicpb.NewMessage(md.Input())
}

func TestEveryRPCNeedsACredential(t *testing.T) {
	f := start(t)
	methods := 0
	f.eachMethod(func(full string, md protoreflect.MethodDescriptor) {
		methods++
		in := request(f, md)
		wrong, right := codes.Unauthenticated, codes.PermissionDenied
		if auth.IsOpen(auth.GRPC, full) {
			wrong, right = codes.OK, codes.OK
			if strings.Contains(full, "AuthService") {
				wrong, right = codes.Unimplemented, codes.Unimplemented // this server has no users
			}
		}
		for name, tt := range map[string]struct {
			ctx  context.Context
			opts []grpc.CallOption
			want codes.Code
		}{
			"none":  {context.Background(), nil, wrong},
			"wrong": {context.Background(), []grpc.CallOption{grpc.PerRPCCredentials(token("wrong"))}, wrong},
			"other metadata": {metadata.AppendToOutgoingContext(context.Background(), "token", adminToken,
				"grpcgateway-authorization", "Bearer "+adminToken, "identity", "admin"), nil, wrong},
			"two": {metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+adminToken,
				"authorization", "Bearer "+adminToken), nil, wrong},
			"nobody": {context.Background(), []grpc.CallOption{grpc.PerRPCCredentials(token(nobodyToken))}, right},
		} {
			if got := f.rpc(tt.ctx, full, in, md, tt.opts...); got != tt.want {
				t.Errorf("%s with credential %q: %s, want %s", full, name, got, tt.want)
			}
		}
	})
	if methods < 15 {
		t.Errorf("only %d methods seen", methods)
	}
}

func TestUnknownRPC(t *testing.T) {
	f := start(t)
	md := v1alpha1.File_proximity_v1alpha1_service_proto.Services().Get(0).Methods().Get(0)
	for _, method := range []string{"/proximity.v1alpha1.ResourceService/Nothing", "/other.Service/Get", "/grpc.health.v1.Health/Check/x"} {
		if got := f.rpc(context.Background(), method, &v1alpha1.GetRequest{}, md); got != codes.Unauthenticated {
			t.Errorf("%s without a credential: %s", method, got)
		}
		if got := f.rpc(context.Background(), method, &v1alpha1.GetRequest{}, md, asAdmin); got != codes.Unimplemented {
			t.Errorf("%s as admin: %s", method, got)
		}
	}
}
