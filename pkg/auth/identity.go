package auth

import (
	"context"
	"crypto/x509"
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
	// UserIdentity is a User who has logged in, or a token of one.
	UserIdentity
	// GitRepositoryIdentity is what a GitRepository applies objects as.
	GitRepositoryIdentity
	// SyncIdentity is what a Sync that has rights of its own applies objects as.
	SyncIdentity
)

// String is how audit names the type.
func (t IdentityType) String() string {
	switch t {
	case LocalAdministrator:
		return "local-administrator"
	case UserIdentity:
		return "user"
	case GitRepositoryIdentity:
		return "gitrepository"
	case SyncIdentity:
		return "sync"
	}
	return "anonymous"
}

// Identity is who makes a request.
type Identity struct {
	Type IdentityType
	// Name is for logs and audit; it carries no privilege.
	Name string
	// Subject is what a RoleBinding names it by: a User's name, or namespace/name.
	Subject string
	// Groups of a User.
	Groups []string
	// Credential names what the identity was shown with, such as a session; empty: nothing
	// that could be revoked by itself.
	Credential string

	limit *Limit
}

// Limited returns the identity with a limit on what it may do.
func (id Identity) Limited(l *Limit) Identity {
	id.limit = l
	return id
}

// User returns the identity of a User.
func User(name string, groups ...string) Identity {
	return Identity{Type: UserIdentity, Name: name, Subject: name, Groups: groups}
}

// GitRepository returns the identity that a GitRepository applies objects as:
// gitrepository:<namespace>/<name>. It may do what RoleBindings give it, and nothing else.
func GitRepository(namespace, name string) Identity {
	subject := namespace + "/" + name
	return Identity{Type: GitRepositoryIdentity, Name: "gitrepository:" + subject, Subject: subject}
}

// Sync returns the identity of a Sync with rights of its own: sync:<namespace>/<name>.
func Sync(namespace, name string) Identity {
	subject := namespace + "/" + name
	return Identity{Type: SyncIdentity, Name: "sync:" + subject, Subject: subject}
}

// Authenticator turns the value of an Authorization header into an identity. An empty
// value means that the caller sent none. Errors match ErrUnauthenticated, unless the
// check itself could not be carried out.
type Authenticator interface {
	Authenticate(ctx context.Context, authorization string) (Identity, error)
}

// Revalidator is an Authenticator that can be asked later about an identity it has given.
type Revalidator interface {
	// Revalidate returns the identity as it is now; ErrUnauthenticated when what it was
	// shown with is no longer valid.
	Revalidate(ctx context.Context, id Identity) (Identity, error)
}

// IsLimited tells whether a limit was set.
func (id Identity) IsLimited() bool { return id.limit != nil }

// CertificateAuthenticator is an Authenticator that also knows clients by certificates that
// the local CA has signed. The chain has been verified.
type CertificateAuthenticator interface {
	AuthenticateCertificate(ctx context.Context, leaf *x509.Certificate) (Identity, error)
}
