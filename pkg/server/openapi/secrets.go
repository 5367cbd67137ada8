package openapi

import (
	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// RekeyPath is where the key of sealed values is changed.
const RekeyPath = "/api/v1/system/secrets/rekey"

// rekey adds the route that changes the key of sealed values.
func (d *document) rekey() {
	d.add(RekeyPath, "post", "rekey", "Change the key that values of Secrets are sealed with",
		answer("How many values were sealed anew.", d.ref((&v1alpha1.RekeyResponse{}).ProtoReflect().Descriptor())),
		body("application/json", d.ref((&v1alpha1.RekeyRequest{}).ProtoReflect().Descriptor()), false))
}

// valuesOf adds the values of a Secret.
func (d *document) valuesOf(k *resource.Kind, item string) {
	if k.Name == "Secret" {
		d.add(item+"/values", "post", "readSecretValues", "Read the values of a Secret, which the audit trail tells; it needs the verb secrets-read",
			answer("The values, by the paths of their fields.", d.ref((&v1alpha1.ReadSecretResponse{}).ProtoReflect().Descriptor())))
	}
}
