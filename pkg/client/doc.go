// Package client is the Go client of the daemon's API (gRPC).
//
// # Contract
//
//   - New makes no connection; the first call does. Every connection is TLS, verified by
//     the CA of the configuration (or the system's), and carries the token as a per-call
//     credential, which gRPC refuses to send without TLS.
//   - Objects are of the kinds of the registry that the client was made with. An object of
//     another kind is an error that says so, never a silently dropped one.
//   - Errors are *Error and match one of the Err values with errors.Is; an error of
//     ErrUnavailable, ErrUnauthenticated or ErrForbidden says what to do next. When the
//     caller's context ended, the error matches the context's.
//   - Nothing is retried, except by Follow, which resumes a watch where it broke off.
//
// For makes a client of one kind with its own Go type; package cache below this one keeps
// the objects of a kind in memory.
//
// Find reads where a daemon is from its endpoint file or from a context of the
// configuration file of people.
package client
