// Package kinds is the list of kinds with what each fills in and checks by itself.
//
// Everything a file of this package decides, it decides from documents alone: Default and
// Validate see one object, Relate sees it among those in the store, Claims is what two
// documents of one set must not both have. What depends on the outside (a VMID that is
// taken, a host name that an older Vhost has) is the controllers' business and ends in a
// condition.
//
// Defaults are stored when they depend on nothing that can change: fixed values and what
// is derived from the object's own name. Others (the node, the template, the web port, the
// fallback of an App) stay unset and are resolved late.
//
// Bounds, patterns and what is required are annotations of the protos (package resource
// checks them); here is what those cannot say.
//
// Text in a spec is one line without control characters, because most of it ends up in
// files made of lines; fields that may hold more have the option (multiline). So a new
// field is on the safe side by being forgotten.
package kinds

import (
	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// definitions lists the kinds, one line each.
func definitions() []resource.Definition {
	return []resource.Definition{
		{Message: &v1alpha1.Namespace{}, Validate: check(validateNamespace)},
		{Message: &v1alpha1.User{}, Validate: check(validateUser)},
		{Message: &v1alpha1.Role{}, Validate: check(validateRole)},
		{Message: &v1alpha1.RoleBinding{}, Validate: check(validateRoleBinding)},
		{Message: &v1alpha1.Session{}},
		{Message: &v1alpha1.APIToken{}},
		{Message: &v1alpha1.Secret{}, Validate: check(validateSecret)},
		{Message: &v1alpha1.Cluster{}, Validate: check(validateCluster)},
		{Message: &v1alpha1.Bridge{}, Default: fill(defaultBridge), Validate: check(validateBridge), Relate: relate(relateBridge), Claims: claim(claimsOfBridge)},
		{Message: &v1alpha1.Appliance{}, Default: fill(defaultAppliance), Validate: check(validateAppliance), Relate: relate(relateAppliance), Claims: claim(claimsOfAppliance)},
		{Message: &v1alpha1.App{}, Default: fill(defaultApp), Validate: check(validateApp), Relate: relate(relateApp), Claims: claim(claimsOfApp)},
		{Message: &v1alpha1.Vhost{}, Default: fill(defaultVhost), Validate: check(validateVhost), Claims: claim(claimsOfVhost)},
		{Message: &v1alpha1.GitRepository{}, Default: fill(defaultGitRepository), Validate: check(validateGitRepository)},
		{Message: &v1alpha1.Sync{}, Default: fill(defaultSync), Validate: check(validateSync)},
		{Message: &v1alpha1.Operation{}, Default: fill(defaultOperation), Validate: check(validateOperation)},
		{Message: &v1alpha1.Event{}},
	}
}

// Registry returns the registry of all kinds. It panics when the protos contradict
// themselves, which no input can cause and every test would show.
func Registry() *resource.Registry {
	reg, err := New()
	if err != nil {
		panic("kinds: " + err.Error())
	}
	return reg
}

// New returns the registry of all kinds and those given, for tests with a kind of their
// own. The rules about text in one line and about references to Secrets hold for those too.
func New(extra ...resource.Definition) (*resource.Registry, error) {
	defs := append(definitions(), extra...)
	for i := range defs {
		defs[i].Validate = withCommonRules(defs[i].Validate)
	}
	return resource.NewRegistry(defs...)
}

// The adapters below let the files of the kinds work with their own type.

func fill[T resource.Object](f func(T)) func(resource.Object) {
	return func(o resource.Object) { f(o.(T)) }
}

func check[T resource.Object](f func(T, *problems)) func(resource.Object) resource.FieldErrors {
	return func(o resource.Object) resource.FieldErrors {
		var p problems
		f(o.(T), &p)
		return p.errs
	}
}

func relate[T resource.Object](f func(T, resource.View, *problems)) func(resource.Object, resource.View) resource.FieldErrors {
	return func(o resource.Object, v resource.View) resource.FieldErrors {
		var p problems
		f(o.(T), v, &p)
		return p.errs
	}
}

func claim[T resource.Object](f func(T) []resource.Claim) func(resource.Object) []resource.Claim {
	return func(o resource.Object) []resource.Claim { return f(o.(T)) }
}
