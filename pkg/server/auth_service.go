package server

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/account"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// authService is about the caller's own credentials. Login, Refresh and Register need no
// credential (auth.OpenRoutes), or bring their own.
type authService struct {
	v1alpha1.UnimplementedAuthServiceServer
	accounts *account.Service // nil: there are no users
	access   *auth.Authorizer
	note     func(context.Context, audit.Event)
}

// begin authorises and refuses where there are no users.
func (s *authService) begin(ctx context.Context, verb auth.Verb) (auth.Identity, error) {
	if err := authorize(ctx, verb, auth.Session, ""); err != nil {
		return auth.Identity{}, err
	}
	if s.accounts == nil {
		return auth.Identity{}, apistatus.New(apistatus.MethodNotAllowed, "this daemon has no users")
	}
	return auth.IdentityFrom(ctx), nil
}

// open is begin for what needs no credential.
func (s *authService) open() error {
	if s.accounts == nil {
		return apistatus.New(apistatus.MethodNotAllowed, "this daemon has no users")
	}
	return nil
}

// accountError gives errors of accounts their reason.
func accountError(err error) error {
	var wait *account.TooManyError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wait):
		return apistatus.Busy(int(wait.After/time.Second)+1, "%v", wait)
	case errors.Is(err, account.ErrInvalid):
		return apistatus.New(apistatus.BadRequest, "%s", strings.TrimPrefix(err.Error(), account.ErrInvalid.Error()+": "))
	case errors.Is(err, account.ErrWrongLogin):
		return apistatus.New(apistatus.Unauthorized, "the name or the password is wrong")
	}
	return err
}

// client is what a caller says it is.
func client(ctx context.Context) string {
	if name, ok := ctx.Value(userAgentKey{}).(string); ok {
		return name
	}
	md, _ := metadata.FromIncomingContext(ctx)
	return strings.Join(md.Get("user-agent"), " ")
}

type userAgentKey struct{}

func peerIn(ctx context.Context) string { return audit.OriginFrom(ctx).Peer }

func loginResponse(l *account.Login, err error) (*v1alpha1.LoginResponse, error) {
	if err != nil {
		return nil, accountError(err)
	}
	return &v1alpha1.LoginResponse{AccessToken: l.Access, Expires: l.Expires.UTC().Format(time.RFC3339), RefreshToken: l.Refresh, User: l.User}, nil
}

func (s *authService) Login(ctx context.Context, req *v1alpha1.LoginRequest) (*v1alpha1.LoginResponse, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	l, err := s.accounts.Login(ctx, req.GetUser(), req.GetPassword(), peerIn(ctx), client(ctx))
	s.noteLogin(ctx, req.GetUser(), "login", err)
	return loginResponse(l, err)
}

func (s *authService) Register(ctx context.Context, req *v1alpha1.RegisterRequest) (*v1alpha1.LoginResponse, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	l, err := s.accounts.Register(ctx, req.GetUser(), req.GetPassword(), req.GetDisplayName(), req.GetSetupToken(), peerIn(ctx), client(ctx))
	s.noteLogin(ctx, req.GetUser(), "register", err)
	return loginResponse(l, err)
}

// noteLogin keeps the outcome. The name of a user that does not exist is left out: people
// type passwords into the wrong field.
func (s *authService) noteLogin(ctx context.Context, user, verb string, err error) {
	e := audit.Event{Type: audit.EventLogin, Verb: verb, Result: audit.ResultOK}
	if _, known := s.accounts.User(user); known {
		e.Kind, e.Name = "User", user
	}
	if err != nil {
		e.Result, e.Reason = audit.ResultFailed, apistatus.From(accountError(err)).GetMessage()
	}
	s.note(ctx, e)
}

func (s *authService) Refresh(ctx context.Context, req *v1alpha1.RefreshRequest) (*v1alpha1.LoginResponse, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	return loginResponse(s.accounts.Refresh(ctx, req.GetRefreshToken(), peerIn(ctx)))
}

func (s *authService) Logout(ctx context.Context, req *v1alpha1.LogoutRequest) (*v1alpha1.LogoutResponse, error) {
	id, err := s.begin(ctx, auth.VerbUpdate)
	if err != nil {
		return nil, err
	}
	n, err := s.accounts.Logout(ctx, id, req.GetEverywhere())
	return &v1alpha1.LogoutResponse{Sessions: int32(n)}, accountError(err)
}

