package server

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/argon2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/access"
	"github.com/proximity-pve/proximity/pkg/auth/account"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/server/openapi"
)

// The table of who gets past which route. Each route has a row here that says what right it
// needs; a route without one fails the test. Who has the right is said by mayRole, in words
// of its own.

// need is a right.
type need struct {
	verb, subject, namespace string
	open                     bool // no credential is needed
	self                     bool // every user has it, of itself
}

// restNeeds are the rows of the routes without a kind in them.
var restNeeds = map[string]need{
	"GET /healthz":                                         {open: true},
	"GET /readyz":                                          {open: true},
	"POST /webhooks/git":                                   {open: true},
	"GET /metrics":                                         {verb: "get", subject: "metrics"},
	"GET /version":                                         {verb: "get", subject: "discovery"},
	"GET /api":                                             {verb: "get", subject: "discovery"},
	"GET /apis":                                            {verb: "get", subject: "discovery"},
	"GET /apis/" + resource.Group:                          {verb: "get", subject: "discovery"},
	"GET " + apiRoot:                                       {verb: "get", subject: "discovery"},
	"GET /api/openapi.json":                                {verb: "get", subject: "discovery"},
	"GET /openapi/v3":                                      {verb: "get", subject: "discovery"},
	"GET /openapi/v3" + apiRoot:                            {verb: "get", subject: "discovery"},
	"POST " + apiRoot + "/apply":                           {verb: "apply", subject: "App", namespace: "default"},
	"POST " + apiRoot + "/plan":                            {verb: "apply", subject: "App", namespace: "default"},
	"GET " + apiRoot + "/usage":                            {verb: "list", subject: "App"},
	"GET /api/v1/system/proxy/status":                      {verb: "list", subject: "Vhost"},
	"POST /api/v1/system/secrets/rekey":                    {verb: "update", subject: "database"},
	"POST /api/v1/auth/login":                              {open: true},
	"POST /api/v1/auth/register":                           {open: true},
	"POST /api/v1/auth/refresh":                            {open: true},
	"POST /api/v1/auth/logout":                             {self: true},
	"GET /api/v1/auth/me":                                  {self: true},
	"POST /api/v1/auth/can-i":                              {self: true},
	"POST /api/v1/auth/change-password":                    {self: true},
	"POST /api/v1/auth/set-password":                       {verb: "update", subject: "User"},
	"POST /api/v1/auth/tokens":                             {self: true},
	"GET /api/v1/auth/credentials":                         {self: true},
	"POST /api/v1/auth/certificate":                        {self: true},
	"POST /api/v1/auth/revoke":                             {self: true},
	"GET /api/v1/system/infrastructure/status":             {verb: "list", subject: "Cluster"},
	"POST /api/v1/system/infrastructure/appliance/restart": {verb: "create", subject: "Operation", namespace: "proximity-system"},
	"GET /api/v1/system/infrastructure/appliance/logs":     {verb: "create", subject: "Operation", namespace: "proximity-system"},
	"POST /api/v1/system/infrastructure/test-nat":          {verb: "create", subject: "Operation", namespace: "proximity-system"},
}

// kindNeeds are the rows of the shapes of paths under a kind.
var kindNeeds = map[string]string{
	"GET collection": "list", "POST collection": "create", "GET everywhere": "list",
	"GET object": "get", "PUT object": "update", "PATCH object": "apply", "DELETE object": "delete",
	"GET status": "get", "PUT status": "update-status", "GET plan": "get", "GET usage": "get",
	"POST values": "secrets-read",
}

