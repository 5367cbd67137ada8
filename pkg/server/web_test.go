package server

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

func TestRefreshTokenStaysInTheCookie(t *testing.T) {
	f := start(t, options{config: people})
	jsonType := "Content-Type: application/json"
	r := f.doAs("POST", "/api/v1/auth/login", `{"user":"user","password":"`+tablePassword+`"}`, jsonType)
	if r.code != 200 || strings.Contains(r.body, "prr_") {
		t.Fatalf("%d %s", r.code, r.body)
	}
	cookieOf := func(r reply) *http.Cookie {
		t.Helper()
		list := (&http.Response{Header: r.header}).Cookies()
		if len(list) != 1 {
			t.Fatalf("cookies %v", list)
		}
		c := list[0]
		if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != "/api/v1/auth/" || c.Domain != "" || !strings.HasPrefix(c.Name, "__Secure-") {
			t.Errorf("cookie %+v", c)
		}
		return c
	}
	first := cookieOf(r)
	var login struct{ AccessToken string }
	if err := json.Unmarshal([]byte(r.body), &login); err != nil || login.AccessToken == "" {
		t.Fatal(err, r.body)
	}
	// The cookie is no credential for anything else.
	if got := f.doAs("GET", "/api/v1/auth/me", "", "Cookie: "+first.Name+"="+first.Value); got.code != 401 {
		t.Errorf("by the cookie alone: %d", got.code)
	}
	r = f.doAs("POST", "/api/v1/auth/refresh", "", "Cookie: "+first.Name+"="+first.Value)
	second := cookieOf(r)
	if r.code != 200 || second.Value == first.Value || strings.Contains(r.body, "prr_") {
		t.Fatalf("%d %s", r.code, r.body)
	}
	if r = f.doAs("POST", "/api/v1/auth/refresh", "{}", jsonType, "Cookie: "+first.Name+"="+first.Value); r.code != 401 {
		t.Errorf("an exchanged cookie: %d", r.code)
	}
	r = f.doAs("POST", "/api/v1/auth/logout", "", "Authorization: Bearer "+login.AccessToken)
	if c := cookieOf(r); r.code != 200 || c.MaxAge >= 0 {
		t.Errorf("logout: %d, %+v", r.code, c)
	}
	if r = f.doAs("POST", "/api/v1/auth/refresh", "", "Cookie: "+second.Name+"="+second.Value); r.code != 401 {
		t.Errorf("refresh after the logout: %d", r.code)
	}
	for _, bad := range []string{`{"user":1}`, `{"user":"a","pass":"secret-word"}`, `[`, `"secret-word"`} {
		if r := f.doAs("POST", "/api/v1/auth/login", bad, jsonType); r.code != 400 || strings.Contains(r.body, "secret-word") {
			t.Errorf("%s: %d %s", bad, r.code, r.body)
		}
	}
	if r := f.doAs("POST", "/api/v1/auth/login", "user=user&password=x", "Content-Type: application/x-www-form-urlencoded"); r.code != 415 {
		t.Errorf("a form, which any page could send: %d", r.code)
	}
	if log := f.log.String(); strings.Contains(log, tablePassword) || strings.Contains(log, first.Value) || strings.Contains(log, login.AccessToken) {
		t.Error("the log shows a credential")
	}
}

func TestOtherSitesAreRefused(t *testing.T) {
	f := start(t)
	for _, tt := range []struct {
		method, header string
		refused        bool
	}{
		{"POST", "Sec-Fetch-Site: cross-site", true}, {"POST", "Sec-Fetch-Site: same-site", true}, {"POST", "Origin: https://evil.example", true},
		{"POST", "Origin: null", true}, {"DELETE", "Sec-Fetch-Site: cross-site", true},
		{"POST", "Sec-Fetch-Site: same-origin", false}, {"POST", "Origin: " + f.base, false}, {"GET", "Sec-Fetch-Site: cross-site", false}, {"POST", "X-None: x", false},
	} {
		r := f.do(tt.method, apiRoot+"/namespaces/default/apps/x", "", tt.header)
		if got := r.code == 403; got != tt.refused {
			t.Errorf("%s with %s: %d", tt.method, tt.header, r.code)
		}
		for name := range r.header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("an answer for other origins: %s", name)
			}
		}
	}
	for _, path := range []string{"/healthz", "/nothing", "/version"} {
		h := f.doAs("GET", path, "").header
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin"} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, h.Get(name))
			}
		}
		if !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("Strict-Transport-Security") == "" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// TestStreamsEndWithTheRight: a watch that is open ends when it would be refused now.
