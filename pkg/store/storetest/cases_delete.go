package storetest

import (
	"errors"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

func deleting(o resource.Object, pre store.Preconditions) func(store.Tx) error {
	return func(tx store.Tx) error { _, err := tx.Delete(resource.KeyOf(o), pre); return err }
}

func setFinalizers(f ...string) func(*v1alpha1.App) {
	return func(a *v1alpha1.App) { a.Metadata.Finalizers = f }
}

var deleteCases = []testCase{
	{"delete/removes an object without finalizers at once", func(e *env) {
		a := create(e, app("a"))
		last := remove(e, a)
		e.gone(a)
		if rev(last) <= rev(a) || rev(last) != e.st.Revision() {
			e.Errorf("the deletion has revision %d after %d, the store is at %d", rev(last), rev(a), e.st.Revision())
		}
		last.Metadata.ResourceVersion = a.Metadata.ResourceVersion
		e.same(last, a)
		if got := e.st.Stats().Objects; got != 0 {
			e.Errorf("%d objects", got)
		}
	}},
	{"delete/of what is not there is not found", func(e *env) {
		e.refused(store.ErrNotFound, deleting(app("a"), store.Preconditions{}))
		remove(e, create(e, app("a")))
		e.refused(store.ErrNotFound, deleting(app("a"), store.Preconditions{}))
	}},
	{"delete/checks the uid", func(e *env) {
		a := create(e, app("a"))
		e.refused(store.ErrConflict, deleting(a, store.Preconditions{UID: "other"}))
		e.must(deleting(a, store.Preconditions{UID: a.Metadata.Uid}))
		e.gone(a)
	}},
	{"delete/checks the resourceVersion", func(e *env) {
		a := create(e, app("a"))
		b := update(e, with(a, setNode("pve1")))
		e.refused(store.ErrConflict, deleting(a, store.Preconditions{ResourceVersion: a.Metadata.ResourceVersion}))
		e.must(deleting(a, store.Preconditions{ResourceVersion: b.Metadata.ResourceVersion}))
		e.gone(a)
	}},
	{"delete/with finalizers marks the object and keeps it", func(e *env) {
		a := create(e, with(app("a"), setFinalizers("f")))
		marked := remove(e, a)
		if !resource.Deleting(marked) || marked.Metadata.Generation != a.Metadata.Generation+1 || rev(marked) <= rev(a) {
			e.Errorf("metadata is %v", marked.Metadata)
		}
		e.same(get(e, a), marked)
	}},
	{"delete/again changes nothing", func(e *env) {
		a := create(e, with(app("a"), setFinalizers("f")))
		remove(e, a)
		e.unchanged(func(tx store.Tx) (resource.Object, error) {
			return tx.Delete(resource.KeyOf(a), store.Preconditions{})
		})
	}},
	{"delete/again still checks preconditions", func(e *env) {
		a := create(e, with(app("a"), setFinalizers("f")))
		remove(e, a)
		e.refused(store.ErrConflict, deleting(a, store.Preconditions{UID: "other"}))
	}},
	{"delete/ends when the last finalizer goes", func(e *env) {
		a := remove(e, create(e, with(app("a"), setFinalizers("f", "g"))))
		a = update(e, with(a, setFinalizers("g")))
		e.same(get(e, a), a)
		last := update(e, with(a, setFinalizers()))
		e.gone(a)
		if len(last.Metadata.Finalizers) != 0 || rev(last) != e.st.Revision() {
			e.Errorf("metadata is %v", last.Metadata)
		}
	}},
	{"delete/does not end when finalizers go before it began", func(e *env) {
		a := create(e, with(app("a"), setFinalizers("f")))
		a = update(e, with(a, setFinalizers()))
		e.same(get(e, a), a)
	}},
	{"delete/once begun takes no new finalizers", func(e *env) {
		a := remove(e, create(e, with(app("a"), setFinalizers("f"))))
		e.refused(store.ErrInvalid, updating(with(a, setFinalizers("f", "g"))))
		e.refused(store.ErrInvalid, updating(with(a, setFinalizers("g"))))
		e.same(get(e, a), a)
	}},
	{"delete/once begun cannot be taken back", func(e *env) {
		a := remove(e, create(e, with(app("a"), setFinalizers("f"))))
		got := update(e, with(a, func(a *v1alpha1.App) {
			a.Metadata.DeletionTimestamp = ""
			setNode("pve1")(a)
		}))
		if !resource.Deleting(got) {
			e.Error("the deletionTimestamp is gone")
		}
		e.refused(store.ErrAlreadyExists, creating(app("a")))
	}},
	{"delete/once begun leaves spec, labels and status writable", func(e *env) {
		a := remove(e, create(e, with(app("a"), setFinalizers("f"))))
		a = update(e, with(with(a, setLabel("x", "y")), setNode("pve1")))
		a = updateStatus(e, with(a, setState("Stopped")))
		if a.Metadata.Labels["x"] != "y" || a.Spec.GetNode() != "pve1" || a.Status.GetState() != "Stopped" {
			e.Errorf("got %v", a)
		}
	}},
	{"delete/of an unknown kind is invalid", func(e *env) {
		_, err := e.st.Update(bg, func(tx store.Tx) error {
			_, err := tx.Delete(resource.Key{Kind: "Vhost", Namespace: "default", Name: "a"}, store.Preconditions{})
			return err
		})
		if !errors.Is(err, store.ErrInvalid) {
			e.Errorf("got %v", err)
		}
	}},
}
