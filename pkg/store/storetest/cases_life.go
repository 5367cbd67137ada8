package storetest

import (
	"errors"
	"fmt"
	"slices"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

var lifeCases = []testCase{
	{"life/a new store is empty at a revision above 0", func(e *env) {
		s := e.st.Stats()
		if s.Revision == 0 || s.Revision != e.st.Revision() || s.Objects != 0 || s.Compacted != s.Revision || s.ReadOnly {
			e.Errorf("stats are %+v", s)
		}
	}},
	{"life/stats count changes", func(e *env) {
		create(e, app("a"))
		update(e, with(app("a"), setNode("pve1")))
		create(e, app("b"))
		remove(e, app("b"))
		s := e.st.Stats()
		if s.Changes != 4 || s.Commits != 4 || s.Objects != 1 || s.Revision != e.st.Revision() {
			e.Errorf("stats are %+v", s)
		}
	}},
	{"life/a closed store refuses everything", func(e *env) {
		create(e, app("a"))
		if err := e.st.Close(); err != nil {
			e.Fatal(err)
		}
		_, getErr := e.st.Get(bg, resource.KeyOf(app("a")))
		_, listErr := e.st.List(bg, "App", store.ListOptions{})
		_, watchErr := e.st.Watch(bg, store.WatchOptions{})
		_, updateErr := e.st.Update(bg, creating(app("b")))
		for what, err := range map[string]error{"get": getErr, "list": listErr, "watch": watchErr, "update": updateErr} {
			if !errors.Is(err, store.ErrClosed) {
				e.Errorf("%s: got %v", what, err)
			}
		}
	}},
	{"life/a store can be closed again", func(e *env) {
		if err := errors.Join(e.st.Close(), e.st.Close()); err != nil {
			e.Error(err)
		}
	}},
	{"life/closing answers those who wait", func(e *env) {
		entered, leave := make(chan struct{}), make(chan struct{})
		results := make(chan error, 21)
		update := func(fn func(store.Tx) error) {
			go func() { _, err := e.st.Update(bg, fn); results <- err }()
		}
		update(func(tx store.Tx) error { close(entered); <-leave; return creating(app("first"))(tx) })
		<-entered
		for i := range 20 {
			update(creating(app(fmt.Sprint(i))))
		}
		closed := make(chan error)
		go func() { closed <- e.st.Close() }()
		close(leave)
		for range 21 {
			if err := <-results; err != nil && !errors.Is(err, store.ErrClosed) {
				e.Errorf("got %v", err)
			}
		}
		if err := <-closed; err != nil {
			e.Error(err)
		}
	}},
	{"compaction/refuses a watch from below and takes one from its point", func(e *env) {
		compact := e.compactor()
		var revisions []uint64
		for i := range 10 {
			revisions = append(revisions, rev(create(e, app(fmt.Sprint(i)))))
		}
		compact(revisions[5])
		if got := e.st.Stats().Compacted; got != revisions[5] {
			e.Errorf("compacted is %d, want %d", got, revisions[5])
		}
		for _, from := range revisions[:5] {
			if _, err := e.st.Watch(bg, store.WatchOptions{From: from}); !errors.Is(err, store.ErrCompacted) {
				e.Errorf("from %d: got %v", from, err)
			}
		}
		w := e.watch(store.WatchOptions{From: revisions[5]})
		for _, r := range revisions[6:] {
			if ev := e.next(w); ev.Revision != r {
				e.Fatalf("got %d, want %d", ev.Revision, r)
			}
		}
	}},
	{"compaction/keeps objects", func(e *env) {
		compact := e.compactor()
		a := create(e, app("a"))
		update(e, with(create(e, app("b")), setNode("pve1")))
		compact(e.st.Revision())
		e.same(get(e, a), a)
		if got := e.list("App", store.ListOptions{}); len(got) != 2 {
			e.Errorf("listed %v", got)
		}
		w := e.watch(store.WatchOptions{})
		if got, _ := e.untilBookmark(w); !slices.Equal(got, []string{"default/a", "default/b"}) {
			e.Errorf("snapshot %v", got)
		}
	}},
	{"compaction/leaves watches alone that are beyond it", func(e *env) {
		compact := e.compactor()
		w := e.live()
		e.expectAfter(w, create(e, app("a")))
		compact(e.st.Revision())
		e.expectAfter(w, create(e, app("b")))
	}},
	{"compaction/of the future is refused", func(e *env) {
		e.compactor()
		if err := e.backend.Compact(bg, e.st.Revision()+1); !errors.Is(err, store.ErrInvalid) {
			e.Errorf("got %v", err)
		}
	}},
	{"compaction/of what is compacted changes nothing", func(e *env) {
		compact := e.compactor()
		a := create(e, app("a"))
		create(e, app("b"))
		compact(rev(a))
		compact(rev(a) - 1)
		if got := e.st.Stats().Compacted; got != rev(a) {
			e.Errorf("compacted is %d, want %d", got, rev(a))
		}
	}},
}

func (e *env) expectAfter(w store.Watcher, o resource.Object) {
	e.Helper()
	e.expect(w, store.Added, o)
}

func (e *env) compactor() func(upTo uint64) {
	if e.backend.Compact == nil {
		e.Skip("the backend cannot be told to compact")
	}
	return func(upTo uint64) {
		e.Helper()
		if err := e.backend.Compact(bg, upTo); err != nil {
			e.Fatalf("compact: %v", err)
		}
	}
}

// reopen closes the store and opens it again on the same data.
func (e *env) reopen() {
	e.Helper()
	if e.backend.Reopen == nil {
		e.Skip("the backend forgets")
	}
	e.st = e.backend.Reopen(e.T)
}

func requireReopen(run func(e *env)) func(e *env) {
	return func(e *env) {
		if e.backend.Reopen == nil {
			e.Skip("the backend forgets")
		}
		run(e)
	}
}

var restartCases = []testCase{
	{"restart/finds every object as it was", requireReopen(func(e *env) {
		want := []resource.Object{
			create(e, with(app("a"), func(a *v1alpha1.App) { setLabel("x", "y")(a); setFinalizers("f")(a) })),
			create(e, bridge("b")),
			create(e, event("c")),
		}
		want = append(want, remove(e, create(e, with(app("d"), setFinalizers("f")))))
		create(e, app("e"))
		want = append(want, updateStatus(e, with(app("e"), setState("Running"))))
		e.reopen()
		for _, o := range want {
			e.same(get(e, o), o)
		}
		if got := e.st.Stats().Objects; got != len(want) {
			e.Errorf("%d objects, want %d", got, len(want))
		}
	})},
	{"restart/does not find what was deleted", requireReopen(func(e *env) {
		a := create(e, app("a"))
		remove(e, a)
		e.reopen()
		e.gone(a)
	})},
	{"restart/goes on at the same revision", requireReopen(func(e *env) {
		fresh := e.st.Revision()
		e.reopen()
		if got := e.st.Revision(); got != fresh {
			e.Errorf("a fresh store went from %d to %d", fresh, got)
		}
		remove(e, create(e, app("a"))) // the newest revision is no object's
		before := e.st.Revision()
		e.reopen()
		if got := e.st.Revision(); got != before {
			e.Errorf("it was at %d and is at %d", before, got)
		}
		if got := create(e, app("b")); rev(got) <= before {
			e.Errorf("the next change has %d, the store was at %d", rev(got), before)
		}
	})},
	{"restart/keeps versions valid", requireReopen(func(e *env) {
		a := create(e, app("a"))
		e.reopen()
		b := update(e, with(a, setNode("pve1")))
		e.refused(store.ErrConflict, updating(with(a, setNode("pve2"))))
		e.reopen()
		e.same(get(e, b), b)
	})},
	{"restart/lets a watch go on from any revision", requireReopen(func(e *env) {
		start := e.st.Revision()
		w := e.live()
		a := create(e, app("a"))
		a = update(e, with(a, setNode("pve1")))
		a = updateStatus(e, with(a, setState("Running")))
		e.must(func(tx store.Tx) error {
			_, err := tx.Create(bridge("b"))
			return errors.Join(err, deleting(a, store.Preconditions{})(tx))
		})
		var want []store.Event
		for range 5 {
			want = append(want, e.next(w))
		}
		e.reopen()
		c := create(e, app("c"))
		want = append(want, store.Event{Type: store.Added, Object: c, Revision: rev(c)})
		for i, from := range []uint64{start, want[0].Revision, want[1].Revision, want[2].Revision, want[3].Revision, want[4].Revision} {
			w := e.watch(store.WatchOptions{From: from})
			for _, ev := range want[i:] {
				got := e.next(w)
				if got.Type != ev.Type || got.Revision != ev.Revision {
					e.Fatalf("from %d: got %s at %d, want %s at %d", from, text(got), got.Revision, text(ev), ev.Revision)
				}
				e.same(got.Object, ev.Object)
			}
		}
	})},
	{"restart/keeps the compaction point", requireReopen(func(e *env) {
		compact := e.compactor()
		a, b, c := create(e, app("a")), create(e, app("b")), create(e, app("c"))
		compact(rev(b))
		e.reopen()
		if got := e.st.Stats().Compacted; got != rev(b) {
			e.Errorf("compacted is %d, want %d", got, rev(b))
		}
		if _, err := e.st.Watch(bg, store.WatchOptions{From: rev(a)}); !errors.Is(err, store.ErrCompacted) {
			e.Errorf("got %v", err)
		}
		e.expect(e.watch(store.WatchOptions{From: rev(b)}), store.Added, c)
	})},
	{"restart/finds a store whose log is compacted to the end", requireReopen(func(e *env) {
		compact := e.compactor()
		a := create(e, app("a"))
		compact(e.st.Revision())
		e.reopen()
		e.same(get(e, a), a)
		e.expect(e.watch(store.WatchOptions{From: rev(a)}), store.Added, create(e, app("b")))
	})},
	{"restart/begins new counters", requireReopen(func(e *env) {
		create(e, app("a"))
		e.reopen()
		if s := e.st.Stats(); s.Changes != 0 || s.Commits != 0 || s.Bytes <= 0 {
			e.Errorf("stats are %+v", s)
		}
	})},
}
