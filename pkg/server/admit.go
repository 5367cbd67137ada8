package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/audit/trail"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// gate is what both surfaces put every request through before its handler runs.
type gate struct {
	auth   auth.Authenticator
	access *auth.Authorizer
	log    *slog.Logger
	short  *slots  // requests in flight
	long   *slots  // watches and waits
	buffer *buffer // bodies in memory
	// stopping ends when the server shuts down: watches and waits end with it.
	stopping context.Context
	lasting  longRequests
	trail    *trail.Trail // nil: there is none
}

func newGate(cfg Config, stopping context.Context) *gate {
	return &gate{
		stopping: stopping,
		auth:     cfg.Auth,
		access:   cfg.Access,
		trail:    cfg.Trail,
		log:      cfg.Log,
		short:    &slots{what: "requests in flight", max: MaxInFlight},
		long:     &slots{what: "watches and waits", max: MaxLongRunning},
		buffer:   newBuffer(MaxBufferedBytes),
	}
}

// authenticate returns a context with the caller's identity, which is also the origin of
// all changes that are made in it. What the table of open routes names passes without one;
// everything else needs exactly one credential. peer is the caller's address.
func (g *gate) authenticate(ctx context.Context, surface auth.Surface, name, peer string, authorization []string) (context.Context, error) {
	origin := audit.Origin{Type: auth.Anonymous.String(), Surface: string(surface), Peer: peer, Request: requestID(ctx)}
	ctx = audit.WithOrigin(ctx, origin) // nobody's, but never the daemon's
	if auth.IsOpen(surface, name) {
		return ctx, nil
	}
	id, err := g.identify(ctx, surface, authorization)
	if err != nil {
		return ctx, err
	}
	origin.Type, origin.Identity = id.Type.String(), id.Name
	return g.access.As(audit.WithOrigin(ctx, origin), id), nil
}

// identify asks for exactly one credential; a gRPC client that sends none may have shown a
// certificate.
func (g *gate) identify(ctx context.Context, surface auth.Surface, authorization []string) (auth.Identity, error) {
	switch {
	case len(authorization) == 1:
		return g.auth.Authenticate(ctx, authorization[0])
	case len(authorization) == 0 && surface == auth.GRPC:
		byCertificate, ok := g.auth.(auth.CertificateAuthenticator)
		if leaf := clientCertificate(ctx); ok && leaf != nil {
			return byCertificate.AuthenticateCertificate(ctx, leaf)
		}
	}
	return auth.Identity{}, auth.ErrUnauthenticated
}

// admit takes a slot for a request and bounds its time (timeout 0: no bound). A long
// one, a watch or a wait, ends with the server's shutdown too. done must be called at
// the request's end.
func (g *gate) admit(ctx context.Context, long bool, timeout time.Duration) (_ context.Context, done func(), err error) {
	limit := g.short
	if long {
		limit = g.long
	}
	release, err := limit.take()
	if err != nil {
		return ctx, nil, err
	}
	cancel := context.CancelFunc(func() {})
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	if !long {
		return ctx, func() { cancel(); release() }, nil
	}
	ctx, stop := context.WithCancelCause(ctx)
	forget := context.AfterFunc(g.stopping, func() { stop(nil) })
	ctx, leave := g.lasting.enter(ctx, stop)
	return ctx, func() { leave(); forget(); stop(nil); cancel(); release() }, nil
}

// isStopping tells whether the server is shutting down.
func (g *gate) isStopping() bool { return g.stopping.Err() != nil }

// authorize is the only caller of auth.Authorize in this package.
func authorize(ctx context.Context, verb auth.Verb, kind, namespace string) error {
	err := auth.Authorize(ctx, verb, kind, namespace)
	if err == nil {
		remember(ctx, verb, kind, namespace)
	}
	return err
}

// status maps a handler's error to what the caller sees. An error that nobody foresaw is
// logged with the request's id, and the caller is told the id only.
func (g *gate) status(ctx context.Context, err error) *v1alpha1.Status {
	st := apistatus.From(err)
	if st.GetReason() == apistatus.InternalError {
		g.log.ErrorContext(ctx, "request failed", "request", requestID(ctx), "error", err)
		st.Message = fmt.Sprintf("%s; the daemon's log has it as request %s", st.GetMessage(), requestID(ctx))
	}
	return st
}

// recovered turns a handler's panic into an error; call it deferred.
func (g *gate) recovered(ctx context.Context, err *error) {
	if p := recover(); p != nil {
		g.log.ErrorContext(ctx, "request panicked", "request", requestID(ctx), "panic", p, "stack", string(debug.Stack()))
		*err = fmt.Errorf("panic: %v", p)
	}
}

type requestIDKey struct{}

// withRequestID keeps the caller's request id when it is harmless and makes one otherwise.
func withRequestID(ctx context.Context, given string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, cleanRequestID(given))
}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// maxRequestIDBytes bounds a request id that a client chose: a UUID has 36.
const maxRequestIDBytes = 64

func cleanRequestID(given string) string {
	const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	if given != "" && len(given) <= maxRequestIDBytes && strings.Trim(given, harmless) == "" {
		return given
	}
	raw := make([]byte, 8)
	_, _ = rand.Read(raw) // never returns an error
	return hex.EncodeToString(raw)
}
