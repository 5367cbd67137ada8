package access

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Guard refuses changes by those who have the right to change the object, but not what
// the change would give. The caller is the identity of the context.
type Guard struct {
	reg       *resource.Registry
	builtIn   map[string][]auth.Rule
	followers []*Follower
}

// NewGuard returns a Guard that makes the followers look after each change of what they
// follow, before it is answered.
func NewGuard(reg *resource.Registry, followers ...*Follower) *Guard {
	g := &Guard{reg: reg, followers: followers, builtIn: map[string][]auth.Rule{}}
	for _, r := range auth.BuiltIn(ClusterScoped(reg)) {
		g.builtIn[r.Name] = r.Rules
	}
	return g
}

// Asks implements apply.Guard.
func (g *Guard) Asks(kind string, is resource.Object) bool {
	switch kind {
	case kindRole, kindBinding, kindNamespace, kindUser, kindRepository, kindSync:
		return true
	case "Operation", "Restore":
		return is != nil
	case "App", "Appliance":
		return adopts(is) || len(weaknesses(is)) > 0
	case "Vhost":
		return managementIn(is) != ""
	}
	return false
}

// Check is asked inside the transaction: was is nil for a new object, is for one that is
// deleted. Its error matches auth.ErrForbidden.
func (g *Guard) Check(ctx context.Context, tx store.Tx, was, is resource.Object) error {
	switch o := present(was, is).(type) {
	case *v1alpha1.Role:
		return checkRole(ctx, is)
	case *v1alpha1.RoleBinding:
		return g.checkBinding(ctx, tx, was, is)
	case *v1alpha1.Namespace:
		return g.checkOwners(ctx, was, is)
	case *v1alpha1.User:
		return checkUser(ctx, was, is)
	case *v1alpha1.GitRepository:
		return g.checkRepository(ctx, tx, was, is)
	case *v1alpha1.Sync:
		return checkSync(ctx, was, is)
	case *v1alpha1.App, *v1alpha1.Appliance:
		if is == nil {
			return nil
		}
		return checkGuest(ctx, was, is)
	case *v1alpha1.Vhost:
		return checkManagement(ctx, was, is)
	case *v1alpha1.Operation:
		if was == nil {
			return g.checkOperation(ctx, o)
		}
	}
	if was == nil && is.GetKind() == "Restore" {
		return auth.Authorize(ctx, auth.VerbRestore, "Restore", is.GetMetadata().GetNamespace())
	}
	return nil
}

// present is the object as it will be, or as it was when it is deleted.
func present(was, is resource.Object) resource.Object {
	if is != nil {
		return is
	}
	return was
}

// Committed is called after a transaction that changed objects of these kinds.
func (g *Guard) Committed(ctx context.Context, kinds map[string]bool) error {
	var errs []error
	for _, f := range g.followers {
		if slices.ContainsFunc(f.kinds, func(k string) bool { return kinds[k] }) {
			errs = append(errs, f.Refresh(context.WithoutCancel(ctx)))
		}
	}
	return errors.Join(errs...)
}

// Wants tells whether changes of a kind matter to Committed.
func (g *Guard) Wants(kind string) bool {
	return slices.ContainsFunc(g.followers, func(f *Follower) bool { return f.Follows(kind) })
}

func checkRole(ctx context.Context, is resource.Object) error {
	r, _ := is.(*v1alpha1.Role)
	if r == nil || auth.Authorize(ctx, auth.VerbEscalate, kindRole, "") == nil {
		return nil
	}
	// Whoever the role is bound to has it where the binding says: that may be everywhere.
	return auth.MayGrant(ctx, Rules(r.GetSpec().GetRules()), []string{auth.All})
}

func (g *Guard) checkBinding(ctx context.Context, tx store.Tx, was, is resource.Object) error {
	b, _ := is.(*v1alpha1.RoleBinding)
	old, _ := was.(*v1alpha1.RoleBinding)
	if b == nil || old != nil && proto.Equal(old.GetSpec(), b.GetSpec()) || auth.Authorize(ctx, auth.VerbBind, kindRole, "") == nil {
		return nil
	}
	rules, err := g.rulesOf(tx, b.GetSpec().GetRole())
	if errors.Is(err, store.ErrNotFound) {
		// Later somebody could make a role of that name.
		return fmt.Errorf("%w: there is no role %q; only who may bind any role can name one that does not exist", auth.ErrForbidden, b.GetSpec().GetRole())
	}
	if err != nil {
		return err
	}
	return auth.MayGrant(ctx, rules, b.GetSpec().GetNamespaces())
}

// rulesOf are those of a role as it is in the transaction: one set may bring both.
func (g *Guard) rulesOf(tx store.Tx, name string) ([]auth.Rule, error) {
	if rules, ok := g.builtIn[name]; ok {
		return rules, nil
	}
	obj, err := tx.Get(resource.Key{Kind: kindRole, Name: name})
	if err != nil {
		return nil, err
	}
	role, _ := obj.(*v1alpha1.Role)
	return Rules(role.GetSpec().GetRules()), nil
}

func (g *Guard) checkOwners(ctx context.Context, was, is resource.Object) error {
	n, _ := is.(*v1alpha1.Namespace)
	old, _ := was.(*v1alpha1.Namespace)
	had := subjects(old.GetSpec().GetOwners())
	for _, s := range subjects(n.GetSpec().GetOwners()) {
		if !slices.Contains(had, s) {
			return auth.MayGrant(ctx, g.builtIn[auth.RoleUser], []string{n.GetMetadata().GetName()})
		}
	}
	return nil
}

// checkUser: whoever sets a user's password or groups could act as that user.
func checkUser(ctx context.Context, was, is resource.Object) error {
	for _, o := range []resource.Object{was, is} {
		if u, _ := o.(*v1alpha1.User); u != nil {
			if err := auth.MayActFor(ctx, auth.User(u.GetMetadata().GetName(), u.GetSpec().GetGroups()...)); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkOperation: an Operation acts on its target, so its maker needs the right to.
func (g *Guard) checkOperation(ctx context.Context, o *v1alpha1.Operation) error {
	target := o.GetSpec().GetTarget()
	kind, ok := g.reg.Get(target.GetKind())
	if !ok {
		return nil // validation says so
	}
	namespace := target.GetNamespace()
	if kind.Namespaced && namespace == "" {
		namespace = o.GetMetadata().GetNamespace()
	}
	verb := auth.VerbUpdate
	switch o.GetSpec().GetAction() {
	case "CollectLogs", "Examine", "Preview":
		verb = auth.VerbGet
	case "Rebuild":
		verb = auth.VerbRestore
	}
	return auth.Authorize(ctx, verb, kind.Name, namespace)
}
