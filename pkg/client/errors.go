package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Classes of errors; an *Error matches one of them.
var (
	ErrNotFound        = errors.New("not found")
	ErrAlreadyExists   = errors.New("already exists")
	ErrConflict        = errors.New("conflict")
	ErrInvalid         = errors.New("invalid")
	ErrUnauthenticated = errors.New("not authenticated")
	ErrForbidden       = errors.New("forbidden")
	ErrUnavailable     = errors.New("daemon unavailable")
	// ErrExpired: the revision to watch or list from is no longer kept; list again.
	ErrExpired  = errors.New("revision expired")
	ErrTimeout  = errors.New("timeout")
	ErrTooLarge = errors.New("too large")
	// ErrBusy: a limit of the daemon was reached; try again.
	ErrBusy     = errors.New("daemon busy")
	ErrInternal = errors.New("internal error")
)

// Error is an error that the daemon, or the way to it, answered with.
type Error struct {
	Class   error  // one of the Err values
	Message string // a sentence
	Hint    string // what to do next, or ""
	Key     resource.Key
	Causes  []Cause
}

// Cause is one wrong field.
type Cause struct {
	Source   string // file name, or ""
	Line     int    // from 1, 0 unknown
	Document int    // index in the set, from 0
	Field    string // path from the object's root
	Message  string // begins with Field
}

// Error is the message and, when there is one, the hint.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + "; " + e.Hint
}

// Is matches the class.
func (e *Error) Is(target error) bool { return target == e.Class }

// String is the form of the command line: file:line: field: what.
func (c Cause) String() string {
	var b strings.Builder
	if c.Source != "" {
		b.WriteString(c.Source + ":")
	}
	if c.Line > 0 {
		fmt.Fprintf(&b, "%d:", c.Line)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	b.WriteString(c.Message)
	return b.String()
}

// reasons maps the reasons of the API's Status.
var reasons = map[string]error{
	"NotFound": ErrNotFound, "AlreadyExists": ErrAlreadyExists, "Conflict": ErrConflict, "PreconditionFailed": ErrConflict,
	"Invalid": ErrInvalid, "BadRequest": ErrInvalid, "UnsupportedMediaType": ErrInvalid,
	"Unauthorized": ErrUnauthenticated, "Forbidden": ErrForbidden, "Expired": ErrExpired,
	"TooManyRequests": ErrBusy, "RequestEntityTooLarge": ErrTooLarge, "Timeout": ErrTimeout,
	"ServiceUnavailable": ErrUnavailable, "InternalError": ErrInternal, "MethodNotAllowed": ErrInternal,
}

// byCode maps gRPC codes of errors that carry no Status: those of the transport.
var byCode = map[codes.Code]error{
	codes.NotFound: ErrNotFound, codes.AlreadyExists: ErrAlreadyExists, codes.Aborted: ErrConflict,
	codes.InvalidArgument: ErrInvalid, codes.Unauthenticated: ErrUnauthenticated,
	codes.PermissionDenied: ErrForbidden, codes.OutOfRange: ErrExpired, codes.ResourceExhausted: ErrTooLarge,
	codes.DeadlineExceeded: ErrTimeout, codes.Unavailable: ErrUnavailable,
}

// fail turns what a call returned into an error of this package; nil stays nil.
func (c *Client) fail(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w", context.Cause(ctx))
	}
	gs, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, d := range gs.Details() {
		if st, ok := d.(*v1alpha1.Status); ok {
			return c.hinted(fromStatus(st))
		}
	}
	class := byCode[gs.Code()]
	if class == nil {
		class = ErrInternal
	}
	e := &Error{Class: class, Message: gs.Message()}
	if class == ErrUnavailable {
		e.Message = fmt.Sprintf("the daemon at %s does not answer", c.cfg.Address)
		if why := c.failure.get(); why != nil {
			e.Message += ": " + why.Error()
		}
	}
	return c.hinted(e)
}

func fromStatus(st *v1alpha1.Status) *Error {
	class := reasons[st.GetReason()]
	if class == nil {
		class = ErrInternal
	}
	d := st.GetDetails()
	e := &Error{
		Class: class, Message: st.GetMessage(),
		Key: resource.Key{Kind: d.GetKind(), Namespace: d.GetNamespace(), Name: d.GetName()},
	}
	for _, cause := range d.GetCauses() {
		e.Causes = append(e.Causes, Cause{
			Source: cause.GetSource(), Line: int(cause.GetLine()), Document: int(cause.GetDocument()),
			Field: cause.GetField(), Message: cause.GetMessage(),
		})
	}
	return e
}

// hinted adds what to do next.
func (c *Client) hinted(e *Error) error {
	switch e.Class {
	case ErrUnavailable:
		e.Hint = "is proximityd running there? Look at its log, or start it"
		var wrong *tls.CertificateVerificationError
		if errors.As(c.failure.get(), &wrong) {
			e.Message = fmt.Sprintf("the daemon at %s shows a certificate that is not to be trusted: %v", c.cfg.Address, wrong.Err)
			e.Hint = fmt.Sprintf("check that the CA file (%s) belongs to this daemon", orNone(c.cfg.CAFile))
		}
	case ErrUnauthenticated:
		e.Message = fmt.Sprintf("the daemon at %s does not accept the credential", c.cfg.Address)
		e.Hint = fmt.Sprintf("check the token (token file: %s)", orNone(c.cfg.TokenFile))
	case ErrBusy:
		e.Hint = "try again in a moment"
	case ErrTimeout:
		e.Hint = "whether a change was made is not known: look before you try again"
	}
	return e
}

func orNone(path string) string {
	if path == "" {
		return "none"
	}
	return path
}
