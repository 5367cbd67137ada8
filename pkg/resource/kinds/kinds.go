// Package kinds is the list of kinds with what each fills in and checks by itself.
//
// Everything a file of this package decides, it decides from documents alone: Default and
// Validate see one object, Relate sees it among those in the store, Claims is what two
// documents of one set must not both have. What depends on the outside (a VMID that is
// taken, a host name that an older Vhost has) is the controllers' business and ends in a
// condition.
//
// Defaults are stored when they depend on nothing that can change: fixed values and what
// is derived from the object's own name. Others (the node, the template, the web port)
// stay unset and are resolved late.
package kinds

import (
	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// definitions lists the kinds, one line each.
func definitions() []resource.Definition {
	return []resource.Definition{
		{Message: &v1alpha1.Namespace{}},
		{Message: &v1alpha1.Cluster{}},
		{Message: &v1alpha1.Bridge{}},
		{Message: &v1alpha1.Appliance{}},
		{Message: &v1alpha1.App{}},
		{Message: &v1alpha1.Vhost{}},
		{Message: &v1alpha1.Operation{}},
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

// New returns the registry of all kinds and those given, for tests with a kind of their own.
func New(extra ...resource.Definition) (*resource.Registry, error) {
	return resource.NewRegistry(append(definitions(), extra...)...)
}
