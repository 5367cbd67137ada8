package ownership

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	operationApply  = "Apply"
	operationUpdate = "Update"
	fieldsType      = "FieldsV1"
	version         = fieldpath.APIVersion(resource.APIVersion)

	// MaxUpdaters bounds the managers with the operation Update that are told apart; the
	// fields of more, the longest silent ones, go to the manager AncientUpdater.
	MaxUpdaters = 10
	// MaxAppliers bounds the managers that apply to one object.
	MaxAppliers = 32
	// AncientUpdater is the manager that fields of forgotten managers belong to.
	AncientUpdater = "ancient-changes"
)

// ownerKey names a manager of an object towards the library: operation and name.
func ownerKey(manager, operation string) string { return operation + " " + manager }

// ownersOf reads who owns what of an object.
func ownersOf(obj resource.Object) (fieldpath.ManagedFields, error) {
	owners := fieldpath.ManagedFields{}
	for _, e := range obj.GetMetadata().GetManagedFields() {
		set := &fieldpath.Set{}
		if err := set.FromJSON(strings.NewReader(e.GetFieldsV1())); err != nil {
			return nil, fmt.Errorf("%s: managed fields of %q: %w", resource.KeyOf(obj), e.GetManager(), err)
		}
		owners[ownerKey(e.GetManager(), e.GetOperation())] = fieldpath.NewVersionedSet(set, version, e.GetOperation() == operationApply)
	}
	return owners, nil
}

// record writes who owns what into an object. An entry that is as it was in live keeps its
// time, so that what changes nothing is seen to change nothing.
func record(obj, live resource.Object, owners fieldpath.ManagedFields, now time.Time) error {
	was := map[string]*v1alpha1.ManagedFieldsEntry{}
	if live != nil {
		for _, e := range live.GetMetadata().GetManagedFields() {
			was[ownerKey(e.GetManager(), e.GetOperation())] = e
		}
	}
	var entries []*v1alpha1.ManagedFieldsEntry
	for key, owned := range owners {
		if owned.Set().Empty() {
			continue
		}
		fields, err := owned.Set().ToJSON()
		if err != nil {
			return fmt.Errorf("%s: encode managed fields: %w", resource.KeyOf(obj), err)
		}
		operation, manager, _ := strings.Cut(key, " ")
		e := entryOf(manager, operation, string(fields), now)
		if old := was[key]; old.GetFieldsV1() == e.FieldsV1 {
			e.Time = old.GetTime()
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b *v1alpha1.ManagedFieldsEntry) int {
		return cmp.Or(cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Manager, b.Manager))
	})
	entries, err := bounded(entries)
	obj.GetMetadata().ManagedFields = entries
	return err
}

func entryOf(manager, operation, fields string, now time.Time) *v1alpha1.ManagedFieldsEntry {
	return &v1alpha1.ManagedFieldsEntry{
		Manager: manager, Operation: operation, ApiVersion: resource.APIVersion,
		Time: now.UTC().Format(time.RFC3339), FieldsType: fieldsType, FieldsV1: fields,
	}
}

// bounded merges the longest silent updaters and refuses too many appliers.
func bounded(entries []*v1alpha1.ManagedFieldsEntry) ([]*v1alpha1.ManagedFieldsEntry, error) {
	var appliers, updaters []*v1alpha1.ManagedFieldsEntry
	for _, e := range entries {
		if e.GetOperation() == operationApply {
			appliers = append(appliers, e)
		} else {
			updaters = append(updaters, e)
		}
	}
	if len(appliers) > MaxAppliers {
		return nil, resource.FieldErrors{resource.Forbidden("metadata.managedFields", "",
			fmt.Sprintf("%d managers apply to this object, allowed are %d", len(appliers), MaxAppliers))}
	}
	if len(updaters) <= MaxUpdaters {
		return entries, nil
	}
	slices.SortStableFunc(updaters, func(a, b *v1alpha1.ManagedFieldsEntry) int { return cmp.Compare(a.Time, b.Time) })
	forgotten := len(updaters) - MaxUpdaters + 1
	// The ancient ones, when there are any, are among those merged whatever their time.
	if i := slices.IndexFunc(updaters, func(e *v1alpha1.ManagedFieldsEntry) bool { return e.Manager == AncientUpdater }); i >= forgotten {
		ancient := updaters[i]
		updaters = slices.Insert(slices.Delete(updaters, i, i+1), 0, ancient)
	}
	all := fieldpath.NewSet()
	for _, e := range updaters[:forgotten] {
		set := &fieldpath.Set{}
		if err := set.FromJSON(strings.NewReader(e.GetFieldsV1())); err != nil {
			return nil, fmt.Errorf("managed fields of %q: %w", e.GetManager(), err)
		}
		all = all.Union(set)
	}
	fields, err := all.ToJSON()
	if err != nil {
		return nil, fmt.Errorf("encode managed fields: %w", err)
	}
	ancient := &v1alpha1.ManagedFieldsEntry{
		Manager: AncientUpdater, Operation: operationUpdate, ApiVersion: resource.APIVersion,
		Time: updaters[forgotten-1].Time, FieldsType: fieldsType, FieldsV1: string(fields),
	}
	return append(append(appliers, ancient), updaters[forgotten:]...), nil
}
