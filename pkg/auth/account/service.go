package account

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/access"
	"github.com/proximity-pve/proximity/pkg/auth/password"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Prefixes let secret scanners recognise a leaked token.
const (
	refreshPrefix = "prr_"
	tokenPrefix   = "prt_"
	// maxCredentialBytes bounds a credential before anything is computed from it.
	maxCredentialBytes = 4 << 10
)

// Config is what a Service is made of.
type Config struct {
	Store store.Store
	// Applier admits changes of Users; the daemon's own, without a guard.
	Applier  *apply.Applier
	Registry *resource.Registry
	Keys     *seal.Keyring
	// Policy is refreshed when the first administrator was made; nil: not.
	Policy *access.Follower
	// Local knows the local administrator's token.
	Local auth.Authenticator
	// KeyDir is where the keys that sign access tokens are.
	KeyDir string
	// Signer signs certificates of clients; nil: there are none.
	Signer Signer
	// Registration lets anybody make a user, who may do nothing until it is given a role.
	Registration bool
	Log          *slog.Logger
	// Now is the clock; nil: the machine's.
	Now func() time.Time
}

// Service knows users and their credentials. It is safe for concurrent use.
type Service struct {
	cfg    Config
	hasher *password.Hasher
	signer *signer
	limits *limiter
	// waiting bounds logins that wait for the hasher.
	waiting atomic.Int32

	follower *access.Follower
	current  atomic.Pointer[snapshot]

	mu    sync.Mutex
	known map[[sha256.Size]byte]*claims // access tokens that were checked
	used  map[string]use                // API tokens, since the last flush
	setup [sha256.Size]byte             // of the setup token; zero: there is none
	until time.Time                     // end of the setup token
}

type use struct {
	at   time.Time
	peer string
}

// snapshot is what the store says of users and credentials. It never changes.
type snapshot struct {
	users    map[string]*v1alpha1.User
	sessions map[string]*session
	tokens   map[string]*token
}

type session struct {
	user, uid string
	peer      string
	expires   time.Time
}

type token struct {
	user, uid string
	hash      [sha256.Size]byte
	limit     *auth.Limit
	expires   time.Time
}

// New returns a Service that has read the users there are.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Service{cfg: cfg, hasher: password.NewHasher(), limits: newLimiter(cfg.Now),
		known: map[[sha256.Size]byte]*claims{}, used: map[string]use{}}
	var err error
	if s.signer, err = openSigner(cfg.KeyDir, cfg.Now); err != nil {
		return nil, err
	}
	s.follower = access.NewFollower(cfg.Store, []string{"User", "Session", "APIToken"}, s.read)
	return s, s.follower.Refresh(ctx)
}

// Follower keeps the service up to date; whoever changes users past it refreshes it.
func (s *Service) Follower() *access.Follower { return s.follower }

func (s *Service) read(ctx context.Context) error {
	snap := &snapshot{users: map[string]*v1alpha1.User{}, sessions: map[string]*session{}, tokens: map[string]*token{}}
	for _, kind := range []string{"User", "Session", "APIToken"} {
		list, err := s.cfg.Store.List(ctx, kind, store.ListOptions{})
		if err != nil {
			return err
		}
		for _, obj := range list.Items {
			name := obj.GetMetadata().GetName()
			switch o := obj.(type) {
			case *v1alpha1.User:
				snap.users[name] = o
			case *v1alpha1.Session:
				snap.sessions[name] = &session{user: o.GetSpec().GetUser(), uid: o.GetSpec().GetUserUid(), peer: addressOf(o.GetSpec().GetPeer()), expires: parseTime(o.GetSpec().GetExpires())}
			case *v1alpha1.APIToken:
				t := &token{user: o.GetSpec().GetUser(), uid: o.GetSpec().GetUserUid(), expires: parseTime(o.GetSpec().GetExpires())}
				if raw, err := hex.DecodeString(o.GetSpec().GetHash()); err != nil || copy(t.hash[:], raw) != sha256.Size {
					continue // nobody has the secret of that
				}
				if rules := o.GetSpec().GetRules(); len(rules) > 0 {
					t.limit = auth.NewLimit(access.Rules(rules))
				}
				snap.tokens[name] = t
			}
		}
	}
	s.current.Store(snap)
	return nil
}

// parseTime reads a time that we wrote; what is damaged has ended.
func parseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// identity returns a user's identity as it is now, if the user is the one of the uid and may
// log in.
func (snap *snapshot) identity(name, uid, credential string) (auth.Identity, error) {
	u := snap.users[name]
	if u == nil || u.GetMetadata().GetUid() != uid || u.GetSpec().GetDisabled() || resource.Deleting(u) {
		return auth.Identity{}, auth.ErrUnauthenticated
	}
	id := auth.User(name, u.GetSpec().GetGroups()...)
	id.Credential = credential
	return id, nil
}

// Credentials of identities.
const (
	sessionCredential = "session/"
	tokenCredential   = "token/"
)

// Authenticate knows the local administrator's token, access tokens and API tokens.
func (s *Service) Authenticate(ctx context.Context, authorization string) (auth.Identity, error) {
	const bearer = "bearer "
	if len(authorization) > maxCredentialBytes || len(authorization) <= len(bearer) || !strings.EqualFold(authorization[:len(bearer)], bearer) {
		return auth.Identity{}, auth.ErrUnauthenticated
	}
	credential := strings.TrimSpace(authorization[len(bearer):])
	if rest, ok := strings.CutPrefix(credential, tokenPrefix); ok {
		return s.byToken(ctx, rest)
	}
	if strings.Count(credential, ".") == 2 {
		return s.byAccessToken(credential)
	}
	return s.cfg.Local.Authenticate(ctx, authorization)
}

