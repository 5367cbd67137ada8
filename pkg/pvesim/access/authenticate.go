package access

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

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