func (s *authService) WhoAmI(ctx context.Context, _ *v1alpha1.WhoAmIRequest) (*v1alpha1.WhoAmIResponse, error) {
	if err := authorize(ctx, auth.VerbGet, auth.Session, ""); err != nil {
		return nil, err
	}
	id := auth.IdentityFrom(ctx)
	resp := &v1alpha1.WhoAmIResponse{Type: id.Type.String(), Name: id.Name, Groups: id.Groups, Credential: id.Credential, Limited: id.IsLimited()}
	if id.Type == auth.LocalAdministrator {
		resp.Roles = []*v1alpha1.HeldRole{{Role: auth.RoleAdmin, Namespaces: []string{auth.All}}}
	}
	for _, h := range s.access.Policy().Holds(id) {
		resp.Roles = append(resp.Roles, &v1alpha1.HeldRole{Role: h.Role, Namespaces: h.Namespaces})
	}
	return resp, nil
}

func (s *authService) CanI(ctx context.Context, req *v1alpha1.CanIRequest) (*v1alpha1.CanIResponse, error) {
	if err := authorize(ctx, auth.VerbGet, auth.Session, ""); err != nil {
		return nil, err
	}
	if !auth.IsVerb(req.GetVerb()) {
		var names []string
		for _, v := range auth.Verbs() {
			names = append(names, string(v))
		}
		return nil, apistatus.New(apistatus.BadRequest, "there is no verb %.40q; there are: %s", req.GetVerb(), strings.Join(names, ", "))
	}
	// Not authorize: the question allows nothing.
	if err := auth.Authorize(ctx, auth.Verb(req.GetVerb()), req.GetKind(), req.GetNamespace()); err != nil {
		return &v1alpha1.CanIResponse{Reason: err.Error()}, nil
	}
	return &v1alpha1.CanIResponse{Allowed: true}, nil
}

func (s *authService) ChangePassword(ctx context.Context, req *v1alpha1.ChangePasswordRequest) (*v1alpha1.ChangePasswordResponse, error) {
	id, err := s.begin(ctx, auth.VerbUpdate)
	if err != nil {
		return nil, err
	}
	n, err := s.accounts.ChangePassword(ctx, id, req.GetOldPassword(), req.GetNewPassword(), peerIn(ctx))
	return &v1alpha1.ChangePasswordResponse{Sessions: int32(n)}, accountError(err)
}

// SetPassword is for administrators of users: whoever sets a password can act as that user,
// and so must have all rights that it has.
func (s *authService) SetPassword(ctx context.Context, req *v1alpha1.SetPasswordRequest) (*v1alpha1.ChangePasswordResponse, error) {
	if err := authorize(ctx, auth.VerbUpdate, "User", ""); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	if other, ok := s.accounts.User(req.GetUser()); ok {
		if err := auth.MayActFor(ctx, other); err != nil {
			return nil, err
		}
	}
	n, err := s.accounts.SetPassword(ctx, req.GetUser(), req.GetNewPassword())
	return &v1alpha1.ChangePasswordResponse{Sessions: int32(n)}, accountError(err)
}

func (s *authService) CreateToken(ctx context.Context, req *v1alpha1.CreateTokenRequest) (*v1alpha1.CreateTokenResponse, error) {
	id, err := s.begin(ctx, auth.VerbUpdate)
	if err != nil {
		return nil, err
	}
	name, token, expires, err := s.accounts.CreateToken(ctx, id, req.GetDescription(), time.Duration(req.GetSeconds())*time.Second, req.GetRules())
	if err != nil {
		return nil, accountError(err)
	}
	return &v1alpha1.CreateTokenResponse{Name: name, Token: token, Expires: expires.UTC().Format(time.RFC3339)}, nil
}

func (s *authService) IssueCertificate(ctx context.Context, req *v1alpha1.IssueCertificateRequest) (*v1alpha1.IssueCertificateResponse, error) {
	id, err := s.begin(ctx, auth.VerbUpdate)
	if err != nil {
		return nil, err
	}
	cert, name, err := s.accounts.IssueCertificate(ctx, id, []byte(req.GetRequest()), time.Duration(req.GetSeconds())*time.Second, peerIn(ctx), client(ctx))
	if err != nil {
		return nil, accountError(err)
	}
	return &v1alpha1.IssueCertificateResponse{Name: name, Certificate: string(cert)}, nil
}

func (s *authService) ListCredentials(ctx context.Context, _ *v1alpha1.ListCredentialsRequest) (*v1alpha1.ListCredentialsResponse, error) {
	id, err := s.begin(ctx, auth.VerbUpdate)
	if err != nil {
		return nil, err
	}
	tokens, sessions, err := s.accounts.Credentials(ctx, id)
	return &v1alpha1.ListCredentialsResponse{Tokens: tokens, Sessions: sessions}, accountError(err)
}

func (s *authService) Revoke(ctx context.Context, req *v1alpha1.RevokeRequest) (*v1alpha1.RevokeResponse, error) {
	id, err := s.begin(ctx, auth.VerbUpdate)
	if err != nil {
		return nil, err
	}
	return &v1alpha1.RevokeResponse{}, accountError(s.accounts.Revoke(ctx, id, req.GetName()))
}
