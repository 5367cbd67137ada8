package access

import "fmt"

func errNoToken(user, id string) error {
	return fmt.Errorf("no such token '%s' for user '%s'", id, user)
}

// SetToken makes or replaces a token of an existing user.
func (s *Store) SetToken(user, id, secret string, t Token) error {
	return s.change(func(st *state) error {
		u := st.Users[user]
		if u == nil {
			return errNoUser(user)
		}
		if u.Tokens == nil {
			u.Tokens = map[string]*Token{}
		}
		t.SecretHash = hash(secret)
		u.Tokens[id] = &t
		return nil
	})
}

// TokenChange is what an update of a token sets; nil keeps what is there.
type TokenChange struct {
	PrivSep *bool
	Expire  *int64
	Comment *string
	Secret  *string
}

// UpdateToken changes a token and returns what it is then.
func (s *Store) UpdateToken(user, id string, c TokenChange) (Token, error) {
	var out Token
	err := s.change(func(st *state) error {
		t := st.Users[user].tokenOf(id)
		if t == nil {
			return errNoToken(user, id)
		}
		if c.PrivSep != nil {
			t.PrivSep = *c.PrivSep
		}
		if c.Expire != nil {
			t.Expire = *c.Expire
		}
		if c.Comment != nil {
			t.Comment = *c.Comment
		}
		if c.Secret != nil {
			t.SecretHash = hash(*c.Secret)
		}
		out = *t
		return nil
	})
	return out, err
}

// Token returns one token.
func (s *Store) Token(user, id string) (Token, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.state.Users[user] == nil {
		return Token{}, errNoUser(user)
	}
	t := s.state.Users[user].tokenOf(id)
	if t == nil {
		return Token{}, errNoToken(user, id)
	}
	return *t, nil
}

// DeleteToken removes a token and its ACL entries.
func (s *Store) DeleteToken(user, id string) error {
	return s.change(func(st *state) error {
		u := st.Users[user]
		if u == nil || u.Tokens[id] == nil {
			return errNoToken(user, id)
		}
		delete(u.Tokens, id)
		st.dropSubject(user + "!" + id)
		return nil
	})
}
