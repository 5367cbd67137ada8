package sync

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/gitops"
	"github.com/proximity-pve/proximity/pkg/gitops/inventory"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Finalize deletes or releases what was applied.
func (r *reconciler) Finalize(ctx context.Context, s *session) (runtime.Result, error) {
	if s.Object.Status == nil {
		s.Object.Status = &v1alpha1.SyncStatus{}
	}
	entries, err := inventory.Decode(s.Object.GetStatus().GetInventory())
	if err != nil {
		return runtime.Result{}, err
	}
	remove := s.Object.GetSpec().GetDeletionPolicy() == "Delete"
	left, err := r.let(ctx, s, entries, !remove)
	if errors.Is(err, gitops.ErrForbidden) {
		return runtime.Result{}, runtime.Stalled("Forbidden", "%v; give it the right, or set spec.deletionPolicy to Orphan", err)
	}
	if err != nil {
		return runtime.Result{}, err
	}
	if remove && left > 0 {
		return runtime.Result{}, runtime.Waiting(healthPause, "Deleting", "%s still to be deleted", counted(left, "object"))
	}
	r.memory.forget(s.Object)
	return runtime.Result{}, nil
}

// let lets go of all objects and returns how many are left.
func (r *reconciler) let(ctx context.Context, s *session, entries []inventory.Entry, keep bool) (int, error) {
	if len(entries) == 0 {
		return 0, nil
	}
	self := resource.KeyOf(s.Object)
	req := gitops.Request{
		Sync: self, Revision: s.Object.GetStatus().GetAppliedRevision(), Keep: keep, Owned: map[resource.Key]bool{},
		Identity: gitops.Identity{Own: s.Object.GetSpec().GetIdentity() == "own", Sync: self, Source: sourceOf(s.Object)},
	}
	files := map[resource.Key]string{}
	for _, e := range entries {
		if e.Key == self { // it goes by itself
			continue
		}
		req.Gone = append(req.Gone, e.Key)
		files[e.Key] = e.File
	}
	kept := map[resource.Key]bool{}
	recorded := false
	req.Record = func(tx runtime.Tx, o *gitops.Outcome) error {
		for _, res := range o.Kept {
			kept[res.Key] = true
		}
		for _, key := range o.Pending {
			kept[key] = false
		}
		var left []inventory.Entry
		for _, key := range req.Gone {
			if _, err := tx.Get(key); err == nil && !kept[key] {
				left = append(left, inventory.Entry{Key: key, File: files[key]})
			}
		}
		stored, err := tx.Get(self)
		if err != nil {
			return err
		}
		cur, ok := stored.(*v1alpha1.Sync)
		if !ok || cur.GetMetadata().GetUid() != s.Object.GetMetadata().GetUid() {
			return fmt.Errorf("%w: %s is another one now", runtime.ErrConflict, self)
		}
		next := resource.Clone(cur)
		if next.Status == nil {
			next.Status = &v1alpha1.SyncStatus{}
		}
		next.Status.Inventory = inventory.Encode(left)
		if recorded = !proto.Equal(next.Status, cur.Status); !recorded {
			return nil
		}
		_, err = tx.UpdateStatus(next)
		return err
	}
	if _, err := r.Engine.Follow(ctx, req); err != nil {
		return 0, err
	}
	if recorded {
		if err := s.Refresh(ctx); err != nil {
			return 0, err
		}
	}
	return int(s.Object.GetStatus().GetInventory().GetCount()), nil
}
