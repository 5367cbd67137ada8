package access

import (
	"fmt"
	"slices"
	"strings"
)

// SetRole makes or replaces a role that is not built in.
func (s *Store) SetRole(name string, privileges []string) error {
	for _, p := range privileges {
		if !ValidPrivilege(p) {
			return fmt.Errorf("invalid privilege '%s'", p)
		}
	}
	if _, builtin := builtinRoles[name]; builtin {
		return fmt.Errorf("auto-generated role '%s' cannot be modified", name)
	}
	return s.change(func(st *state) error {
		st.Roles[name] = slices.Compact(slices.Sorted(slices.Values(privileges)))
		return nil
	})
}

// UpdateRole replaces the privileges of a role, or adds to them.
func (s *Store) UpdateRole(name string, privileges []string, add bool) error {
	if _, builtin := builtinRoles[name]; builtin {
		return fmt.Errorf("auto-generated role '%s' cannot be modified", name)
	}
	return s.change(func(st *state) error {
		old, ok := st.Roles[name]
		if !ok {
			return fmt.Errorf("update role failed: role '%s' does not exist", name)
		}
		for _, p := range privileges {
			if !ValidPrivilege(p) {
				return fmt.Errorf("update role failed: invalid privilege '%s'", p)
			}
		}
		if add {
			privileges = append(slices.Clone(old), privileges...)
		}
		st.Roles[name] = slices.Compact(slices.Sorted(slices.Values(privileges)))
		return nil
	})
}

// DeleteRole removes a role that is not built in. Entries of the access control list
// that name it stay and give nothing.
func (s *Store) DeleteRole(name string) error {
	if _, builtin := builtinRoles[name]; builtin {
		return fmt.Errorf("auto-generated role '%s' cannot be deleted", name)
	}
	return s.change(func(st *state) error {
		if _, ok := st.Roles[name]; !ok {
			return fmt.Errorf("delete role failed: role '%s' does not exist", name)
		}
		delete(st.Roles, name)
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

func (s *Store) privileges(role string) []string {
	if list, ok := builtinRoles[role]; ok {
		if list == "" {
			return nil
		}
		return strings.Split(list, ",")
	}
	return s.state.Roles[role]
}
