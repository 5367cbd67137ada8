package sync

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/gitops"
	"github.com/proximity-pve/proximity/pkg/gitops/inventory"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Bounds of what a status tells.
const (
	maxObjects = 100
	maxHistory = 20
)

// request is what a Sync asks the engine for.
func (r *reconciler) request(s *v1alpha1.Sync, w *work, set *set) (gitops.Request, error) {
	entries, err := inventory.Decode(s.GetStatus().GetInventory())
	if err != nil {
		return gitops.Request{}, err
	}
	m := r.memory.of(s)
	spec := s.GetSpec()
	self := resource.KeyOf(s)
	req := gitops.Request{
		Sync: self, Revision: w.revision, Owned: make(map[resource.Key]bool, len(entries)), Docs: make([]gitops.Document, len(set.docs)),
		Identity: gitops.Identity{Own: spec.GetIdentity() == "own", Sync: self, Source: resource.KeyOf(w.repo)},
		Correct:  spec.GetDriftPolicy() == "" || spec.GetDriftPolicy() == "correct", Force: spec.GetForce(),
		Keep: spec.GetPrune() == "never",
	}
	for _, e := range entries {
		req.Owned[e.Key] = true
	}
	unchanged := s.GetStatus().GetAppliedHash() == w.hash
	wanted := make(map[resource.Key]bool, len(set.docs))
	for i, p := range set.docs {
		key := p.Key()
		wanted[key] = true
		req.Docs[i] = gitops.Document{Prepared: p, Same: unchanged || m.applied[key] == p, Seen: m.seen[key]}
	}
	for _, e := range entries {
		if !wanted[e.Key] && e.Key != self { // no Sync deletes itself
			req.Gone = append(req.Gone, e.Key)
		}
	}
	req.Guard = func(deleting []resource.Object) error { return guard(s, len(entries), len(set.docs), deleting) }
	return req, nil
}

// apply makes the objects what the commit says.
func (r *reconciler) apply(ctx context.Context, s *session, w *work, set *set) error {
	req, err := r.request(s.Object, w, set)
	if err != nil {
		return err
	}
	if len(set.docs) == 0 {
		return &refusal{"EmptySource", fmt.Sprintf("there is no manifest below %q of %s; if all objects are to go, delete the Sync with spec.deletionPolicy Delete", "/"+w.path, w.revision)}
	}
	recorded := false
	self, want := resource.KeyOf(s.Object), s.Object
	req.Record = func(tx runtime.Tx, o *gitops.Outcome) error {
		stored, err := tx.Get(self)
		if err != nil {
			return err
		}
		cur, ok := stored.(*v1alpha1.Sync)
		m := cur.GetMetadata()
		same := m.GetGeneration() == want.GetMetadata().GetGeneration() || wrote(o, self)
		if !ok || m.GetUid() != want.GetMetadata().GetUid() || !same || resource.Deleting(cur) {
			return fmt.Errorf("%w: %s has changed meanwhile", runtime.ErrConflict, self)
		}
		next := resource.Clone(cur)
		if next.Status == nil {
			next.Status = &v1alpha1.SyncStatus{}
		}
		record(next.Status, w, o, now())
		if recorded = !proto.Equal(next.Status, cur.Status); !recorded {
			return nil
		}
		_, err = tx.UpdateStatus(next)
		return err
	}
	news := s.Object.Status.GetAppliedHash() != w.hash
	o, err := r.Engine.Follow(ctx, req)
	if err != nil {
		return err
	}
	r.memory.of(s.Object).remember(set, o)
	if recorded {
		if err := r.refresh(ctx, s); err != nil {
			return err
		}
	}
	r.tell(ctx, s, w, o, news)
	return nil
}

// wrote tells whether the commit itself has the object, which it then may have changed.
func wrote(o *gitops.Outcome, key resource.Key) bool {
	return slices.ContainsFunc(o.Results, func(res gitops.Result) bool { return res.Key == key })
}

// refresh takes over what the transaction wrote, and keeps what this reconcile found before.
func (r *reconciler) refresh(ctx context.Context, s *session) error {
	plain := resource.FindCondition(s.Object, CondPlaintext)
	attempted := s.Object.Status.AttemptedRevision
	if err := s.Refresh(ctx); err != nil {
		return err
	}
	s.Object.Status.AttemptedRevision = attempted
	if plain != nil {
		resource.SetCondition(s.Object, plain)
	}
	return nil
}

