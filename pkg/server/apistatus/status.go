package apistatus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

const (
	// maxCauses bounds the field errors of one Status; the message says how many there are.
	maxCauses = 100
	// maxMessageBytes and maxCauseBytes bound texts. A Status travels in the trailers of
	// gRPC, whose size common clients limit: 100 causes of about 100 bytes and the message
	// stay near 20 KiB.
	maxMessageBytes = 8 << 10
	maxCauseBytes   = 512
	// internalMessage is all that callers learn of an unexpected error.
	internalMessage = "internal error"
)

// Error is an error made for the API, with its reason.
type Error struct {
	Reason     string
	Message    string
	RetryAfter int // seconds; 0: nothing said
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// New returns an error with one of the reasons of this package.
func New(reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Busy is a refusal because of a limit, with the time after which to try again.
func Busy(retryAfterSeconds int, format string, args ...any) *Error {
	e := New(TooManyRequests, format, args...)
	e.RetryAfter = retryAfterSeconds
	return e
}

// Precondition returns a conflict as the failure of the precondition of an HTTP request,
// and other errors as they are.
func Precondition(err error) error {
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	failed := error(New(PreconditionFailed, "%s", err.Error()))
	var about *aboutError
	if errors.As(err, &about) {
		failed = About(about.key, failed)
	}
	return failed
}

// aboutError says which object an error is about.
type aboutError struct {
	key resource.Key
	err error
}

func (e *aboutError) Error() string { return e.err.Error() }
func (e *aboutError) Unwrap() error { return e.err }

// About returns err (nil for nil) with the object that it is about, for the details.
func About(key resource.Key, err error) error {
	if err == nil {
		return nil
	}
	return &aboutError{key, err}
}

// sentinels maps errors of other packages to reasons; the first match counts.
var sentinels = []struct {
	err    error
	reason string
}{
	{auth.ErrUnauthenticated, Unauthorized},
	{auth.ErrForbidden, Forbidden},
	{store.ErrNotFound, NotFound},
	{resource.ErrUnknownKind, NotFound},
	{store.ErrAlreadyExists, AlreadyExists},
	{store.ErrConflict, Conflict},
	{store.ErrCompacted, Expired},
	{store.ErrSlow, TooManyRequests},
	{store.ErrTooLarge, RequestEntityTooLarge},
	{store.ErrInvalid, Invalid},
	{store.ErrReadOnly, ServiceUnavailable},
	{store.ErrClosed, ServiceUnavailable},
	{context.DeadlineExceeded, Timeout},
	{context.Canceled, ClientClosedRequest},
}

// From maps an error to the Status that callers see. The text of an error that it does
// not know is not shown: the caller of From logs it.
func From(err error) *v1alpha1.Status {
	var (
		fields resource.FieldErrors
		one    *resource.FieldError
		known  *Error
		st     *v1alpha1.Status
	)
	switch {
	case errors.As(err, &fields) && len(fields) > 0:
		st = fromFields(fields)
	case errors.As(err, &one):
		st = fromFields(resource.FieldErrors{one})
	case errors.As(err, &known):
		st = build(known.Reason, known.Message)
		if known.RetryAfter > 0 {
			st.Details = &v1alpha1.StatusDetails{RetryAfterSeconds: int32(known.RetryAfter)}
		}
	default:
		st = fromSentinel(err)
	}
	var about *aboutError
	if errors.As(err, &about) {
		if st.Details == nil {
			st.Details = &v1alpha1.StatusDetails{}
		}
		st.Details.Kind, st.Details.Namespace, st.Details.Name = about.key.Kind, about.key.Namespace, about.key.Name
	}
	return st
}

func fromSentinel(err error) *v1alpha1.Status {
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return build(s.reason, err.Error())
		}
	}
	if gs, ok := status.FromError(err); ok {
		return fromGRPCStatus(gs)
	}
	return build(InternalError, internalMessage)
}

func fromFields(fields resource.FieldErrors) *v1alpha1.Status {
	reason := BadRequest // text that could not even be parsed
	details := &v1alpha1.StatusDetails{}
	lines := make([]string, 0, min(len(fields), maxCauses)+1)
	for i, f := range fields {
		switch {
		case f.Reason == resource.ReasonManagerConflict && (i == 0 || reason == Conflict):
			reason = Conflict
		case f.Reason != resource.ReasonSyntax:
			reason = Invalid
		}
		if i >= maxCauses {
			continue
		}
		lines = append(lines, shorten(f.Error(), maxCauseBytes))
		details.Causes = append(details.Causes, &v1alpha1.StatusCause{
			Reason: f.Reason, Message: shorten(f.Text(), maxCauseBytes), Field: shorten(f.Path, maxCauseBytes),
			Source: shorten(f.Source, maxCauseBytes), Line: int32(f.Line), Document: int32(f.Document),
		})
	}
	if len(fields) > maxCauses {
		lines = append(lines, fmt.Sprintf("and %d more errors", len(fields)-maxCauses))
	}
	st := build(reason, strings.Join(lines, "\n"))
	st.Details = details
	return st
}

func build(reason, message string) *v1alpha1.Status {
	return &v1alpha1.Status{
		ApiVersion: "v1", Kind: "Status", Status: "Failure",
		Message: shorten(message, maxMessageBytes), Reason: reason, Code: int32(byReason(reason).http),
	}
}

// Short returns a Status with the beginning of its message, of at most limit bytes, and
// without causes.
func Short(st *v1alpha1.Status, limit int) *v1alpha1.Status {
	short := build(st.GetReason(), shorten(st.GetMessage(), limit))
	if d := st.GetDetails(); d != nil {
		short.Details = &v1alpha1.StatusDetails{Kind: d.GetKind(), Namespace: d.GetNamespace(), Name: d.GetName()}
	}
	return short
}

// shorten cuts a text to at most limit bytes of valid UTF-8, as protobuf demands of strings.
func shorten(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit-3] + "..."
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// GRPC returns the gRPC error of a Status, with the Status in its details.
func GRPC(st *v1alpha1.Status) error {
	gs := status.New(byReason(st.GetReason()).grpc, st.GetMessage())
	if detailed, err := gs.WithDetails(st); err == nil {
		gs = detailed
	}
	return gs.Err()
}

// FromGRPC returns the Status of an error that a gRPC call returned. An error of the
// transport, which has no details, gets the reason that fits its code.
func FromGRPC(err error) *v1alpha1.Status {
	gs, _ := status.FromError(err)
	return fromGRPCStatus(gs)
}

func fromGRPCStatus(gs *status.Status) *v1alpha1.Status {
	for _, d := range gs.Details() {
		if st, ok := d.(*v1alpha1.Status); ok {
			return st
		}
	}
	return build(byCode(gs.Code()).reason, gs.Message())
}

// JSON returns the Status as one line of JSON, the same bytes for the same Status.
func JSON(st *v1alpha1.Status) []byte {
	raw, err := protojson.Marshal(st)
	if err == nil {
		var out bytes.Buffer
		if err = json.Compact(&out, raw); err == nil {
			return out.Bytes()
		}
	}
	return []byte(`{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"InternalError","code":500,"message":"internal error"}`)
}
