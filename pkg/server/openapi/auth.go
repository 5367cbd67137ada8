package openapi

import (
	"net/http"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource/docs"
)

// AuthRoute is a route of AuthService. The request is the body, as JSON.
type AuthRoute struct {
	Method string
	Path   string
	RPC    protoreflect.Name
}

// AuthPath is where they are.
const AuthPath = "/api/v1/auth/"

// AuthRoutes are the routes of AuthService; a test holds them to its methods.
var AuthRoutes = []AuthRoute{
	{http.MethodPost, AuthPath + "login", "Login"},
	{http.MethodPost, AuthPath + "register", "Register"},
	{http.MethodPost, AuthPath + "refresh", "Refresh"},
	{http.MethodPost, AuthPath + "logout", "Logout"},
	{http.MethodGet, AuthPath + "me", "WhoAmI"},
	{http.MethodPost, AuthPath + "can-i", "CanI"},
	{http.MethodPost, AuthPath + "change-password", "ChangePassword"},
	{http.MethodPost, AuthPath + "set-password", "SetPassword"},
	{http.MethodPost, AuthPath + "tokens", "CreateToken"},
	{http.MethodPost, AuthPath + "certificate", "IssueCertificate"},
	{http.MethodGet, AuthPath + "credentials", "ListCredentials"},
	{http.MethodPost, AuthPath + "revoke", "Revoke"},
}

// Descriptor is the method of AuthService.
func (r AuthRoute) Descriptor() protoreflect.MethodDescriptor {
	return v1alpha1.File_proximity_v1alpha1_auth_proto.Services().ByName("AuthService").Methods().ByName(r.RPC)
}

// auth adds one of them.
func (d *document) auth(r AuthRoute) {
	md := r.Descriptor()
	parts := []object{answer("The answer.", d.ref(md.Output())), {"description": docs.Method(md)}}
	if r.Method != http.MethodGet {
		parts = append(parts, body("application/json", d.ref(md.Input()), md.Input().Fields().Len() > 0))
	}
	switch r.RPC {
	case "Login", "Register", "Refresh":
		parts = append(parts, object{"security": []object{}})
	}
	d.add(r.Path, strings.ToLower(r.Method), "auth"+string(r.RPC), string(r.RPC), parts...)
}
