package account

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/argon2"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/access"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

const (
	alicePassword = "correct horse battery"
	here          = "192.0.2.1:1000"
	elsewhere     = "198.51.100.9:1000"
)

// cheapHash is alicePassword with parameters that a test can afford.
var cheapHash = "$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$" +
	base64.RawStdEncoding.EncodeToString(argon2.IDKey([]byte(alicePassword), make([]byte, 16), 1, 64, 1, 32))

type world struct {
	t          *testing.T
	service    *Service
	store      store.Store
	applier    *apply.Applier
	authorizer *auth.Authorizer
	policy     *access.Follower
	dir        string

	mu  sync.Mutex
	now time.Time
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func start(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	reg := kinds.Registry()
	w := &world{t: t, dir: t.TempDir(), authorizer: auth.NewAuthorizer(), now: time.Now().Truncate(time.Second)}
	w.store = memory.New(reg)
	t.Cleanup(func() { _ = w.store.Close() })
	keys := seal.NewEphemeral()
	w.policy = access.NewPolicy(w.store, reg, w.authorizer)
	w.applier = apply.New(w.store, reg).WithKeys(keys).System()
	if err := w.applier.EnsureNamespaces(context.Background()); err != nil {
		t.Fatal(err)
	}
	local := filepath.Join(w.dir, "token")
	text, err := auth.EnsureToken(local)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Store: w.store, Applier: w.applier, Registry: reg, Keys: keys, Policy: w.policy, Local: auth.NewTokenAuthenticator(text), KeyDir: filepath.Join(w.dir, "jwt"),
		Log: slog.New(slog.DiscardHandler), Now: w.clock}
	for _, c := range change {
		c(&cfg)
	}
	if w.service, err = New(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// user makes a user with alicePassword.
func (w *world) user(name string) {
	w.t.Helper()
	hash := cheapHash
	u := &v1alpha1.User{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("User"), Metadata: &v1alpha1.ObjectMeta{Name: name},
		Spec: &v1alpha1.UserSpec{PasswordHash: &hash, Groups: []string{"devs"}}}
	if _, err := w.applier.Create(context.Background(), u); err != nil {
		w.t.Fatal(err)
	}
	w.refresh()
}

func (w *world) refresh() {
	w.t.Helper()
	if err := w.service.follower.Refresh(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) patch(user, patch string) {
	w.t.Helper()
	if _, err := w.applier.Patch(context.Background(), resource.Key{Kind: "User", Name: user}, apply.MergePatch, []byte(patch)); err != nil {
		w.t.Fatal(err)
	}
	w.refresh()
}

func (w *world) login(peer string) *Login {
	w.t.Helper()
	l, err := w.service.Login(context.Background(), "alice", alicePassword, peer, "test")
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

func (w *world) is(credential string) (auth.Identity, error) {
	return w.service.Authenticate(context.Background(), "Bearer "+credential)
}

func (w *world) valid(credential string, want bool) {
	w.t.Helper()
	if id, err := w.is(credential); (err == nil) != want || err != nil && (!errors.Is(err, auth.ErrUnauthenticated) || id.Type != auth.Anonymous) {
		w.t.Errorf("credential: %+v, %v; want valid %t", id, err, want)
	}
}

func TestLoginAndLogout(t *testing.T) {
	w := start(t)
	w.user("alice")
	l := w.login(here)
	id, err := w.is(l.Access)
	if err != nil || id.Type != auth.UserIdentity || id.Name != "alice" || len(id.Groups) != 1 {
		t.Fatalf("%+v, %v", id, err)
	}
	for name, pw := range map[string]string{"alice": "wrong", "bob": alicePassword, "": "", "Alice": alicePassword} {
		if _, err := w.service.Login(context.Background(), name, pw, elsewhere, ""); !errors.Is(err, ErrWrongLogin) || err.Error() != ErrWrongLogin.Error() {
			t.Errorf("%q with %q: %v", name, pw, err)
		}
	}
	other := w.login(elsewhere)
	if n, err := w.service.Logout(context.Background(), id, false); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	w.valid(l.Access, false)
	if _, err := w.service.Refresh(context.Background(), l.Refresh, here); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("refreshed after the logout: %v", err)
	}
	w.valid(other.Access, true)
	third := w.login(here)
	id, _ = w.is(third.Access)
	if n, err := w.service.Logout(context.Background(), id, true); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	w.valid(other.Access, false)
	w.valid(third.Access, false)
}

func TestSessionsEndWithTheirUser(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"disabled": func(w *world) { w.patch("alice", `{"spec":{"disabled":true}}`) },
		"deleted and made again": func(w *world) {
			if _, err := w.applier.Delete(context.Background(), resource.Key{Kind: "User", Name: "alice"}, store.Preconditions{}); err != nil {
				t.Fatal(err)
			}
			w.user("alice")
		},
		"idle":     func(w *world) { w.pass(IdleLifetime) },
		"password": func(w *world) { _, _ = w.service.SetPassword(context.Background(), "alice", "another good password") },
	} {
		w := start(t)
		w.user("alice")
		l := w.login(here)
		id, _ := w.is(l.Access)
		if _, err := w.service.Revalidate(context.Background(), id); err != nil {
			t.Fatal(err)
		}
		end(w)
		w.valid(l.Access, false)
		if _, err := w.service.Refresh(context.Background(), l.Refresh, here); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("%s: refreshed: %v", name, err)
		}
		if _, err := w.service.Revalidate(context.Background(), id); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("%s: a stream goes on: %v", name, err)
		}
	}
}