// rpcNeeds are the rows of the methods; request fills the requests.
var rpcNeeds = map[string]need{
	"ResourceService/Get": {verb: "get", subject: "Namespace"}, "ResourceService/List": {verb: "list", subject: "Namespace"},
	"ResourceService/Watch": {verb: "watch", subject: "Namespace"}, "ResourceService/Create": {verb: "create", subject: "Namespace"},
	"ResourceService/Update": {verb: "update", subject: "Namespace"}, "ResourceService/UpdateStatus": {verb: "update-status", subject: "Namespace"},
	"ResourceService/Patch": {verb: "update", subject: "Namespace"}, "ResourceService/Delete": {verb: "delete", subject: "Namespace"},
	"ResourceService/Apply": {verb: "apply", subject: "Namespace"}, "ResourceService/ApplySet": {verb: "apply", subject: "Namespace"},
	"ResourceService/Usage": {verb: "list", subject: "App"}, "ResourceService/Plan": {verb: "apply", subject: "Namespace"}, "ResourceService/Kinds": {verb: "get", subject: "discovery"},
	"SystemService/InfrastructureStatus": {verb: "list", subject: "Cluster"}, "SystemService/ProxyStatus": {verb: "list", subject: "Vhost"},
	"SystemService/RestartAppliance": {verb: "create", subject: "Operation", namespace: "proximity-system"},
	"SystemService/ApplianceLogs":    {verb: "create", subject: "Operation", namespace: "proximity-system"},
	"SystemService/TestNAT":          {verb: "create", subject: "Operation", namespace: "proximity-system"},
	"AdminService/Snapshot":          {verb: "get", subject: "database"}, "AdminService/Check": {verb: "get", subject: "database"},
	"AdminService/Rekey": {verb: "update", subject: "database"}, "ResourceService/ReadSecret": {verb: "secrets-read", subject: "Secret", namespace: "default"},
	"AdminService/Defrag": {verb: "update", subject: "database"}, "AdminService/Audit": {verb: "list", subject: "audit"},
	"AdminService/AuditTrail": {verb: "list", subject: "audit"}, "AdminService/VerifyAudit": {verb: "list", subject: "audit"},
	"Health/Check": {open: true}, "Health/Watch": {verb: "get", subject: "health"}, "Health/List": {verb: "get", subject: "health"},
	"ServerReflection/ServerReflectionInfo": {verb: "get", subject: "discovery"},
	"AuthService/Login":                     {open: true}, "AuthService/Register": {open: true}, "AuthService/Refresh": {open: true},
	"AuthService/Logout": {self: true}, "AuthService/WhoAmI": {self: true}, "AuthService/CanI": {self: true},
	"AuthService/ChangePassword": {self: true}, "AuthService/SetPassword": {verb: "update", subject: "User"},
	"AuthService/IssueCertificate": {self: true},
	"AuthService/CreateToken":      {self: true}, "AuthService/ListCredentials": {self: true}, "AuthService/Revoke": {self: true},
}

// roles are the users of the table, and what they are.
var roles = []string{"admin", "user", "viewer", "other", "none", "local"}

// mayRole says in words of its own what the users of the table may do.
func mayRole(f *fixture, role string, n need) bool {
	read := n.verb == "get" || n.verb == "list" || n.verb == "watch"
	k, isKind := f.registry.Get(n.subject)
	identity := slices.Contains([]string{"User", "Role", "RoleBinding", "Session", "APIToken"}, n.subject)
	switch {
	case n.open || n.self || role == "admin" || role == "local" || n.subject == "discovery":
		return true
	case !isKind || identity:
		return false
	}
	switch role {
	case "viewer": // in all namespaces
		return read && n.subject != "Secret"
	case "user": // in the namespace default
		return k.Namespaced && n.namespace == "default" && n.verb != "update-status" && n.verb != "secrets-read"
	}
	return false // other has a role in another namespace, none has none
}

const tablePassword = "correct horse battery"