// record writes into a status what was done.
func record(st *v1alpha1.SyncStatus, w *work, o *gitops.Outcome, at string) {
	entries := make([]inventory.Entry, 0, len(o.Results)+len(o.Pending))
	for _, res := range o.Results {
		entries = append(entries, inventory.Entry{Key: res.Key, File: res.File})
	}
	for _, key := range o.Pending {
		entries = append(entries, inventory.Entry{Key: key})
	}
	if inv := inventory.Encode(entries); !proto.Equal(inv, st.GetInventory()) {
		st.Inventory = inv
	}
	counts, changed := count(o), changes(o)
	first := st.GetAppliedRevision() == ""
	news := st.GetAppliedHash() != w.hash
	if news || len(changed) > 0 {
		st.Summary, st.Objects = counts, changed
	}
	st.Drift = drift(o)
	if first || news || st.GetAppliedRevision() != w.revision && len(changed) > 0 {
		h := &v1alpha1.SyncHistory{Revision: proto.String(w.revision), Time: proto.String(at), Subject: proto.String(w.subject), Author: proto.String(w.author), Summary: counts}
		st.History = append([]*v1alpha1.SyncHistory{h}, st.History...)
		st.History = st.History[:min(len(st.History), maxHistory)]
	}
	st.AppliedRevision, st.AppliedHash, st.AttemptedRevision = proto.String(w.revision), proto.String(w.hash), proto.String(w.revision)
}

func count(o *gitops.Outcome) *v1alpha1.SyncSummary {
	var created, configured, unchanged int32
	for _, res := range o.Results {
		switch res.Outcome {
		case gitops.Created:
			created++
		case gitops.Configured:
			configured++
		case gitops.Unchanged:
			unchanged++
		}
	}
	return &v1alpha1.SyncSummary{Created: &created, Configured: &configured, Unchanged: &unchanged, Pruned: proto.Int32(int32(len(o.Pruned)))}
}

// changes lists what is not as it was.
func changes(o *gitops.Outcome) []*v1alpha1.SyncObject {
	var list []*v1alpha1.SyncObject
	for _, res := range slices.Concat(o.Pruned, o.Kept, o.Results) {
		if len(list) == maxObjects {
			break
		}
		if res.Outcome != gitops.Unchanged && res.Outcome != gitops.Drifted {
			list = append(list, object(res))
		}
	}
	return list
}

func drift(o *gitops.Outcome) []*v1alpha1.SyncObject {
	var list []*v1alpha1.SyncObject
	for _, res := range o.Results {
		if res.Outcome == gitops.Drifted && len(list) < maxObjects {
			list = append(list, object(res))
		}
	}
	return list
}

func object(res gitops.Result) *v1alpha1.SyncObject {
	return &v1alpha1.SyncObject{
		Kind: proto.String(res.Key.Kind), Namespace: proto.String(res.Key.Namespace), Name: proto.String(res.Key.Name),
		Result: proto.String(res.Outcome), File: proto.String(res.File), Message: proto.String(res.Message),
	}
}

// tell sets conditions and records events after a commit was applied, or found applied.
func (r *reconciler) tell(ctx context.Context, s *session, w *work, o *gitops.Outcome, news bool) {
	s.True(CondApplied, "Applied", "%s", w.revision)
	changed := changes(o)
	switch {
	case news:
		s.Normal(ctx, "Applied", "%s %q: %s", w.revision, w.subject, inWords(count(o)))
	case len(changed) > 0:
		s.Warning(ctx, "DriftCorrected", "changed by hand, set back to %s: %s", w.revision, names(changed))
	}
	left := s.Object.Status.GetDrift()
	if len(left) == 0 {
		s.True(CondInSync, "InSync", "everything is as the repository says")
		return
	}
	was := resource.FindCondition(s.Object, CondInSync)
	text := "changed by hand and left so: " + names(left)
	if s.Object.GetSpec().GetDriftPolicy() != "ignore" && was.GetMessage() != text {
		s.Warning(ctx, "Drifted", "%s", text)
	}
	s.False(CondInSync, "Drifted", "%s", text)
}

// detect tells what would be done.
func (r *reconciler) detect(ctx context.Context, s *session, w *work, set *set) error {
	req, err := r.request(s.Object, w, set)
	if err != nil {
		return err
	}
	req.DryRun, req.Correct = true, true
	for i := range req.Docs {
		req.Docs[i].Same, req.Docs[i].Seen = false, nil
	}
	o, err := r.Engine.Follow(ctx, req)
	if err != nil {
		return err
	}
	s.Object.Status.Summary, s.Object.Status.Objects = count(o), changes(o)
	s.True(CondApplied, "Detected", "%s was compared and, with mode detect, is not applied", w.revision)
	if len(s.Object.Status.Objects) == 0 {
		s.True(CondInSync, "InSync", "everything is as the repository says")
	} else {
		s.False(CondInSync, "Differs", "applying %s would change: %s", w.revision, inWords(count(o)))
	}
	return nil
}

func inWords(c *v1alpha1.SyncSummary) string {
	var parts []string
	for _, p := range []struct {
		n    int32
		what string
	}{{c.GetCreated(), "created"}, {c.GetConfigured(), "configured"}, {c.GetPruned(), "pruned"}, {c.GetUnchanged(), "unchanged"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// names lists a few objects.
func names(list []*v1alpha1.SyncObject) string {
	const most = 5
	var parts []string
	for i, o := range list {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		name := resource.Key{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}.String()
		if o.GetMessage() != "" {
			name += " (" + o.GetMessage() + ")"
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, ", ")
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }
