package access

import (
	"fmt"
	"maps"
)

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

// UserChange is what a create or an update of a user sets; nil keeps what is there.
type UserChange struct {
	Enabled  *bool
	Expire   *int64
	Comment  *string
	Password *string
	Details  map[string]string // email, firstname, lastname, keys
	Groups   *[]string
	Append   bool // Groups are added, the others stay
}

// CreateUser makes a user that does not exist yet.
func (s *Store) CreateUser(id string, c UserChange) error {
	return s.change(func(st *state) error {
		if st.Users[id] != nil {
			return fmt.Errorf("user '%s' already exists", id)
		}
		if c.Groups != nil {
			if err := st.setGroups(id, *c.Groups, false); err != nil {
				return err
			}
		}
		st.Users[id] = &User{Enabled: true}
		st.Users[id].apply(c)
		return nil
	})
}

// UpdateUser changes a user.
func (s *Store) UpdateUser(id string, c UserChange) error {
	return s.change(func(st *state) error {
		u := st.Users[id]
		if u == nil {
			return errNoUser(id)
		}
		if c.Groups != nil {
			if err := st.setGroups(id, *c.Groups, c.Append); err != nil {
				return err
			}
		}
		u.apply(c)
		return nil
	})
}

func errNoUser(id string) error { return fmt.Errorf("no such user ('%s')", id) }

func (u *User) apply(c UserChange) {
	if c.Enabled != nil {
		u.Enabled = *c.Enabled
	}
	if c.Expire != nil {
		u.Expire = *c.Expire
	}
	if c.Comment != nil {
		u.Comment = *c.Comment
	}
	if c.Password != nil {
		u.Password = hash(*c.Password)
	}
	for key, value := range c.Details {
		if u.Details == nil {
			u.Details = map[string]string{}
		}
		u.Details[key] = value
	}
}

// DeleteUser removes a user with its tokens, its places in groups and its entries in the
// access control list. One that does not exist is no error, as on the real server.
func (s *Store) DeleteUser(id string) error {
	return s.change(func(st *state) error {
		if u := st.Users[id]; u != nil {
			for token := range u.Tokens {
				st.dropSubject(id + "!" + token)
			}
		}
		delete(st.Users, id)
		_ = st.setGroups(id, nil, false) // no groups: nothing that could be missing
		st.dropSubject(id)
		return nil
	})
}

// SetPassword changes a user's password.
func (s *Store) SetPassword(id, password string) error {
	return s.UpdateUser(id, UserChange{Password: &password})
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
		c.Tokens, c.Details = maps.Clone(u.Tokens), maps.Clone(u.Details)
		out[id] = c
	}
	return out
}

// User returns a copy of one user, with the refusal that the API has for an unknown one.
func (s *Store) User(id string) (User, error) {
	u, ok := s.Users()[id]
	if !ok {
		return User{}, errNoUser(id)
	}
	return u, nil
}
