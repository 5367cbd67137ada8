package apistatus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

var key = resource.Key{Kind: "App", Namespace: "default", Name: "web"}

func TestFrom(t *testing.T) {
	tests := map[string]struct {
		err    error
		reason string
		http   int32
		grpc   codes.Code
	}{
		"not found":       {store.ErrNotFound, NotFound, http.StatusNotFound, codes.NotFound},
		"unknown kind":    {resource.ErrUnknownKind, NotFound, http.StatusNotFound, codes.NotFound},
		"exists":          {store.ErrAlreadyExists, AlreadyExists, http.StatusConflict, codes.AlreadyExists},
		"conflict":        {store.ErrConflict, Conflict, http.StatusConflict, codes.Aborted},
		"compacted":       {store.ErrCompacted, Expired, http.StatusGone, codes.OutOfRange},
		"slow":            {store.ErrSlow, TooManyRequests, http.StatusTooManyRequests, codes.ResourceExhausted},
		"too large":       {store.ErrTooLarge, RequestEntityTooLarge, http.StatusRequestEntityTooLarge, codes.ResourceExhausted},
		"invalid change":  {store.ErrInvalid, Invalid, http.StatusUnprocessableEntity, codes.InvalidArgument},
		"read-only":       {store.ErrReadOnly, ServiceUnavailable, http.StatusServiceUnavailable, codes.Unavailable},
		"closed":          {store.ErrClosed, ServiceUnavailable, http.StatusServiceUnavailable, codes.Unavailable},
		"unauthenticated": {auth.ErrUnauthenticated, Unauthorized, http.StatusUnauthorized, codes.Unauthenticated},
		"forbidden":       {auth.ErrForbidden, Forbidden, http.StatusForbidden, codes.PermissionDenied},
		"deadline":        {context.DeadlineExceeded, Timeout, http.StatusGatewayTimeout, codes.DeadlineExceeded},
		"canceled":        {context.Canceled, ClientClosedRequest, 499, codes.Canceled},
		"own":             {New(MethodNotAllowed, "no"), MethodNotAllowed, http.StatusMethodNotAllowed, codes.Unimplemented},
		"field": {resource.FieldErrors{resource.Invalid("spec.subnet", "x", "a CIDR")}, Invalid,
			http.StatusUnprocessableEntity, codes.InvalidArgument},
		"syntax": {resource.FieldErrors{{Reason: resource.ReasonSyntax, Allowed: "YAML"}}, BadRequest,
			http.StatusBadRequest, codes.InvalidArgument},
		"grpc":    {status.Error(codes.Unavailable, "x"), ServiceUnavailable, http.StatusServiceUnavailable, codes.Unavailable},
		"unknown": {errors.New("secret inside"), InternalError, http.StatusInternalServerError, codes.Internal},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			st := From(About(key, fmt.Errorf("%s: %w", key, tt.err)))
			if st.GetReason() != tt.reason || st.GetCode() != tt.http {
				t.Errorf("got %s %d, want %s %d", st.GetReason(), st.GetCode(), tt.reason, tt.http)
			}
			if d := st.GetDetails(); d.GetKind() != "App" || d.GetNamespace() != "default" || d.GetName() != "web" {
				t.Errorf("details %v", d)
			}
			if strings.Contains(st.String(), "secret") {
				t.Error("an internal error shows its text")
			}
			back := GRPC(st)
			if status.Code(back) != tt.grpc {
				t.Errorf("gRPC code %s, want %s", status.Code(back), tt.grpc)
			}
			if !proto.Equal(FromGRPC(back), st) {
				t.Errorf("the Status did not survive gRPC: %v", FromGRPC(back))
			}
		})
	}
}

func TestEveryReasonHasItsOwnRow(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range mappings {
		if seen[m.reason] {
			t.Errorf("%s is mapped twice", m.reason)
		}
		seen[m.reason] = true
		if m.http < 400 || m.grpc == codes.OK {
			t.Errorf("%s maps to a success", m.reason)
		}
	}
	if byReason("no such") != byReason(InternalError) || byCode(codes.DataLoss) != byReason(InternalError) {
		t.Error("what is not in the table is no internal error")
	}
}

func TestFromKeepsCauses(t *testing.T) {
	fields := resource.FieldErrors{
		{Source: "a.yaml", Line: 7, Document: 2, Path: "spec.subnet", Reason: resource.ReasonInvalid, Found: "x", Allowed: "a CIDR"},
		{Path: "spec.hosts", Reason: resource.ReasonRequired, Allowed: "a host name"},
	}
	st := From(fmt.Errorf("apply: %w", fields))
	c := st.GetDetails().GetCauses()
	if len(c) != 2 || c[0].GetSource() != "a.yaml" || c[0].GetLine() != 7 || c[0].GetDocument() != 2 ||
		c[0].GetField() != "spec.subnet" || c[0].GetReason() != resource.ReasonInvalid {
		t.Errorf("causes %v", c)
	}
	if !strings.Contains(st.GetMessage(), `a.yaml:7: spec.subnet: found "x"; allowed is a CIDR`) {
		t.Errorf("message %q", st.GetMessage())
	}
}

func TestFromIsBounded(t *testing.T) {
	var fields resource.FieldErrors
	for i := range 5 * maxCauses {
		fields = append(fields, resource.Invalid(fmt.Sprintf("spec.rules[%d]", i), strings.Repeat("\xff", 4000), strings.Repeat("y", 4000)))
	}
	st := From(fields)
	if n := len(st.GetDetails().GetCauses()); n != maxCauses {
		t.Errorf("%d causes", n)
	}
	if n := len(st.GetMessage()); n > maxMessageBytes {
		t.Errorf("message of %d bytes", n)
	}
	if _, err := proto.Marshal(st); err != nil {
		t.Errorf("not encodable: %v", err)
	}
}

func TestJSONIsStable(t *testing.T) {
	st := From(About(key, Busy(3, "too much")))
	want := `{"apiVersion":"v1","kind":"Status","status":"Failure","message":"too much","reason":"TooManyRequests",` +
		`"details":{"kind":"App","name":"web","namespace":"default","retryAfterSeconds":3},"code":429}`
	for range 5 {
		if got := string(JSON(st)); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
	if !json.Valid(JSON(st)) {
		t.Error("not JSON")
	}
}
