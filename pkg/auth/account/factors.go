package account

import (
	"context"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// SecondFactor is something that is asked for beside the password, such as a code of an
// authenticator. There is none yet; LoginRequest has room for the code.
type SecondFactor interface {
	// Needed tells whether the user has one.
	Needed(u *v1alpha1.User) bool
	// Verify checks the code; it returns ErrWrongLogin for a wrong one.
	Verify(ctx context.Context, u *v1alpha1.User, code string) error
}

// Provider logs users in by what somebody else says of them: OpenID Connect, passkeys. There
// is none yet; its callback is in the table of open routes when there is.
type Provider interface {
	// Name is part of the path of its callback.
	Name() string
	// Begin returns where the browser is sent.
	Begin(ctx context.Context) (url, state string, err error)
	// Complete returns the name of the User who has come back.
	Complete(ctx context.Context, state, code string) (user string, err error)
}
