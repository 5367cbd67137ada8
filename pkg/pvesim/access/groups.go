package access

import (
	"fmt"
	"maps"
	"slices"
)

// Group is a set of users.
type Group struct {
	Comment string   `json:"comment,omitempty"`
	Users   []string `json:"users,omitempty"` // sorted
}

// Groups returns a copy of all groups.
func (s *Store) Groups() map[string]Group {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[string]Group{}
	for name, g := range s.state.Groups {
		out[name] = Group{g.Comment, slices.Clone(g.Users)}
	}
	return out
}

// CreateGroup makes an empty group.
func (s *Store) CreateGroup(name, comment string) error {
	return s.change(func(st *state) error {
		if st.Groups[name] != nil {
			return fmt.Errorf("group '%s' already exists", name)
		}
		st.Groups[name] = &Group{Comment: comment}
		return nil
	})
}

// UpdateGroup changes a group's comment.
func (s *Store) UpdateGroup(name string, comment *string) error {
	return s.change(func(st *state) error {
		g := st.Groups[name]
		if g == nil {
			return fmt.Errorf("group '%s' does not exist", name)
		}
		if comment != nil {
			g.Comment = *comment
		}
		return nil
	})
}

// DeleteGroup removes a group and its entries in the access control list.
func (s *Store) DeleteGroup(name string) error {
	return s.change(func(st *state) error {
		if st.Groups[name] == nil {
			return fmt.Errorf("group '%s' does not exist", name)
		}
		delete(st.Groups, name)
		st.dropSubject("@" + name)
		return nil
	})
}

// setGroups puts a user into groups; without add, out of all others.
func (st *state) setGroups(user string, groups []string, add bool) error {
	for _, name := range groups {
		if st.Groups[name] == nil {
			return fmt.Errorf("no such group '%s'", name)
		}
	}
	for name, g := range st.Groups {
		switch member := slices.Contains(g.Users, user); {
		case slices.Contains(groups, name) && !member:
			g.Users = slices.Sorted(slices.Values(append(g.Users, user)))
		case !slices.Contains(groups, name) && member && !add:
			g.Users = slices.DeleteFunc(g.Users, func(u string) bool { return u == user })
		}
	}
	return nil
}

// GroupsOf returns the groups of a user, sorted.
func (s *Store) GroupsOf(user string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state.groupsOf(user)
}

func (st *state) groupsOf(user string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(st.Groups)) {
		if slices.Contains(st.Groups[name].Users, user) {
			out = append(out, name)
		}
	}
	return out
}
