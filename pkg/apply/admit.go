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
	// stored is the object that it holds for; nil: there is none.
	stored resource.Object
	// cur is stored with sensitive values opened.
	cur resource.Object
	// obj is what is to be stored, if nothing is wrong; else a defaulted copy of the document's.
	obj resource.Object
	// wrong is what is wrong with the document, or with what it makes of the object.
	wrong resource.FieldErrors
	// conflicts are the fields that belong to other managers.
	conflicts resource.FieldErrors
	err       error
}

// holdsFor tells whether it was made for that version of the object.
func (ad *admitted) holdsFor(stored resource.Object) bool {
	if !ad.done || (ad.stored == nil) != (stored == nil) {
		return false
	}
	if stored == nil || stored == ad.stored {
		return true
	}
	was, is := ad.stored.GetMetadata(), stored.GetMetadata()
	return was.GetUid() == is.GetUid() && was.GetResourceVersion() == is.GetResourceVersion()
}

// admitAhead admits items over the objects as they are now. Whatever keeps it from that, the
// transaction will find again, and say.
func (a *Applier) admitAhead(ctx context.Context, items []item, opts Options) {
	inParallel(len(items), func(i int) {
		it := &items[i]
		stored, err := a.store.Get(ctx, it.key)
		switch {
		case errors.Is(err, store.ErrNotFound):
			it.admitted = a.admit(it, nil, opts)
		case err == nil:
			it.admitted = a.admit(it, stored, opts)
		}
	})
}

// admit makes of an item what is to be stored in place of stored, and checks that by itself.
func (a *Applier) admit(it *item, stored resource.Object, opts Options) admitted {
	ad := admitted{done: true, stored: stored, cur: stored}
	if a.admitAgain(it, &ad, opts) {
		return ad
	}
	doc := it.doc
	ad.obj = a.own(it.kind, doc.Object)
	fillDefaults(it.kind, ad.obj)
	if wrong := a.open(it.kind, &ad, &doc); len(wrong) > 0 {
		ad.wrong = doc.Place(wrong)
		return ad
	}
	// Lists can be merged only by keys that are there, once.
	if len(it.kind.CheckShape(ad.obj)) == 0 && len(it.kind.CheckMetadata(ad.obj)) == 0 {
		next, conflicts, err := a.owners.Apply(it.kind, ad.cur, doc, ad.obj, opts.Manager, opts.Force)
		if err != nil {
			ad.err = fmt.Errorf("%s: %w", it.key, err)
			return ad
		}
		if len(conflicts) > 0 {
			ad.conflicts = doc.Place(conflictErrors(conflicts))
			return ad
		}
		a.complete(it, &ad, next)
	}
	ad.wrong = doc.Place(it.kind.Check(ad.obj))
	return ad
}

// admitAgain is admit for the common case, with less to do: the manager gives other values
// to the fields that it has, which no one else has, and all is well. In other cases it
// answers false.
func (a *Applier) admitAgain(it *item, ad *admitted, opts Options) bool {
	if ad.stored == nil || it.kind.HasSensitive() {
		return false
	}
	next := a.owners.Again(ad.stored, it.doc, opts.Manager)
	if next == nil {
		return false
	}
	a.complete(it, ad, next)
	if len(it.kind.Check(next)) == 0 {
		return true
	}
	ad.obj = nil
	return false
}

// complete makes a merged object the one to be stored.
func (a *Applier) complete(it *item, ad *admitted, next resource.Object) {
	if v := it.doc.Object.GetMetadata().GetResourceVersion(); v != "" {
		next.GetMetadata().ResourceVersion = v // for the store to check
	}
	fillDefaults(it.kind, next)
	ad.obj = next
}
