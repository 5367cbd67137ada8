package apply

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Outcomes of a followed object beside those of an apply.
const (
	Pruned  = "pruned"  // its deletion was asked for
	Kept    = "kept"    // it is no longer in the source, and stays
	Drifted = "drifted" // somebody changed it, and it was left as it is
)

// Prepared is a document of a source that was defaulted and looked through once and may be
// followed many times. It must not be changed.
type Prepared struct {
	doc    resource.Document
	kind   *resource.Kind
	key    resource.Key
	claims []resource.Claim
}

// Key of its object.
func (p *Prepared) Key() resource.Key { return p.key }

// Document it was made of.
func (p *Prepared) Document() resource.Document { return p.doc }

// Prepare takes a document of a source that the Sync follows: it gets the annotations that
// say so. The document is changed and must not be used otherwise.
func (a *Applier) Prepare(doc resource.Document, sync resource.Key) (*Prepared, error) {
	kind, e := a.applicable(doc.Object)
	if e != nil {
		return nil, doc.Place(resource.FieldErrors{e})
	}
	m := doc.Object.GetMetadata()
	m.ResourceVersion, m.Uid = "", "" // what a repository says of them is of another time
	m.Annotations = maps.Clone(m.GetAnnotations())
	if m.Annotations == nil {
		m.Annotations = map[string]string{}
	}
	m.Annotations[resource.AnnotationSync] = sync.Namespace + "/" + sync.Name
	m.Annotations[resource.AnnotationSource] = doc.Source
	p := &Prepared{doc: doc, kind: kind, key: keyIn(kind, doc.Object)}
	if kind.Claims != nil {
		obj := a.own(kind, doc.Object)
		fillDefaults(kind, obj)
		p.claims = kind.Claims(obj)
	}
	return p, nil
}

// FollowDocument is one document of a source.
type FollowDocument struct {
	*Prepared
	// Same: it is as it was when it was applied last. Seen is how its object was left then, nil
	// when that is not known.
	Same bool
	Seen *Stamp
}

// Source is what a Sync wants.
type Source struct {
	Sync resource.Key
	Docs []FollowDocument
	// Owned are the objects that it applied before.
	Owned map[resource.Key]bool
	// Gone are those of them that the source no longer has, in any order; Keep leaves them.
	Gone []resource.Key
	Keep bool
	// Correct sets back what somebody changed; else it is left, and told.
	Correct bool
	// Force takes over objects that are there and differ.
	Force bool
	// DryRun does everything but keep the result.
	DryRun bool
	// Guard is asked, with the objects that are going to be deleted, before anything is; its
	// error ends the transaction.
	Guard func(deleting []resource.Object) error
	// Record is called at the end of the transaction, to note in it what was done. The objects
	// that were written are not in the results yet.
	Record func(tx store.Tx, f *Followed) error
}

// Followed is what became of a source.
type Followed struct {
	// Results of the documents, in their order.
	Results []FollowResult
	// Pruned and Kept are objects that the source no longer has.
	Pruned, Kept []FollowResult
	// Pending are those of Kept that are to be deleted later: they are still owned.
	Pending []resource.Key
}

// FollowResult is what became of one object.
type FollowResult struct {
	Result
	File    string
	Stamp   *Stamp // nil when it is not as its source says
	Message string
}