// maxKnown bounds the access tokens that are known by their hash.
const maxKnown = 8192

func (s *Service) byAccessToken(text string) (auth.Identity, error) {
	hash := sha256.Sum256([]byte(text))
	s.mu.Lock()
	c := s.known[hash]
	s.mu.Unlock()
	if c == nil {
		var err error
		if c, err = s.signer.check(text); err != nil {
			return auth.Identity{}, auth.ErrUnauthenticated
		}
		s.mu.Lock()
		if len(s.known) >= maxKnown {
			clear(s.known)
		}
		s.known[hash] = c
		s.mu.Unlock()
	}
	if !s.cfg.Now().Before(c.ExpiresAt.Time) {
		return auth.Identity{}, auth.ErrUnauthenticated
	}
	return s.bySession(c.Session, c.Subject, c.UID)
}

func (s *Service) bySession(name, user, uid string) (auth.Identity, error) {
	snap := s.current.Load()
	sess := snap.sessions[name]
	if sess == nil || sess.user != user || sess.uid != uid || !s.cfg.Now().Before(sess.expires) {
		return auth.Identity{}, auth.ErrUnauthenticated
	}
	return snap.identity(user, uid, sessionCredential+name)
}

func (s *Service) byToken(ctx context.Context, credential string) (auth.Identity, error) {
	name, secret, _ := strings.Cut(credential, ".")
	hash := sha256.Sum256([]byte(secret))
	snap := s.current.Load()
	t := snap.tokens[name]
	if t == nil {
		return auth.Identity{}, auth.ErrUnauthenticated
	}
	if subtle.ConstantTimeCompare(hash[:], t.hash[:]) != 1 || !s.cfg.Now().Before(t.expires) {
		return auth.Identity{}, auth.ErrUnauthenticated
	}
	id, err := snap.identity(t.user, t.uid, tokenCredential+name)
	if err == nil {
		s.mu.Lock()
		s.used[name] = use{s.cfg.Now(), audit.OriginFrom(ctx).Peer}
		s.mu.Unlock()
	}
	return id.Limited(t.limit), err
}

// Revalidate returns the identity as it is now, or auth.ErrUnauthenticated when what it was
// shown with is no longer valid. Long requests are asked again by it: unlike Authenticate it
// does not mind that the access token has ended, as long as its session goes on.
func (s *Service) Revalidate(_ context.Context, id auth.Identity) (auth.Identity, error) {
	if id.Type != auth.UserIdentity {
		return id, nil
	}
	snap := s.current.Load()
	if name, ok := strings.CutPrefix(id.Credential, sessionCredential); ok {
		if sess := snap.sessions[name]; sess != nil && sess.user == id.Subject {
			return s.bySession(name, sess.user, sess.uid)
		}
	}
	if name, ok := strings.CutPrefix(id.Credential, tokenCredential); ok {
		if t := snap.tokens[name]; t != nil && t.user == id.Subject && s.cfg.Now().Before(t.expires) {
			fresh, err := snap.identity(t.user, t.uid, id.Credential)
			return fresh.Limited(t.limit), err
		}
	}
	return auth.Identity{}, auth.ErrUnauthenticated
}

// Intervals of Run.
const (
	flushInterval = 10 * time.Minute
	sweepInterval = time.Hour
)

// Run keeps the snapshot up to date, writes when API tokens were last used, removes sessions
// that have ended and makes the next signing key, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.follower.Run(ctx, s.cfg.Log) })
	flush, sweep := time.NewTicker(flushInterval), time.NewTicker(sweepInterval)
	defer flush.Stop()
	defer sweep.Stop()
	for ctx.Err() == nil {
		var err error
		select {
		case <-ctx.Done():
		case <-flush.C:
			err = s.flush(ctx)
		case <-sweep.C:
			err = errors.Join(s.sweep(ctx), s.signer.rotate())
		}
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("could not look after sessions and tokens", "error", err)
		}
	}
	wg.Wait()
}

// flush writes when API tokens were used.
func (s *Service) flush(ctx context.Context) error {
	s.mu.Lock()
	used := s.used
	s.used = map[string]use{}
	s.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	_, err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		for name, u := range used {
			obj, err := tx.Get(resource.Key{Kind: "APIToken", Name: name})
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			t := resource.Clone(obj).(*v1alpha1.APIToken)
			at, peer := formatTime(u.at), u.peer
			t.Status = &v1alpha1.APITokenStatus{LastUsed: &at, LastPeer: &peer}
			t.Metadata.ResourceVersion = ""
			if _, err := tx.UpdateStatus(t); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write when tokens were used: %w", err)
	}
	return nil
}

// sweep removes sessions and tokens that have ended.
func (s *Service) sweep(ctx context.Context) error {
	now, snap := s.cfg.Now(), s.current.Load()
	var keys []resource.Key
	for name, sess := range snap.sessions {
		if now.After(sess.expires) {
			keys = append(keys, resource.Key{Kind: "Session", Name: name})
		}
	}
	for name, t := range snap.tokens {
		if now.After(t.expires.Add(30 * 24 * time.Hour)) { // listed for a while, so that one sees why it stopped
			keys = append(keys, resource.Key{Kind: "APIToken", Name: name})
		}
	}
	return s.remove(ctx, keys)
}

// remove deletes sessions and tokens; what is gone already is no error.
func (s *Service) remove(ctx context.Context, keys []resource.Key) error {
	if len(keys) == 0 {
		return nil
	}
	_, err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		for _, k := range keys {
			if _, err := tx.Delete(k, store.Preconditions{}); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, s.follower.Refresh(context.WithoutCancel(ctx)))
}