func TestRefreshRotates(t *testing.T) {
	w := start(t)
	w.user("alice")
	ctx := context.Background()
	first := w.login(here)
	w.pass(AccessLifetime)
	w.valid(first.Access, false)
	second, err := w.service.Refresh(ctx, first.Refresh, here)
	if err != nil {
		t.Fatal(err)
	}
	w.valid(second.Access, true)
	// Two windows at once: refused, and the session goes on.
	if _, err := w.service.Refresh(ctx, first.Refresh, here); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("an exchanged token was taken: %v", err)
	}
	w.valid(second.Access, true)
	// Later it was stolen: nobody goes on.
	w.pass(reuseGrace)
	if _, err := w.service.Refresh(ctx, first.Refresh, elsewhere); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("a stolen token was taken: %v", err)
	}
	w.valid(second.Access, false)
	if _, err := w.service.Refresh(ctx, second.Refresh, here); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("the session goes on: %v", err)
	}
	for _, bad := range []string{"", "prr_", "prr_x", "prr_x.y", "prr_../../x.y", first.Access, strings.Repeat("x", 10000), "prr_" + second.Session + "."} {
		if _, err := w.service.Refresh(ctx, bad, here); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("%.30q: %v", bad, err)
		}
	}
	// However often it is refreshed, a session ends.
	l := w.login(here)
	for begun := w.clock(); ; w.pass(IdleLifetime / 2) {
		next, err := w.service.Refresh(ctx, l.Refresh, here)
		if err != nil {
			if age := w.clock().Sub(begun); age < SessionLifetime {
				t.Errorf("ended after %v: %v", age, err)
			}
			return
		}
		if l = next; w.clock().Sub(begun) > SessionLifetime {
			t.Fatal("a session never ends")
		}
	}
}

