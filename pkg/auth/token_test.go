package auth

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/proximity-pve/proximity/pkg/privatefile"
)

func TestEnsureTokenMakesOneAndKeepsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "token")
	first, err := EnsureToken(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != len(tokenPrefix)+2*tokenBytes {
		t.Errorf("token has %d characters", len(first))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600", info.Mode(), err)
	}
	if second, err := EnsureToken(path); err != nil || second != first {
		t.Errorf("second start: other token or error %v", err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 1 {
		t.Errorf("temporary files are left: %v", entries)
	}
}

func TestEnsureTokenOfManyProcessesIsOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	tokens := make([]string, 16)
	var wg sync.WaitGroup
	for i := range tokens {
		wg.Go(func() {
			token, err := EnsureToken(path)
			if err != nil {
				t.Errorf("EnsureToken: %v", err)
			}
			tokens[i] = token
		})
	}
	wg.Wait()
	for _, token := range tokens {
		if token != tokens[0] {
			t.Fatal("two starts at once got different tokens")
		}
	}
}

func TestEnsureTokenRefuses(t *testing.T) {
	secret := tokenPrefix + strings.Repeat("ab", tokenBytes)
	tests := map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"readable by group":  {secret, 0o640, "can be read by others"},
		"readable by others": {secret, 0o604, "can be read by others"},
		"empty":              {"", 0o600, "holds no token"},
		"too short":          {tokenPrefix + "abcd", 0o600, "holds no token"},
		"no prefix":          {strings.Repeat("ab", tokenBytes+2), 0o600, "holds no token"},
		"not hex":            {tokenPrefix + strings.Repeat("zz", tokenBytes), 0o600, "holds no token"},
		"huge":               {strings.Repeat("a", privatefile.MaxBytes+1), 0o600, "more than"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(path, []byte(tt.content), tt.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := EnsureToken(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q in it", err, tt.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Error("the error contains the token")
			}
			if after, _ := os.ReadFile(path); string(after) != tt.content {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("symbolic link", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "real"), []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("real", filepath.Join(dir, "token")); err != nil {
			t.Fatal(err)
		}
		if _, err := EnsureToken(filepath.Join(dir, "token")); err == nil {
			t.Error("a symbolic link was followed")
		}
	})
}

func TestTokenAuthenticator(t *testing.T) {
	token := newToken()
	a := NewTokenAuthenticator(token)
	tests := map[string]struct {
		header string
		ok     bool
	}{
		"right":            {"Bearer " + token, true},
		"scheme in lower":  {"bearer " + token, true},
		"none":             {"", false},
		"scheme alone":     {"Bearer ", false},
		"token alone":      {token, false},
		"other scheme":     {"Basic " + token, false},
		"other token":      {"Bearer " + newToken(), false},
		"prefix of it":     {"Bearer " + token[:len(token)-1], false},
		"longer":           {"Bearer " + token + "0", false},
		"upper case":       {"Bearer " + strings.ToUpper(token), false},
		"two":              {"Bearer " + token + ", Bearer " + token, false},
		"megabyte":         {"Bearer " + strings.Repeat("a", 1<<20), false},
		"spaces then more": {"Bearer   " + token + " x", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			id, err := a.Authenticate(context.Background(), tt.header)
			if tt.ok != (err == nil) {
				t.Fatalf("error %v, want allowed %t", err, tt.ok)
			}
			if tt.ok && id.Type != LocalAdministrator {
				t.Errorf("identity %+v", id)
			}
			if !tt.ok && (id.Type != Anonymous || !errors.Is(err, ErrUnauthenticated)) {
				t.Errorf("identity %+v, error %v; want none and ErrUnauthenticated", id, err)
			}
		})
	}
}

func TestNewTokenAuthenticatorRefusesTheEmptyToken(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an empty token was accepted")
		}
	}()
	NewTokenAuthenticator("")
}

func TestAuthorizeDeniesByDefault(t *testing.T) {
	ctx := context.Background()
	verbs := []Verb{VerbGet, VerbList, VerbWatch, VerbCreate, VerbUpdate, VerbUpdateStatus, VerbApply, VerbDelete}
	for _, verb := range verbs {
		for _, id := range []Identity{{}, {Name: "local-administrator"}, {Type: 99, Name: "root"}} {
			if err := Authorize(WithIdentity(ctx, id), verb, "App", "default"); !errors.Is(err, ErrForbidden) {
				t.Errorf("%+v may %s: %v", id, verb, err)
			}
		}
		if err := Authorize(WithIdentity(ctx, Identity{Type: LocalAdministrator}), verb, "App", ""); err != nil {
			t.Errorf("the local administrator may not %s: %v", verb, err)
		}
	}
	if err := Authorize(WithIdentity(ctx, Identity{Type: LocalAdministrator}), "", "", ""); err == nil {
		t.Error("a request without a verb and a kind was allowed")
	}
	if IdentityFrom(ctx).Type != Anonymous {
		t.Error("a context without an identity has one")
	}
}

// TestOpenRoutes: whoever opens a route has to say so here, too.
func TestOpenRoutes(t *testing.T) {
	want := map[string]bool{
		"GET /healthz": true, "GET /readyz": true, "/grpc.health.v1.Health/Check": true,
		"POST /api/v1/auth/login": true, "POST /api/v1/auth/refresh": true, "POST /api/v1/auth/register": true,
		"POST /webhooks/git":                    true,
		"/proximity.v1alpha1.AuthService/Login": true, "/proximity.v1alpha1.AuthService/Refresh": true, "/proximity.v1alpha1.AuthService/Register": true,
	}
	for _, r := range OpenRoutes() {
		if !want[r.Name] || r.Why == "" {
			t.Errorf("%s is open: %s", r.Name, r.Why)
		}
	}
	if IsOpen(REST, "POST /healthz") || IsOpen(GRPC, "GET /healthz") || IsOpen(REST, "") {
		t.Error("a route that is not in the table is open")
	}
}
