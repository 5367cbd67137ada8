package apply

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/sealed"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Sensitive values are sealed in the store and plain while an object is admitted, so that
// validation, ownership and "unchanged" see what was meant. They are opened when a write
// begins, sealed again when it reaches the store, and what comes back to the caller has
// marks. A value that is as it was keeps its seal, byte by byte: sealing it anew would make
// a change of nothing.
//
// A mark in what a caller writes stands for the value that is stored at the very same
// place. So what was read can be written back.

var errNoKeys = errors.New("sensitive values cannot be written: there is no key to seal them with")

// openStored returns a copy of a stored object with its values opened. What cannot be opened
// (it was damaged) stays sealed: it can be kept and be replaced, but not be known.
func (a *Applier) openStored(kind *resource.Kind, stored resource.Object) resource.Object {
	if stored == nil || !kind.HasSensitive() || a.keys == nil {
		return stored
	}
	plain := resource.Clone(stored)
	for _, v := range kind.SensitiveValues(plain) {
		if value, err := a.keys.Open(seal.PlaceOf(stored, v.ID), v.Text); err == nil {
			v.Set(string(value))
		}
	}
	return plain
}

// opened returns what is stored with its values opened, and puts those that obj has marks
// of into obj.
func (a *Applier) opened(kind *resource.Kind, stored, obj resource.Object) (resource.Object, resource.FieldErrors) {
	plain := a.openStored(kind, stored)
	return plain, reveal(kind, obj, stored, plain)
}

// revealBoth does reveal in a document's object and in its defaulted copy.
func revealBoth(kind *resource.Kind, doc, defaulted, stored, plain resource.Object) resource.FieldErrors {
	if errs := reveal(kind, doc, stored, plain); len(errs) > 0 {
		return errs
	}
	return reveal(kind, defaulted, stored, plain)
}

// reveal replaces the marks in obj by the values that they stand for: those of plain, whose
// sealed form is in stored (both nil when there is no object yet).
func reveal(kind *resource.Kind, obj, stored, plain resource.Object) resource.FieldErrors {
	if !kind.HasSensitive() {
		return nil
	}
	var errs resource.FieldErrors
	marks, values := textsByID(kind, stored), textsByID(kind, plain)
	for _, v := range kind.SensitiveValues(obj) {
		given, err := sealed.Parse(v.Text)
		switch {
		case err != nil: // a plain value
		case !given.IsMark():
			errs = append(errs, resource.Forbidden(v.Path, "", "a sealed value cannot be written; write the value itself"))
		case marks[v.ID] != "" && sealed.MarkOf(marks[v.ID]) == given.Mark():
			v.Set(values[v.ID])
		case marks[v.ID] != "":
			errs = append(errs, resource.Forbidden(v.Path, given.Mark(),
				"this mark stands for an earlier value or another object's; write the value itself, or the mark as it is read now to keep the value"))
		default:
			errs = append(errs, resource.Forbidden(v.Path, given.Mark(),
				"this mark stands for a value that is not stored here; write the value itself"))
		}
	}
	return errs
}

func textsByID(kind *resource.Kind, obj resource.Object) map[string]string {
	texts := map[string]string{}
	if obj == nil {
		return texts
	}
	for _, v := range kind.SensitiveValues(obj) {
		texts[v.ID] = v.Text
	}
	return texts
}

// sealInto seals the values of obj, which is going to have that uid. Those that are as they
// were keep their seal. obj is changed.
func (a *Applier) sealInto(kind *resource.Kind, obj, stored, plain resource.Object, uid string) error {
	was, values := textsByID(kind, stored), textsByID(kind, plain)
	for _, v := range kind.SensitiveValues(obj) {
		if old, ok := values[v.ID]; ok && old == v.Text {
			v.Set(was[v.ID])
			continue
		}
		if a.keys == nil {
			return fmt.Errorf("%s: %s: %w", resource.KeyOf(obj), v.Path, errNoKeys)
		}
		place := seal.Place{Key: resource.KeyOf(obj), UID: uid, Field: v.ID}
		v.Set(a.keys.Seal(place, []byte(v.Text)))
	}
	return nil
}

// create stores a new object, its values sealed.
func (a *Applier) create(tx store.Tx, kind *resource.Kind, obj resource.Object) (store.Version, error) {
	if !kind.HasSensitive() {
		return store.PutNew(tx, obj, "")
	}
	uid := uuid.NewString()
	obj = resource.Clone(obj)
	if err := a.sealInto(kind, obj, nil, nil, uid); err != nil {
		return nil, err
	}
	return store.PutNew(tx, obj, uid)
}

// update stores obj in place of what is stored, which is plain when opened.
func (a *Applier) update(tx store.Tx, kind *resource.Kind, stored, plain, obj resource.Object) (store.Version, error) {
	if !kind.HasSensitive() {
		return store.Put(tx, obj)
	}
	obj = resource.Clone(obj)
	if err := a.sealInto(kind, obj, stored, plain, stored.GetMetadata().GetUid()); err != nil {
		return nil, err
	}
	return store.Put(tx, obj)
}

// shownVersion decodes what was written, as it may be shown.
func shownVersion(kind *resource.Kind, v store.Version) (resource.Object, error) {
	obj, err := v.Object()
	if err != nil {
		return nil, err
	}
	return kind.Shown(obj), nil
}

// shown is kind.Shown for an object of any kind.
func (a *Applier) shown(obj resource.Object) resource.Object {
	if obj == nil {
		return nil
	}
	kind, ok := a.reg.Get(obj.GetKind())
	if !ok {
		return obj
	}
	return kind.Shown(obj)
}

// KeysInUse returns the ids of the keys that stored values are sealed with.
func KeysInUse(reg *resource.Registry, list func(kind string) ([]resource.Object, error)) ([]string, error) {
	var ids []string
	seen := map[string]bool{}
	for _, kind := range reg.Kinds() {
		if !kind.HasSensitive() {
			continue
		}
		objects, err := list(kind.Name)
		if err != nil {
			return nil, err
		}
		for _, obj := range objects {
			for _, v := range kind.SensitiveValues(obj) {
				s, err := sealed.Parse(v.Text)
				if err == nil && !s.IsMark() && !seen[s.KeyID] {
					seen[s.KeyID] = true
					ids = append(ids, s.KeyID)
				}
			}
		}
	}
	return ids, nil
}
