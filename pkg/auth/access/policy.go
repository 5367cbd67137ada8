// Package access keeps the policy of package auth as the store says: it makes one of Roles,
// RoleBindings and the owners of Namespaces, and a new one whenever they change. Its Guard is
// asked by admission about changes that need more than the right to change the object: to
// give rights, to adopt, to restore.
package access

import (
	"context"
	"slices"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Kinds that a policy is made of.
const (
	kindRole      = "Role"
	kindBinding   = "RoleBinding"
	kindNamespace = "Namespace"
	kindUser      = "User"
)

// NewPolicy returns a Follower that puts what the store says into force.
func NewPolicy(st store.Store, reg *resource.Registry, authorizer *auth.Authorizer) *Follower {
	cluster := ClusterScoped(reg)
	return NewFollower(st, []string{kindRole, kindBinding, kindNamespace}, func(ctx context.Context) error {
		var roles []auth.Role
		var bindings []auth.Binding
		for _, kind := range []string{kindRole, kindBinding, kindNamespace} {
			if _, known := reg.Get(kind); !known {
				continue
			}
			list, err := st.List(ctx, kind, store.ListOptions{})
			if err != nil {
				return err
			}
			for _, obj := range list.Items {
				switch o := obj.(type) {
				case *v1alpha1.Role:
					roles = append(roles, auth.Role{Name: o.GetMetadata().GetName(), Rules: Rules(o.GetSpec().GetRules())})
				case *v1alpha1.RoleBinding:
					bindings = append(bindings, auth.Binding{Role: o.GetSpec().GetRole(), Subjects: subjects(o.GetSpec().GetSubjects()), Namespaces: o.GetSpec().GetNamespaces()})
				case *v1alpha1.Namespace:
					if owners := o.GetSpec().GetOwners(); len(owners) > 0 {
						bindings = append(bindings, auth.Binding{Role: auth.RoleUser, Subjects: subjects(owners), Namespaces: []string{o.GetMetadata().GetName()}})
					}
				}
			}
		}
		authorizer.SetPolicy(auth.Compile(cluster, roles, bindings))
		return nil
	})
}

// ClusterScoped names the kinds that are in no namespace.
func ClusterScoped(reg *resource.Registry) []string {
	var names []string
	for _, k := range reg.Kinds() {
		if !k.Namespaced {
			names = append(names, k.Name)
		}
	}
	return names
}

// Rules converts rules of the API.
func Rules(rules []*v1alpha1.PolicyRule) []auth.Rule {
	list := make([]auth.Rule, 0, len(rules))
	for _, r := range rules {
		list = append(list, auth.Rule{Verbs: slices.Clone(r.GetVerbs()), Kinds: slices.Clone(r.GetKinds()), Namespaces: slices.Clone(r.GetNamespaces())})
	}
	return list
}

func subjects(list []*v1alpha1.Subject) []auth.Subject {
	all := make([]auth.Subject, 0, len(list))
	for _, s := range list {
		all = append(all, auth.Subject{Kind: auth.SubjectKind(s.GetKind()), Name: s.GetName()})
	}
	return all
}
