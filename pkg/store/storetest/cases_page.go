package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// fill creates n apps, a00, a01 and so on, in one transaction.
func (e *env) fill(n int) {
	e.Helper()
	e.must(func(tx store.Tx) error {
		for i := range n {
			if _, err := tx.Create(app(fmt.Sprintf("a%02d", i))); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *env) page(opts store.ListOptions) store.Snapshot {
	e.Helper()
	snap, err := e.st.List(bg, "App", opts)
	if err != nil {
		e.Fatalf("list: %v", err)
	}
	return snap
}

// pages reads all pages and checks that they fit together. between runs after each.
func (e *env) pages(opts store.ListOptions, between func(page int)) []string {
	e.Helper()
	var all []string
	first := e.page(opts)
	total := len(first.Items) + first.Remaining
	for n, snap := 0, first; ; n++ {
		all = append(all, names(snap.Items)...)
		switch {
		case snap.Revision != first.Revision:
			e.Fatalf("page %d is of revision %d, the first of %d", n, snap.Revision, first.Revision)
		case len(all)+snap.Remaining != total:
			e.Fatalf("after page %d there are %d objects and %d remain, the first page said %d", n, len(all), snap.Remaining, total)
		case (snap.Continue == "") != (snap.Remaining == 0):
			e.Fatalf("page %d: %d remain, the token is %q", n, snap.Remaining, snap.Continue)
		case snap.Continue == "":
			return all
		case len(snap.Items) != opts.Limit:
			e.Fatalf("page %d has %d objects, the limit is %d", n, len(snap.Items), opts.Limit)
		}
		if between != nil {
			between(n)
		}
		opts.Continue = snap.Continue
		snap = e.page(opts)
	}
}

func (e *env) refusedPage(want error, opts store.ListOptions) {
	e.Helper()
	if _, err := e.st.List(bg, "App", opts); !errors.Is(err, want) {
		e.Errorf("got %v, want %v", err, want)
	}
}

var pageCases = []testCase{
	{"page/pages together are the list", func(e *env) {
		for _, n := range []string{"b/b", "a/b", "b/a", "a-b/a", "a/a", "ab/a", "a/a-b", "a/ab", "a/B", "a/abc"} {
			ns, name, _ := strings.Cut(n, "/")
			create(e, appIn(ns, name))
		}
		want := e.list("App", store.ListOptions{})
		for limit := 1; limit <= len(want)+1; limit++ {
			if got := e.pages(store.ListOptions{Limit: limit}, nil); !slices.Equal(got, want) {
				e.Errorf("by %d: got %v, want %v", limit, got, want)
			}
		}
	}},
	{"page/of a namespace has nothing of others", func(e *env) {
		for _, ns := range []string{"a", "a-b", "ab", "b"} {
			for i := range 3 {
				create(e, appIn(ns, fmt.Sprint("x", i)))
			}
		}
		for _, ns := range []string{"a", "a-b", "ab", "b", "c"} {
			want := e.list("App", store.ListOptions{Namespace: ns})
			if got := e.pages(store.ListOptions{Namespace: ns, Limit: 2}, nil); !slices.Equal(got, want) {
				e.Errorf("%s: got %v, want %v", ns, got, want)
			}
		}
	}},
	{"page/counts what matches", func(e *env) {
		e.fill(20)
		odd := func(o resource.Object) bool { name := o.GetMetadata().GetName(); return (name[len(name)-1]-'0')%2 == 1 }
		want := e.list("App", store.ListOptions{Match: odd})
		for _, limit := range []int{1, 3, 5, 10} {
			if got := e.pages(store.ListOptions{Match: odd, Limit: limit}, nil); !slices.Equal(got, want) {
				e.Errorf("by %d: got %v, want %v", limit, got, want)
			}
		}
	}},
	{"page/is not disturbed by writes", func(e *env) {
		e.fill(20)
		want := e.list("App", store.ListOptions{})
		got := e.pages(store.ListOptions{Limit: 3}, func(n int) {
			remove(e, app(fmt.Sprintf("a%02d", n)))       // was listed
			remove(e, app(fmt.Sprintf("a%02d", 19-n)))    // is yet to be listed
			create(e, app(fmt.Sprintf("a10-new%02d", n))) // was not there
		})
		if !slices.Equal(got, want) {
			e.Errorf("got %v, want %v", got, want)
		}
	}},
	{"page/shows objects as they were", func(e *env) {
		e.fill(4)
		first := e.page(store.ListOptions{Limit: 2})
		update(e, with(app("a03"), setNode("pve1")))
		second := e.page(store.ListOptions{Limit: 2, Continue: first.Continue})
		if o := second.Items[1]; rev(o) > first.Revision || o.GetMetadata().GetName() != "a03" {
			e.Errorf("a page of revision %d has %s at %d", first.Revision, resource.KeyOf(o), rev(o))
		}
		w := e.watch(store.WatchOptions{From: second.Revision})
		e.expect(w, store.Modified, app("a03"))
	}},
	{"page/can be asked for again", func(e *env) {
		e.fill(10)
		first := e.page(store.ListOptions{Limit: 4})
		create(e, app("zz"))
		opts := store.ListOptions{Limit: 4, Continue: first.Continue}
		once, again := e.page(opts), e.page(opts)
		if !slices.Equal(names(once.Items), names(again.Items)) || once.Continue != again.Continue {
			e.Errorf("got %v, then %v", names(once.Items), names(again.Items))
		}
	}},
	{"page/size may change, and no limit is the rest", func(e *env) {
		e.fill(10)
		snap := e.page(store.ListOptions{Limit: 2})
		snap = e.page(store.ListOptions{Limit: 5, Continue: snap.Continue})
		if len(snap.Items) != 5 || snap.Remaining != 3 {
			e.Errorf("%d objects, %d remain", len(snap.Items), snap.Remaining)
		}
		snap = e.page(store.ListOptions{Continue: snap.Continue})
		if got := names(snap.Items); !slices.Equal(got, []string{"default/a07", "default/a08", "default/a09"}) || snap.Continue != "" {
			e.Errorf("got %v and the token %q", got, snap.Continue)
		}
	}},
	{"page/with room for all has no token", func(e *env) {
		e.fill(3)
		for _, limit := range []int{3, 4, 1 << 30} {
			if snap := e.page(store.ListOptions{Limit: limit}); len(snap.Items) != 3 || snap.Continue != "" || snap.Remaining != 0 {
				e.Errorf("by %d: %d objects, %d remain, token %q", limit, len(snap.Items), snap.Remaining, snap.Continue)
			}
		}
	}},
	{"page/of an unpaged list has no token", func(e *env) {
		e.fill(3)
		if snap := e.page(store.ListOptions{}); snap.Continue != "" || snap.Remaining != 0 {
			e.Errorf("%d remain, token %q", snap.Remaining, snap.Continue)
		}
	}},
	{"page/of a negative size is invalid", func(e *env) {
		e.refusedPage(store.ErrInvalid, store.ListOptions{Limit: -1})
	}},
	{"page/with a token that nobody gave out is invalid", func(e *env) {
		e.fill(3)
		token := e.page(store.ListOptions{Limit: 1}).Continue
		for _, bad := range []string{"x", "====", token[1:], token[:len(token)-1], token + "A", strings.Repeat("A", 1<<20), "\x00", token + "\n"} {
			e.refusedPage(store.ErrInvalid, store.ListOptions{Limit: 1, Continue: bad})
		}
	}},
	{"page/with a token of another list is invalid", func(e *env) {
		e.fill(3)
		create(e, bridge("a"))
		token := e.page(store.ListOptions{Limit: 1}).Continue
		e.refusedPage(store.ErrInvalid, store.ListOptions{Limit: 1, Namespace: "default", Continue: token})
		if _, err := e.st.List(bg, "Bridge", store.ListOptions{Limit: 1, Continue: token}); !errors.Is(err, store.ErrInvalid) {
			e.Errorf("got %v", err)
		}
	}},
	{"page/of a list that made room for others has expired", func(e *env) {
		e.fill(3)
		first := e.page(store.ListOptions{Limit: 1})
		var last store.Snapshot
		for i := range store.MaxPagedLists {
			create(e, app(fmt.Sprintf("b%02d", i)))
			last = e.page(store.ListOptions{Limit: 1})
		}
		e.refusedPage(store.ErrCompacted, store.ListOptions{Limit: 1, Continue: first.Continue})
		create(e, app("c"))
		if got := e.page(store.ListOptions{Continue: last.Continue}); len(got.Items) != last.Remaining {
			e.Errorf("%d objects, want %d", len(got.Items), last.Remaining)
		}
	}},
	{"page/of a list that is in use outlives others", func(e *env) {
		e.fill(3)
		opts := store.ListOptions{Limit: 1, Continue: e.page(store.ListOptions{Limit: 1}).Continue}
		for i := range 3 * store.MaxPagedLists {
			create(e, app(fmt.Sprintf("b%02d", i)))
			e.page(store.ListOptions{Limit: 1})
			e.page(opts)
		}
	}},
	{"page/from before a restart has expired", func(e *env) {
		if e.backend.Reopen == nil {
			e.Skip("the backend forgets")
		}
		e.fill(3)
		token := e.page(store.ListOptions{Limit: 1}).Continue
		e.st = e.backend.Reopen(e.T)
		e.refusedPage(store.ErrCompacted, store.ListOptions{Limit: 1, Continue: token})
	}},
}
