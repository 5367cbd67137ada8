// Package ownership records which manager set which field of an object, and merges what a
// manager applies into what others set: server-side apply, as Kubernetes does it, by the
// same library (structured-merge-diff) over a schema made of the kinds' own descriptors.
//
// # Who owns what
//
// A manager is a name and an operation: Apply, for who applies documents, or Update, for
// who creates, replaces and patches objects. Both may have the same name and are two. An
// applier owns exactly the fields of its last document; who updates owns what it changed.
// Several own a field that they set to the same value.
//
//   - A field that an applier no longer has in its document, and nobody else owns, is
//     removed; defaults are then filled in again. Defaults are owned by nobody.
//   - To apply another value to a field that somebody else owns is a Conflict, unless
//     forced; then the others lose the field. An update always takes what it changes.
//   - Lists with (list_keys) are merged by their keys, and finalizers item by item; all
//     other lists are owned as a whole. Messages and maps are owned field by field.
//   - An object that nobody is recorded for was written before fields were tracked: the
//     first applier takes over everything outside metadata.
//
// status is not tracked: one controller writes it.
package ownership

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/merge"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Tracker knows the schema of all kinds. It is safe for concurrent use.
type Tracker struct {
	schema  *schema.Schema
	updater *merge.Updater
	// slow: see WithoutShortWays.
	slow bool
}

// New returns the Tracker of the kinds of a registry.
func New(reg *resource.Registry) *Tracker {
	builder := &merge.UpdaterBuilder{Converter: oneVersion{}, ReturnInputOnNoop: true}
	return &Tracker{schema: schemaOf(reg), updater: builder.BuildUpdater()}
}

// WithoutShortWays returns a Tracker that leaves everything to the library: tests compare.
func (t *Tracker) WithoutShortWays() *Tracker {
	slow := *t
	slow.slow = true
	return &slow
}

// oneVersion converts nothing: there is one version of the API.
type oneVersion struct{}

func (oneVersion) Convert(v *typed.TypedValue, _ fieldpath.APIVersion) (*typed.TypedValue, error) {
	return v, nil
}

func (oneVersion) IsMissingVersionError(error) bool { return false }

// Conflict is a field that a document sets to another value than its owner did.
type Conflict struct {
	Path    string // in the document: spec.rules[0].path
	Manager string // who owns the field
	Update  bool   // whether the owner did not apply it, but updated the object
}

// Apply returns the object that live becomes when manager applies the document, with the
// new ownership; its defaults are to be filled in. When live is nil, because there is none
// yet, that is defaulted. Conflicts, unless force, come instead of an object.
//
// The document must have the shape that its kind demands (resource.Kind.CheckShape).
// defaulted is its object with defaults.
func (t *Tracker) Apply(kind *resource.Kind, live resource.Object, doc resource.Document, defaulted resource.Object,
	manager string, force bool) (resource.Object, []Conflict, error) {
	fields, simple := fieldSet(doc)
	if simple && !t.slow {
		if live == nil {
			defaulted.GetMetadata().ManagedFields = []*v1alpha1.ManagedFieldsEntry{entryOf(manager, operationApply, fields, time.Now())}
			return defaulted, nil, nil
		}
		if owned, sole := soleApplier(live, manager); sole && owned == fields {
			if next := resource.Clone(live); again(next, doc.Object) {
				return next, nil, nil
			}
		}
	}
	wish := doc.Wish(defaulted)
	config := t.typed(kind, wish)
	if live == nil {
		set, err := config.ToFieldSet()
		if err != nil {
			return nil, nil, fmt.Errorf("fields of the document: %w", err)
		}
		owners := fieldpath.ManagedFields{ownerKey(manager, operationApply): fieldpath.NewVersionedSet(set, version, true)}
		return defaulted, nil, record(defaulted, nil, owners, time.Now())
	}
	if same, err := t.nothingNew(kind, live, config, manager); same || err != nil {
		return resource.Clone(live), nil, err
	}
	owners, err := ownersOf(live)
	if err != nil {
		return nil, nil, err
	}
	liveWish := t.typed(kind, wishOf(kind, live, owners))
	if len(owners) == 0 {
		if owners, err = takeOver(liveWish, manager); err != nil {
			return nil, nil, err
		}
	}
	merged, owners, err := t.updater.Apply(liveWish, config, version, owners, ownerKey(manager, operationApply), force)
	var conflicts merge.Conflicts
	if errors.As(err, &conflicts) {
		return nil, describe(kind, conflicts, wish), nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("merge: %w", err)
	}
	next := resource.Clone(live)
	tree, ok := merged.AsValue().Unstructured().(map[string]any)
	if !ok {
		tree = nil // everything was removed
	}
	if err := resource.SetWish(next, tree); err != nil {
		return nil, nil, fmt.Errorf("merged object: %w", err)
	}
	return next, nil, record(next, live, owners, time.Now())
}

