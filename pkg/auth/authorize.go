package auth

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
)

// Authorizer holds the policy that is in force. It is safe for concurrent use.
type Authorizer struct {
	policy atomic.Pointer[Policy]
}

// NewAuthorizer returns an Authorizer that gives nothing to anybody but the local
// administrator until it is given a policy.
func NewAuthorizer() *Authorizer {
	a := &Authorizer{}
	a.policy.Store(Compile(nil, nil, nil))
	return a
}

// SetPolicy puts a policy into force, for all decisions that begin after it.
func (a *Authorizer) SetPolicy(p *Policy) { a.policy.Store(p) }

// Policy is the one in force.
func (a *Authorizer) Policy() *Policy { return a.policy.Load() }

// As returns a context in which requests are made by the identity, under this
// Authorizer's policy.
func (a *Authorizer) As(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, &actor{id, a})
}

// actor is who acts in a context; authorizer nil: under no policy.
type actor struct {
	Identity
	authorizer *Authorizer
}

type identityKey struct{}

// WithIdentity returns a context that carries the identity, under no policy: only the local
// administrator may do anything in it.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, &actor{Identity: id})
}

// IdentityFrom returns the identity of the context, Anonymous when it carries none.
func IdentityFrom(ctx context.Context) Identity { return actorFrom(ctx).Identity }

var nobody = &actor{}

func actorFrom(ctx context.Context) *actor {
	if a, ok := ctx.Value(identityKey{}).(*actor); ok {
		return a
	}
	return nobody
}

// Authorize decides whether the identity of the context may do verb with objects of the
// kind in the namespace (empty: cluster-scoped, or all namespaces). Every surface and
// everything that acts for somebody passes it. It denies by default; the error matches
// ErrForbidden and says what the identity may not do.
func Authorize(ctx context.Context, verb Verb, kind, namespace string) error {
	a := actorFrom(ctx)
	if a.allowed(verb, kind, namespace) {
		return nil
	}
	return a.refused(verb, kind, namespace)
}

func (a *actor) allowed(verb Verb, kind, namespace string) bool {
	switch {
	case bit(verb) == 0 || kind == "":
		return false
	case a.Type == LocalAdministrator:
		return true
	case a.Type == UserIdentity && kind == Session: // a token with a limit only says whose it is
		return verb == VerbGet || a.limit == nil
	case a.Type == UserIdentity && kind == Discovery:
		return verb == VerbGet
	case a.authorizer == nil:
		return false
	}
	return a.authorizer.Policy().allows(&a.Identity, verb, kind, namespace)
}

// maxHint bounds the namespaces that a refusal names.
const maxHint = 8

func (a *actor) refused(verb Verb, kind, namespace string) error {
	name := a.Name
	if name == "" {
		name = "anonymous"
	}
	where, hint := "", ""
	switch {
	case namespace != "":
		where = " in namespace " + namespace
	case a.authorizer == nil || !isKind(kind) || kind == AllKinds:
	default:
		if ns := a.authorizer.Policy().namespaces(&a.Identity, verb, kind, maxHint); len(ns) > 0 {
			where, hint = " in all namespaces", "; name one of those where it may: "+strings.Join(ns, ", ")
		}
	}
	return fmt.Errorf("%w: %s may not %s %s%s%s", ErrForbidden, name, verb, kind, where, hint)
}
