package sync

import (
	"fmt"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// minAllowed is the number of deletions that nobody is asked about, by default.
const minAllowed = 3

// allowedDeletions is how many objects one commit may delete.
func allowedDeletions(spec *v1alpha1.SyncSpec, owned int) int {
	if spec.MaxDeletions != nil {
		return int(spec.GetMaxDeletions())
	}
	return max(minAllowed, owned/5)
}

// guard stops a commit that deletes more than it should. wanted is the number of manifests.
func guard(s *v1alpha1.Sync, owned, wanted int, deleting []resource.Object) error {
	spec := s.GetSpec()
	if most := allowedDeletions(spec, owned); len(deleting) > most {
		return &refusal{"PruneBlocked", fmt.Sprintf(
			"the commit has %d manifests and would delete %d of %d objects (%s); allowed are %d. If that is meant, set spec.maxDeletions to %d, at least until it is applied",
			wanted, len(deleting), owned, some(deleting), most, len(deleting))}
	}
	if spec.GetPrune() == "confirm" {
		return nil
	}
	var unconfirmed []resource.Object
	for _, o := range deleting {
		if hasData(o) && o.GetMetadata().GetAnnotations()[resource.AnnotationPrune] != "confirm" {
			unconfirmed = append(unconfirmed, o)
		}
	}
	if len(unconfirmed) > 0 {
		return &refusal{"PruneNotConfirmed", fmt.Sprintf(
			"the commit would delete %s, which holds data (spec.stateful). Back it up; then confirm with `proxctl -n %s annotate %s %s=confirm`, or set spec.prune: confirm. To keep it, bring its manifest back",
			some(unconfirmed), unconfirmed[0].GetMetadata().GetNamespace(), resource.KeyOf(unconfirmed[0]).Short(), resource.AnnotationPrune)}
	}
	return nil
}

// hasData tells whether deleting an object destroys what nothing brings back: the guest of an
// App that says so and does not keep its guest.
func hasData(o resource.Object) bool {
	app, ok := o.(*v1alpha1.App)
	spec := app.GetSpec()
	if !ok || !spec.GetStateful() {
		return false
	}
	kept := spec.GetDeletionPolicy() == "Orphan" || spec.GetDeletionPolicy() == "" && spec.GetAdopt()
	return !kept
}

// some names a few objects.
func some(objs []resource.Object) string {
	const most = 5
	var parts []string
	for i, o := range objs {
		if i == most {
			parts = append(parts, "...")
			break
		}
		parts = append(parts, resource.KeyOf(o).String())
	}
	return strings.Join(parts, ", ")
}