// Again is Apply for the common case, at a small part of its cost: the manager is the only
// one that has applied to the object, or updated it, and gives the same or other values to
// exactly the fields that it has. live itself becomes the outcome; it may lack its status.
// false: the case is another one, or is not recognised, and live is worth nothing. The document
// needs no shape: what is wrong with it is wrong with the outcome.
func (t *Tracker) Again(live resource.Object, doc resource.Document, manager string) bool {
	owned, sole := soleApplier(live, manager)
	if t.slow || !sole {
		return false
	}
	buf := setBuffers.Get().(*[]byte)
	defer setBuffers.Put(buf)
	fields, simple := appendFieldSet((*buf)[:0], doc)
	if !simple {
		return false
	}
	if cap(fields) <= maxSetBuffer {
		*buf = fields
	}
	return owned == string(fields) && again(live, doc.Object)
}

var setBuffers = sync.Pool{New: func() any { return new([]byte) }}

// maxSetBuffer is the size up to which a buffer is kept for the next set.
const maxSetBuffer = 64 << 10

// nothingNew is the short way for the common case: the manager has applied exactly these
// fields before, and all of them are as the document wants them. Then nothing is pruned,
// nothing can conflict and nobody's ownership changes.
func (t *Tracker) nothingNew(kind *resource.Kind, live resource.Object, config *typed.TypedValue, manager string) (bool, error) {
	set, err := config.ToFieldSet()
	if err != nil {
		return false, fmt.Errorf("fields of the document: %w", err)
	}
	fields, err := set.ToJSON()
	if err != nil {
		return false, fmt.Errorf("encode fields of the document: %w", err)
	}
	for _, e := range live.GetMetadata().GetManagedFields() {
		if e.GetManager() != manager || e.GetOperation() != operationApply || e.GetFieldsV1() != string(fields) {
			continue
		}
		now := t.typed(kind, resource.WishOf(live))
		merged, err := now.Merge(config)
		if err != nil {
			return false, fmt.Errorf("merge: %w", err)
		}
		return value.Equals(now.AsValue(), merged.AsValue()), nil
	}
	return false, nil
}

// takeOver makes manager the applier of everything that an object has outside metadata.
func takeOver(live *typed.TypedValue, manager string) (fieldpath.ManagedFields, error) {
	set, err := live.ToFieldSet()
	if err != nil {
		return nil, fmt.Errorf("fields of the object: %w", err)
	}
	mine := fieldpath.NewSet()
	set.Iterate(func(p fieldpath.Path) {
		if p[0].FieldName == nil || *p[0].FieldName != "metadata" {
			mine.Insert(p.Copy())
		}
	})
	if mine.Empty() {
		return fieldpath.ManagedFields{}, nil
	}
	return fieldpath.ManagedFields{ownerKey(manager, operationApply): fieldpath.NewVersionedSet(mine, version, true)}, nil
}

// Update records in next, which replaces live (nil: which is created), that manager owns
// what it changed. What next says of ownership is ignored.
func (t *Tracker) Update(kind *resource.Kind, live, next resource.Object, manager string) error {
	before, owners := resource.Wish{}, fieldpath.ManagedFields{}
	if live != nil {
		var err error
		if owners, err = ownersOf(live); err != nil {
			return err
		}
		before = wishOf(kind, live, owners)
	}
	_, owners, err := t.updater.Update(t.typed(kind, before), t.typed(kind, wishOf(kind, next, owners)), version, owners, ownerKey(manager, operationUpdate))
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	return record(next, live, owners, time.Now())
}
