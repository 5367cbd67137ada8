package storetest

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

func creating(o resource.Object) func(store.Tx) error {
	return func(tx store.Tx) error { _, err := tx.Create(o); return err }
}

var createCases = []testCase{
	{"create/sets uid, times, generation and resourceVersion", func(e *env) {
		earliest := time.Now().Truncate(time.Second)
		m := create(e, app("a")).GetMetadata()
		if m.GetUid() == "" || m.GetGeneration() != 1 || m.GetDeletionTimestamp() != "" {
			e.Errorf("metadata is %v", m)
		}
		at, err := time.Parse(time.RFC3339, m.GetCreationTimestamp())
		if err != nil || at.Before(earliest) || at.After(time.Now()) || !strings.HasSuffix(m.GetCreationTimestamp(), "Z") {
			e.Errorf("creationTimestamp is %q (%v)", m.GetCreationTimestamp(), err)
		}
		if got := rev(get(e, app("a"))); got != e.st.Revision() {
			e.Errorf("resourceVersion is %d, the store is at %d", got, e.st.Revision())
		}
	}},
	{"create/returns the object as it is stored", func(e *env) {
		created := create(e, app("a"))
		e.same(get(e, app("a")), created)
	}},
	{"create/copies what is passed in", func(e *env) {
		in := app("a")
		create(e, in)
		in.Spec.Hostname = proto.String("changed")
		e.same(get(e, in).Spec, app("a").Spec)
	}},
	{"create/keeps labels, annotations, finalizers, owners and managers", func(e *env) {
		in := with(app("a"), func(a *v1alpha1.App) {
			m := a.Metadata
			m.Labels, m.Annotations = map[string]string{"l": "1"}, map[string]string{"a": "2"}
			m.Finalizers = []string{"f/1", "f/2"}
			m.OwnerReferences = []*v1alpha1.OwnerReference{{Kind: "Bridge", Name: "b", Uid: "u"}}
			m.ManagedFields = []*v1alpha1.ManagedFieldsEntry{{Manager: "me", Time: "2026-01-01T00:00:00Z"}}
		})
		got := create(e, in).Metadata
		got.Uid, got.CreationTimestamp, got.Generation, got.ResourceVersion = "", "", 0, ""
		e.same(got, in.Metadata)
	}},
	{"create/keeps values that are set to zero", func(e *env) {
		in := with(app("a"), func(a *v1alpha1.App) {
			a.Spec.Suspend, a.Spec.Vmid, a.Spec.Node = proto.Bool(false), proto.Int32(0), proto.String("")
		})
		create(e, in)
		e.same(get(e, in).Spec, in.Spec)
	}},
	{"create/sets by itself what only the store sets", func(e *env) {
		got := create(e, with(app("a"), func(a *v1alpha1.App) {
			m := a.Metadata
			m.Uid, m.Generation = "mine", 7
			m.CreationTimestamp, m.DeletionTimestamp = "2001-01-01T00:00:00Z", "2001-01-01T00:00:00Z"
		})).Metadata
		if got.Uid == "mine" || got.Generation != 1 || got.DeletionTimestamp != "" || strings.HasPrefix(got.CreationTimestamp, "2001") {
			e.Errorf("metadata is %v", got)
		}
	}},
	{"create/drops status", func(e *env) {
		got := create(e, with(app("a"), func(a *v1alpha1.App) { a.Status = &v1alpha1.AppStatus{State: proto.String("Running")} }))
		if got.Status != nil {
			e.Errorf("a new object has status %v", got.Status)
		}
	}},
	{"create/takes kinds without spec and status", func(e *env) {
		created := create(e, event("a"))
		e.same(get(e, event("a")), created)
		if created.GetCount() != 1 || created.GetMetadata().GetGeneration() != 1 {
			e.Errorf("got %v", created)
		}
	}},
	{"create/refuses a name that is taken", func(e *env) {
		created := create(e, app("a"))
		err := e.refused(store.ErrAlreadyExists, creating(app("a")))
		if !strings.Contains(err.Error(), "App default/a") {
			e.Errorf("the error does not name the object: %v", err)
		}
		e.same(get(e, app("a")), created)
	}},
	{"create/tells namespaces and kinds apart", func(e *env) {
		create(e, appIn("one", "a"))
		create(e, appIn("two", "a"))
		create(e, bridge("a"))
		create(e, event("a"))
		if got := e.st.Stats().Objects; got != 4 {
			e.Errorf("%d objects", got)
		}
	}},
	{"create/conflicts when a version is expected", func(e *env) {
		e.refused(store.ErrConflict, creating(with(app("a"), func(a *v1alpha1.App) { a.Metadata.ResourceVersion = "1" })))
	}},
	{"create/again after deletion gets a new uid", func(e *env) {
		first := create(e, app("a"))
		remove(e, first)
		second := create(e, app("a"))
		if first.Metadata.Uid == second.Metadata.Uid || rev(second) <= rev(first) || second.Metadata.Generation != 1 {
			e.Errorf("first %v, then %v", first.Metadata, second.Metadata)
		}
	}},
	{"create/refuses an object without a name", func(e *env) {
		e.refused(store.ErrInvalid, creating(app("")))
	}},
	{"create/refuses a zero byte in a name", func(e *env) {
		e.refused(store.ErrInvalid, creating(app("a\x00b")))
		e.refused(store.ErrInvalid, creating(appIn("a\x00b", "c")))
	}},
	{"create/refuses a name that is too long", func(e *env) {
		longest := strings.Repeat("a", store.MaxNameBytes)
		create(e, appIn(longest, longest))
		e.refused(store.ErrInvalid, creating(app(longest+"a")))
		e.refused(store.ErrInvalid, creating(appIn(longest+"a", "a")))
		e.refused(store.ErrInvalid, creating(app(strings.Repeat("a", 100_000))))
	}},
	{"create/refuses an object without metadata", func(e *env) {
		e.refused(store.ErrInvalid, creating(&v1alpha1.App{Kind: proto.String("App")}))
		e.refused(store.ErrInvalid, creating(nil))
	}},
	{"create/refuses an unknown kind", func(e *env) {
		err := e.refused(store.ErrInvalid, creating(&v1alpha1.Vhost{
			ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Vhost"),
			Metadata: &v1alpha1.ObjectMeta{Name: "a", Namespace: "default"},
		}))
		if !strings.Contains(err.Error(), "Vhost") {
			e.Errorf("the error does not name the kind: %v", err)
		}
	}},
	{"create/refuses a message that is not of its kind", func(e *env) {
		e.refused(store.ErrInvalid, creating(with(bridge("a"), func(b *v1alpha1.Bridge) {
			b.Kind, b.Metadata.Namespace = proto.String("App"), "default"
		})))
	}},
	{"create/refuses text that is not UTF-8 and goes on", func(e *env) {
		e.refused(store.ErrInvalid, creating(with(app("a"), setNode("pve\xff"))))
		e.refused(store.ErrInvalid, creating(app("a\xff")))
		create(e, app("a"))
	}},
	{"create/refuses another apiVersion", func(e *env) {
		e.refused(store.ErrInvalid, creating(with(app("a"), func(a *v1alpha1.App) { a.ApiVersion = proto.String("proximity/v9") })))
		e.refused(store.ErrInvalid, creating(with(app("a"), func(a *v1alpha1.App) { a.ApiVersion = nil })))
	}},
	{"create/refuses the wrong scope", func(e *env) {
		e.refused(store.ErrInvalid, creating(appIn("", "a")))
		e.refused(store.ErrInvalid, creating(with(bridge("a"), func(b *v1alpha1.Bridge) { b.Metadata.Namespace = "default" })))
	}},
	{"create/takes an object of almost the largest size, none above", func(e *env) {
		sized := func(n int) *v1alpha1.App {
			return with(app("a"), func(a *v1alpha1.App) { a.Spec.Node = proto.String(strings.Repeat("x", n)) })
		}
		e.refused(store.ErrTooLarge, creating(sized(store.MaxObjectBytes)))
		create(e, sized(store.MaxObjectBytes-1024))
	}},
}
