package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Transactions of the store run one after the other, so an apply does there only what it
// must. What becomes of a document depends on the document and on the object that is stored,
// on nothing else: it is found out before, by many callers at once, for the object as it is
// then. The transaction takes that over when the object is still the same version, and finds
// it out anew when it is not.

// admitted is what becomes of a document over the object that is stored.
type admitted struct {
	// done tells it from nothing.
	done bool
	// over is the version that it holds for; nil: there is no object.
	over store.Version
	// uid is that of the object, deleting whether it is being deleted.
	uid      string
	deleting bool
	// stored is the object, and cur the same with sensitive values opened: both only of kinds
	// that have some.
	stored, cur resource.Object
	// obj is what is to be stored, if nothing is wrong; else a defaulted copy of the document's.
	// It may lack the status, which the store leaves as it is.
	obj resource.Object
	// wrong is what is wrong with the document, or with what it makes of the object.
	wrong resource.FieldErrors
	// fixed is what it would change of what cannot change.
	fixed resource.FieldErrors
	// conflicts are the fields that belong to other managers.
	conflicts resource.FieldErrors
	err       error
}

// holdsFor tells whether it was made for that version. No two changes have one revision.
func (ad *admitted) holdsFor(v store.Version) bool {
	if !ad.done || ad.over == nil || v == nil {
		return ad.done && ad.over == nil && v == nil
	}
	return ad.over.Revision() == v.Revision()
}

// isAbsent takes it for a version, too, that there is no object.
func isAbsent(v store.Version, err error) (store.Version, error) {
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return v, err
}

// admitAhead admits items over the objects as they are now. Whatever keeps it from that, the
// transaction will find again, and say.
func (a *Applier) admitAhead(ctx context.Context, items []item, opts Options) {
	inParallel(len(items), func(i int) {
		it := &items[i]
		if v, err := isAbsent(store.Lookup(ctx, a.store, it.key)); err == nil {
			it.admitted = a.admit(it, v, opts)
		}
	})
}

// admit makes of an item what is to be stored in place of a version, and checks that by
// itself.
func (a *Applier) admit(it *item, v store.Version, opts Options) *admitted {
	if ad := a.admitAgain(it, v, opts); ad != nil {
		return ad
	}
	ad := &admitted{done: true, over: v}
	var stored resource.Object // shared
	if v != nil {
		if stored, ad.err = v.Object(); ad.err != nil {
			return ad
		}
		ad.uid, ad.deleting = stored.GetMetadata().GetUid(), resource.Deleting(stored)
	}
	doc, cur := it.doc, stored
	ad.obj = a.own(it.kind, doc.Object)
	fillDefaults(it.kind, ad.obj)
	if it.kind.HasSensitive() {
		cur = a.openStored(it.kind, stored)
		ad.stored, ad.cur = stored, cur
		doc.Object = resource.Clone(doc.Object)
		if wrong := revealBoth(it.kind, doc.Object, ad.obj, stored, cur); len(wrong) > 0 {
			ad.wrong = doc.Place(wrong)
			return ad
		}
	}
	// Lists can be merged only by keys that are there, once.
	if len(it.kind.CheckShape(ad.obj)) == 0 && len(it.kind.CheckMetadata(ad.obj)) == 0 {
		next, conflicts, err := a.owners.Apply(it.kind, cur, doc, ad.obj, opts.Manager, opts.Force)
		if err != nil {
			ad.err = fmt.Errorf("%s: %w", it.key, err)
			return ad
		}
		if len(conflicts) > 0 {
			ad.conflicts = doc.Place(conflictErrors(conflicts))
			return ad
		}
		ad.obj = complete(it, next)
		if stored != nil {
			ad.fixed = doc.Place(checkImmutable(it.kind, cur, next))
		}
	}
	ad.wrong = doc.Place(it.kind.Check(ad.obj))
	return ad
}

// admitAgain is admit for the common case, with less to do: the manager gives other values
// to the fields that it has, which no one else has, and all is well. In other cases it
// answers nil.
func (a *Applier) admitAgain(it *item, v store.Version, opts Options) *admitted {
	if v == nil || it.kind.HasSensitive() || it.kind.ImmutableSpec {
		return nil
	}
	next, err := it.kind.DecodeWithoutStatus(v.Encoded())
	if err != nil || next.GetMetadata() == nil {
		return nil
	}
	ad := &admitted{done: true, over: v, uid: next.GetMetadata().GetUid(), deleting: resource.Deleting(next), obj: next}
	fixed := immutables(it.kind, next)
	if !a.owners.Again(next, it.doc, opts.Manager) {
		return nil
	}
	complete(it, next)
	if !fixed.keptBy(it.kind, next) || len(it.kind.Check(next)) > 0 {
		return nil
	}
	return ad
}

// complete makes a merged object the one to be stored.
func complete(it *item, next resource.Object) resource.Object {
	if v := it.doc.Object.GetMetadata().GetResourceVersion(); v != "" {
		next.GetMetadata().ResourceVersion = v // for the store to check
	}
	fillDefaults(it.kind, next)
	return next
}
