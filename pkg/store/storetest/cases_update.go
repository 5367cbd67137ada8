package storetest

import (
	"errors"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

func updating(o resource.Object) func(store.Tx) error {
	return func(tx store.Tx) error { _, err := tx.Update(o); return err }
}

func updatingOne(o resource.Object) func(store.Tx) (resource.Object, error) {
	return func(tx store.Tx) (resource.Object, error) { return tx.Update(o) }
}

func setNode(node string) func(*v1alpha1.App) {
	return func(a *v1alpha1.App) { a.Spec.Node = proto.String(node) }
}

func setLabel(key, value string) func(*v1alpha1.App) {
	return func(a *v1alpha1.App) { a.Metadata.Labels = map[string]string{key: value} }
}

func setManagers(time string, names ...string) func(*v1alpha1.App) {
	return func(a *v1alpha1.App) {
		a.Metadata.ManagedFields = nil
		for _, n := range names {
			a.Metadata.ManagedFields = append(a.Metadata.ManagedFields,
				&v1alpha1.ManagedFieldsEntry{Manager: n, Operation: "Apply", Time: time, FieldsV1: "{}"})
		}
	}
}

var updateCases = []testCase{
	{"update/of spec takes the next revision and generation", func(e *env) {
		a := create(e, app("a"))
		got := update(e, with(a, setNode("pve1")))
		if rev(got) <= rev(a) || rev(got) != e.st.Revision() || got.Metadata.Generation != 2 {
			e.Errorf("metadata is %v, the store is at %d", got.Metadata, e.st.Revision())
		}
		e.same(get(e, a), got)
	}},
	{"update/of metadata takes the next revision, not the next generation", func(e *env) {
		a := create(e, app("a"))
		for name, edit := range map[string]func(m *v1alpha1.ObjectMeta){
			"labels":          func(m *v1alpha1.ObjectMeta) { m.Labels = map[string]string{"a": "b"} },
			"annotations":     func(m *v1alpha1.ObjectMeta) { m.Annotations = map[string]string{"a": "b"} },
			"finalizers":      func(m *v1alpha1.ObjectMeta) { m.Finalizers = []string{"f"} },
			"ownerReferences": func(m *v1alpha1.ObjectMeta) { m.OwnerReferences = []*v1alpha1.OwnerReference{{Uid: "u"}} },
			"managedFields":   func(m *v1alpha1.ObjectMeta) { m.ManagedFields = []*v1alpha1.ManagedFieldsEntry{{Manager: "m"}} },
		} {
			next := with(a, func(a *v1alpha1.App) { edit(a.Metadata) })
			got := update(e, next)
			if rev(got) <= rev(a) || got.Metadata.Generation != 1 {
				e.Errorf("%s: revision %d after %d, generation %d", name, rev(got), rev(a), got.Metadata.Generation)
			}
			next.Metadata.ResourceVersion = got.Metadata.ResourceVersion
			e.same(got, next)
			a = got
		}
	}},
	{"update/removes what is not there any more", func(e *env) {
		a := create(e, with(with(app("a"), setLabel("x", "y")), setNode("pve1")))
		got := update(e, with(a, func(a *v1alpha1.App) { a.Metadata.Labels, a.Spec.Node = nil, nil }))
		if len(got.Metadata.Labels) != 0 || got.Spec.Node != nil {
			e.Errorf("still there: %v", got)
		}
	}},
	{"update/keeps uid and creationTimestamp", func(e *env) {
		a := create(e, app("a"))
		got := update(e, with(app("a"), setNode("pve1"))).Metadata
		if got.Uid != a.Metadata.Uid || got.CreationTimestamp != a.Metadata.CreationTimestamp {
			e.Errorf("%v became %v", a.Metadata, got)
		}
	}},
	{"update/conflicts on a stale resourceVersion", func(e *env) {
		a := create(e, app("a"))
		b := update(e, with(a, setNode("pve1")))
		e.refused(store.ErrConflict, updating(with(a, setNode("pve2"))))
		e.same(get(e, a), b)
	}},
	{"update/conflicts on a stale resourceVersion even when it would change nothing", func(e *env) {
		a := create(e, app("a"))
		b := update(e, with(a, setNode("pve1")))
		b.Metadata.ResourceVersion = a.Metadata.ResourceVersion
		e.refused(store.ErrConflict, updating(b))
	}},
	{"update/conflicts on a resourceVersion that no store made", func(e *env) {
		a := create(e, app("a"))
		for _, rv := range []string{"latest", "-1", "99999999", "0" + a.Metadata.ResourceVersion} {
			e.refused(store.ErrConflict, updating(with(a, func(a *v1alpha1.App) { a.Metadata.ResourceVersion = rv })))
		}
	}},
	{"update/overwrites without a resourceVersion", func(e *env) {
		a := create(e, app("a"))
		update(e, with(a, setNode("pve1")))
		got := update(e, with(app("a"), setNode("pve2")))
		if got.Spec.GetNode() != "pve2" {
			e.Errorf("spec is %v", got.Spec)
		}
	}},
	{"update/of what is not there is not found", func(e *env) {
		e.refused(store.ErrNotFound, updating(app("a")))
		a := create(e, app("a"))
		remove(e, a)
		e.refused(store.ErrNotFound, updating(a))
	}},
	{"update/copies what is passed in", func(e *env) {
		in := with(create(e, app("a")), setNode("pve1"))
		update(e, in)
		in.Spec.Node = proto.String("changed")
		if got := get(e, in).Spec.GetNode(); got != "pve1" {
			e.Errorf("node is %q", got)
		}
	}},
	{"update/does not touch status", func(e *env) {
		create(e, app("a"))
		a := updateStatus(e, with(app("a"), setState("Running")))
		for _, status := range []*v1alpha1.AppStatus{nil, {State: proto.String("Stopped")}} {
			got := update(e, with(a, func(a *v1alpha1.App) {
				a.Status = status
				a.Spec.Node = proto.String("pve" + status.GetState())
			}))
			if got.Status.GetState() != "Running" {
				e.Errorf("state is %q", got.Status.GetState())
			}
			a = got
		}
		e.unchanged(updatingOne(with(a, setState("Stopped"))))
	}},
	{"update/that changes nothing leaves no trace", func(e *env) {
		a := create(e, with(app("a"), setLabel("x", "y")))
		w := e.live()
		e.unchanged(updatingOne(a))
		e.unchanged(updatingOne(with(app("a"), setLabel("x", "y"))))
		e.same(get(e, a), a)
		e.quiet(w)
	}},
	{"update/that changes only times of managedFields leaves no trace", func(e *env) {
		a := create(e, with(app("a"), setManagers("2026-01-01T00:00:00Z", "one", "two")))
		e.unchanged(updatingOne(with(a, setManagers("2026-02-02T00:00:00Z", "one", "two"))))
		e.same(get(e, a), a)
	}},
	{"update/takes new times of managedFields along with a change", func(e *env) {
		a := create(e, with(app("a"), setManagers("2026-01-01T00:00:00Z", "one")))
		got := update(e, with(with(a, setManagers("2026-02-02T00:00:00Z", "one")), setNode("pve1")))
		if at := got.Metadata.ManagedFields[0].Time; at != "2026-02-02T00:00:00Z" {
			e.Errorf("time is %s", at)
		}
		got = update(e, with(got, setManagers("2026-02-02T00:00:00Z", "one", "two")))
		if len(got.Metadata.ManagedFields) != 2 {
			e.Errorf("managers are %v", got.Metadata.ManagedFields)
		}
	}},
	{"update/takes an unset and an empty spec for equal", func(e *env) {
		a := create(e, with(app("a"), func(a *v1alpha1.App) { a.Spec = nil }))
		e.unchanged(updatingOne(with(a, func(a *v1alpha1.App) { a.Spec = &v1alpha1.AppSpec{} })))
		b := create(e, with(app("b"), func(a *v1alpha1.App) { a.Spec = &v1alpha1.AppSpec{} }))
		e.unchanged(updatingOne(with(b, func(a *v1alpha1.App) { a.Spec = nil })))
	}},
	{"update/tells an unset value from one that is set to zero", func(e *env) {
		a := create(e, app("a"))
		got := update(e, with(a, func(a *v1alpha1.App) { a.Spec.Suspend = proto.Bool(false) }))
		if got.Spec.Suspend == nil || got.Metadata.Generation != 2 {
			e.Errorf("got %v", got)
		}
		got = update(e, with(got, func(a *v1alpha1.App) { a.Spec.Suspend = nil }))
		if got.Spec.Suspend != nil || got.Metadata.Generation != 3 {
			e.Errorf("got %v", got)
		}
	}},
	{"update/does not take a generation from outside", func(e *env) {
		a := create(e, app("a"))
		e.unchanged(updatingOne(with(a, func(a *v1alpha1.App) { a.Metadata.Generation = 99 })))
	}},
	{"update/cannot change uid, creationTimestamp, deletionTimestamp", func(e *env) {
		a := create(e, app("a"))
		for _, edit := range []func(*v1alpha1.ObjectMeta){
			func(m *v1alpha1.ObjectMeta) { m.Uid = "other" },
			func(m *v1alpha1.ObjectMeta) { m.CreationTimestamp = "2001-01-01T00:00:00Z" },
			func(m *v1alpha1.ObjectMeta) { m.DeletionTimestamp = "2001-01-01T00:00:00Z" },
		} {
			e.refused(store.ErrInvalid, updating(with(a, func(a *v1alpha1.App) { edit(a.Metadata) })))
		}
	}},
	{"update/of a kind without spec changes what is outside metadata", func(e *env) {
		a := create(e, event("a"))
		got := update(e, with(a, func(ev *v1alpha1.Event) { ev.Count = 2 }))
		if got.Count != 2 || rev(got) <= rev(a) || got.Metadata.Generation != 1 {
			e.Errorf("got %v", got)
		}
		e.unchanged(updatingOne(got))
	}},
	{"update/refuses an object that grew too large", func(e *env) {
		a := create(e, app("a"))
		e.refused(store.ErrTooLarge, updating(with(a, setNode(string(make([]byte, store.MaxObjectBytes))))))
		e.same(get(e, a), a)
	}},
	{"update/leaves objects that were read before alone", func(e *env) {
		create(e, app("a"))
		before, err := e.st.Get(bg, resource.KeyOf(app("a")))
		if err != nil {
			e.Fatal(err)
		}
		copied := resource.Clone(before)
		update(e, with(app("a"), setNode("pve1")))
		updateStatus(e, with(app("a"), setState("Running")))
		e.same(before, copied)
	}},
}

func setState(state string) func(*v1alpha1.App) {
	return func(a *v1alpha1.App) { a.Status = &v1alpha1.AppStatus{State: proto.String(state)} }
}

func updatingStatus(o resource.Object) func(store.Tx) error {
	return func(tx store.Tx) error { _, err := tx.UpdateStatus(o); return err }
}

func updatingStatusOf(o resource.Object) func(store.Tx) (resource.Object, error) {
	return func(tx store.Tx) (resource.Object, error) { return tx.UpdateStatus(o) }
}

var statusCases = []testCase{
	{"status/Put and PutStatus are Update and UpdateStatus", func(e *env) {
		create(e, app("a"))
		write := func(put func(store.Tx, resource.Object) (store.Version, error), o *v1alpha1.App) store.Version {
			e.Helper()
			var v store.Version
			revision := e.must(func(tx store.Tx) (err error) { v, err = put(tx, o); return err })
			stored := get(e, app("a"))
			got, err := v.Object()
			decoded := &v1alpha1.App{}
			if err := errors.Join(err, proto.Unmarshal(v.Encoded(), decoded)); err != nil {
				e.Fatal(err)
			}
			if e.same(got, stored); v.Revision() != rev(stored) || revision < v.Revision() {
				e.Errorf("it is of revision %d, the store at %d", v.Revision(), revision)
			}
			e.same(decoded, stored)
			return v
		}
		changed := with(app("a"), setNode("pve1"))
		observed := with(app("a"), func(a *v1alpha1.App) { a.Status = &v1alpha1.AppStatus{State: proto.String("Running")} })
		first := write(store.Put, changed)
		if again := write(store.Put, changed); again.Revision() != first.Revision() {
			e.Error("a change that changes nothing has a revision")
		}
		second := write(store.PutStatus, observed)
		if again := write(store.PutStatus, observed); again.Revision() != second.Revision() || second.Revision() == first.Revision() {
			e.Error("the same status is a change, or another one is none")
		}
		e.refused(store.ErrNotFound, func(tx store.Tx) error { _, err := store.Put(tx, app("b")); return err })
		e.refused(store.ErrNotFound, func(tx store.Tx) error { _, err := store.PutStatus(tx, app("b")); return err })
	}},
	{"status/changes status and the revision only", func(e *env) {
		a := create(e, with(app("a"), setLabel("x", "y")))
		got := updateStatus(e, with(a, func(a *v1alpha1.App) {
			setState("Running")(a)
			setLabel("x", "z")(a)
			setNode("pve1")(a)
			a.Metadata.Finalizers = []string{"f"}
		}))
		if rev(got) <= rev(a) || got.Status.GetState() != "Running" {
			e.Errorf("got %v", got)
		}
		want := with(a, setState("Running"))
		want.Metadata.ResourceVersion = got.Metadata.ResourceVersion
		e.same(got, want)
		e.same(get(e, a), got)
	}},
	{"status/conflicts on a stale resourceVersion", func(e *env) {
		a := create(e, app("a"))
		updateStatus(e, with(a, setState("Running")))
		e.refused(store.ErrConflict, updatingStatus(with(a, setState("Stopped"))))
	}},
	{"status/overwrites without a resourceVersion", func(e *env) {
		create(e, app("a"))
		updateStatus(e, with(app("a"), setState("Running")))
		if got := updateStatus(e, with(app("a"), setState("Stopped"))); got.Status.GetState() != "Stopped" {
			e.Errorf("status is %v", got.Status)
		}
	}},
	{"status/that is the same leaves no trace", func(e *env) {
		create(e, app("a"))
		a := updateStatus(e, with(app("a"), setState("Running")))
		w := e.live()
		e.unchanged(updatingStatusOf(a))
		e.unchanged(updatingStatusOf(with(a, setNode("pve1"))))
		e.same(get(e, a), a)
		e.quiet(w)
	}},
	{"status/unset and empty are equal", func(e *env) {
		a := create(e, app("a"))
		e.unchanged(updatingStatusOf(with(a, func(a *v1alpha1.App) { a.Status = &v1alpha1.AppStatus{} })))
	}},
	{"status/can be cleared", func(e *env) {
		create(e, app("a"))
		a := updateStatus(e, with(app("a"), setState("Running")))
		if got := updateStatus(e, with(a, func(a *v1alpha1.App) { a.Status = nil })); got.Status.GetState() != "" {
			e.Errorf("status is %v", got.Status)
		}
	}},
	{"status/of what is not there is not found", func(e *env) {
		e.refused(store.ErrNotFound, updatingStatus(with(app("a"), setState("Running"))))
	}},
	{"status/of another object of the name is refused", func(e *env) {
		old := create(e, app("a"))
		remove(e, old)
		create(e, app("a"))
		old.Metadata.ResourceVersion = ""
		e.refused(store.ErrInvalid, updatingStatus(with(old, setState("Running"))))
	}},
	{"status/of a kind without one is refused", func(e *env) {
		create(e, event("a"))
		e.refused(store.ErrInvalid, updatingStatus(event("a")))
	}},
	{"status/copies what is passed in", func(e *env) {
		create(e, app("a"))
		in := with(app("a"), setState("Running"))
		updateStatus(e, in)
		in.Status.State = proto.String("changed")
		if got := get(e, in).Status.GetState(); got != "Running" {
			e.Errorf("state is %q", got)
		}
	}},
}
