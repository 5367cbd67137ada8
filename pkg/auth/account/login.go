package account

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/password"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Lifetimes of sessions.
const (
	// SessionLifetime is the longest that a session goes on, IdleLifetime how long it may go
	// without a refresh.
	SessionLifetime = 30 * 24 * time.Hour
	IdleLifetime    = 7 * 24 * time.Hour
	// reuseGrace is how long a refresh token that was exchanged may come again without ending
	// the session: two windows of a browser wake up at once.
	reuseGrace = 10 * time.Second
	// maxSessions of one user; the oldest end.
	maxSessions = 50
	// maxWaiting bounds logins that are under way.
	maxWaiting = 32
)

var (
	// ErrWrongLogin does not say what was wrong.
	ErrWrongLogin = fmt.Errorf("%w: the name or the password is wrong", auth.ErrUnauthenticated)
	// ErrInvalid: the request itself is wrong.
	ErrInvalid = errors.New("invalid request")
	// ErrNoUser: the local administrator has no password and no sessions.
	ErrNoUser = fmt.Errorf("%w: only a user who has logged in has this; the local administrator's token is in a file", ErrInvalid)
)

// TooManyError says when to come back.
type TooManyError struct{ After time.Duration }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("too many attempts to log in: try again in %d s", int(e.After.Round(time.Second)/time.Second)+1)
}

// Login is a session that has begun or was refreshed.
type Login struct {
	User, Access, Refresh string
	Expires               time.Time // of Access
	SessionEnds           time.Time
	Session               string
}

// Login begins a session. Whatever is wrong, the error is ErrWrongLogin, and takes as long.
func (s *Service) Login(ctx context.Context, user, pw, peer, client string) (*Login, error) {
	known := s.knownPeer(user, peer)
	if wait := s.limits.wait(user, peer, known); wait > 0 {
		return nil, &TooManyError{wait}
	}
	if s.waiting.Add(1) > maxWaiting {
		s.waiting.Add(-1)
		return nil, &TooManyError{time.Second}
	}
	defer s.waiting.Add(-1)
	u := s.current.Load().users[user]
	hash := ""
	if u != nil && !u.GetSpec().GetDisabled() && !resource.Deleting(u) {
		hash = s.hashOf(ctx, user)
	}
	// Counted before it is known to be wrong: many at once must not all be free.
	s.limits.failed(user, peer, known)
	err := s.hasher.Verify(ctx, hash, pw)
	if errors.Is(err, password.ErrWrong) {
		return nil, ErrWrongLogin
	}
	if err != nil {
		return nil, err
	}
	s.limits.succeeded(user, peer, known)
	return s.begin(s.origin(ctx, user, "login"), u, peer, client)
}

// origin returns a context whose changes are the user's.
func (s *Service) origin(ctx context.Context, user, verb string) context.Context {
	o := *audit.OriginFrom(ctx)
	o.Type, o.Identity, o.Verb = auth.UserIdentity.String(), user, verb
	return audit.WithOrigin(ctx, o)
}

// knownPeer tells whether the user has a session from the address.
func (s *Service) knownPeer(user, peer string) bool {
	address := addressOf(peer)
	for _, sess := range s.current.Load().sessions {
		if sess.user == user && sess.peer == address {
			return true
		}
	}
	return false
}

// hashOf opens a user's password hash as it is stored now: the key that seals it may have
// changed a moment ago. "" when there is none.
func (s *Service) hashOf(ctx context.Context, user string) string {
	kind, ok := s.cfg.Registry.Get("User")
	if !ok {
		return ""
	}
	u, err := s.cfg.Store.Get(ctx, resource.Key{Kind: "User", Name: user})
	if err != nil {
		return ""
	}
	for _, v := range kind.SensitiveValues(u) {
		if hash, err := s.cfg.Keys.Open(seal.PlaceOf(u, v.ID), v.Text); err == nil {
			return string(hash)
		}
	}
	return ""
}

