package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

var readCases = []testCase{
	{"get/of what is not there is not found and names the object", func(e *env) {
		_, err := e.st.Get(bg, resource.KeyOf(app("a")))
		if !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "App default/a") {
			e.Errorf("got %v", err)
		}
	}},
	{"get/of an unknown kind is invalid", func(e *env) {
		if _, err := e.st.Get(bg, resource.Key{Kind: "Vhost", Name: "a"}); !errors.Is(err, store.ErrInvalid) {
			e.Errorf("got %v", err)
		}
	}},
	{"get/with an ended context fails", func(e *env) {
		create(e, app("a"))
		ctx, cancel := context.WithCancel(bg)
		cancel()
		if _, err := e.st.Get(ctx, resource.KeyOf(app("a"))); !errors.Is(err, context.Canceled) {
			e.Errorf("got %v", err)
		}
	}},
	{"list/is ordered by namespace and name", func(e *env) {
		for _, n := range []string{"b/b", "a/b", "b/a", "a-b/a", "a/a", "ab/a", "a/a-b", "a/ab", "a/B"} {
			ns, name, _ := strings.Cut(n, "/")
			create(e, appIn(ns, name))
		}
		want := []string{"a/B", "a/a", "a/a-b", "a/ab", "a/b", "a-b/a", "ab/a", "b/a", "b/b"}
		if got := e.list("App", store.ListOptions{}); !slices.Equal(got, want) {
			e.Errorf("got %v, want %v", got, want)
		}
	}},
	{"list/of a namespace has nothing of others", func(e *env) {
		for _, ns := range []string{"a", "a-b", "ab", "b"} {
			create(e, appIn(ns, "x"))
		}
		if got := e.list("App", store.ListOptions{Namespace: "a"}); !slices.Equal(got, []string{"a/x"}) {
			e.Errorf("got %v", got)
		}
		if got := e.list("App", store.ListOptions{Namespace: "c"}); len(got) != 0 {
			e.Errorf("got %v", got)
		}
	}},
	{"list/of a kind has nothing of others", func(e *env) {
		create(e, app("a"))
		create(e, bridge("b"))
		create(e, event("c"))
		if got := e.list("Bridge", store.ListOptions{}); !slices.Equal(got, []string{"/b"}) {
			e.Errorf("got %v", got)
		}
	}},
	{"list/takes what matches", func(e *env) {
		for i := range 10 {
			create(e, with(app(fmt.Sprintf("a%d", i)), setLabel("odd", fmt.Sprint(i%2 == 1))))
		}
		odd := func(o resource.Object) bool { return o.GetMetadata().GetLabels()["odd"] == "true" }
		want := []string{"default/a1", "default/a3", "default/a5", "default/a7", "default/a9"}
		if got := e.list("App", store.ListOptions{Match: odd}); !slices.Equal(got, want) {
			e.Errorf("got %v", got)
		}
	}},
	{"list/says the revision of its snapshot", func(e *env) {
		create(e, app("a"))
		snap, err := e.st.List(bg, "App", store.ListOptions{})
		if err != nil || snap.Revision != e.st.Revision() || snap.Revision != rev(snap.Items[0]) {
			e.Errorf("snapshot at %d of a store at %d (%v)", snap.Revision, e.st.Revision(), err)
		}
		create(e, bridge("b"))
		if snap, _ = e.st.List(bg, "App", store.ListOptions{}); snap.Revision != e.st.Revision() {
			e.Errorf("snapshot at %d of a store at %d", snap.Revision, e.st.Revision())
		}
	}},
	{"list/does not change later", func(e *env) {
		create(e, app("a"))
		create(e, app("b"))
		snap, err := e.st.List(bg, "App", store.ListOptions{})
		if err != nil {
			e.Fatal(err)
		}
		update(e, with(app("a"), setNode("pve1")))
		remove(e, app("b"))
		create(e, app("c"))
		if got := names(snap.Items); !slices.Equal(got, []string{"default/a", "default/b"}) || snap.Items[0].(*v1alpha1.App).Spec.Node != nil {
			e.Errorf("the snapshot became %v", snap.Items)
		}
	}},
	{"list/belongs to the caller", func(e *env) {
		create(e, app("a"))
		snap, err := e.st.List(bg, "App", store.ListOptions{})
		if err != nil {
			e.Fatal(err)
		}
		snap.Items[0] = nil
		if got := e.list("App", store.ListOptions{}); len(got) != 1 {
			e.Errorf("got %v", got)
		}
	}},
	{"list/of an unknown kind is invalid", func(e *env) {
		if _, err := e.st.List(bg, "Vhost", store.ListOptions{}); !errors.Is(err, store.ErrInvalid) {
			e.Errorf("got %v", err)
		}
	}},
	{"list/of nothing is empty", func(e *env) {
		if got := e.list("App", store.ListOptions{}); len(got) != 0 {
			e.Errorf("got %v", got)
		}
	}},
	{"list/with an ended context fails", func(e *env) {
		ctx, cancel := context.WithCancel(bg)
		cancel()
		if _, err := e.st.List(ctx, "App", store.ListOptions{}); !errors.Is(err, context.Canceled) {
			e.Errorf("got %v", err)
		}
	}},
	{"list/keeps up with many objects", func(e *env) {
		const n = 2000
		e.must(func(tx store.Tx) error {
			for i := range n {
				if _, err := tx.Create(app(fmt.Sprintf("a%04d", i))); err != nil {
					return err
				}
			}
			return nil
		})
		e.must(func(tx store.Tx) error {
			for i := 0; i < n; i += 2 {
				if _, err := tx.Delete(resource.KeyOf(app(fmt.Sprintf("a%04d", i))), store.Preconditions{}); err != nil {
					return err
				}
			}
			return nil
		})
		got := e.list("App", store.ListOptions{})
		if len(got) != n/2 || !slices.IsSorted(got) || e.st.Stats().Objects != n/2 {
			e.Errorf("%d objects, sorted %t, counted %d", len(got), slices.IsSorted(got), e.st.Stats().Objects)
		}
	}},
}
