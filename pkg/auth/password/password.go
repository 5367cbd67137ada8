// Package password makes and checks hashes of passwords: argon2id (RFC 9106) in the PHC
// form `$argon2id$v=19$m=65536,t=3,p=1$salt$hash`.
//
// A hash costs 64 MiB and some 0.1 s, on purpose. So that logins cannot exhaust the memory
// or the processors, at most MaxConcurrent are computed at once; others wait, and give up
// with their context. Passwords are compared in constant time.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Parameters of new hashes: the second choice of RFC 9106 for machines with little memory.
const (
	memoryKiB = 64 << 10
	passes    = 3
	lanes     = 1
	saltBytes = 16
	hashBytes = 32
)

// Bounds of hashes that others made: what costs more is no hash for us.
const (
	maxMemoryKiB = 256 << 10
	maxPasses    = 16
	maxLanes     = 8
)

const (
	// MaxConcurrent bounds the memory of all hashes that are computed at once.
	MaxConcurrent = 2
	// MinLength in characters and MaxBytes of a password. There are no rules about what has to
	// be in it: they make passwords worse.
	MinLength = 12
	MaxBytes  = 1024
)

// ErrWrong: the password is not the one of the hash.
var ErrWrong = errors.New("wrong password")

// Common passwords of at least MinLength characters, which every attacker tries first.
var common = map[string]bool{}

func init() {
	for _, p := range []string{"123456789012", "1234567890123", "passwordpassword", "password1234", "password12345", "password123456", "qwertyuiop12", "qwertyuiop123",
		"administrator", "administrator1", "adminadminadmin", "letmeinletmein", "changemechangeme", "iloveyou1234", "proximityproximity", "proxmoxproxmox", "000000000000", "111111111111"} {
		common[p] = true
	}
}

// Check tells what is wrong with a new password of that user; nil: nothing.
func Check(user, password string) error {
	switch n := utf8.RuneCountInString(password); {
	case !utf8.ValidString(password):
		return errors.New("the password is not text in UTF-8")
	case n < MinLength:
		return fmt.Errorf("the password has %d characters; allowed are %d or more", n, MinLength)
	case len(password) > MaxBytes:
		return fmt.Errorf("the password has %d bytes; allowed are at most %d", len(password), MaxBytes)
	case common[strings.ToLower(password)]:
		return errors.New("the password is one of those that are tried first; choose another")
	case len(user) >= 3 && strings.Trim(strings.ReplaceAll(strings.ToLower(password), strings.ToLower(user), ""), "0123456789 .-_!") == "":
		return errors.New("the password is little more than the name; choose another")
	case strings.Trim(password, password[:1]) == "":
		return errors.New("the password is one character again and again; choose another")
	}
	return nil
}

// Hasher computes hashes, a bounded number at once. The zero value is not usable.
type Hasher struct {
	slots chan struct{}
	// decoy is compared with where there is no user, so that this takes as long.
	decoy string
}

// NewHasher returns a Hasher.
func NewHasher() *Hasher {
	return &Hasher{slots: make(chan struct{}, MaxConcurrent),
		decoy: encode(make([]byte, saltBytes), make([]byte, hashBytes))}
}

// Hash returns a new hash of the password.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never returns an error
	done, err := h.slot(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	return encode(salt, argon2.IDKey([]byte(password), salt, passes, memoryKiB, lanes, hashBytes)), nil
}

// Verify returns ErrWrong when the password is not that of the hash. An empty hash is
// nobody's: it takes as long and is always wrong.
func (h *Hasher) Verify(ctx context.Context, hash, password string) error {
	against := hash
	if against == "" {
		against = h.decoy
	}
	p, err := parse(against)
	if err != nil {
		return err
	}
	if len(password) > MaxBytes {
		return ErrWrong
	}
	done, err := h.slot(ctx)
	if err != nil {
		return err
	}
	defer done()
	got := argon2.IDKey([]byte(password), p.salt, p.passes, p.memory, p.lanes, uint32(len(p.hash)))
	if subtle.ConstantTimeCompare(got, p.hash) != 1 || hash == "" {
		return ErrWrong
	}
	return nil
}

func (h *Hasher) slot(ctx context.Context) (done func(), err error) {
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other logins: %w", context.Cause(ctx))
	}
}

func encode(salt, hash []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memoryKiB, passes, lanes, b64.EncodeToString(salt), b64.EncodeToString(hash))
}

type params struct {
	memory, passes uint32
	lanes          uint8
	salt, hash     []byte
}

var errNoHash = errors.New("no argon2id hash within bounds")

// IsHash tells whether s is a hash that Verify takes.
func IsHash(s string) bool {
	_, err := parse(s)
	return err == nil
}

func parse(s string) (params, error) {
	var p params
	parts := strings.Split(s, "$")
	if len(s) > 512 || len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v=19" {
		return p, errNoHash
	}
	var lanes uint32
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.passes, &lanes); n != 3 || err != nil {
		return p, errNoHash
	}
	if parts[3] != fmt.Sprintf("m=%d,t=%d,p=%d", p.memory, p.passes, lanes) ||
		lanes < 1 || lanes > maxLanes || p.memory < 8*lanes || p.memory > maxMemoryKiB || p.passes < 1 || p.passes > maxPasses {
		return p, errNoHash
	}
	p.lanes = uint8(lanes)
	var err error
	if p.salt, err = base64.RawStdEncoding.Strict().DecodeString(parts[4]); err != nil || len(p.salt) < 8 || len(p.salt) > 64 {
		return p, errNoHash
	}
	if p.hash, err = base64.RawStdEncoding.Strict().DecodeString(parts[5]); err != nil || len(p.hash) < 16 || len(p.hash) > 64 {
		return p, errNoHash
	}
	return p, nil
}
