package sync

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

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
			"the commit would delete %s, with data. Bring the manifest back with the annotation %s: confirm and then remove it, or set spec.prune: confirm; back the data up first",
			some(unconfirmed), resource.AnnotationPrune)}
	}
	return nil
}

// hasData tells whether deleting an object destroys data: an App that has volumes and does not
// keep its guest.
func hasData(o resource.Object) bool {
	spec, ok := resource.Field(o, "spec")
	if !ok || o.GetKind() != "App" {
		return false
	}
	fields := spec.Descriptor().Fields()
	if p := fields.ByName("deletion_policy"); p != nil && spec.Get(p).String() == "Orphan" {
		return false
	}
	return holdsVolumes(spec, fields)
}

// volumeFields are the names that data volumes have in specs of guests.
var volumeFields = []protoreflect.Name{"volumes", "data_volumes", "mounts"}

func holdsVolumes(spec protoreflect.Message, fields protoreflect.FieldDescriptors) bool {
	for _, name := range volumeFields {
		if f := fields.ByName(name); f != nil && f.IsList() && spec.Get(f).List().Len() > 0 {
			return true
		}
	}
	return false
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
