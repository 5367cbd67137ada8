// Package access keeps the users, groups, tokens, roles, pools and the access control
// list of the simulated cluster (what user.cfg holds on a real one) and decides who may
// do what, by Proxmox VE's rules: a more specific path overrides a less specific one, a
// user's own entry overrides those of its groups, NoAccess wins, what a pool grants holds
// for its members, a token with privilege separation has what both it and its user have,
// root@pam has everything and a token of root@pam is not root@pam.
//
// Refusals are worded as the real server words them (PVE::AccessControl and
// PVE::API2::User, Group, Role, ACL, Pool).
package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
)

// Root is the one user that no rule restricts.
const Root = "root@pam"

// User is an account.
type User struct {
	Enabled  bool              `json:"enabled"`
	Comment  string            `json:"comment,omitempty"`
	Expire   int64             `json:"expire,omitempty"` // seconds since 1970, 0 = never
	Password string            `json:"password,omitempty"`
	Details  map[string]string `json:"details,omitempty"` // email, firstname, lastname, keys
	Tokens   map[string]*Token `json:"tokens,omitempty"`
}

// Token is an API token of a user.
type Token struct {
	SecretHash string `json:"secretHash"`
	PrivSep    bool   `json:"privsep"`
	Expire     int64  `json:"expire,omitempty"`
	Comment    string `json:"comment,omitempty"`
}

// ACL is one entry of the access control list.
type ACL struct {
	Path      string `json:"path"`
	Subject   string `json:"subject"` // user@realm, user@realm!token or @group
	Role      string `json:"role"`
	Propagate bool   `json:"propagate"`
}

// state is the file.
type state struct {
	Users  map[string]*User    `json:"users"`
	Groups map[string]*Group   `json:"groups"`
	Roles  map[string][]string `json:"roles"` // beside the built-in ones
	Pools  map[string]*Pool    `json:"pools"`
	ACL    []ACL               `json:"acl"`
}

// Store is safe for concurrent use.
type Store struct {
	save func([]byte) error

	mu    sync.RWMutex
	state state
	// together holds what is changed back from being saved.
	together bool

	// answers are permissions that were worked out since the last change.
	answersMu sync.Mutex
	answers   map[question]map[string]bool
}

// question is what somebody may do where.
type question struct{ authID, path string }

// maxAnswers bounds the permissions that are kept: those of a few subjects on the paths of
// some thousand guests.
const maxAnswers = 20_000

// Open reads the store from a file; save must write it atomically. A file that does
// not exist is an empty store with root@pam.
func Open(file string, save func([]byte) error) (*Store, error) {
	s := &Store{save: save}
	raw, err := os.ReadFile(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("access: %w", err)
	default:
		if err := json.Unmarshal(raw, &s.state); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	s.state.fill()
	if s.state.Users[Root] == nil {
		s.state.Users[Root] = &User{Enabled: true}
	}
	return s, nil
}

func (st *state) fill() {
	if st.Users == nil {
		st.Users = map[string]*User{}
	}
	if st.Groups == nil {
		st.Groups = map[string]*Group{}
	}
	if st.Roles == nil {
		st.Roles = map[string][]string{}
	}
	if st.Pools == nil {
		st.Pools = map[string]*Pool{}
	}
}

// change runs fn and writes the file. A file that cannot be written fails the change,
// though memory has it: the caller reports the error and the next change writes both.
func (s *Store) change(fn func(*state) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := fn(&s.state)
	s.answersMu.Lock()
	s.answers = nil
	s.answersMu.Unlock()
	if err != nil || s.together {
		return err
	}
	return s.write()
}

// Together makes several changes in one write, after the last. A kill before leaves none of
// them in the file.
func (s *Store) Together(fn func() error) error {
	hold := func(is bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.together = is
	}
	hold(true)
	err := fn()
	hold(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.write())
}

func (s *Store) write() error {
	raw, err := json.MarshalIndent(s.state, "", "  ")
	if err != nil {
		return err
	}
	return s.save(raw)
}

// hash is how secrets are kept. Token secrets are random, and passwords of a simulator
// protect nothing, so no slow hash is used.
func hash(secret string) string {
	sum := sha256.Sum256([]byte("pvesim\x00" + secret))
	return hex.EncodeToString(sum[:])
}

func matches(hashed, secret string) bool {
	return subtle.ConstantTimeCompare([]byte(hashed), []byte(hash(secret))) == 1
}
