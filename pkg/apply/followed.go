package apply

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// followed refuses a change of an object that a Sync keeps as its repository says: the next
// look at the repository would take the change back. The error points to the file. next nil
// is its deletion. Labels and annotations that the repository does not set may change.
func (a *Applier) followed(tx store.Tx, cur, next resource.Object, force bool) resource.FieldErrors {
	if a.system || force || cur == nil {
		return nil
	}
	sync, file, ok := resource.FollowedBy(cur)
	if !ok || resource.Deleting(cur) {
		return nil
	}
	path := "metadata"
	if next != nil {
		if path = a.touched(cur, next, resource.SyncManager(sync)); path == "" {
			return nil
		}
	}
	if _, err := tx.Get(sync); errors.Is(err, store.ErrNotFound) {
		return nil // it is gone, and its objects are anybody's
	}
	return resource.FieldErrors{{Path: path, Reason: resource.ReasonManagerConflict, Allowed: fmt.Sprintf(
		"%s is kept as %s of %s says; change it there, or force the change here, which lasts until it is applied again",
		resource.KeyOf(cur), orUnknown(file), sync)}}
}

func orUnknown(file string) string {
	if file == "" {
		return "the repository"
	}
	return "the file " + file
}

// touched names what of a followed object a change touches that is its repository's, "" for
// nothing.
func (a *Applier) touched(cur, next resource.Object, manager string) string {
	if !sameContent(cur, next) {
		return "spec"
	}
	fields := ""
	for _, e := range cur.GetMetadata().GetManagedFields() {
		if e.GetManager() == manager && e.GetOperation() == "Apply" {
			fields = e.GetFieldsV1()
		}
	}
	for _, m := range []struct {
		name    string
		was, is map[string]string
	}{
		{"labels", cur.GetMetadata().GetLabels(), next.GetMetadata().GetLabels()},
		{"annotations", cur.GetMetadata().GetAnnotations(), next.GetMetadata().GetAnnotations()},
	} {
		for key, value := range m.was {
			if now, ok := m.is[key]; (!ok || now != value) && strings.Contains(fields, `"f:`+key+`"`) {
				return resource.KeyPath("metadata."+m.name, key)
			}
		}
	}
	return ""
}

// followedVersion is followed for an item of a set. Of most objects it decodes nothing.
func (a *Applier) followedVersion(tx store.Tx, it *item, v store.Version, next resource.Object, force bool) (resource.FieldErrors, error) {
	if v == nil || a.system || force || !bytes.Contains(v.Encoded(), []byte(resource.AnnotationSync)) {
		return nil, nil
	}
	cur := it.cur // with values opened, of kinds that have some
	if cur == nil {
		var err error
		if cur, err = v.Object(); err != nil {
			return nil, err
		}
	}
	return a.followed(tx, cur, next, force), nil
}

// Stamp is what an object was when it was last found as its source says. It tells a change
// by somebody else, without comparing and mostly without decoding anything.
type Stamp struct {
	UID         string
	Generation  int32
	Labels      map[string]string
	Annotations map[string]string

	// revision at which it last fitted: an object that has it is the very same.
	revision atomic.Uint64
}

// stampOf takes it. It shares the maps of the object, which does not change.
func stampOf(obj resource.Object, revision uint64) *Stamp {
	m := obj.GetMetadata()
	s := &Stamp{UID: m.GetUid(), Generation: m.GetGeneration(), Labels: m.GetLabels(), Annotations: m.GetAnnotations()}
	s.revision.Store(revision)
	return s
}

// fits tells whether an object is still as it was.
func (s *Stamp) fits(v store.Version) bool {
	if v == nil {
		return false
	}
	if v.Revision() == s.revision.Load() {
		return true
	}
	obj, err := v.Object()
	if err != nil {
		return false
	}
	m := obj.GetMetadata()
	same := s.UID == m.GetUid() && s.Generation == m.GetGeneration() && !resource.Deleting(obj) &&
		maps.Equal(s.Labels, m.GetLabels()) && maps.Equal(s.Annotations, m.GetAnnotations())
	if same {
		s.revision.Store(v.Revision())
	}
	return same
}

// become makes of an object what a document says and nothing else: fields of the spec that
// others own or added are taken from them. Labels and annotations of others stay. cur nil:
// there is no object.
func (a *Applier) become(kind *resource.Kind, cur resource.Object, doc resource.Document, defaulted resource.Object, manager string) (resource.Object, error) {
	next, err := a.forced(kind, cur, doc, resource.Clone(defaulted), manager)
	if err == nil && cur != nil && !onlyBy(next, manager) {
		// Who is recorded for nothing loses everything to who applies first: the second time
		// it drops what it does not want.
		next.GetMetadata().ManagedFields = nil
		next, err = a.forced(kind, next, doc, resource.Clone(defaulted), manager)
	}
	if err != nil {
		return nil, err
	}
	fillDefaults(kind, next)
	return next, nil
}

func (a *Applier) forced(kind *resource.Kind, live resource.Object, doc resource.Document, defaulted resource.Object, manager string) (resource.Object, error) {
	next, conflicts, err := a.owners.Apply(kind, live, doc, defaulted, manager, true)
	if err == nil && len(conflicts) > 0 {
		err = fmt.Errorf("a forced apply has conflicts: %v", conflicts)
	}
	return next, err
}

// onlyBy tells whether nobody but the manager is recorded for anything of the spec.
func onlyBy(obj resource.Object, manager string) bool {
	for _, e := range obj.GetMetadata().GetManagedFields() {
		if e.GetManager() == manager && e.GetOperation() == "Apply" {
			continue
		}
		if strings.Contains(e.GetFieldsV1(), `"f:spec"`) {
			return false
		}
	}
	return true
}
