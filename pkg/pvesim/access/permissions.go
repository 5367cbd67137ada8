package access

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// defaultPaths are those for which GET /access/permissions always answers.
var defaultPaths = []string{"/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms"}

var pathRE = regexp.MustCompile(`^/[A-Za-z0-9.\-_/]*$`)

// NormalizePath removes doubled and trailing slashes and adds a missing leading one; a
// path with other characters than an ACL path can have, and no path at all, give "", for
// which nobody but root@pam has a privilege.
func NormalizePath(path string) string {
	if path == "" {
		return ""
	}
	if path[0] != '/' {
		path = "/" + path
	}
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
	return maps.Clone(s.known(authID, path))
}

// known is Permissions for who only reads the answer, which others read, too.
func (s *Store) known(authID, path string) map[string]bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	q := question{authID, path}
	s.answersMu.Lock()
	answer, ok := s.answers[q]
	s.answersMu.Unlock()
	if ok {
		return answer
	}
	answer = s.permissions(authID, path)
	s.answersMu.Lock()
	defer s.answersMu.Unlock()
	if s.answers == nil || len(s.answers) >= maxAnswers {
		s.answers = map[question]map[string]bool{}
	}
	s.answers[q] = answer // nothing has changed meanwhile: mu is held
	return answer
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

// direct computes what the ACL gives to one subject, pools included.
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
	roles := s.state.withPools(subject, path, s.state.roles(subject, path))
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

// roles resolves the roles of a user or token on a path, each with whether it propagates.
// At every step down the subject's own entries replace what was inherited; only without
// any, those of its groups do.
func (st *state) roles(subject, path string) map[string]bool {
	var groups []string
	if !strings.Contains(subject, "!") {
		for _, g := range st.groupsOf(subject) {
			groups = append(groups, "@"+g)
		}
	}
	roles := map[string]bool{}
	for _, p := range ancestors(path) {
		own, shared := map[string]bool{}, map[string]bool{}
		for _, a := range st.ACL {
			if a.Path != p || !a.Propagate && p != path {
				continue
			}
			switch {
			case a.Subject == subject:
				own[a.Role] = a.Propagate
			case slices.Contains(groups, a.Subject):
				shared[a.Role] = a.Propagate
			}
		}
		switch {
		case len(own) > 0:
			roles = own
		case len(shared) > 0:
			roles = shared
		}
	}
	if propagate, denied := roles[NoAccess]; denied {
		return map[string]bool{NoAccess: propagate}
	}
	return roles
}

// withPools adds what the pools of a guest or a storage grant on it. It does not
// propagate, a NoAccess of a pool beats other roles, and one on the path beats pools.
func (st *state) withPools(subject, path string, roles map[string]bool) map[string]bool {
	if _, denied := roles[NoAccess]; denied {
		return roles
	}
	for name, p := range st.Pools {
		if !p.has(path) {
			continue
		}
		for role := range st.roles(subject, "/pool/"+name) {
			if role == NoAccess {
				return map[string]bool{NoAccess: false}
			}
			if _, known := roles[role]; !known {
				roles[role] = false
			}
		}
	}
	return roles
}

// has reports whether the path is that of a member.
func (p *Pool) has(path string) bool {
	if id, ok := strings.CutPrefix(path, "/vms/"); ok {
		vmid, err := strconv.Atoi(id)
		_, member := slices.BinarySearch(p.VMs, vmid)
		return err == nil && member
	}
	id, ok := strings.CutPrefix(path, "/storage/")
	return ok && slices.Contains(p.Storages, id)
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
	for _, p := range s.state.Pools {
		for _, vmid := range p.VMs {
			paths["/vms/"+strconv.Itoa(vmid)] = true
		}
		for _, id := range p.Storages {
			paths["/storage/"+id] = true
		}
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
	perms := s.known(authID, NormalizePath(path))
	for _, p := range privileges {
		if _, ok := perms[p]; !ok {
			return p
		}
	}
	return ""
}

// HasAny reports whether the subject has at least one of the privileges on the path.
func (s *Store) HasAny(authID, path string, privileges ...string) bool {
	perms := s.known(authID, NormalizePath(path))
	for _, p := range privileges {
		if _, ok := perms[p]; ok {
			return true
		}
	}
	return false
}
