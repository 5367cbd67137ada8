// Package kindtest has a kind that only tests have. It costs what every kind costs: a
// message (gadget.proto) and one line where it is registered (Registry). The test of this
// package starts the whole server with it and finds it on every surface: what a kind needs
// beside those two would be missing there. A second one, the Vault, is for tests of sensitive
// fields and is registered by them.
//
// hack/check-generated.sh holds its generated code to the proto, as it does that of the API.
package kindtest

import (
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// Registry has all kinds and the Gadget.
func Registry() *resource.Registry {
	reg, err := kinds.New(resource.Definition{Message: &Gadget{}})
	if err != nil {
		panic("kindtest: " + err.Error()) // constants
	}
	return reg
}

// New returns a Gadget that breaks no rule.
func New(name string) *Gadget {
	return &Gadget{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Gadget"),
		Metadata: &v1alpha1.ObjectMeta{Namespace: resource.DefaultNamespace, Name: name},
		Spec:     &GadgetSpec{Color: proto.String("red")},
	}
}
