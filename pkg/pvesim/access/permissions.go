package access

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// defaultPaths are those for which GET /access/permissions always answers.
var defaultPaths = []string{"/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms"}

var pathRE = regexp.MustCompile(`^/[A-Za-z0-9.\-_/]*$`)

// NormalizePath removes doubled and trailing slashes; a path with other characters
// than an ACL path can have gives "", for which nobody but root@pam has a privilege.
func NormalizePath(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if !pathRE.MatchString(path) {
		return ""
	}
	return path
}

// Permissions returns the privileges of a user or token on a path, each with whether
// it propagates to what is below.
func (s *Store) Permissions(authID, path string) map[string]bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.permissions(authID, path)
}

func (s *Store) permissions(authID, path string) map[string]bool {
	user, token, isToken := strings.Cut(authID, "!")
	if !isToken {
		return s.direct(authID, path)
	}
	if path == "" { // no path at all, where even a token of root@pam has nothing
		return nil
	}
	t := s.state.Users[user].tokenOf(token)
	if t == nil {
		return nil
	}
	owner := s.direct(user, path)
	if !t.PrivSep {
		return owner
	}
	own := s.direct(authID, path)
	for priv := range own {
		if _, ok := owner[priv]; !ok {
			delete(own, priv)
			continue
		}
		own[priv] = own[priv] && owner[priv]
	}
	return own
}

func (u *User) tokenOf(id string) *Token {
	if u == nil {
		return nil
	}
	return u.Tokens[id]
}

// direct computes what the ACL gives to one subject.
func (s *Store) direct(subject, path string) map[string]bool {
	out := map[string]bool{}
	if subject == Root {
		for _, priv := range s.privileges(Admin) {
			out[priv] = true
		}
		return out
	}
	if path == "" {
		return out
	}
	roles := map[string]bool{} // role -> propagate
	for _, p := range ancestors(path) {
		here := map[string]bool{}
		for _, a := range s.state.ACL {
			if a.Path == p && a.Subject == subject && (a.Propagate || p == path) {
				here[a.Role] = a.Propagate
			}
		}
		if len(here) > 0 { // the more specific path replaces what was inherited
			roles = here
		}
	}
	if _, denied := roles[NoAccess]; denied {
		return out
	}
	for role, propagate := range roles {
		for _, priv := range s.privileges(role) {
			out[priv] = out[priv] || propagate
		}
	}
	return out
}

// ancestors returns /, then each longer prefix, then the path itself.
func ancestors(path string) []string {
	out := []string{"/"}
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			out = append(out, path[:i])
		}
	}
	if path != "/" {
		out = append(out, path)
	}
	return out
}

// AllPermissions returns the permissions on the usual paths and on those of the ACL,
// without those where the subject has none.
func (s *Store) AllPermissions(authID string) map[string]map[string]bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	paths := map[string]bool{}
	for _, p := range defaultPaths {
		paths[p] = true
	}
	for _, a := range s.state.ACL {
		paths[a.Path] = true
	}
	out := map[string]map[string]bool{}
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		if perms := s.permissions(authID, p); len(perms) > 0 {
			out[p] = perms
		}
	}
	return out
}

// Missing returns the first of the privileges that the subject lacks on the path, ""
// if it has all of them.
func (s *Store) Missing(authID, path string, privileges ...string) string {
	perms := s.Permissions(authID, NormalizePath(path))
	for _, p := range privileges {
		if _, ok := perms[p]; !ok {
			return p
		}
	}
	return ""
}

// HasAny reports whether the subject has at least one of the privileges on the path.
func (s *Store) HasAny(authID, path string, privileges ...string) bool {
	perms := s.Permissions(authID, NormalizePath(path))
	for _, p := range privileges {
		if _, ok := perms[p]; ok {
			return true
		}
	}
	return false
}