// TestForgedAccessTokens: what is not signed by a key of ours, as ours are.
func TestForgedAccessTokens(t *testing.T) {
	w := start(t)
	w.user("alice")
	l := w.login(here)
	c, err := w.service.signer.check(l.Access)
	if err != nil {
		t.Fatal(err)
	}
	kid := w.service.signer.keys[0].id
	own := w.service.signer.keys[0].priv
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	sign := func(m jwt.SigningMethod, key any, kid any, change func(*claims)) string {
		copied := *c
		if change != nil {
			change(&copied)
		}
		tok := jwt.NewWithClaims(m, copied)
		tok.Header["kid"] = kid
		text, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	parts := strings.Split(l.Access, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT","kid":"` + kid + `"}`))
	w.valid(sign(jwt.SigningMethodEdDSA, own, kid, nil), true)
	for name, text := range map[string]string{
		"another key":           sign(jwt.SigningMethodEdDSA, other, kid, nil),
		"an unknown kid":        sign(jwt.SigningMethodEdDSA, own, "other", nil),
		"a kid with a path":     sign(jwt.SigningMethodEdDSA, own, "../"+kid, nil),
		"a kid that is no text": sign(jwt.SigningMethodEdDSA, own, 7, nil),
		"hmac by public key":    sign(jwt.SigningMethodHS256, []byte(own.Public().(ed25519.PublicKey)), kid, nil),
		"alg none":              sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid, nil),
		"alg none, signed":      none + "." + parts[1] + "." + parts[2],
		"no signature":          parts[0] + "." + parts[1] + ".",
		"another payload":       parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root"}`)) + "." + parts[2],
		"another issuer":        sign(jwt.SigningMethodEdDSA, own, kid, func(c *claims) { c.Issuer = "x" }),
		"another audience":      sign(jwt.SigningMethodEdDSA, own, kid, func(c *claims) { c.Audience = jwt.ClaimStrings{"x"} }),
		"no end":                sign(jwt.SigningMethodEdDSA, own, kid, func(c *claims) { c.ExpiresAt = nil }),
		"ended":                 sign(jwt.SigningMethodEdDSA, own, kid, func(c *claims) { c.ExpiresAt = jwt.NewNumericDate(w.clock().Add(-time.Second)) }),
		"made in the future":    sign(jwt.SigningMethodEdDSA, own, kid, func(c *claims) { c.IssuedAt = jwt.NewNumericDate(w.clock().Add(time.Hour)) }),
		"another user":          sign(jwt.SigningMethodEdDSA, own, kid, func(c *claims) { c.Subject = "bob" }),
		"another uid":           sign(jwt.SigningMethodEdDSA, own, kid, func(c *claims) { c.UID = "x" }),
		"another session":       sign(jwt.SigningMethodEdDSA, own, kid, func(c *claims) { c.Session = "x" }),
		"the refresh token":     l.Refresh,
		"nothing":               "",
		"dots":                  "..",
		"too long":              strings.Repeat("a", 5000) + ".b.c",
	} {
		if id, err := w.is(text); !errors.Is(err, auth.ErrUnauthenticated) || id.Type != auth.Anonymous {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}

func TestSigningKeysRotate(t *testing.T) {
	w := start(t)
	w.user("alice")
	s := w.service.signer
	first := s.keys[0].id
	if info, err := os.Stat(filepath.Join(w.dir, "jwt", first+".key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	w.pass(keyLifetime + time.Second)
	l := w.login(here) // still the first key
	if err := s.rotate(); err != nil || len(s.keys) != 2 {
		t.Fatal(err, len(s.keys))
	}
	w.valid(l.Access, true)
	again, err := openSigner(filepath.Join(w.dir, "jwt"), w.clock)
	if err != nil || len(again.keys) != 2 || again.keys[0].id != first {
		t.Fatalf("after a restart: %v, %d keys", err, len(again.keys))
	}
	if _, err := again.check(l.Access); err != nil {
		t.Errorf("a token of the last key after a restart: %v", err)
	}
	w.pass(keyOverlap)
	if err := s.rotate(); err != nil || len(s.keys) != 1 || s.keys[0].id == first {
		t.Fatalf("%v, %d keys", err, len(s.keys))
	}
	files, _ := filepath.Glob(filepath.Join(w.dir, "jwt", "*"))
	if len(files) != 1 {
		t.Errorf("files %v", files)
	}
}

// TestGuessing: guesses get slow, and keep nobody out but him who guesses.
func TestGuessing(t *testing.T) {
	w := start(t)
	w.user("alice")
	ctx := context.Background()
	l := w.login(here) // the owner is known here
	guess := func(peer string) error {
		_, err := w.service.Login(ctx, "alice", "wrong password", peer, "")
		return err
	}
	made, begun := 0, w.clock()
	for w.clock().Sub(begun) < 24*time.Hour {
		var wait *TooManyError
		switch err := guess(elsewhere); {
		case errors.As(err, &wait):
			w.pass(wait.After)
		case errors.Is(err, ErrWrongLogin):
			made++
		default:
			t.Fatal(err)
		}
	}
	if made > 150 || made < freeByPair {
		t.Errorf("%d guesses in a day from one address", made)
	}
	// Guesses from everywhere at once.
	for i := range 400 {
		_ = guess(fmt.Sprintf("203.0.%d.%d:1", i/200, i%200))
	}
	var wait *TooManyError
	if err := guess("203.0.113.250:1"); !errors.As(err, &wait) {
		t.Errorf("an address nobody knows, after 400 guesses: %v", err)
	}
	if _, err := w.service.Login(ctx, "alice", alicePassword, "192.0.2.1:4711", ""); err != nil {
		t.Errorf("the owner is kept out: %v", err)
	}
	w.valid(l.Access, false) // a day has passed
	if _, err := w.service.Refresh(ctx, l.Refresh, here); err != nil {
		t.Errorf("the owner's session is kept out: %v", err)
	}
	// Another IPv6 address of the same network is the same guesser.
	for i := range freeByPair {
		_ = guess(fmt.Sprintf("[2001:db8::%x]:1", i+1))
	}
	if err := guess("[2001:db8::ffff]:1"); !errors.As(err, &wait) {
		t.Errorf("another address of one IPv6 network: %v", err)
	}
	// What is remembered is bounded.
	for i := range maxTracked + 1000 {
		w.service.limits.failed(fmt.Sprint("u", i), "192.0.2.9:1", true)
	}
	if n := len(w.service.limits.tries); n > maxTracked+2 {
		t.Errorf("%d attempts are remembered", n)
	}
	// Logins that succeed are no failures.
	w.pass(2 * forgetAfter)
	for range 2 * freeByAddress {
		w.login("192.0.2.77:1")
	}
}

func TestAPITokens(t *testing.T) {
	w := start(t)
	w.user("alice")
	ctx := audit.WithOrigin(context.Background(), audit.Origin{Peer: elsewhere})
	l := w.login(here)
	id, _ := w.is(l.Access)
	rules := []*v1alpha1.PolicyRule{{Verbs: []string{"get"}, Kinds: []string{"App"}, Namespaces: []string{"web"}}}
	name, text, expires, err := w.service.CreateToken(ctx, id, "ci", time.Hour, rules)
	if err != nil || !strings.HasPrefix(text, "prt_"+name+".") {
		t.Fatal(name, text, err)
	}
	before := w.store.Stats().Changes
	tok, err := w.service.Authenticate(ctx, "Bearer "+text)
	if err != nil || tok.Name != "alice" {
		t.Fatal(tok, err)
	}
	if w.store.Stats().Changes != before {
		t.Error("a use of a token was written")
	}
	// It is good for a part of what alice may do.
	b := auth.Binding{Role: auth.RoleUser, Subjects: []auth.Subject{{Kind: auth.SubjectUser, Name: "alice"}}, Namespaces: []string{"web", "other"}}
	w.authorizer.SetPolicy(auth.Compile(nil, nil, []auth.Binding{b}))
	for _, tt := range []struct {
		verb      auth.Verb
		namespace string
		want      bool
	}{{auth.VerbGet, "web", true}, {auth.VerbGet, "other", false}, {auth.VerbDelete, "web", false}} {
		if err := auth.Authorize(w.authorizer.As(ctx, tok), tt.verb, "App", tt.namespace); (err == nil) != tt.want {
			t.Errorf("%s in %s: %v", tt.verb, tt.namespace, err)
		}
	}
	// It makes no further token, changes no password and ends no session.
	if _, _, _, err := w.service.CreateToken(ctx, tok, "", 0, nil); err == nil {
		t.Error("a token made a token")
	}
	if _, err := w.service.ChangePassword(ctx, tok, alicePassword, "another good password", here); err == nil {
		t.Error("a token changed the password")
	}
	// The hash is all there is, and is not shown.
	list, sessions, err := w.service.Credentials(ctx, id)
	if err != nil || len(list) != 1 || len(sessions) != 1 || list[0].GetSpec().GetHash() != "" || sessions[0].GetSpec().GetRefreshHash() != "" {
		t.Fatal(list, sessions, err)
	}
	if list[0].GetStatus().GetLastPeer() != elsewhere {
		t.Errorf("last used: %v", list[0].GetStatus())
	}
	if err := w.service.flush(ctx); err != nil {
		t.Fatal(err)
	}
	obj, _ := w.store.Get(ctx, resource.Key{Kind: "APIToken", Name: name})
	if obj.(*v1alpha1.APIToken).GetStatus().GetLastPeer() != elsewhere {
		t.Error("the use was not written later")
	}
	secret := strings.TrimPrefix(text, "prt_"+name+".")
	if strings.Contains(obj.(*v1alpha1.APIToken).String(), secret) {
		t.Error("the store has the token itself")
	}
	for _, bad := range []string{"prt_" + name + ".", "prt_" + name, "prt_x." + secret, text + "0", "prt_." + secret} {
		w.valid(bad, false)
	}
	w.mu.Lock()
	w.now = expires
	w.mu.Unlock()
	w.valid(text, false)
	w.pass(-time.Hour + time.Minute)
	w.valid(text, true)
	w.user("bob")
	bob, err := w.service.Login(ctx, "bob", alicePassword, here, "")
	if err != nil {
		t.Fatal(err)
	}
	bobID, _ := w.is(bob.Access)
	if err := w.service.Revoke(ctx, bobID, name); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("bob revokes alice's token: %v", err)
	}
	if err := w.service.Revoke(ctx, id, name); err != nil {
		t.Fatal(err)
	}
	w.valid(text, false)
	for _, life := range []time.Duration{time.Second, 10 * 365 * 24 * time.Hour, -time.Hour} {
		if _, _, _, err := w.service.CreateToken(ctx, id, "", life, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("a token for %v: %v", life, err)
		}
	}
}

func TestChangePassword(t *testing.T) {
	w := start(t)
	w.user("alice")
	ctx := context.Background()
	l, other := w.login(here), w.login(elsewhere)
	id, _ := w.is(l.Access)
	for _, tt := range [][2]string{{"wrong", "another good password"}, {alicePassword, "short"}, {alicePassword, alicePassword}} {
		if _, err := w.service.ChangePassword(ctx, id, tt[0], tt[1], here); !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), tt[1]) {
			t.Errorf("%q: %v", tt, err)
		}
	}
	if n, err := w.service.ChangePassword(ctx, id, alicePassword, "another good password", here); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	w.valid(l.Access, true)
	w.valid(other.Access, false)
	if _, err := w.service.Login(ctx, "alice", alicePassword, here, ""); !errors.Is(err, ErrWrongLogin) {
		t.Errorf("the old password: %v", err)
	}
	if _, err := w.service.Login(ctx, "alice", "another good password", here, ""); err != nil {
		t.Errorf("the new password: %v", err)
	}
}

func TestFirstAdministrator(t *testing.T) {
	w := start(t)
	ctx := context.Background()
	setup := w.service.SetupToken()
	for _, bad := range []string{"", "prs_x", setup + "x"} {
		if _, err := w.service.Register(ctx, "root", alicePassword, "", bad, here, ""); !errors.Is(err, auth.ErrForbidden) {
			t.Errorf("registered with %q: %v", bad, err)
		}
	}
	if _, err := w.service.Register(ctx, "root", "short", "", setup, here, ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("a short password: %v", err)
	}
	// Of many who use it at once one wins.
	var won sync.Map
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if l, err := w.service.Register(ctx, fmt.Sprint("root", i), alicePassword, "", setup, fmt.Sprintf("192.0.2.%d:1", i), ""); err == nil {
				won.Store(l.User, l)
			} else if !errors.Is(err, auth.ErrForbidden) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	won.Range(func(_, v any) bool {
		n++
		id, err := w.is(v.(*Login).Access)
		if err != nil || auth.Authorize(w.authorizer.As(ctx, id), auth.VerbEscalate, "Role", "") != nil {
			t.Errorf("%+v, %v is no administrator", id, err)
		}
		return true
	})
	if n != 1 {
		t.Fatalf("%d first administrators", n)
	}
	if w.service.SetupToken() != "" {
		t.Error("a setup token with users")
	}
	expired := start(t)
	setup = expired.service.SetupToken()
	expired.pass(setupLifetime)
	if _, err := expired.service.Register(ctx, "root", alicePassword, "", setup, here, ""); !errors.Is(err, auth.ErrForbidden) {
		t.Errorf("a setup token that has ended: %v", err)
	}
}

func TestRegistrationGivesNothing(t *testing.T) {
	w := start(t, func(c *Config) { c.Registration = true })
	ctx := context.Background()
	w.user("alice")
	l, err := w.service.Register(ctx, "eve", alicePassword, "Eve", "", here, "")
	if err != nil {
		t.Fatal(err)
	}
	id, _ := w.is(l.Access)
	if err := auth.Authorize(w.authorizer.As(ctx, id), auth.VerbList, "App", "default"); err == nil {
		t.Error("whoever registers may list Apps")
	}
	if _, err := w.service.Register(ctx, "alice", "another good password", "", "", here, ""); err == nil {
		t.Error("registered as a user that there is")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	w := start(t)
	w.user("alice")
	first := w.login(here)
	for range maxSessions {
		w.pass(time.Second)
		w.login(here)
	}
	w.valid(first.Access, false)
	if n := len(w.service.current.Load().sessions); n != maxSessions {
		t.Errorf("%d sessions", n)
	}
	w.pass(IdleLifetime + time.Second)
	if err := w.service.sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := len(w.service.current.Load().sessions); n != 0 {
		t.Errorf("%d sessions after all have ended", n)
	}
}
