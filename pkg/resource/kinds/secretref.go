package kinds

import (
	"fmt"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// validateSecretRefs checks the references to Secrets in an object of any kind. That a
// Secret does not exist yet is no error: the controller waits for it.
func validateSecretRefs(o resource.Object, p *problems) {
	for _, r := range resource.SecretReferences(o) {
		if p.must(r.Path+".name", r.Ref.Name, "the name of a Secret") {
			p.name(r.Path+".name", r.Ref.GetName())
		}
		if p.must(r.Path+".key", r.Ref.Key, "a key of the Secret") && !isSecretKey(r.Ref.GetKey()) {
			p.invalid(r.Path+".key", r.Ref.GetKey(), secretKeyRule)
		}
		switch ns := r.Ref.GetNamespace(); {
		case r.Ref.Namespace == nil:
		case !resource.IsDNSLabel(ns):
			p.invalid(r.Path+".namespace", ns, "the name of a namespace")
		case !resource.MayUseSecret(o, r.Secret):
			p.add(resource.Forbidden(r.Path+".namespace", ns,
				fmt.Sprintf("an object refers to Secrets of its own namespace only, %s; leave it out", o.GetMetadata().GetNamespace())))
		}
	}
}