// people adds the users to a server, with a password that costs little.
func people(f *fixture, keys *seal.Keyring, cfg *Config) {
	f.t.Helper()
	cfg.Access = auth.NewAuthorizer()
	policy := access.NewPolicy(f.store, f.registry, cfg.Access)
	admission := apply.New(f.store, f.registry).WithKeys(keys)
	accounts, err := account.New(context.Background(), account.Config{Store: f.store, Applier: admission.System(), Registry: f.registry, Keys: keys, Policy: policy,
		Local: testAuth{}, KeyDir: f.keyDir, Signer: f.certs, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	cfg.Auth, cfg.Accounts, cfg.ClientCAs = accounts, accounts, f.certs.ClientCAs()
	cfg.OnAccessChange = func(fn func()) { policy.OnChange(fn); accounts.Follower().OnChange(fn) }
	guarded := admission.WithGuard(access.NewGuard(f.registry, policy, accounts.Follower()))
	cfg.Applier = guarded
	hash := "$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + base64.RawStdEncoding.EncodeToString(argon2.IDKey([]byte(tablePassword), make([]byte, 16), 1, 64, 1, 32))
	yaml := "apiVersion: proximity/v1alpha1\nkind: Namespace\nmetadata: {name: elsewhere}\n"
	for _, u := range append(slices.Clone(roles[:5]), "gone", "disabled") {
		yaml += fmt.Sprintf("---\napiVersion: proximity/v1alpha1\nkind: User\nmetadata: {name: %s}\nspec: {passwordHash: %q}\n", u, hash)
	}
	for name, b := range map[string][2]string{"admin": {"admin", "*"}, "gone": {"admin", "*"}, "disabled": {"admin", "*"}, "user": {"user", "default"}, "viewer": {"viewer", "*"}, "other": {"user", "elsewhere"}} {
		yaml += fmt.Sprintf("---\napiVersion: proximity/v1alpha1\nkind: RoleBinding\nmetadata: {name: %s}\nspec: {role: %s, namespaces: ['%s'], subjects: [{kind: User, name: %s}]}\n", name, b[0], b[1], name)
	}
	docs, err := resource.DecodeDocuments(f.registry, "people.yaml", []byte(yaml))
	if err != nil {
		f.t.Fatal(err)
	}
	root := cfg.Access.As(context.Background(), auth.Identity{Type: auth.LocalAdministrator, Name: "root"})
	if _, err := guarded.ApplySet(root, docs, apply.Options{}); err != nil {
		f.t.Fatal(err)
	}
	f.accounts, f.applier = accounts, guarded
}

// shapeOf names the shape of a path.
func (f *fixture) shapeOf(k *resource.Kind, tg target) string {
	kr := f.server.rest.kinds
	return map[*route]string{kr.collection: "collection", kr.everywhere: "everywhere", kr.object: "object", kr.status: "status", kr.plan: "plan", kr.usage: "usage", kr.values: "values"}[kr.shape(k, tg)]
}

// ownKey reads a signing key of the server.
func ownKey(t *testing.T, path string) any {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// login returns an access token.
func (f *fixture) login(user string) string {
	f.t.Helper()
	if user == "local" {
		return adminToken
	}
	l, err := f.accounts.Login(context.Background(), user, tablePassword, "192.0.2.1:1", "table")
	if err != nil {
		f.t.Fatal(user, err)
	}
	return l.Access
}

// badCredentials are those that nobody may get in with, all made of an administrator's.
func badCredentials(f *fixture) map[string]string {
	f.t.Helper()
	ctx := context.Background()
	good := f.login("admin")
	parts := strings.Split(good, ".")
	var claims jwt.MapClaims
	parsed, _, err := jwt.NewParser().ParseUnverified(good, &claims)
	if err != nil {
		f.t.Fatal(err)
	}
	kid := parsed.Header["kid"]
	_, stranger, _ := ed25519.GenerateKey(rand.Reader)
	sign := func(m jwt.SigningMethod, key any) string {
		tok := jwt.NewWithClaims(m, claims)
		tok.Header["kid"] = kid
		text, err := tok.SignedString(key)
		if err != nil {
			f.t.Fatal(err)
		}
		return text
	}
	gone, disabled := f.login("gone"), f.login("disabled")
	revoked := f.login("admin")
	id, _ := f.accounts.Authenticate(ctx, "Bearer "+revoked)
	if _, err := f.accounts.Logout(ctx, id, false); err != nil {
		f.t.Fatal(err)
	}
	root := f.server.gate.access.As(ctx, auth.Identity{Type: auth.LocalAdministrator, Name: "root"})
	if _, err := f.applier.Patch(root, resource.Key{Kind: "User", Name: "disabled"}, apply.MergePatch, []byte(`{"spec":{"disabled":true}}`)); err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.applier.Patch(root, resource.Key{Kind: "User", Name: "gone"}, apply.MergePatch, []byte(`{"metadata":{"labels":{"a":"b"}}}`)); err != nil {
		f.t.Fatal(err)
	}
	goneID, _ := f.accounts.Authenticate(ctx, "Bearer "+gone)
	if err := f.accounts.Revoke(ctx, goneID, strings.TrimPrefix(goneID.Credential, "session/")); err != nil {
		f.t.Fatal(err)
	}
	refresh, err := f.accounts.Login(ctx, "admin", tablePassword, "192.0.2.1:1", "")
	if err != nil {
		f.t.Fatal(err)
	}
	return map[string]string{
		"none":            "",
		"expired":         f.expired(claims, kid),
		"forged":          parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"alg=none":        sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"another key":     sign(jwt.SigningMethodEdDSA, stranger),
		"hmac":            sign(jwt.SigningMethodHS256, []byte("secret")),
		"logged out":      revoked,
		"revoked":         gone,
		"disabled user":   disabled,
		"a refresh token": refresh.Refresh,
		"an API token":    "prt_t0123.0123456789",
	}
}

// expired signs claims that have ended with the server's own key.
func (f *fixture) expired(claims jwt.MapClaims, kid any) string {
	f.t.Helper()
	old := maps.Clone(claims)
	old["exp"], old["iat"] = time.Now().Add(-time.Minute).Unix(), time.Now().Add(-time.Hour).Unix()
	tok := jwt.NewWithClaims(jwt.SigningMethodEdDSA, old)
	tok.Header["kid"] = kid
	text, err := tok.SignedString(ownKey(f.t, filepath.Join(f.keyDir, fmt.Sprint(kid)+".key")))
	if err != nil {
		f.t.Fatal(err)
	}
	return text
}

// refused tells whether an answer is one about credentials or rights. Other refusals (a
// document that is wrong) came after those had been looked at.
func refused(code int, body string) bool {
	return code == http.StatusUnauthorized || code == http.StatusForbidden && strings.Contains(body, " may not ")
}

func TestTableOfRoutes(t *testing.T) {
	f := start(t, options{config: people})
	bad := badCredentials(f)
	rows, requests, allowed := 0, 0, 0
	for _, r := range restRoutes(f) {
		name := r.method + " " + r.path
		n, ok := restNeeds[name]
		if r.kind != "" {
			tg, _ := parsePath(r.path)
			k, _ := f.registry.Get(r.kind)
			n, ok = need{subject: r.kind, namespace: tg.namespace}, true
			if n.verb = kindNeeds[r.method+" "+f.shapeOf(k, tg)]; n.verb == "" {
				ok = false
			}
		}
		if !ok {
			t.Errorf("%s has no row in the table of rights", name)
			continue
		}
		rows++
		if n.open != auth.IsOpen(auth.REST, name) {
			t.Errorf("%s: open %t in the table of rights, %t in the table of open routes", name, n.open, !n.open)
		}
		body, headers := bodyFor(r)
		path := r.path
		if r.kind != "" && r.method != http.MethodGet || strings.HasSuffix(path, "/apply") {
			path += "?dryRun=All"
		}
		ask := func(credential string) (int, string) {
			requests++
			h := headers
			if credential != "" {
				h = append(slices.Clone(headers), "Authorization: Bearer "+credential)
			}
			got := f.doAs(r.method, path, body, h...)
			return got.code, got.body
		}
		for what, credential := range bad {
			if code, _ := ask(credential); (code == http.StatusUnauthorized) == n.open && name != "POST /api/v1/auth/refresh" && name != "POST /api/v1/auth/login" {
				t.Errorf("%s with credential %q: %d", name, what, code)
			}
		}
		for _, role := range roles {
			credential := f.login(role)
			want := mayRole(f, role, n)
			code, text := ask(credential)
			if refused(code, text) == want && !(n.open && code == http.StatusUnauthorized) {
				t.Errorf("%s by %s: %d %s, allowed must be %t", name, role, code, text, want)
			}
			if want {
				allowed++
			}
			// A token of no use for it.
			if role == "admin" && !n.open && !n.self && n.subject != auth.Discovery {
				id, _ := f.accounts.Authenticate(context.Background(), "Bearer "+f.login(role))
				token, _, _, err := f.createToken(id, "watch", "Gadget")
				if err != nil {
					t.Fatal(err)
				}
				if code, text := ask(token); !refused(code, text) {
					t.Errorf("%s by a token for something else: %d %s", name, code, text)
				}
			}
		}
	}
	t.Logf("%d routes, %d requests, %d of which had to be allowed", rows, requests, allowed)
	for name := range restNeeds {
		method, path, _ := strings.Cut(name, " ")
		if rt := f.server.rest.fixed[path]; rt == nil || rt.methods[method] == nil {
			t.Errorf("the table of rights has %s, which is no route", name)
		}
	}
}

// createToken makes a limited API token, one at a time.
func (f *fixture) createToken(id auth.Identity, verb, kind string) (token, name string, end time.Time, err error) {
	name, token, end, err = f.accounts.CreateToken(context.Background(), id, "", time.Hour, []*v1alpha1.PolicyRule{{Verbs: []string{verb}, Kinds: []string{kind}}})
	if err == nil {
		if f.lastToken != "" {
			_ = f.accounts.Revoke(context.Background(), id, f.lastToken)
		}
		f.lastToken = name
	}
	return token, name, end, err
}

func TestTableOfRPCs(t *testing.T) {
	f := start(t, options{config: people})
	bad := badCredentials(f)
	rows := 0
	f.eachMethod(func(full string, md protoreflect.MethodDescriptor) {
		short := full[strings.LastIndex(full[:strings.LastIndex(full, "/")], ".")+1:]
		n, ok := rpcNeeds[short]
		if !ok {
			t.Errorf("%s has no row in the table of rights", full)
			return
		}
		rows++
		for word, verb := range map[string]auth.Verb{"Console": auth.VerbConsole, "Attach": auth.VerbConsole, "Exec": auth.VerbExec} {
			if strings.Contains(string(md.Name()), word) && n.verb != string(verb) {
				t.Errorf("%s needs %q, it must need %s", full, n.verb, verb)
			}
		}
		if n.open != auth.IsOpen(auth.GRPC, full) {
			t.Errorf("%s: open %t in the table of rights, %t in the table of open routes", full, n.open, !n.open)
		}
		in := request(f, md)
		switch md.Input().Name() {
		case "ReadSecretRequest":
			in = &v1alpha1.ReadSecretRequest{Namespace: "default", Name: "x"}
		case "WatchRequest":
			in = &v1alpha1.WatchRequest{Kind: "Namespace"}
		}
		ask := func(credential string) error {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			return f.rpcError(ctx, full, in, md, grpc.PerRPCCredentials(token(credential)))
		}
		for what, credential := range bad {
			if code := status.Code(ask(credential)); (code == codes.Unauthenticated) == n.open && md.Name() != "Refresh" && md.Name() != "Login" {
				t.Errorf("%s with credential %q: %s", full, what, code)
			}
		}
		for _, role := range roles {
			want := mayRole(f, role, n)
			err := ask(f.login(role))
			code := status.Code(err)
			no := code == codes.Unauthenticated && !n.open || code == codes.PermissionDenied && strings.Contains(err.Error(), " may not ")
			if no == want {
				t.Errorf("%s by %s: %v, allowed must be %t", full, role, err, want)
			}
		}
	})
	if rows != len(rpcNeeds)+1 { // reflection is there in two versions
		t.Errorf("%d methods, the table of rights has %d", rows, len(rpcNeeds))
	}
}

// TestAuthRoutesAreTheServices: every method of AuthService has its route.
func TestAuthRoutesAreTheServices(t *testing.T) {
	methods := v1alpha1.File_proximity_v1alpha1_auth_proto.Services().ByName("AuthService").Methods()
	if methods.Len() != len(openapi.AuthRoutes) || methods.Len() != len(authCalls) {
		t.Errorf("%d methods, %d routes, %d calls", methods.Len(), len(openapi.AuthRoutes), len(authCalls))
	}
	for _, r := range openapi.AuthRoutes {
		if m := authCalls[string(r.RPC)]; r.Descriptor() == nil || m.request == nil || m.request().ProtoReflect().Descriptor() != r.Descriptor().Input() {
			t.Errorf("%s %s: no method %s, or another request", r.Method, r.Path, r.RPC)
		}
	}
}

// rpcError is rpc with the whole error.
func (f *fixture) rpcError(ctx context.Context, method string, in proto.Message, md protoreflect.MethodDescriptor, opts ...grpc.CallOption) error {
	stream, err := f.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, opts...)
	if err != nil {
		return err
	}
	_ = stream.SendMsg(in)
	_ = stream.CloseSend()
	return stream.RecvMsg(dynamicpb.NewMessage(md.Output()))
}
