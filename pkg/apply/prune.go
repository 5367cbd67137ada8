package apply

import (
	"errors"
	"fmt"
	"slices"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Values of resource.AnnotationPrune.
const (
	PruneConfirm = "confirm"
	PruneNever   = "never"
)

// prune asks for the deletion of what the source no longer has, in the reverse order of
// creation. What is no longer this Sync's is not touched.
func (f *follower) prune() error {
	gone := slices.Clone(f.src.Gone)
	slices.SortStableFunc(gone, func(x, y resource.Key) int { return f.order(y) - f.order(x) })
	var deleting []resource.Object
	for _, key := range gone {
		cur, err := f.tx.Get(key)
		switch {
		case errors.Is(err, store.ErrNotFound):
			continue
		case err != nil:
			return err
		}
		_, file, _ := resource.FollowedBy(cur)
		kept := FollowResult{Result: Result{Key: key, Outcome: Kept, Object: cur, Before: cur}, File: file}
		switch {
		case !f.mine(cur):
			kept.Message = "it is no longer this Sync's"
		case resource.Deleting(cur):
			continue
		case f.src.Keep || cur.GetMetadata().GetAnnotations()[resource.AnnotationPrune] == PruneNever:
			kept.Message = "it is not to be deleted; it belongs to nobody now"
			if err := f.release(cur); err != nil {
				return err
			}
		default:
			deleting = append(deleting, cur)
			continue
		}
		f.out.Kept = append(f.out.Kept, kept)
	}
	if f.src.Guard != nil {
		if err := f.src.Guard(deleting); err != nil {
			return err
		}
	}
	for _, cur := range deleting {
		if err := f.delete(cur); err != nil {
			return err
		}
	}
	return nil
}

func (f *follower) order(key resource.Key) int {
	if k, ok := f.a.reg.Get(key.Kind); ok {
		return k.ApplyOrder
	}
	return 0
}

func (f *follower) delete(cur resource.Object) error {
	key := resource.KeyOf(cur)
	_, file, _ := resource.FollowedBy(cur)
	r := FollowResult{Result: Result{Key: key, Outcome: Pruned, Object: cur, Before: cur}, File: file}
	if key.Kind == namespaceKind {
		if err := f.a.emptyNamespace(f.tx, key.Name); err != nil {
			// What is in it may be on its way out.
			r.Outcome, r.Message = Kept, err.Error()
			f.out.Kept, f.out.Pending = append(f.out.Kept, r), append(f.out.Pending, key)
			return nil
		}
	}
	if _, err := f.tx.Delete(key, store.Preconditions{UID: cur.GetMetadata().GetUid()}); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	f.out.Pruned = append(f.out.Pruned, r)
	return nil
}

// mine tells whether an object says that it is this Sync's, and the record of who set its
// fields says so too.
func (f *follower) mine(obj resource.Object) bool {
	sync, _, ok := resource.FollowedBy(obj)
	return ok && sync == f.src.Sync && slices.ContainsFunc(obj.GetMetadata().GetManagedFields(), func(e *managedFields) bool {
		return e.GetManager() == f.manager && e.GetOperation() == "Apply"
	})
}

// release takes the Sync's marks off an object, which stays as it is.
func (f *follower) release(cur resource.Object) error {
	next := resource.Clone(cur)
	m := next.GetMetadata()
	delete(m.Annotations, resource.AnnotationSync)
	delete(m.Annotations, resource.AnnotationSource)
	m.ManagedFields = slices.DeleteFunc(m.ManagedFields, func(e *managedFields) bool {
		return e.GetManager() == f.manager && e.GetOperation() == "Apply"
	})
	if _, err := f.tx.Update(next); err != nil {
		return fmt.Errorf("release %s: %w", resource.KeyOf(cur), err)
	}
	return nil
}

type managedFields = v1alpha1.ManagedFieldsEntry