// begin makes a session of a user.
func (s *Service) begin(ctx context.Context, u *v1alpha1.User, peer, client string) (*Login, error) {
	now := s.cfg.Now()
	name, secret := "s"+randomHex(8), randomHex(32)
	user, uid := u.GetMetadata().GetName(), u.GetMetadata().GetUid()
	ends := now.Add(IdleLifetime)
	obj := &v1alpha1.Session{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Session"),
		Metadata: &v1alpha1.ObjectMeta{Name: name, OwnerReferences: ownedBy(u)},
		Spec: &v1alpha1.SessionSpec{User: &user, UserUid: &uid, RefreshHash: hashText(secret), Refreshed: proto.String(formatTime(now)),
			Expires: proto.String(formatTime(ends)), Peer: &peer, Client: proto.String(printable(client))},
	}
	_, err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		stored, err := tx.Get(resource.Key{Kind: "User", Name: user})
		if err != nil || stored.GetMetadata().GetUid() != uid {
			return ErrWrongLogin // deleted meanwhile
		}
		if err := s.makeRoom(tx, user); err != nil {
			return err
		}
		_, err = tx.Create(obj)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := s.follower.Refresh(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	return s.tokens(user, uid, name, secret, ends)
}

func ownedBy(u *v1alpha1.User) []*v1alpha1.OwnerReference {
	return []*v1alpha1.OwnerReference{{ApiVersion: resource.APIVersion, Kind: "User", Name: u.GetMetadata().GetName(), Uid: u.GetMetadata().GetUid()}}
}

// makeRoom ends the oldest sessions of a user who has too many.
func (s *Service) makeRoom(tx store.Tx, user string) error {
	var mine []*v1alpha1.Session
	for _, o := range tx.List("Session", "") {
		if sess, ok := o.(*v1alpha1.Session); ok && sess.GetSpec().GetUser() == user {
			mine = append(mine, sess)
		}
	}
	if len(mine) < maxSessions {
		return nil
	}
	slices.SortFunc(mine, func(a, b *v1alpha1.Session) int {
		return strings.Compare(a.GetSpec().GetRefreshed(), b.GetSpec().GetRefreshed())
	})
	for _, old := range mine[:len(mine)-maxSessions+1] {
		if _, err := tx.Delete(resource.KeyOf(old), store.Preconditions{}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) tokens(user, uid, name, secret string, ends time.Time) (*Login, error) {
	access, expires, err := s.signer.sign(user, uid, name, ends)
	if err != nil {
		return nil, err
	}
	return &Login{User: user, Access: access, Expires: expires, Refresh: refreshPrefix + name + "." + secret, SessionEnds: ends, Session: name}, nil
}

func hashText(secret string) *string {
	sum := sha256.Sum256([]byte(secret))
	text := hex.EncodeToString(sum[:])
	return &text
}

// printable keeps what a client says of itself short and on one line.
func printable(client string) string {
	client = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return -1
		}
		return r
	}, client)
	if len(client) > 128 {
		client = strings.ToValidUTF8(client[:128], "")
	}
	return client
}

// Refresh exchanges a refresh token.
func (s *Service) Refresh(ctx context.Context, refresh, peer string) (*Login, error) {
	rest, ok := strings.CutPrefix(refresh, refreshPrefix)
	name, secret, cut := strings.Cut(rest, ".")
	if !ok || !cut || len(refresh) > maxCredentialBytes || !resource.IsName(name) {
		return nil, auth.ErrUnauthenticated
	}
	given := *hashText(secret)
	next := randomHex(32)
	now := s.cfg.Now()
	var user, uid string
	var ends time.Time
	stolen := false
	key := resource.Key{Kind: "Session", Name: name}
	if sess := s.current.Load().sessions[name]; sess != nil {
		ctx = s.origin(ctx, sess.user, "refresh")
	}
	_, err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		stolen = false
		obj, err := tx.Get(key)
		if err != nil {
			return auth.ErrUnauthenticated
		}
		sess := resource.Clone(obj).(*v1alpha1.Session)
		spec := sess.GetSpec()
		user, uid = spec.GetUser(), spec.GetUserUid()
		u, err := tx.Get(resource.Key{Kind: "User", Name: user})
		if err != nil || u.GetMetadata().GetUid() != uid || u.(*v1alpha1.User).GetSpec().GetDisabled() || !now.Before(parseTime(spec.GetExpires())) {
			return auth.ErrUnauthenticated
		}
		switch {
		case sameText(given, spec.GetRefreshHash()):
		case sameText(given, spec.GetPreviousHash()) && now.Sub(parseTime(spec.GetRefreshed())) < reuseGrace:
			return auth.ErrUnauthenticated
		case sameText(given, spec.GetPreviousHash()):
			stolen = true
			_, err := tx.Delete(key, store.Preconditions{})
			return err
		default:
			return auth.ErrUnauthenticated
		}
		ends = now.Add(IdleLifetime)
		if last := parseTime(sess.GetMetadata().GetCreationTimestamp()).Add(SessionLifetime); last.Before(ends) {
			ends = last
		}
		spec.PreviousHash, spec.RefreshHash = spec.RefreshHash, hashText(next)
		spec.Refreshed, spec.Expires, spec.Peer = proto.String(formatTime(now)), proto.String(formatTime(ends)), &peer
		_, err = tx.Update(sess)
		return err
	})
	if err == nil {
		err = s.follower.Refresh(context.WithoutCancel(ctx))
	}
	if err != nil {
		return nil, err
	}
	if stolen {
		s.cfg.Log.WarnContext(ctx, "a refresh token came twice: its session was ended", "user", user, "session", name, "peer", peer)
		return nil, auth.ErrUnauthenticated
	}
	return s.tokens(user, uid, name, next, ends)
}

