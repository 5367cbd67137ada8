package kinds

import (
	"fmt"
	"slices"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	minOperationTimeout = time.Second
	maxOperationTimeout = 30 * time.Minute
)

func validateNamespace(n *v1alpha1.Namespace, p *problems) {
	if name := n.GetMetadata().GetName(); resource.IsName(name) { // else said for every kind
		p.label("metadata.name", name)
	}
	p.subjects("spec.owners", n.GetSpec().GetOwners())
}

func defaultOperation(o *v1alpha1.Operation) { orText(&sub(&o.Spec).Timeout, "2m") }

// targetsOf names the kinds that each action works on.
var targetsOf = map[string][]string{
	"RestartAppliance": {"Appliance"}, "TestNAT": {"Appliance"}, "CollectLogs": {"Appliance", "App"}, "Examine": {"Cluster"}, "Rebuild": {"Cluster"},
	"Preview": {"Sync"},
}

func validateOperation(o *v1alpha1.Operation, p *problems) {
	spec := orEmpty(o.Spec)
	target := orEmpty(spec.Target)
	if p.must("spec.target.kind", target.Kind, "the kind of the object to act on") {
		if want := targetsOf[spec.GetAction()]; want != nil && !slices.Contains(want, target.GetKind()) {
			p.invalid("spec.target.kind", target.GetKind(), fmt.Sprintf("%s, for the action %s", strings.Join(want, " or "), spec.GetAction()))
		}
	}
	if p.must("spec.target.name", target.Name, "the name of the object to act on") {
		p.name("spec.target.name", target.GetName())
	}
	p.duration("spec.timeout", spec.GetTimeout(), minOperationTimeout, maxOperationTimeout)
	keys := make([]string, 0, len(spec.GetArguments()))
	for key := range spec.GetArguments() {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		at := resource.KeyPath("spec.arguments", key)
		if !resource.IsLabelKey(key) {
			p.invalid(at, key, "a name of letters, digits, -, _ and .")
		}
	}
}
