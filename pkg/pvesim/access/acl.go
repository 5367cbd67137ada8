package access

import (
	"regexp"
	"slices"
	"strings"
)

// SetACL adds an entry, or removes it.
func (s *Store) SetACL(a ACL, remove bool) error {
	return s.SetACLs([]ACL{a}, remove)
}

// SetACLs adds entries or removes them, all in one write.
func (s *Store) SetACLs(list []ACL, remove bool) error {
	return s.change(func(st *state) error {
		for _, a := range list {
			st.ACL = slices.DeleteFunc(st.ACL, func(b ACL) bool {
				return a.Path == b.Path && a.Subject == b.Subject && a.Role == b.Role
			})
			if !remove {
				st.ACL = append(st.ACL, a)
			}
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

// dropSubject removes the entries of a user, token or group; dropPath those of a path.
func (st *state) dropSubject(subject string) {
	st.ACL = slices.DeleteFunc(st.ACL, func(a ACL) bool { return a.Subject == subject })
}

func (st *state) dropPath(path string) {
	st.ACL = slices.DeleteFunc(st.ACL, func(a ACL) bool { return a.Path == path })
}

// validPathRE are the paths that an entry may have (PVE::AccessControl, check_path).
var validPathRE = regexp.MustCompile(`^/(?:` + strings.Join([]string{
	`access(?:/groups(?:/[\w.-]+)?|/realm(?:/[\w.-]+)?)?`,
	`nodes(?:/[\w.-]+)?`,
	`pool(?:/[\w.-]+){0,3}`,
	`sdn(?:/(?:controllers|dns|fabrics|ipams|prefix-lists|route-maps)(?:/[\w-]+)?)?`,
	`sdn/zones(?:/[\w.-]+){0,2}`,
	`sdn/zones/[\w.-]+/[\w.-]+/[1-9][0-9]{0,3}`,
	`storage(?:/[\w.-]+)?`,
	`vms(?:/[1-9][0-9]{2,})?`,
	`mapping(?:/[\w.-]+){0,2}`,
}, "|") + `)?$`)

// ValidPath reports whether an entry may have the path, which must be normalized.
func ValidPath(path string) bool { return validPathRE.MatchString(path) }
