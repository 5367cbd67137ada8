package kinds

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/password"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// kindRule is how a kind is named in a rule; whether there is such a kind is not asked, so
// that a role outlives a kind.
var kindRule = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)

func validateUser(u *v1alpha1.User, p *problems) {
	spec := orEmpty(u.Spec)
	for i, g := range spec.GetGroups() {
		at := resource.IndexPath("spec.groups", i)
		p.name(at, g)
		if j := slices.Index(spec.GetGroups(), g); j < i {
			p.add(resource.Duplicate(at, g, resource.IndexPath("spec.groups", j)))
		}
	}
	if hash := spec.GetPasswordHash(); hash != "" && !password.IsHash(hash) {
		p.add(resource.Forbidden("spec.passwordHash", "", "a hash made by `proxctl create user` or `proxctl passwd`, not the password itself"))
	}
}

func validateRole(r *v1alpha1.Role, p *problems) {
	if name := r.GetMetadata().GetName(); auth.IsBuiltIn(name) {
		p.add(resource.Forbidden("metadata.name", name, "this role is built in; choose another name"))
	}
	for i, rule := range r.GetSpec().GetRules() {
		at := resource.IndexPath("spec.rules", i)
		for j, v := range rule.GetVerbs() {
			if v != auth.All && !auth.IsVerb(v) {
				p.invalid(resource.IndexPath(at+".verbs", j), v, "*, "+joinVerbs())
			}
		}
		for j, k := range rule.GetKinds() {
			if k != auth.All && !kindRule.MatchString(k) && !slices.Contains(auth.SystemSubjects(), k) {
				p.invalid(resource.IndexPath(at+".kinds", j), k, "*, a kind such as App, or one of "+strings.Join(auth.SystemSubjects(), ", "))
			}
		}
		p.namespaces(at+".namespaces", rule.GetNamespaces())
	}
}

func joinVerbs() string {
	var names []string
	for _, v := range auth.Verbs() {
		names = append(names, string(v))
	}
	return strings.Join(names, ", ")
}

func validateRoleBinding(b *v1alpha1.RoleBinding, p *problems) {
	spec := orEmpty(b.Spec)
	if spec.Role != nil && !auth.IsBuiltIn(spec.GetRole()) {
		p.name("spec.role", spec.GetRole())
	}
	p.subjects("spec.subjects", spec.GetSubjects())
	p.namespaces("spec.namespaces", spec.GetNamespaces())
}

// namespaces checks names of namespaces, which need not exist.
func (p *problems) namespaces(path string, names []string) {
	for i, n := range names {
		if n != auth.All && !resource.IsDNSLabel(n) {
			p.invalid(resource.IndexPath(path, i), n, "* or a namespace: "+labelRule)
		}
	}
}

// subjects checks who is named, which need not exist.
func (p *problems) subjects(path string, subjects []*v1alpha1.Subject) {
	for i, s := range subjects {
		at := resource.IndexPath(path, i) + ".name"
		if s.Name == nil {
			continue // said by the rules of the proto
		}
		switch auth.SubjectKind(s.GetKind()) {
		case auth.SubjectUser, auth.SubjectGroup:
			p.name(at, s.GetName())
		default:
			namespace, name, ok := strings.Cut(s.GetName(), "/")
			if !ok || !resource.IsDNSLabel(namespace) || !resource.IsName(name) {
				p.invalid(at, s.GetName(), fmt.Sprintf("the namespace and name of a %s, e.g. default/infrastructure", s.GetKind()))
			}
		}
	}
}
