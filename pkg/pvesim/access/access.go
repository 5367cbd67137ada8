// Package access keeps the users, tokens, roles and access control list of the
// simulated node and decides who may do what, by Proxmox VE's rules: a more specific
// path overrides a less specific one, NoAccess wins, a token with privilege separation
// has what both it and its user have, root@pam has everything and a token of root@pam
// is not root@pam.
package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Root is the one user that no rule restricts.
const Root = "root@pam"

// User is an account.
type User struct {
	Enabled  bool              `json:"enabled"`
	Comment  string            `json:"comment,omitempty"`
	Expire   int64             `json:"expire,omitempty"` // seconds since 1970, 0 = never
	Password string            `json:"password,omitempty"`
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
	Subject   string `json:"subject"` // user@realm or user@realm!token
	Role      string `json:"role"`
	Propagate bool   `json:"propagate"`
}

// state is the file.
type state struct {
	Users map[string]*User    `json:"users"`
	Roles map[string][]string `json:"roles"` // beside the built-in ones
	ACL   []ACL               `json:"acl"`
}

// Store is safe for concurrent use.
type Store struct {
	save func([]byte) error

	mu    sync.RWMutex
	state state
}

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
	if s.state.Users == nil {
		s.state.Users = map[string]*User{}
	}
	if s.state.Roles == nil {
		s.state.Roles = map[string][]string{}
	}
	if s.state.Users[Root] == nil {
		s.state.Users[Root] = &User{Enabled: true}
	}
	return s, nil
}

// change runs fn and writes the file. A file that cannot be written fails the change,
// though memory has it: the caller reports the error and the next change writes both.
func (s *Store) change(fn func(*state) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := fn(&s.state); err != nil {
		return err
	}
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

// SetUser makes or changes a user; an empty password keeps the old one.
func (s *Store) SetUser(id, password, comment string, enabled bool) error {
	return s.change(func(st *state) error {
		u := st.Users[id]
		if u == nil {
			u = &User{}
			st.Users[id] = u
		}
		u.Enabled, u.Comment = enabled, comment
		if password != "" {
			u.Password = hash(password)
		}
		return nil
	})
}

// HasUser reports whether the user exists.
func (s *Store) HasUser(id string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state.Users[id] != nil
}

// Users returns a copy of all users.
func (s *Store) Users() map[string]User {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[string]User{}
	for id, u := range s.state.Users {
		c := *u
		c.Tokens = maps.Clone(u.Tokens)
		out[id] = c
	}
	return out
}

// SetToken makes or replaces a token of an existing user.
func (s *Store) SetToken(user, id, secret string, t Token) error {
	return s.change(func(st *state) error {
		u := st.Users[user]
		if u == nil {
			return fmt.Errorf("no such user ('%s')", user)
		}
		if u.Tokens == nil {
			u.Tokens = map[string]*Token{}
		}
		t.SecretHash = hash(secret)
		u.Tokens[id] = &t
		return nil
	})
}

// DeleteToken removes a token and its ACL entries.
func (s *Store) DeleteToken(user, id string) error {
	return s.change(func(st *state) error {
		u := st.Users[user]
		if u == nil || u.Tokens[id] == nil {
			return fmt.Errorf("no such token '%s' for user '%s'", id, user)
		}
		delete(u.Tokens, id)
		st.ACL = slices.DeleteFunc(st.ACL, func(a ACL) bool { return a.Subject == user+"!"+id })
		return nil
	})
}

// SetRole makes or replaces a role that is not built in.
func (s *Store) SetRole(name string, privileges []string) error {
	for _, p := range privileges {
		if !validPrivilege(p) {
			return fmt.Errorf("invalid privilege '%s'", p)
		}
	}
	if _, builtin := builtinRoles[name]; builtin {
		return fmt.Errorf("auto-generated role '%s' cannot be modified", name)
	}
	return s.change(func(st *state) error {
		st.Roles[name] = slices.Sorted(slices.Values(privileges))
		return nil
	})
}

// Role is a named set of privileges.
type Role struct {
	Privileges []string
	Special    bool // built in
}

// Roles returns every role by name.
func (s *Store) Roles() map[string]Role {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[string]Role{}
	for name := range builtinRoles {
		out[name] = Role{s.privileges(name), true}
	}
	for name := range s.state.Roles {
		out[name] = Role{s.privileges(name), false}
	}
	return out
}

// HasRole reports whether the role exists.
func (s *Store) HasRole(name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, builtin := builtinRoles[name]
	_, own := s.state.Roles[name]
	return builtin || own
}

// SetACL adds an entry, or removes it.
func (s *Store) SetACL(a ACL, remove bool) error {
	return s.change(func(st *state) error {
		st.ACL = slices.DeleteFunc(st.ACL, func(b ACL) bool {
			return a.Path == b.Path && a.Subject == b.Subject && a.Role == b.Role
		})
		if !remove {
			st.ACL = append(st.ACL, a)
		}
		return nil
	})
}

// ACLs returns the whole list.
func (s *Store) ACLs() []ACL {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.state.ACL)
}

func (s *Store) privileges(role string) []string {
	if list, ok := builtinRoles[role]; ok {
		if list == "" {
			return nil
		}
		return strings.Split(list, ",")
	}
	return s.state.Roles[role]
}

var userRE = regexp.MustCompile(`^[^\s:/!]+@[A-Za-z][A-Za-z0-9.\-_]+$`)

// CheckUser reports why the user may not authenticate, with the real texts.
func (s *Store) CheckUser(user string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.checkUser(user)
}

func (s *Store) checkUser(user string) error {
	u := s.state.Users[user]
	switch {
	case !userRE.MatchString(user):
		return fmt.Errorf("value '%s' does not look like a valid user name", user)
	case u == nil:
		return fmt.Errorf("no such user ('%s')", user)
	case !u.Enabled:
		return fmt.Errorf("user '%s' is disabled", user)
	case u.Expire > 0 && u.Expire < time.Now().Unix():
		return fmt.Errorf("user '%s' access expired", user)
	}
	return nil
}

// CheckPassword authenticates a user.
func (s *Store) CheckPassword(user, password string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.checkUser(user); err != nil {
		return err
	}
	if u := s.state.Users[user]; u.Password == "" || !matches(u.Password, password) {
		return errors.New("authentication failure")
	}
	return nil
}

// CheckToken authenticates user@realm!tokenid=secret and returns user@realm!tokenid.
func (s *Store) CheckToken(credential string) (string, error) {
	id, secret, _ := strings.Cut(credential, "=")
	if secret == "" {
		id, secret, _ = strings.Cut(credential, " ")
	}
	user, token, ok := strings.Cut(id, "!")
	if !ok || token == "" {
		return "", errors.New("no tokenid specified")
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.checkUser(user); err != nil {
		return "", err
	}
	t := s.state.Users[user].Tokens[token]
	switch {
	case t == nil:
		return "", fmt.Errorf("no such token '%s' for user '%s'", token, user)
	case t.Expire > 0 && t.Expire < time.Now().Unix():
		return "", fmt.Errorf("token '%s' access expired", token)
	case !matches(t.SecretHash, secret):
		//lint:ignore ST1005 the real text
		return "", errors.New("invalid token value!")
	}
	return id, nil
}
