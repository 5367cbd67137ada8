package server

import (
	"bytes"
	"context"
	"net/http"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth/account"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/server/openapi"
)

// refreshCookie has the refresh token of a browser. It goes to the routes of AuthService
// only, over TLS only, never with requests that another site makes, and no script sees it.
// The prefix makes browsers insist on Secure.
const refreshCookie = "__Secure-proximity-refresh"

func cookie(value string, seconds int) *http.Cookie {
	return &http.Cookie{Name: refreshCookie, Value: value, Path: openapi.AuthPath, MaxAge: seconds,
		HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode}
}

// authCall is a method of AuthService for REST.
type authCall func(ctx context.Context, s *authService, req proto.Message) (proto.Message, error)

func calls[Q, A proto.Message](f func(*authService, context.Context, Q) (A, error)) authCall {
	return func(ctx context.Context, s *authService, req proto.Message) (proto.Message, error) {
		resp, err := f(s, ctx, req.(Q))
		if err != nil {
			return nil, err
		}
		return resp, nil
	}
}

// authCalls has every method; a test holds it to the descriptors.
var authCalls = map[string]struct {
	request func() proto.Message
	call    authCall
}{
	"Login":            {func() proto.Message { return &v1alpha1.LoginRequest{} }, calls((*authService).Login)},
	"Register":         {func() proto.Message { return &v1alpha1.RegisterRequest{} }, calls((*authService).Register)},
	"Refresh":          {func() proto.Message { return &v1alpha1.RefreshRequest{} }, calls((*authService).Refresh)},
	"Logout":           {func() proto.Message { return &v1alpha1.LogoutRequest{} }, calls((*authService).Logout)},
	"WhoAmI":           {func() proto.Message { return &v1alpha1.WhoAmIRequest{} }, calls((*authService).WhoAmI)},
	"CanI":             {func() proto.Message { return &v1alpha1.CanIRequest{} }, calls((*authService).CanI)},
	"ChangePassword":   {func() proto.Message { return &v1alpha1.ChangePasswordRequest{} }, calls((*authService).ChangePassword)},
	"SetPassword":      {func() proto.Message { return &v1alpha1.SetPasswordRequest{} }, calls((*authService).SetPassword)},
	"CreateToken":      {func() proto.Message { return &v1alpha1.CreateTokenRequest{} }, calls((*authService).CreateToken)},
	"IssueCertificate": {func() proto.Message { return &v1alpha1.IssueCertificateRequest{} }, calls((*authService).IssueCertificate)},
	"ListCredentials":  {func() proto.Message { return &v1alpha1.ListCredentialsRequest{} }, calls((*authService).ListCredentials)},
	"Revoke":           {func() proto.Message { return &v1alpha1.RevokeRequest{} }, calls((*authService).Revoke)},
}

// authRoute is the handler of a route of AuthService: the body is the request. Refresh
// tokens stay in the cookie.
func (s *rest) authRoute(route openapi.AuthRoute) handler {
	method := authCalls[string(route.RPC)]
	return func(w http.ResponseWriter, r *http.Request, _ call) error {
		req := method.request()
		b, err := s.readBody(w, r, typeJSON)
		if err != nil {
			return err
		}
		defer b.release()
		if text := bytes.TrimSpace(b.data); len(text) > 0 {
			if err := protojson.Unmarshal(text, req); err != nil {
				// Its text could show what was sent.
				return apistatus.New(apistatus.BadRequest, "the body must be a JSON object with the fields of %s", route.Descriptor().Input().Name())
			}
		}
		if m, ok := req.(*v1alpha1.RefreshRequest); ok && m.GetRefreshToken() == "" {
			if c, err := r.Cookie(refreshCookie); err == nil {
				m.RefreshToken = c.Value
			}
		}
		ctx := context.WithValue(r.Context(), userAgentKey{}, r.UserAgent())
		resp, err := method.call(ctx, s.auth, req)
		if err != nil {
			return err
		}
		switch m := resp.(type) {
		case *v1alpha1.LoginResponse:
			http.SetCookie(w, cookie(m.GetRefreshToken(), int(account.IdleLifetime.Seconds())))
			m.RefreshToken = ""
		case *v1alpha1.LogoutResponse:
			http.SetCookie(w, cookie("", -1))
		}
		answer, err := gatewayMarshaler{}.Marshal(resp)
		if err != nil {
			return err
		}
		writeJSON(w, r, http.StatusOK, answer)
		return nil
	}
}
