package auth

import (
	"maps"
	"slices"
)

// Rule allows verbs on kinds in namespaces. "*" is all of them: all verbs, all kinds (but
// not the subjects that are no kinds), all namespaces.
type Rule struct {
	Verbs, Kinds []string
	// Namespaces that the rule is limited to; none: those that the binding gives.
	Namespaces []string

	// except are kinds that "*" does not mean; only built-in roles have them.
	except []string
}

// Role is a named list of rules.
type Role struct {
	Name  string
	Rules []Rule
}

// SubjectKind is what a subject of a binding is.
type SubjectKind string

// Kinds of subjects.
const (
	SubjectUser          SubjectKind = "User"
	SubjectGroup         SubjectKind = "Group"
	SubjectGitRepository SubjectKind = "GitRepository"
	SubjectSync          SubjectKind = "Sync"
)

// Subject is who gets a role. Name is namespace/name for a GitRepository or Sync.
type Subject struct {
	Kind SubjectKind
	Name string
}

// Binding gives a role to subjects, in namespaces. "*" is all namespaces and what is in
// none: cluster-scoped kinds, and requests for all namespaces at once.
type Binding struct {
	Role       string
	Subjects   []Subject
	Namespaces []string
}

// Names of the built-in roles. No Role can have one of these names.
const (
	RoleAdmin  = "admin"
	RoleUser   = "user"
	RoleViewer = "viewer"
)

// IsBuiltIn tells whether a role is built in.
func IsBuiltIn(role string) bool { return role == RoleAdmin || role == RoleUser || role == RoleViewer }

// Kinds that decide who may do what, and those with secrets: no built-in role but admin has
// them, except that users have the Secrets of their namespaces.
var (
	identityKinds = []string{"User", "Role", "RoleBinding", "Session", "APIToken"}
	secretKinds   = append([]string{"Secret"}, identityKinds...)
	// sharedKinds are what there is to choose from: whoever has a role may read them.
	sharedKinds = []string{"Catalog", "CatalogEntry"}
	readVerbs   = []string{string(VerbGet), string(VerbList), string(VerbWatch)}
)

// BuiltIn returns the roles that always exist: admin, who may do everything; user, who has
// all objects of the namespaces that the role is given in, without the verbs that are given
// beside (console, exec, secrets-read, adopt, weaken); and viewer, who reads all but secrets and
// identities. clusterScoped names the kinds in no namespace.
func BuiltIn(clusterScoped []string) []Role {
	return []Role{
		{RoleAdmin, []Rule{{Verbs: []string{All}, Kinds: append([]string{All}, systemSubjects...)}}},
		{RoleUser, []Rule{{
			Verbs: append(texts(VerbCreate, VerbUpdate, VerbApply, VerbDelete, VerbPrune, VerbRestore), readVerbs...),
			Kinds: []string{All}, except: append(slices.Clone(identityKinds), clusterScoped...),
		}}},
		{RoleViewer, []Rule{{Verbs: readVerbs, Kinds: []string{All}, except: secretKinds}}},
	}
}

func texts(verbs ...Verb) []string {
	var s []string
	for _, v := range verbs {
		s = append(s, string(v))
	}
	return s
}

// grant is a compiled rule of a binding.
type grant struct {
	verbs verbSet
	// all: every kind, without those in except; kinds are named.
	all        bool
	kinds      map[string]bool
	except     map[string]bool
	everywhere bool
	namespaces map[string]bool
}

// Policy decides who may do what. It is made of roles and bindings and never changes; a
// decision looks at the grants of the identity alone and costs well under a microsecond.
type Policy struct {
	roles  map[string]Role
	grants map[Subject][]grant
	held   map[Subject][]held // what grants were made of
	// cluster are the kinds that are in no namespace.
	cluster map[string]bool
}

// Compile makes a policy. A binding whose role does not exist gives nothing. A role cannot
// replace a built-in one. clusterScoped names the kinds that are in no namespace.
func Compile(clusterScoped []string, roles []Role, bindings []Binding) *Policy {
	p := &Policy{roles: map[string]Role{}, grants: map[Subject][]grant{}, held: map[Subject][]held{}, cluster: set(clusterScoped)}
	for _, r := range append(slices.Clone(roles), BuiltIn(clusterScoped)...) {
		p.roles[r.Name] = r
	}
	for _, b := range bindings {
		var grants []grant
		for _, rule := range p.roles[b.Role].Rules {
			if g, any := compile(rule, b.Namespaces); any {
				grants = append(grants, g)
			}
		}
		if len(grants) == 0 {
			continue
		}
		grants = append(grants, shared)
		for _, s := range b.Subjects {
			p.grants[s] = append(p.grants[s], grants...)
			p.held[s] = append(p.held[s], held{b.Role, b.Namespaces})
		}
	}
	return p
}