func TestStreamsEndWithTheRight(t *testing.T) {
	for name, take := range map[string]func(f *fixture, id auth.Identity){
		"logout": func(f *fixture, id auth.Identity) {
			if _, err := f.accounts.Logout(context.Background(), id, false); err != nil {
				t.Fatal(err)
			}
		},
		"binding deleted": func(f *fixture, _ auth.Identity) {
			root := f.server.gate.access.As(context.Background(), auth.Identity{Type: auth.LocalAdministrator, Name: "root"})
			if _, err := f.applier.Delete(root, resource.Key{Kind: "RoleBinding", Name: "user"}, store.Preconditions{}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		f := start(t, options{config: people})
		access, staying := f.login("user"), f.login("admin")
		id, err := f.accounts.Authenticate(context.Background(), "Bearer "+access)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		open := func(tok string) grpc.ServerStreamingClient[v1alpha1.WatchEvent] {
			w, err := f.resources().Watch(ctx, &v1alpha1.WatchRequest{Kind: "App", Namespace: "default"}, grpc.PerRPCCredentials(token(tok)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Recv(); err != nil { // the bookmark
				t.Fatal(err)
			}
			return w
		}
		mine, other := open(access), open(staying)
		web := f.open(ctx, "GET", apiRoot+"/namespaces/default/apps?watch=1&allowWatchBookmarks=1", "", "Authorization: Bearer "+access)
		lines := bufio.NewReader(web.Body)
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		take(f, id)
		if _, err := mine.Recv(); err == nil || ctx.Err() != nil {
			t.Errorf("%s: the watch goes on: %v", name, err)
		}
		if _, err := lines.ReadString('\n'); err == nil || ctx.Err() != nil {
			t.Errorf("%s: the REST watch goes on", name)
		}
		web.Body.Close()
		// Nobody else's ends.
		f.applyApp(t, "still")
		if ev, err := other.Recv(); err != nil {
			t.Errorf("%s: another's watch ended: %v", name, err)
		} else if ev == nil {
			t.Errorf("%s: no event", name)
		}
		if _, err := f.resources().List(ctx, &v1alpha1.ListRequest{Kind: "App", Namespace: "default"}, grpc.PerRPCCredentials(token(access))); status.Code(err) != codes.Unauthenticated && status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: list: %v", name, err)
		}
		cancel()
	}
}

// applyApp applies an App as the local administrator.
func (f *fixture) applyApp(t *testing.T, name string) {
	t.Helper()
	if r := f.do("POST", apiRoot+"/apply", `{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":"`+name+`","namespace":"default"}}`, "Content-Type: application/yaml"); r.code != 200 {
		t.Fatalf("%d %s", r.code, r.body)
	}
}

// TestClientCertificates: a certificate is as good as the session that it names.
func TestClientCertificates(t *testing.T) {
	f := start(t, options{config: people})
	ctx := context.Background()
	id, err := f.accounts.Authenticate(ctx, "Bearer "+f.login("user"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// What the request says of names counts for nothing.
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "admin"}, DNSNames: []string{"localhost"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	request := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	cert, name, err := f.accounts.IssueCertificate(ctx, id, request, time.Hour, "192.0.2.1:1", "test")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(cert)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || leaf.Subject.CommonName != "user" || len(leaf.DNSNames) != 0 || leaf.IsCA || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Fatalf("%+v, %v", leaf.Subject, err)
	}
	list := func(c tls.Certificate, namespace string) codes.Code {
		t.Helper()
		conn, err := grpc.NewClient("passthrough:///"+f.grpcAddr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: f.roots, Certificates: []tls.Certificate{c}})))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = v1alpha1.NewResourceServiceClient(conn).List(ctx, &v1alpha1.ListRequest{Kind: "App", Namespace: namespace})
		return status.Code(err)
	}
	mine := tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
	if got := list(mine, "default"); got != codes.OK {
		t.Errorf("by the certificate: %s", got)
	}
	if got := list(mine, "elsewhere"); got != codes.PermissionDenied {
		t.Errorf("in another namespace: %s", got)
	}
	if got := list(tls.Certificate{}, "default"); got != codes.Unauthenticated {
		t.Errorf("without one: %s", got)
	}
	// One that another CA has signed, with the same names.
	other := *leaf
	self, err := x509.CreateCertificate(rand.Reader, &other, &other, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if got := list(tls.Certificate{Certificate: [][]byte{self}, PrivateKey: key}, "default"); got == codes.OK {
		t.Error("a certificate of another CA is taken")
	}
	// The server's own certificate is no client's.
	if got := list(f.certs.TLS.Certificates[0], "default"); got == codes.OK {
		t.Error("the server's certificate is taken for a client's")
	}
	if err := f.accounts.Revoke(ctx, id, name); err != nil {
		t.Fatal(err)
	}
	if got := list(mine, "default"); got != codes.Unauthenticated {
		t.Errorf("after it was revoked: %s", got)
	}
	for _, bad := range []string{"", "x", string(cert), string(request[:len(request)/2])} {
		if _, _, err := f.accounts.IssueCertificate(ctx, id, []byte(bad), time.Hour, "", ""); err == nil {
			t.Errorf("%.20q is taken for a request", bad)
		}
	}
}
