package auth

import (
	"context"
	"errors"
)

var (
	// ErrUnauthenticated: no credential, or one that is not valid. The message never says which part was wrong.
	ErrUnauthenticated = errors.New("a valid credential is needed: send the header Authorization: Bearer <token>")
	// ErrForbidden: the identity may not do this.
	ErrForbidden = errors.New("forbidden")
)

// IdentityType tells kinds of identities apart, so that a name can never be mistaken for
// a privilege.
type IdentityType int

const (
	// Anonymous is the zero value: it may do nothing.
	Anonymous IdentityType = iota
	// LocalAdministrator holds the token file of the daemon's machine.
	LocalAdministrator
)

// String is how audit names the type.
func (t IdentityType) String() string {
	if t == LocalAdministrator {
		return "local-administrator"
	}
	return "anonymous"
}

// Identity is who makes a request.
type Identity struct {
	Type IdentityType
	// Name is for logs and audit; it carries no privilege.
	Name string
}

// Authenticator turns the value of an Authorization header into an identity. An empty
// value means that the caller sent none. Errors match ErrUnauthenticated, unless the
// check itself could not be carried out.
type Authenticator interface {
	Authenticate(ctx context.Context, authorization string) (Identity, error)
}

type identityKey struct{}

// WithIdentity returns a context that carries the identity.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// IdentityFrom returns the identity of the context, Anonymous when it carries none.
func IdentityFrom(ctx context.Context) Identity {
	id, _ := ctx.Value(identityKey{}).(Identity)
	return id
}
