package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/proximity-pve/proximity/pkg/privatefile"
)

const (
	// tokenBytes is 256 bits of randomness: nothing to guess.
	tokenBytes = 32
	// tokenPrefix lets secret scanners recognise a leaked token.
	tokenPrefix = "prx_"
	// maxCredentialBytes bounds a credential before anything is computed from it.
	maxCredentialBytes = 4 << 10
	// bearer is the only scheme.
	bearer = "bearer "
)

// EnsureToken returns the local administrator's token from the file at path. At first
// start it makes the file (mode 0600, whole or not at all) with a new random token.
// A file that others can read, or that holds something else, is an error and is left as
// it is.
func EnsureToken(path string) (string, error) {
	token, err := readToken(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return token, err
	}
	if err := os.MkdirAll(filepath.Dir(path), privatefile.DirMode); err != nil {
		return "", fmt.Errorf("make the token's directory: %w", err)
	}
	token = newToken()
	err = privatefile.Create(path, []byte(token+"\n"), privatefile.PrivateMode)
	if errors.Is(err, fs.ErrExist) { // another process was faster
		return readToken(path)
	}
	if err != nil {
		return "", err
	}
	return token, nil
}

func newToken() string {
	raw := make([]byte, tokenBytes)
	_, _ = rand.Read(raw) // never returns an error; crashes the program when the system has no randomness
	return tokenPrefix + hex.EncodeToString(raw)
}

func readToken(path string) (string, error) {
	data, err := privatefile.ReadPrivate(path)
	if err != nil {
		return "", fmt.Errorf("local administrator's token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	raw, err := hex.DecodeString(strings.TrimPrefix(token, tokenPrefix))
	if !strings.HasPrefix(token, tokenPrefix) || err != nil || len(raw) != tokenBytes {
		return "", fmt.Errorf("local administrator's token: %s holds no token; remove it to have a new one made", path)
	}
	return token, nil
}

// TokenAuthenticator knows one token, the local administrator's, by its hash.
type TokenAuthenticator struct {
	hash [sha256.Size]byte
}

// NewTokenAuthenticator returns an authenticator for the token that EnsureToken returned.
// It panics on an empty token, which would let everybody in.
func NewTokenAuthenticator(token string) *TokenAuthenticator {
	if token == "" {
		panic("auth: empty token")
	}
	return &TokenAuthenticator{hash: sha256.Sum256([]byte(token))}
}

// Authenticate compares hashes in constant time, so that neither the content nor the
// length of the token can be learnt from how long it takes.
func (a *TokenAuthenticator) Authenticate(_ context.Context, authorization string) (Identity, error) {
	if len(authorization) > maxCredentialBytes || len(authorization) <= len(bearer) ||
		!strings.EqualFold(authorization[:len(bearer)], bearer) {
		return Identity{}, ErrUnauthenticated
	}
	given := sha256.Sum256([]byte(strings.TrimSpace(authorization[len(bearer):])))
	if subtle.ConstantTimeCompare(given[:], a.hash[:]) != 1 {
		return Identity{}, ErrUnauthenticated
	}
	return Identity{Type: LocalAdministrator, Name: "local-administrator"}, nil
}
