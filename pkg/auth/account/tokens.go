package account

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/password"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Bounds of API tokens.
const (
	minTokenLifetime     = time.Minute
	defaultTokenLifetime = 90 * 24 * time.Hour
	maxTokenLifetime     = 366 * 24 * time.Hour
	maxTokens            = 100 // of one user
	maxTokenRules        = 64
)

// CreateToken makes an API token of the identity's user. Only who has logged in makes
// tokens: one that leaked must not be able to make the next.
func (s *Service) CreateToken(ctx context.Context, id auth.Identity, description string, life time.Duration, rules []*v1alpha1.PolicyRule) (name, text string, expires time.Time, err error) {
	if _, err := ownSession(id); err != nil {
		return "", "", expires, err
	}
	if life == 0 {
		life = defaultTokenLifetime
	}
	switch {
	case life < minTokenLifetime || life > maxTokenLifetime:
		return "", "", expires, fmt.Errorf("%w: a token may last from %s to %d days", ErrInvalid, minTokenLifetime, maxTokenLifetime/(24*time.Hour))
	case len(description) > 256 || printable(description) != description && len(description) <= 128:
		return "", "", expires, fmt.Errorf("%w: a description is one line of at most 256 bytes", ErrInvalid)
	case len(rules) > maxTokenRules:
		return "", "", expires, fmt.Errorf("%w: %d rules, allowed are %d", ErrInvalid, len(rules), maxTokenRules)
	}
	for _, r := range rules {
		if len(r.GetVerbs()) == 0 || len(r.GetKinds()) == 0 {
			return "", "", expires, fmt.Errorf("%w: each rule needs verbs and kinds", ErrInvalid)
		}
		for _, v := range r.GetVerbs() {
			if v != auth.All && !auth.IsVerb(v) {
				return "", "", expires, fmt.Errorf("%w: there is no verb %.40q", ErrInvalid, v)
			}
		}
	}
	u := s.current.Load().users[id.Subject]
	if u == nil {
		return "", "", expires, auth.ErrUnauthenticated
	}
	name, secret := "t"+randomHex(8), randomHex(32)
	expires = s.cfg.Now().Add(life).Truncate(time.Second)
	obj := &v1alpha1.APIToken{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("APIToken"),
		Metadata: &v1alpha1.ObjectMeta{Name: name, OwnerReferences: ownedBy(u)},
		Spec: &v1alpha1.APITokenSpec{User: proto.String(id.Subject), UserUid: proto.String(u.GetMetadata().GetUid()), Description: &description,
			Rules: rules, Expires: proto.String(formatTime(expires)), Hash: hashText(secret)},
	}
	_, err = s.cfg.Store.Update(audit.WithVerb(ctx, "create-token", ""), func(tx store.Tx) error {
		mine := 0
		for _, o := range tx.List("APIToken", "") {
			if t, ok := o.(*v1alpha1.APIToken); ok && t.GetSpec().GetUser() == id.Subject {
				mine++
			}
		}
		if mine >= maxTokens {
			return fmt.Errorf("%w: %d tokens, allowed are %d: revoke some", ErrInvalid, mine, maxTokens)
		}
		_, err := tx.Create(obj)
		return err
	})
	if err == nil {
		err = s.follower.Refresh(context.WithoutCancel(ctx))
	}
	if err != nil {
		return "", "", expires, err
	}
	return name, tokenPrefix + name + "." + secret, expires, nil
}

// Credentials lists the tokens and sessions of the identity's user, without hashes.
func (s *Service) Credentials(ctx context.Context, id auth.Identity) (tokens []*v1alpha1.APIToken, sessions []*v1alpha1.Session, err error) {
	if id.Type != auth.UserIdentity {
		return nil, nil, ErrNoUser
	}
	for _, kind := range []string{"APIToken", "Session"} {
		list, err := s.cfg.Store.List(ctx, kind, store.ListOptions{})
		if err != nil {
			return nil, nil, err
		}
		for _, obj := range list.Items {
			switch o := resource.Clone(obj).(type) {
			case *v1alpha1.APIToken:
				if o.GetSpec().GetUser() == id.Subject {
					o.Spec.Hash = nil
					s.withUse(o)
					tokens = append(tokens, o)
				}
			case *v1alpha1.Session:
				if o.GetSpec().GetUser() == id.Subject {
					o.Spec.RefreshHash, o.Spec.PreviousHash = nil, nil
					sessions = append(sessions, o)
				}
			}
		}
	}
	return tokens, sessions, nil
}

// withUse adds a use that was not written yet.
func (s *Service) withUse(t *v1alpha1.APIToken) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, ok := s.used[t.GetMetadata().GetName()]; ok {
		t.Status = &v1alpha1.APITokenStatus{LastUsed: proto.String(formatTime(u.at)), LastPeer: proto.String(u.peer)}
	}
}

