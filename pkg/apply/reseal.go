package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/sealed"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
)

// resealChunk bounds the objects of one transaction, so that other writers wait for
// milliseconds.
const resealChunk = 64

// Reseal seals values that name another key than the active one anew, in transactions of a
// bounded size, and returns how many. What another writer changes meanwhile is sealed with
// the active key by that writer. It can be stopped at any point and called again; it returns
// nil only when no stored value names another key. A value that cannot be opened is an error.
func (a *Applier) Reseal(ctx context.Context) (values int, err error) {
	if a.keys == nil {
		return 0, errNoKeys
	}
	ctx = audit.WithVerb(ctx, "rekey", "")
	for {
		// Looked at in a transaction: it sees what others have written and is not durable yet.
		// Whoever seals later does so with the active key.
		var stale []resource.Key
		if _, err := a.store.Update(ctx, func(tx store.Tx) error { stale = a.stale(tx); return nil }); err != nil || len(stale) == 0 {
			return values, err
		}
		done := 0
		_, err := a.store.Update(ctx, func(tx store.Tx) error {
			done = 0
			for _, key := range stale {
				changed, err := a.reseal(tx, key)
				if err != nil {
					return err
				}
				done += changed
			}
			return nil
		})
		if err != nil {
			return values, err
		}
		values += done
	}
}

// stale are the first objects that have a value that names another key than the active one.
func (a *Applier) stale(tx store.Tx) (keys []resource.Key) {
	for _, kind := range a.reg.Kinds() {
		if !kind.HasSensitive() {
			continue
		}
		for _, obj := range tx.List(kind.Name, "") {
			if a.isStale(kind, obj) {
				if keys = append(keys, resource.KeyOf(obj)); len(keys) == resealChunk {
					return keys
				}
			}
		}
	}
	return keys
}

// isStale tells whether an object has a value that names another key than the active one.
func (a *Applier) isStale(kind *resource.Kind, obj resource.Object) bool {
	for _, v := range kind.SensitiveValues(obj) {
		if s, err := sealed.Parse(v.Text); err == nil && !s.IsMark() && s.KeyID != a.keys.Active() {
			return true
		}
	}
	return false
}

// reseal seals the values of one object anew, as it is now.
func (a *Applier) reseal(tx store.Tx, key resource.Key) (changed int, err error) {
	kind, _ := a.reg.Get(key.Kind)
	stored, err := tx.Get(key)
	if errors.Is(err, store.ErrNotFound) || err == nil && !a.isStale(kind, stored) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	obj := resource.Clone(stored)
	for _, v := range kind.SensitiveValues(obj) {
		s, err := sealed.Parse(v.Text)
		if err != nil || s.IsMark() || s.KeyID == a.keys.Active() {
			continue
		}
		place := seal.PlaceOf(stored, v.ID)
		value, err := a.keys.Open(place, v.Text)
		if err != nil {
			return 0, fmt.Errorf("%s: %s: %w; write the value anew, or delete it, and try again", key, v.Path, err)
		}
		v.Set(a.keys.Seal(place, value))
		changed++
	}
	_, err = tx.Update(obj)
	return changed, err
}

// Rekey makes a new key, seals everything with it, and then forgets the others: the new key
// is in the key file before anything is sealed with it, the old ones leave it when nothing
// names them. After a crash at any point all values open, and calling it again finishes.
// finish only finishes an earlier one.
func (a *Applier) Rekey(ctx context.Context, finish bool) (values int, err error) {
	if a.keys == nil {
		return 0, errNoKeys
	}
	if !finish {
		if _, err := a.keys.Rotate(); err != nil {
			return 0, err
		}
	}
	if values, err = a.Reseal(ctx); err != nil {
		return values, fmt.Errorf("the new key seals already, the old ones are kept: %w", err)
	}
	return values, a.keys.Retire()
}

// Reveal opens the values of a stored object, for somebody who may read them.
func (a *Applier) Reveal(ctx context.Context, key resource.Key) (map[string]string, error) {
	kind, ok := a.reg.Get(key.Kind)
	if !ok {
		return nil, fmt.Errorf("%w %q", resource.ErrUnknownKind, key.Kind)
	}
	obj, err := a.store.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	if a.keys == nil {
		return nil, errNoKeys
	}
	values := map[string]string{}
	for _, v := range kind.SensitiveValues(obj) {
		value, err := a.keys.Open(seal.PlaceOf(obj, v.ID), v.Text)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", key, v.Path, err)
		}
		values[v.Path] = string(value)
	}
	return values, nil
}
