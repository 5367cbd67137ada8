package auth

import (
	"context"
	"fmt"
	"slices"
)

// MayGrant refuses with an error that matches ErrForbidden when the identity of the context
// has not everything that the rules would give in the namespaces ("*": all): nobody gives
// away what he has not got. What it lacks first is named.
func MayGrant(ctx context.Context, rules []Rule, namespaces []string) error {
	a := actorFrom(ctx)
	if a.Type == LocalAdministrator {
		return nil
	}
	for _, r := range rules {
		for _, n := range limited(r, namespaces) {
			for _, v := range verbs {
				if setOf(r.Verbs)&bit(v) == 0 {
					continue
				}
				for _, k := range r.Kinds {
					if !a.holds(v, k, r.except, n) {
						return a.lacks(v, k, n)
					}
				}
			}
		}
	}
	return nil
}

func (a *actor) lacks(v Verb, kind, namespace string) error {
	if kind == All {
		kind = "all kinds"
	}
	if namespace == All {
		namespace = "all namespaces"
	}
	return fmt.Errorf("%w: %s may not give the right to %s %s in %s, which it has not itself", ErrForbidden, a.Name, v, kind, namespace)
}

// holds tells whether the actor may do v with the kind ("*": all but except) there.
func (a *actor) holds(v Verb, kind string, except []string, namespace string) bool {
	if a.authorizer == nil {
		return false
	}
	if namespace == All {
		namespace = "" // only who may everywhere may do it there
	}
	b := bit(v)
	if kind != AllKinds {
		return a.authorizer.Policy().allows(&a.Identity, v, kind, namespace)
	}
	p := a.authorizer.Policy()
	if a.limit != nil && !slices.ContainsFunc(a.limit.grants, func(g grant) bool { return g.holdsAll(b, except, namespace, p.cluster) }) {
		return false
	}
	found := false
	a.subjects(func(s Subject) bool {
		found = slices.ContainsFunc(p.grants[s], func(g grant) bool { return g.holdsAll(b, except, namespace, p.cluster) })
		return !found
	})
	return found
}

// holdsAll: the grant has every kind but those in except, or fewer exceptions. In a
// namespace it does not matter whether it has the kinds that are in none.
func (g *grant) holdsAll(verb verbSet, except []string, namespace string, cluster map[string]bool) bool {
	if !g.all || g.verbs&verb == 0 || !g.everywhere && !g.namespaces[namespace] {
		return false
	}
	for k := range g.except {
		if !slices.Contains(except, k) && (namespace == "" || !cluster[k]) {
			return false
		}
	}
	return true
}

// RoleRules returns the rules of a role of the policy; ok is false when there is none.
func (p *Policy) RoleRules(name string) (rules []Rule, ok bool) {
	r, ok := p.roles[name]
	return r.Rules, ok
}

// MayActFor refuses when the identity of the context lacks anything that the other has: who
// could set its password or its groups would have all of it.
func MayActFor(ctx context.Context, other Identity) error {
	a := actorFrom(ctx)
	if a.Type == LocalAdministrator || a.authorizer == nil {
		if a.Type == LocalAdministrator {
			return nil
		}
		return a.refused(VerbUpdate, "User", "")
	}
	var err error
	p := a.authorizer.Policy()
	other.subjects(func(s Subject) bool {
		for _, held := range p.held[s] {
			if err = MayGrant(ctx, p.roles[held.role].Rules, held.namespaces); err != nil {
				return false
			}
		}
		return true
	})
	return err
}

// BoundTo returns the subjects of a kind that have a role under the policy of the context.
func BoundTo(ctx context.Context, kind SubjectKind) []string {
	a := actorFrom(ctx)
	if a.authorizer == nil {
		return nil
	}
	var names []string
	for s := range a.authorizer.Policy().held {
		if s.Kind == kind {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Held is a role that an identity has, and where.
type Held struct {
	Role       string
	Namespaces []string
}

// Holds returns the roles that the identity has under the policy.
func (p *Policy) Holds(id Identity) []Held {
	var all []Held
	id.subjects(func(s Subject) bool {
		for _, h := range p.held[s] {
			all = append(all, Held{h.role, slices.Clone(h.namespaces)})
		}
		return true
	})
	return all
}

type held struct {
	role       string
	namespaces []string
}
