package apistatus

import (
	"net/http"

	"google.golang.org/grpc/codes"
)

// Reasons, as Kubernetes names them.
const (
	NotFound              = "NotFound"
	AlreadyExists         = "AlreadyExists"
	Conflict              = "Conflict"
	PreconditionFailed    = "PreconditionFailed" // HTTP's If-Match; Kubernetes has none
	Invalid               = "Invalid"
	BadRequest            = "BadRequest"
	Unauthorized          = "Unauthorized"
	Forbidden             = "Forbidden"
	Expired               = "Expired"
	TooManyRequests       = "TooManyRequests"
	RequestEntityTooLarge = "RequestEntityTooLarge"
	UnsupportedMediaType  = "UnsupportedMediaType"
	MethodNotAllowed      = "MethodNotAllowed"
	Timeout               = "Timeout"
	ServiceUnavailable    = "ServiceUnavailable"
	ClientClosedRequest   = "ClientClosedRequest"
	InternalError         = "InternalError"
)

// statusClientClosedRequest is what nginx made customary for a caller that went away; it
// is only ever seen in logs and metrics.
const statusClientClosedRequest = 499

type mapping struct {
	reason string
	http   int
	grpc   codes.Code
}

// mappings is the whole table. Where several reasons share a gRPC code, the first is
// what FromGRPC assumes for an error without details.
var mappings = []mapping{
	{NotFound, http.StatusNotFound, codes.NotFound},
	{AlreadyExists, http.StatusConflict, codes.AlreadyExists},
	{Conflict, http.StatusConflict, codes.Aborted},
	{PreconditionFailed, http.StatusPreconditionFailed, codes.FailedPrecondition},
	{BadRequest, http.StatusBadRequest, codes.InvalidArgument},
	{Invalid, http.StatusUnprocessableEntity, codes.InvalidArgument},
	{UnsupportedMediaType, http.StatusUnsupportedMediaType, codes.InvalidArgument},
	{Unauthorized, http.StatusUnauthorized, codes.Unauthenticated},
	{Forbidden, http.StatusForbidden, codes.PermissionDenied},
	{Expired, http.StatusGone, codes.OutOfRange},
	{TooManyRequests, http.StatusTooManyRequests, codes.ResourceExhausted},
	{RequestEntityTooLarge, http.StatusRequestEntityTooLarge, codes.ResourceExhausted},
	{MethodNotAllowed, http.StatusMethodNotAllowed, codes.Unimplemented},
	{Timeout, http.StatusGatewayTimeout, codes.DeadlineExceeded},
	{ServiceUnavailable, http.StatusServiceUnavailable, codes.Unavailable},
	{ClientClosedRequest, statusClientClosedRequest, codes.Canceled},
	{InternalError, http.StatusInternalServerError, codes.Internal},
}

func byReason(reason string) mapping {
	for _, m := range mappings {
		if m.reason == reason {
			return m
		}
	}
	return mappings[len(mappings)-1]
}

func byCode(code codes.Code) mapping {
	for _, m := range mappings {
		if m.grpc == code {
			return m
		}
	}
	return mappings[len(mappings)-1]
}
