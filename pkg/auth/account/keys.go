package account

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/proximity-pve/proximity/pkg/privatefile"
)

const (
	// AccessLifetime of an access token.
	AccessLifetime = 15 * time.Minute
	// keyLifetime is how long a key signs, keyOverlap how long it is still good for checking.
	keyLifetime = 30 * 24 * time.Hour
	keyOverlap  = time.Hour
	issuer      = "proximity"
	audience    = "proximity-api"
	keyDirMode  = 0o700
)

// claims of an access token.
type claims struct {
	jwt.RegisteredClaims
	UID     string `json:"uid"`
	Session string `json:"sid"`
}

// signer signs and checks access tokens. Its keys are files <kid>.key, mode 0600.
type signer struct {
	dir string
	now func() time.Time

	mu   sync.RWMutex
	keys []signingKey // oldest first
}

type signingKey struct {
	id   string
	made time.Time
	priv ed25519.PrivateKey
}

// openSigner reads the keys, and makes the first or the next one.
func openSigner(dir string, now func() time.Time) (*signer, error) {
	s := &signer{dir: dir, now: now}
	if err := os.MkdirAll(dir, keyDirMode); err != nil {
		return nil, fmt.Errorf("directory of signing keys: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.key"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		k, err := readKey(f)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, k)
	}
	slices.SortFunc(s.keys, func(a, b signingKey) int { return a.made.Compare(b.made) })
	return s, s.rotate()
}

func readKey(path string) (signingKey, error) {
	data, err := privatefile.ReadPrivate(path)
	if err != nil {
		return signingKey{}, fmt.Errorf("signing key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return signingKey{}, fmt.Errorf("signing key: %s holds no key; remove it and log in again", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	priv, ok := parsed.(ed25519.PrivateKey)
	made, timeErr := time.Parse(time.RFC3339, block.Headers["Made"])
	if err != nil || !ok || timeErr != nil {
		return signingKey{}, fmt.Errorf("signing key: %s holds no key; remove it and log in again", path)
	}
	return signingKey{id: strings.TrimSuffix(filepath.Base(path), ".key"), made: made, priv: priv}, nil
}

// rotate makes the next key when the newest is old, and forgets those that nothing valid can
// be signed with.
func (s *signer) rotate() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if n := len(s.keys); n == 0 || now.Sub(s.keys[n-1].made) > keyLifetime || s.keys[n-1].made.After(now.Add(keyOverlap)) {
		k, err := s.make(now)
		if err != nil {
			return err
		}
		s.keys = append(s.keys, k)
	}
	newest := s.keys[len(s.keys)-1]
	if len(s.keys) == 1 || now.Sub(newest.made) < keyOverlap {
		return nil
	}
	var errs []error
	for _, k := range s.keys[:len(s.keys)-1] {
		errs = append(errs, os.Remove(filepath.Join(s.dir, k.id+".key")))
	}
	s.keys = []signingKey{newest}
	return errors.Join(errs...)
}

func (s *signer) make(now time.Time) (signingKey, error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return signingKey{}, fmt.Errorf("make a signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return signingKey{}, fmt.Errorf("encode a signing key: %w", err)
	}
	sum := sha256.Sum256(pub)
	k := signingKey{id: hex.EncodeToString(sum[:8]), made: now.UTC().Truncate(time.Second), priv: priv}
	data := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Headers: map[string]string{"Made": k.made.Format(time.RFC3339)}, Bytes: der})
	return k, privatefile.Replace(filepath.Join(s.dir, k.id+".key"), data, privatefile.PrivateMode)
}

// sign makes an access token of a session that ends then at the latest.
func (s *signer) sign(user, uid, session string, sessionEnd time.Time) (token string, expires time.Time, err error) {
	s.mu.RLock()
	key := s.keys[len(s.keys)-1]
	s.mu.RUnlock()
	now := s.now()
	expires = now.Add(AccessLifetime)
	if sessionEnd.Before(expires) {
		expires = sessionEnd
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{UID: uid, Session: session, RegisteredClaims: jwt.RegisteredClaims{
		Issuer: issuer, Audience: jwt.ClaimStrings{audience}, Subject: user,
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires), ID: randomHex(8),
	}})
	t.Header["kid"] = key.id
	token, err = t.SignedString(key.priv)
	return token, expires, err
}

// check returns the claims of a valid token.
func (s *signer) check(token string) (*claims, error) {
	var c claims
	_, err := jwt.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		s.mu.RLock()
		defer s.mu.RUnlock()
		for _, k := range s.keys {
			if k.id == kid {
				return k.priv.Public(), nil
			}
		}
		return nil, errors.New("unknown key")
	}, jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithTimeFunc(s.now))
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func randomHex(bytes int) string {
	raw := make([]byte, bytes)
	_, _ = rand.Read(raw) // never returns an error
	return hex.EncodeToString(raw)
}