func sameText(a, b string) bool {
	return b != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// ownSession returns the name of the session that the identity was shown with.
func ownSession(id auth.Identity) (string, error) {
	name, ok := strings.CutPrefix(id.Credential, sessionCredential)
	if id.Type != auth.UserIdentity || !ok {
		return "", ErrNoUser
	}
	return name, nil
}

// sessionsOf lists a user's sessions but one.
func (s *Service) sessionsOf(user, but string) []resource.Key {
	var keys []resource.Key
	for name, sess := range s.current.Load().sessions {
		if sess.user == user && name != but {
			keys = append(keys, resource.Key{Kind: "Session", Name: name})
		}
	}
	return keys
}

// Logout ends the session of the identity, or all of its user; it returns how many.
func (s *Service) Logout(ctx context.Context, id auth.Identity, everywhere bool) (int, error) {
	name, err := ownSession(id)
	if err != nil {
		return 0, err
	}
	keys := []resource.Key{{Kind: "Session", Name: name}}
	if everywhere {
		keys = s.sessionsOf(id.Subject, "")
	}
	return len(keys), s.remove(audit.WithVerb(ctx, "logout", ""), keys)
}

// ChangePassword changes the identity's own password and ends its other sessions.
func (s *Service) ChangePassword(ctx context.Context, id auth.Identity, old, pw, peer string) (ended int, err error) {
	name, err := ownSession(id)
	if err != nil {
		return 0, err
	}
	if wait := s.limits.wait(id.Subject, peer, true); wait > 0 {
		return 0, &TooManyError{wait}
	}
	if err := s.hasher.Verify(ctx, s.hashOf(ctx, id.Subject), old); err != nil {
		if errors.Is(err, password.ErrWrong) {
			s.limits.failed(id.Subject, peer, true)
			return 0, fmt.Errorf("%w: the old password is wrong", ErrInvalid)
		}
		return 0, err
	}
	if old == pw {
		return 0, fmt.Errorf("%w: the new password is the old one", ErrInvalid)
	}
	if err := s.setPassword(audit.WithVerb(ctx, "change-password", ""), id.Subject, pw); err != nil {
		return 0, err
	}
	keys := s.sessionsOf(id.Subject, name)
	return len(keys), s.remove(ctx, keys)
}

// SetPassword sets another user's password and ends all of its sessions. The caller has
// been allowed to.
func (s *Service) SetPassword(ctx context.Context, user, pw string) (ended int, err error) {
	if s.current.Load().users[user] == nil {
		return 0, fmt.Errorf("%w: User %s", store.ErrNotFound, user)
	}
	if err := s.setPassword(audit.WithVerb(ctx, "set-password", ""), user, pw); err != nil {
		return 0, err
	}
	keys := s.sessionsOf(user, "")
	return len(keys), s.remove(ctx, keys)
}

// User returns a user's identity, for who wants to act for it.
func (s *Service) User(name string) (auth.Identity, bool) {
	u := s.current.Load().users[name]
	if u == nil {
		return auth.Identity{}, false
	}
	return auth.User(name, u.GetSpec().GetGroups()...), true
}

func (s *Service) setPassword(ctx context.Context, user, pw string) error {
	if err := password.Check(user, pw); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	hash, err := s.hasher.Hash(ctx, pw)
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]string{"passwordHash": hash}})
	if err != nil {
		return err
	}
	_, err = s.cfg.Applier.Patch(ctx, resource.Key{Kind: "User", Name: user}, apply.MergePatch, patch)
	return errors.Join(err, s.follower.Refresh(context.WithoutCancel(ctx)))
}
