// Package apistatus is the one place where errors become what callers of the API see:
// a v1alpha1.Status (Kubernetes' shape, with a reason for programs and a cause per wrong
// field), its HTTP code and its gRPC code.
//
// From maps an error to a Status: errors of the store and of the codec by what they
// match, everything unknown to InternalError with a message that tells nothing of the
// inside. GRPC makes the error that a gRPC handler returns, with the Status in its
// details; FromGRPC gets it out again on the client's side.
package apistatus