// Follow makes objects what a source says, all in one transaction or nothing: it writes what
// differs and deletes, of what it applied before, what the source no longer has. An object
// of another Sync, and (unless Force) one that is there with other values, is an error.
//
// What it applied before, and whoever changed it since, it sets back (Correct) or leaves.
// The error is resource.FieldErrors, that of Guard or Record, or the store's.
func (a *Applier) Follow(ctx context.Context, src Source) (*Followed, error) {
	f := &follower{a: a, src: src, manager: resource.SyncManager(src.Sync)}
	if errs := f.check(); len(errs) > 0 {
		return nil, errs.Bounded()
	}
	f.decideAhead(ctx)
	var out *Followed
	err := a.transact(audit.WithVerb(ctx, "apply", f.manager), src.DryRun, func(tx store.Tx) (err error) {
		out, err = f.run(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, f.show(out)
}

// show fills in the objects that were written, after the transaction: nobody waits for that.
func (f *follower) show(out *Followed) error {
	for i := range out.Results {
		r := &out.Results[i]
		v := r.version
		if v == nil {
			continue
		}
		if err := f.a.show(&r.Result, Options{}); err != nil {
			return err
		}
		if !f.src.DryRun {
			r.Stamp = stampOf(r.Object, v.Revision())
		}
	}
	return nil
}

type follower struct {
	a       *Applier
	src     Source
	manager string
	ahead   []decision // by document, as things were before the transaction
	tx      store.Tx
	out     *Followed
}

// check finds what two documents say of one thing.
func (f *follower) check() resource.FieldErrors {
	if len(f.src.Docs) > resource.MaxDocuments {
		return resource.FieldErrors{resource.Forbidden("", "", fmt.Sprintf("the source has %d documents; allowed are %d", len(f.src.Docs), resource.MaxDocuments))}
	}
	type claimed struct{ space, value string }
	type holder struct {
		doc  resource.Document
		path string
	}
	var errs resource.FieldErrors
	first := make(map[resource.Key]resource.Document, len(f.src.Docs))
	taken := map[claimed]holder{}
	for _, d := range f.src.Docs {
		if other, dup := first[d.key]; dup {
			errs = append(errs, d.doc.Place(resource.FieldErrors{resource.Duplicate("metadata.name", d.key.Name, placeOf(other, "metadata.name"))})...)
			continue
		}
		first[d.key] = d.doc
		for _, c := range d.claims {
			id := claimed{c.Space, c.Value}
			if other, dup := taken[id]; !dup {
				taken[id] = holder{d.doc, c.Path}
			} else if other.doc.Object != d.doc.Object {
				errs = append(errs, d.doc.Place(resource.FieldErrors{resource.Duplicate(c.Path, c.Value, placeOf(other.doc, other.path))})...)
			}
		}
	}
	return errs
}

func (f *follower) run(tx store.Tx) (*Followed, error) {
	f.tx, f.out = tx, &Followed{Results: make([]FollowResult, len(f.src.Docs))}
	items, errs, err := f.merge()
	if err != nil {
		return nil, err
	}
	if len(errs) > 0 {
		return nil, errs.Bounded()
	}
	slices.SortStableFunc(items, func(x, y item) int { return x.kind.ApplyOrder - y.kind.ApplyOrder })
	results, err := f.a.write(tx, items, len(f.src.Docs))
	if err != nil {
		return nil, err
	}
	for _, it := range items {
		f.out.Results[it.at].Result = results[it.at]
	}
	if err := f.prune(); err != nil {
		return nil, err
	}
	if f.src.Record != nil {
		if err := f.src.Record(tx, f.out); err != nil {
			return nil, err
		}
	}
	return f.out, nil
}

// decision is what is to become of a document over an object that is stored.
type decision struct {
	admitted
	left string // why the object is left as it is
}

// decideAhead finds out before the transaction, by many at once, what is to become of the
// documents; see admitAhead.
func (f *follower) decideAhead(ctx context.Context) {
	f.ahead = make([]decision, len(f.src.Docs))
	inParallel(len(f.src.Docs), func(i int) {
		d := f.src.Docs[i]
		if d.Same && d.Seen != nil {
			return // most likely nothing is to be done, which the transaction sees for less
		}
		if v, err := isAbsent(store.Lookup(ctx, f.a.store, d.key)); err == nil {
			f.ahead[i] = f.decide(d, i, v)
		}
	})
}

// asSeen tells that there is nothing to do for a document.
func (d *FollowDocument) asSeen(v store.Version) bool {
	return d.Same && d.Seen != nil && d.Seen.fits(v)
}

// merge decides about every document; those that are to be written come back.
func (f *follower) merge() ([]item, resource.FieldErrors, error) {
	var items []item
	var errs resource.FieldErrors
	for i, d := range f.src.Docs {
		r := &f.out.Results[i]
		r.Result, r.File = Result{Key: d.key, Outcome: Unchanged}, d.doc.Source
		v, err := isAbsent(store.Current(f.tx, d.key))
		if err != nil {
			return nil, nil, err
		}
		if d.asSeen(v) {
			r.Stamp = d.Seen
			continue
		}
		it := item{doc: d.doc, at: i, kind: d.kind, key: d.key}
		it.doc.Index = i
		e, err := f.otherSync(v)
		if err != nil {
			return nil, nil, err
		}
		if e != nil {
			errs = append(errs, it.doc.Place(resource.FieldErrors{e})...)
			continue
		}
		made := f.ahead[i]
		if !made.holdsFor(v) {
			made = f.decide(d, i, v)
		}
		it.admitted = &made.admitted
		switch {
		case made.err != nil:
			return nil, nil, fmt.Errorf("%s: %w", d.key, made.err)
		case len(made.wrong)+len(made.conflicts) > 0:
			errs = append(errs, append(made.wrong, made.conflicts...)...)
		case made.left != "":
			r.Outcome, r.Message = Drifted, made.left
		default:
			items = append(items, it)
		}
	}
	return items, errs, nil
}

// decide makes of a document what is to be stored in place of a version.
func (f *follower) decide(d FollowDocument, at int, v store.Version) decision {
	out := decision{admitted: admitted{done: true, over: v}}
	var cur resource.Object
	if v != nil {
		if cur, out.err = v.Object(); out.err != nil {
			return out
		}
		out.uid, out.deleting = cur.GetMetadata().GetUid(), resource.Deleting(cur)
	}
	doc := d.doc
	doc.Index = at
	out.obj = f.a.own(d.kind, doc.Object)
	fillDefaults(d.kind, out.obj)
	if d.kind.HasSensitive() {
		out.stored, out.cur = cur, f.a.openStored(d.kind, cur)
		doc.Object = resource.Clone(doc.Object)
		if wrong := revealBoth(d.kind, doc.Object, out.obj, out.stored, out.cur); len(wrong) > 0 {
			out.wrong = doc.Place(wrong)
			return out
		}
		cur = out.cur
	}
	if errs := append(d.kind.CheckShape(out.obj), d.kind.CheckMetadata(out.obj)...); len(errs) > 0 {
		out.wrong = doc.Place(errs) // lists can be merged only by keys that are there, once
		return out
	}
	if !f.mayWrite(d, doc, cur, &out) {
		return out
	}
	next, err := f.a.become(d.kind, cur, doc, out.obj, f.manager)
	if err != nil {
		out.err = err
		return out
	}
	out.obj, out.wrong = next, doc.Place(d.kind.Check(next))
	if cur != nil {
		out.fixed = doc.Place(checkImmutable(d.kind, cur, next))
	}
	return out
}

// mayWrite tells whether an object is made what its source says; else the decision says why
// it is not.
func (f *follower) mayWrite(d FollowDocument, doc resource.Document, cur resource.Object, out *decision) bool {
	mine := f.src.Owned[d.key]
	switch {
	case cur == nil:
		if mine && d.Same && !f.src.Correct {
			out.left = "somebody deleted it"
		}
	case mine && !f.src.Correct:
		out.left, out.err = f.changedByHand(d, doc, cur, out)
	case !mine && !f.src.Force:
		_, conflicts, err := f.a.owners.Apply(d.kind, cur, doc, resource.Clone(out.obj), f.manager, false)
		if out.err = err; len(conflicts) > 0 {
			found := conflictErrors(conflicts)
			for _, c := range found {
				c.Allowed = strings.Replace(c.Allowed, "force it to take the field over", "set spec.force of the Sync to take the object over", 1)
			}
			out.conflicts = doc.Place(found)
		}
	}
	return out.left == "" && out.err == nil && len(out.conflicts) == 0
}

// otherSync refuses an object that another Sync follows.
func (f *follower) otherSync(v store.Version) (*resource.FieldError, error) {
	if v == nil || !bytes.Contains(v.Encoded(), []byte(resource.AnnotationSync)) {
		return nil, nil
	}
	cur, err := v.Object()
	if err != nil {
		return nil, err
	}
	other, file, ok := resource.FollowedBy(cur)
	if !ok || other == f.src.Sync {
		return nil, nil
	}
	if _, err := f.tx.Get(other); err != nil {
		return nil, nil // it is gone
	}
	return &resource.FieldError{Path: "metadata.name", Reason: resource.ReasonManagerConflict,
		Allowed: fmt.Sprintf("%s belongs to %s already (%s); take it out of one of both", resource.KeyOf(cur), other, orUnknown(file))}, nil
}

// changedByHand says what somebody did to an object that is not to be corrected, "" when it
// is as this Sync left it.
func (f *follower) changedByHand(d FollowDocument, doc resource.Document, cur resource.Object, out *decision) (string, error) {
	said := "somebody changed it" + f.byWhom(cur)
	switch {
	case d.Seen != nil && d.Seen.fits(out.over):
		return "", nil
	case d.Seen != nil:
		return said, nil
	case d.Same: // nothing is remembered, for instance after a restart
		next, err := f.a.become(d.kind, cur, doc, out.obj, f.manager)
		if err != nil || sameContent(next, cur) && f.a.touched(cur, next, f.manager) == "" {
			return "", err
		}
		return said, nil
	case !onlyBy(cur, f.manager):
		return said, nil
	}
	return "", nil
}

// byWhom names other managers of the spec.
func (f *follower) byWhom(obj resource.Object) string {
	var names []string
	for _, e := range obj.GetMetadata().GetManagedFields() {
		if e.GetManager() != f.manager && strings.Contains(e.GetFieldsV1(), `"f:spec"`) && !slices.Contains(names, e.GetManager()) {
			names = append(names, e.GetManager())
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}