// shared is what everybody who has a role has.
var shared = grant{verbs: setOf(readVerbs), kinds: set(sharedKinds), everywhere: true}

// compile limits a rule to namespaces; any is false when nothing is left.
func compile(r Rule, namespaces []string) (g grant, any bool) {
	g = grant{verbs: setOf(r.Verbs), kinds: set(r.Kinds), except: set(r.except), all: slices.Contains(r.Kinds, All)}
	delete(g.kinds, All)
	within := limited(r, namespaces)
	g.everywhere = slices.Contains(within, All)
	g.namespaces = set(within)
	return g, g.verbs != 0 && len(r.Kinds) > 0 && len(within) > 0
}

// limited are the namespaces of a binding that a rule has, "*" for all.
func limited(r Rule, namespaces []string) []string {
	switch {
	case len(r.Namespaces) == 0 || slices.Contains(r.Namespaces, All):
		return namespaces
	case slices.Contains(namespaces, All):
		return r.Namespaces
	}
	var both []string
	for _, n := range namespaces {
		if slices.Contains(r.Namespaces, n) {
			both = append(both, n)
		}
	}
	return both
}

func set(names []string) map[string]bool {
	s := make(map[string]bool, len(names))
	for _, n := range names {
		s[n] = true
	}
	return s
}

// allows is one look at one grant. kind AllKinds needs every kind.
func (g *grant) allows(verb verbSet, kind, namespace string) bool {
	if g.verbs&verb == 0 || !g.everywhere && (namespace == "" || !g.namespaces[namespace]) {
		return false
	}
	switch {
	case g.kinds[kind]:
		return true
	case kind == AllKinds:
		return g.all && len(g.except) == 0
	}
	return g.all && isKind(kind) && !g.except[kind]
}

// allows tells whether the subjects have a grant, and the limit, if there is one, too.
func (p *Policy) allows(id *Identity, verb Verb, kind, namespace string) bool {
	b := bit(verb)
	if b == 0 || kind == "" || !id.limit.allows(b, kind, namespace) {
		return false
	}
	found := false
	id.subjects(func(s Subject) bool {
		for i := range p.grants[s] {
			if p.grants[s][i].allows(b, kind, namespace) {
				found = true
				return false
			}
		}
		return true
	})
	return found
}

// subjects calls visit for what bindings may name the identity by, until it returns false.
func (id *Identity) subjects(visit func(Subject) bool) {
	switch id.Type {
	case UserIdentity:
		if !visit(Subject{SubjectUser, id.Subject}) {
			return
		}
		for _, g := range id.Groups {
			if !visit(Subject{SubjectGroup, g}) {
				return
			}
		}
	case GitRepositoryIdentity:
		visit(Subject{SubjectGitRepository, id.Subject})
	case SyncIdentity:
		visit(Subject{SubjectSync, id.Subject})
	}
}

// Limit is what a token is good for, at most; nil: everything that its owner may do.
type Limit struct{ grants []grant }

// NewLimit compiles the rules of a token's scope. Without Namespaces a rule is good for all.
func NewLimit(rules []Rule) *Limit {
	l := &Limit{}
	for _, r := range rules {
		if g, any := compile(r, []string{All}); any {
			l.grants = append(l.grants, g)
		}
	}
	return l
}

func (l *Limit) allows(verb verbSet, kind, namespace string) bool {
	if l == nil {
		return true
	}
	return slices.ContainsFunc(l.grants, func(g grant) bool { return g.allows(verb, kind, namespace) })
}

// namespaces are those in which the identity may do verb with the kind, sorted, at most max.
func (p *Policy) namespaces(id *Identity, verb Verb, kind string, max int) []string {
	found := map[string]bool{}
	b := bit(verb)
	id.subjects(func(s Subject) bool {
		for i := range p.grants[s] {
			for n := range p.grants[s][i].namespaces {
				if n != All && p.grants[s][i].allows(b, kind, n) {
					found[n] = true
				}
			}
		}
		return true
	})
	names := slices.Sorted(maps.Keys(found))
	return names[:min(len(names), max)]
}