// Revoke ends a token or a session of the identity's own.
func (s *Service) Revoke(ctx context.Context, id auth.Identity, name string) error {
	if id.Type != auth.UserIdentity {
		return ErrNoUser
	}
	snap := s.current.Load()
	key := resource.Key{Name: name}
	if t := snap.tokens[name]; t != nil && t.user == id.Subject {
		key.Kind = "APIToken"
	} else if sess := snap.sessions[name]; sess != nil && sess.user == id.Subject {
		key.Kind = "Session"
	} else {
		return fmt.Errorf("%w: you have no token and no session %.80q", store.ErrNotFound, name)
	}
	return s.remove(audit.WithVerb(ctx, "revoke", ""), []resource.Key{key})
}

// setupLifetime is how long the token for the first administrator is good.
const setupLifetime = time.Hour

// SetupToken returns a new token that makes the first administrator, good for setupLifetime
// and once; "" when there are users already. The one before is worthless.
func (s *Service) SetupToken() string {
	if len(s.current.Load().users) > 0 {
		return ""
	}
	text := "prs_" + randomHex(16)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setup, s.until = sha256.Sum256([]byte(text)), s.cfg.Now().Add(setupLifetime)
	return text
}

// takeSetup tells whether the token is the one for the first administrator.
func (s *Service) takeSetup(text string) bool {
	given := sha256.Sum256([]byte(text))
	s.mu.Lock()
	defer s.mu.Unlock()
	return text != "" && s.setup != [sha256.Size]byte{} && subtle.ConstantTimeCompare(given[:], s.setup[:]) == 1 && s.cfg.Now().Before(s.until)
}

// Register makes a user and logs it in: the first administrator with the setup token, or,
// where registration is on, a user without any right.
func (s *Service) Register(ctx context.Context, user, pw, display, setup, peer, client string) (*Login, error) {
	if wait := s.limits.wait("", peer, true); wait > 0 {
		return nil, &TooManyError{wait}
	}
	first := s.takeSetup(setup)
	if !first {
		s.limits.failed("", peer, true) // also bounds how many users an address makes
	}
	switch {
	case !first && setup != "":
		return nil, fmt.Errorf("%w: the setup token is wrong, was used, or has ended; the daemon prints a new one at its next start while there is no user", auth.ErrForbidden)
	case !first && !s.cfg.Registration:
		return nil, fmt.Errorf("%w: registration is off; an administrator makes users", auth.ErrForbidden)
	}
	if err := password.Check(user, pw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	hash, err := s.hasher.Hash(ctx, pw)
	if err != nil {
		return nil, err
	}
	u := &v1alpha1.User{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("User"), Metadata: &v1alpha1.ObjectMeta{Name: user},
		Spec: &v1alpha1.UserSpec{PasswordHash: &hash}}
	if display != "" {
		u.Spec.DisplayName = &display
	}
	ctx = s.origin(ctx, user, "register")
	if err := s.create(ctx, u, first); err != nil {
		return nil, err
	}
	stored := s.current.Load().users[user]
	if stored == nil {
		return nil, auth.ErrUnauthenticated // deleted meanwhile
	}
	return s.begin(ctx, stored, peer, client)
}

// FirstAdministrators is the RoleBinding of the first administrator.
const FirstAdministrators = "administrators"

// create makes the user and, for the first one, the binding that makes it administrator: of
// two who use the setup token at once, one is told that it was used.
func (s *Service) create(ctx context.Context, u *v1alpha1.User, first bool) error {
	if first {
		s.mu.Lock()
		if s.setup == [sha256.Size]byte{} {
			s.mu.Unlock()
			return fmt.Errorf("%w: the setup token was used", auth.ErrForbidden)
		}
		was := s.setup
		s.setup = [sha256.Size]byte{}
		s.mu.Unlock()
		b := &v1alpha1.RoleBinding{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("RoleBinding"), Metadata: &v1alpha1.ObjectMeta{Name: FirstAdministrators},
			Spec: &v1alpha1.RoleBindingSpec{Role: proto.String(auth.RoleAdmin), Namespaces: []string{auth.All},
				Subjects: []*v1alpha1.Subject{{Kind: proto.String(string(auth.SubjectUser)), Name: proto.String(u.GetMetadata().GetName())}}}}
		_, err := s.cfg.Applier.ApplySet(ctx, []resource.Document{{Object: u}, {Object: b}}, apply.Options{Manager: "setup", Force: true})
		if err != nil { // nothing was made: it may be tried again
			s.mu.Lock()
			s.setup = was
			s.mu.Unlock()
			return err
		}
		if s.cfg.Policy != nil {
			if err := s.cfg.Policy.Refresh(context.WithoutCancel(ctx)); err != nil {
				return err
			}
		}
	} else if _, err := s.cfg.Applier.Create(ctx, u); err != nil {
		if errors.Is(err, store.ErrAlreadyExists) {
			return fmt.Errorf("%w: User %s", store.ErrAlreadyExists, u.GetMetadata().GetName())
		}
		return err
	}
	return s.follower.Refresh(context.WithoutCancel(ctx))
}
