package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/proximity-pve/proximity/pkg/apply/ownership"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// item is one document of a set on its way.
type item struct {
	doc       resource.Document
	at        int // position in the set and in the results
	kind      *resource.Kind
	key       resource.Key
	*admitted // nil: not yet
}

// ApplySet applies all documents, or none, and returns a result for each in their order.
// The error is resource.FieldErrors, with the place of each in its file, or the store's.
func (a *Applier) ApplySet(ctx context.Context, docs []resource.Document, opts Options) ([]Result, error) {
	if len(docs) > resource.MaxDocuments {
		return nil, resource.FieldErrors{resource.Forbidden("", "",
			fmt.Sprintf("the set has %d documents; allowed are %d", len(docs), resource.MaxDocuments))}
	}
	opts, err := a.options([]Options{opts})
	if err != nil {
		return nil, err
	}
	items, wrong := a.prepare(docs)
	a.admitAhead(ctx, items, opts)
	var results []Result
	err = a.transact(audit.WithVerb(ctx, "apply", opts.Manager), opts.DryRun, func(tx store.Tx) error {
		errs, err := a.merge(tx, items, opts)
		if err != nil {
			return err
		}
		if errs = append(errs, wrong...); len(errs) > 0 {
			return inDocumentOrder(errs).Bounded()
		}
		results, err = a.write(tx, items, len(docs))
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range results {
		if err := a.show(&results[i], opts); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// show puts what was written into a result, as it may be shown and as it was asked for.
func (a *Applier) show(r *Result, opts Options) error {
	kind, ok := a.reg.Get(r.Key.Kind)
	if !ok {
		return fmt.Errorf("%w %q", resource.ErrUnknownKind, r.Key.Kind) // cannot be: it was written
	}
	v, before := r.version, r.before
	r.version, r.before = nil, nil
	if opts.Encoded && !kind.HasSensitive() {
		r.Encoded = v.Encoded()
		return nil
	}
	var err error
	if before != nil {
		if r.Before, err = shownVersion(kind, before); err != nil {
			return err
		}
	}
	r.Object, err = shownVersion(kind, v)
	return err
}

// prepare finds the kind of each document and objects given twice. The items come back in
// the order in which they are to be written.
func (a *Applier) prepare(docs []resource.Document) ([]item, resource.FieldErrors) {
	var errs resource.FieldErrors
	items := make([]item, 0, len(docs))
	first := make(map[resource.Key]int, len(docs)) // to the document
	for i, doc := range docs {
		doc.Index = i // the set may come from several files
		kind, e := a.applicable(doc.Object)
		if e != nil {
			errs = append(errs, doc.Place(resource.FieldErrors{e})...)
			continue
		}
		key := keyIn(kind, doc.Object)
		if other, dup := first[key]; dup {
			errs = append(errs, doc.Place(resource.FieldErrors{resource.Duplicate("metadata.name", key.Name, placeOf(docs[other], "metadata.name"))})...)
			continue
		}
		first[key] = i
		items = append(items, item{doc: doc, at: i, kind: kind, key: key})
	}
	order := func(x, y item) int { return x.kind.ApplyOrder - y.kind.ApplyOrder }
	if !slices.IsSortedFunc(items, order) {
		slices.SortStableFunc(items, order)
	}
	return items, errs
}

// applicable finds the kind of a document and refuses those that are not applied.
func (a *Applier) applicable(obj resource.Object) (*resource.Kind, *resource.FieldError) {
	kind, ok := a.reg.Get(obj.GetKind())
	switch {
	case !ok || kind.Descriptor().FullName() != obj.ProtoReflect().Descriptor().FullName():
		return nil, resource.NotSupported("kind", obj.GetKind(), a.reg.Plurals())
	case kind.System && !a.system:
		return nil, systemKind(kind)
	case kind.ImmutableSpec:
		return nil, resource.Forbidden("kind", kind.Name,
			"objects of this kind are carried out once and cannot be part of a set that may be applied again; create them instead")
	}
	return kind, nil
}

// merge makes of each item what is to be stored, and checks that by itself. Conflicts with
// other managers are told only when nothing is wrong with the documents.
func (a *Applier) merge(tx store.Tx, items []item, opts Options) (resource.FieldErrors, error) {
	var errs, conflicts resource.FieldErrors
	for i := range items {
		it := &items[i]
		v, err := isAbsent(store.Current(tx, it.key))
		if err != nil {
			return nil, err
		}
		if it.admitted == nil || !it.holdsFor(v) {
			it.admitted = a.admit(it, v, opts)
		}
		if it.err != nil {
			return nil, it.err
		}
		errs = append(errs, it.wrong...)
		next := it.obj
		if len(it.conflicts) > 0 {
			next = nil // it conflicts, so it changes something
		}
		kept, err := a.followedVersion(tx, it, v, next, opts.Force)
		if err != nil {
			return nil, err
		}
		if len(kept) > 0 {
			conflicts = append(conflicts, it.doc.Place(kept)...)
		} else {
			conflicts = append(conflicts, it.conflicts...)
		}
	}
	if errs = append(errs, checkClaims(items)...); len(errs) > 0 {
		return errs, nil
	}
	return conflicts, nil
}

func conflictErrors(conflicts []ownership.Conflict) resource.FieldErrors {
	errs := make(resource.FieldErrors, len(conflicts))
	for i, c := range conflicts {
		how := "applied"
		if c.Update {
			how = "set"
		}
		errs[i] = &resource.FieldError{Path: c.Path, Reason: resource.ReasonManagerConflict, Allowed: fmt.Sprintf(
			"the manager %q has %s another value; leave the field out, write the same value, or force it to take the field over", c.Manager, how)}
	}
	return errs
}

// checkClaims finds values that two documents of the set take for themselves.
func checkClaims(items []item) resource.FieldErrors {
	type claimed struct{ space, value string }
	type holder struct {
		doc  resource.Document
		path string
	}
	if len(items) < 2 { // the kind checks within one object
		return nil
	}
	var errs resource.FieldErrors
	inOrder := slices.Clone(items)
	slices.SortFunc(inOrder, func(x, y item) int { return x.at - y.at })
	taken := map[claimed]holder{}
	for _, it := range inOrder {
		if it.kind.Claims == nil {
			continue
		}
		for _, c := range it.kind.Claims(it.obj) {
			id := claimed{c.Space, c.Value}
			other, dup := taken[id]
			if !dup {
				taken[id] = holder{it.doc, c.Path}
			} else if other.doc.Object != it.doc.Object { // the kind checks within one object
				errs = append(errs, it.doc.Place(resource.FieldErrors{resource.Duplicate(c.Path, c.Value, placeOf(other.doc, other.path))})...)
			}
		}
	}
	return errs
}

// placeOf names a field of another document: a.yaml:12: App default/web: spec.vmid.
func placeOf(d resource.Document, path string) string {
	place := ""
	if d.Source != "" {
		place = d.Source + ":"
	}
	if line := d.Locate(path); line > 0 {
		place += fmt.Sprintf("%d:", line)
	}
	if place != "" {
		place += " "
	}
	return fmt.Sprintf("%s%s: %s", place, resource.KeyOf(d.Object), path)
}

func inDocumentOrder(errs resource.FieldErrors) resource.FieldErrors {
	slices.SortStableFunc(errs, func(x, y *resource.FieldError) int {
		return cmp.Or(cmp.Compare(x.Document, y.Document), cmp.Compare(x.Line, y.Line))
	})
	return errs
}

// write writes the items and checks them among the others. Everything that is wrong with
// fields is collected; an error of the store ends it at once.
func (a *Applier) write(tx store.Tx, items []item, total int) ([]Result, error) {
	results := make([]Result, total)
	var errs resource.FieldErrors
	v := view{tx: tx, writing: make(map[resource.Key]bool, len(items))}
	for _, it := range items {
		v.writing[it.key] = true
		result, wrong, err := a.writeOne(tx, it)
		if err != nil {
			return nil, err
		}
		errs = append(errs, it.doc.Place(wrong)...)
		results[it.at] = result
	}
	if len(errs) > 0 {
		return nil, inDocumentOrder(errs).Bounded()
	}
	for _, it := range items {
		if it.kind.Relate != nil {
			errs = append(errs, it.doc.Place(it.kind.Hide(it.kind.Relate(it.obj, v)))...)
		}
	}
	if len(errs) > 0 {
		return nil, inDocumentOrder(errs).Bounded()
	}
	return results, nil
}

func (a *Applier) writeOne(tx store.Tx, it item) (Result, resource.FieldErrors, error) {
	result := Result{Key: it.key, Outcome: Created, before: it.over}
	var wrong resource.FieldErrors
	if err := a.needNamespace(tx, it.obj); errors.As(err, &wrong) {
		return result, wrong, nil
	} else if err != nil {
		return result, nil, err
	}
	if it.over == nil {
		if uid := it.doc.Object.GetMetadata().GetUid(); uid != "" {
			return result, nil, fmt.Errorf("%s: %w: it does not exist, but the document names the uid %s", it.key, store.ErrConflict, uid)
		}
		created, err := a.create(tx, it.kind, it.obj)
		result.version = created
		return result, nil, err
	}
	if err := it.checkIdentity(it.doc.Object); err != nil {
		return result, nil, fmt.Errorf("%s: %w", it.key, err)
	}
	if len(it.fixed) > 0 {
		return result, it.fixed, nil
	}
	saved, err := a.update(tx, it.kind, it.stored, it.cur, it.obj)
	if err != nil {
		return result, nil, err
	}
	result.version, result.Outcome = saved, Configured
	if saved.Revision() == it.over.Revision() {
		result.Outcome = Unchanged
	}
	return result, nil, nil
}

// checkIdentity refuses a document that means another object than the one there is.
func (ad *admitted) checkIdentity(doc resource.Object) error {
	if uid := doc.GetMetadata().GetUid(); uid != "" && uid != ad.uid {
		return fmt.Errorf("%w: its uid is %s, not %s", store.ErrConflict, ad.uid, uid)
	}
	if ad.deleting {
		return fmt.Errorf("%w: it is being deleted; apply again when it is gone", store.ErrConflict)
	}
	return nil
}
