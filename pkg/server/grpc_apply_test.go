package server

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// TestApplyIsASetOfOne: the same requests, one after the other, get the same results and
// the same errors from Apply as from an ApplySet with nothing else in it.
func TestApplyIsASetOfOne(t *testing.T) {
	one, set := start(t), start(t)
	by := func(manager, description string, force bool) *v1alpha1.ApplyRequest {
		return &v1alpha1.ApplyRequest{Json: []byte(namespaceJSON("a", description)), Source: "a.yaml", FieldManager: manager, Force: force}
	}
	for _, c := range []struct {
		name string
		req  *v1alpha1.ApplyRequest
		want string
	}{
		{"dry", &v1alpha1.ApplyRequest{Json: []byte(namespaceJSON("a", "1")), DryRun: true}, "created"},
		{"new", by("me", "1", false), "created"},
		{"again", by("me", "1", false), "unchanged"},
		{"changed", by("me", "2", false), "configured"},
		{"by another", by("you", "3", false), "Conflict"},
		{"by force", by("you", "3", true), "configured"},
		{"wrong field", document(strings.Replace(namespaceJSON("a", "1"), "description", "descripton", 1), "b.yaml"), "Invalid"},
		{"nothing", document("", "c.yaml"), "BadRequest"},
		{"two", document(namespaceJSON("a", "1")+"\n---\n"+namespaceJSON("b", "1"), "d.yaml"), "BadRequest"},
		{"no such namespace", document(`{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":"a","namespace":"nowhere"}}`, ""), "Invalid"},
		{"the daemon's kind", document(`{"apiVersion":"proximity/v1alpha1","kind":"Event","metadata":{"name":"a"}}`, ""), "Forbidden"},
	} {
		got, err := one.resources().Apply(t.Context(), c.req, asAdmin)
		all, wantErr := set.applySet(c.req)
		if err != nil {
			st, want := apistatus.FromGRPC(err), apistatus.FromGRPC(wantErr)
			if !proto.Equal(st, want) || status.Code(err) != status.Code(wantErr) || st.GetReason() != c.want {
				t.Errorf("%s: %v, of the set: %v, want %s", c.name, st, want, c.want)
			}
			continue
		}
		if wantErr != nil {
			t.Errorf("%s: the set alone fails: %v", c.name, wantErr)
			continue
		}
		want := all.GetResults()[0]
		if !proto.Equal(got.GetKey(), want.GetKey()) || got.GetResult() != want.GetResult() || got.GetResult() != c.want {
			t.Errorf("%s: %v, of the set: %v, want %s", c.name, got, want, c.want)
		}
		a, b := unpackNamespace(t, got.GetObject(), nil), unpackNamespace(t, want.GetObject(), nil)
		for _, m := range []*v1alpha1.ObjectMeta{a.Metadata, b.Metadata} { // of two stores
			m.Uid, m.CreationTimestamp = "", ""
			for _, e := range m.ManagedFields {
				e.Time = ""
			}
		}
		if !proto.Equal(a, b) {
			t.Errorf("%s: %v, of the set: %v", c.name, a, b)
		}
	}
	if _, err := one.resources().Apply(t.Context(), by("me", "1", false)); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
}

// A message of a few KB that unpacks to more than is allowed is refused while it unpacks.
func TestCompressedRequests(t *testing.T) {
	f := start(t)
	if _, err := f.resources().Apply(t.Context(), document(namespaceJSON("a", strings.Repeat("x", 200)), ""), asAdmin, grpc.UseCompressor(gzip.Name)); err != nil {
		t.Error(err)
	}
	bomb := document(strings.Repeat(" ", 100<<20), "")
	_, err := f.resources().Apply(t.Context(), bomb, asAdmin, grpc.UseCompressor(gzip.Name), grpc.MaxCallSendMsgSize(200<<20))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a bomb: %.200v", err)
	}
}
