package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// untilBookmark collects the snapshot at the beginning of a watch.
func (e *env) untilBookmark(w store.Watcher) (got []string, bookmark store.Event) {
	e.Helper()
	got = []string{}
	for {
		ev := e.next(w)
		switch ev.Type {
		case store.Bookmark:
			return got, ev
		case store.Added:
			got = append(got, names([]resource.Object{ev.Object})...)
		default:
			e.Fatalf("%s in a snapshot", text(ev))
		}
	}
}

var watchCases = []testCase{
	{"watch/from 0 begins with a snapshot and a bookmark", func(e *env) {
		create(e, app("a"))
		create(e, app("b"))
		update(e, with(app("a"), setNode("pve1")))
		remove(e, app("b"))
		create(e, app("c"))
		at := e.st.Revision()
		w := e.watch(store.WatchOptions{})
		a := e.expect(w, store.Added, app("a"))
		if a.Revision != rev(a.Object) || a.Object.(*v1alpha1.App).Spec.GetNode() != "pve1" {
			e.Errorf("event at %d has %v", a.Revision, a.Object)
		}
		e.expect(w, store.Added, app("c"))
		if ev := e.next(w); ev.Type != store.Bookmark || ev.Revision != at || ev.Object != nil {
			e.Errorf("got %s at %d, want a bookmark at %d", text(ev), ev.Revision, at)
		}
		create(e, app("d"))
		e.expect(w, store.Added, app("d"))
	}},
	{"watch/for metadata only has them", func(e *env) {
		labelled := func(name string) *v1alpha1.App {
			return with(app(name), func(a *v1alpha1.App) { a.Metadata.Labels = map[string]string{"of": name} })
		}
		create(e, labelled("a"))
		w := e.watch(store.WatchOptions{Kind: "App", MetadataOnly: true, Match: func(o resource.Object) bool {
			return o.GetMetadata().GetLabels()["of"] != "b"
		}})
		create(e, labelled("b"))
		create(e, labelled("c"))
		for _, name := range []string{"a", "", "c"} {
			ev := e.next(w)
			if name == "" {
				if ev.Type != store.Bookmark {
					e.Errorf("got %s, want a bookmark", text(ev))
				}
				continue
			}
			stored := get(e, app(name))
			if ev.Type != store.Added || resource.KeyOf(ev.Object) != resource.KeyOf(stored) || ev.Object.GetApiVersion() != stored.GetApiVersion() {
				e.Errorf("got %s, want %s", text(ev), name)
			}
			e.same(ev.Object.GetMetadata(), stored.GetMetadata())
		}
	}},
	{"watch/of an empty store begins with a bookmark", func(e *env) {
		w := e.watch(store.WatchOptions{})
		got, bookmark := e.untilBookmark(w)
		if len(got) != 0 || bookmark.Revision != e.st.Revision() {
			e.Errorf("got %v and a bookmark at %d", got, bookmark.Revision)
		}
	}},
	{"watch/from the revision of a list misses nothing and repeats nothing", func(e *env) {
		create(e, app("a"))
		snap, err := e.st.List(bg, "App", store.ListOptions{})
		if err != nil {
			e.Fatal(err)
		}
		create(e, app("b"))
		w := e.watch(store.WatchOptions{From: snap.Revision})
		e.expect(w, store.Added, app("b"))
		e.quiet(w)
	}},
	{"watch/from the revision of an empty list is not a snapshot", func(e *env) {
		snap, err := e.st.List(bg, "App", store.ListOptions{})
		if err != nil || snap.Revision == 0 {
			e.Fatalf("revision %d (%v)", snap.Revision, err)
		}
		w := e.watch(store.WatchOptions{From: snap.Revision})
		e.quiet(w)
	}},
	{"watch/from every revision there was", func(e *env) {
		start := e.st.Revision()
		var want []uint64
		for i := range 20 {
			want = append(want, rev(create(e, app(strconv.Itoa(i)))))
		}
		for i, from := range append([]uint64{start}, want...) {
			w := e.watch(store.WatchOptions{From: from})
			for _, r := range want[i:] {
				if ev := e.next(w); ev.Revision != r {
					e.Fatalf("from %d: got %d, want %d", from, ev.Revision, r)
				}
			}
		}
	}},
	{"watch/tells the type of each change", func(e *env) {
		w := e.live()
		a := create(e, with(app("a"), setFinalizers("f")))
		e.same(e.expect(w, store.Added, a).Object, a)
		a = update(e, with(a, setNode("pve1")))
		e.same(e.expect(w, store.Modified, a).Object, a)
		a = updateStatus(e, with(a, setState("Running")))
		e.same(e.expect(w, store.Modified, a).Object, a)
		a = remove(e, a)
		e.same(e.expect(w, store.Modified, a).Object, a)
		last := update(e, with(a, setFinalizers()))
		ev := e.expect(w, store.Deleted, a)
		e.same(ev.Object, last)
		if ev.Revision != rev(last) {
			e.Errorf("event at %d, object at %d", ev.Revision, rev(last))
		}
		e.quiet(w)
	}},
	{"watch/shows a deleted object as it was, at the deletion's revision", func(e *env) {
		a := create(e, with(app("a"), setLabel("x", "y")))
		w := e.live()
		remove(e, a)
		ev := e.expect(w, store.Deleted, a)
		if ev.Revision != e.st.Revision() || rev(ev.Object) != ev.Revision {
			e.Errorf("event at %d, object at %d, store at %d", ev.Revision, rev(ev.Object), e.st.Revision())
		}
		e.same(ev.Object.(*v1alpha1.App).Spec, a.Spec)
	}},
	{"watch/shows an event only when reads show it too", func(e *env) {
		w := e.live()
		go func() {
			for i := range 200 {
				_, _ = e.st.Update(bg, creating(app(strconv.Itoa(i))))
			}
		}()
		for range 200 {
			ev := e.next(w)
			if got := get(e, ev.Object); rev(got) < ev.Revision || e.st.Revision() < ev.Revision {
				e.Fatalf("event at %d, object at %d, store at %d", ev.Revision, rev(got), e.st.Revision())
			}
		}
	}},
	{"watch/selects by kind", func(e *env) {
		create(e, app("a"))
		create(e, bridge("a"))
		w := e.watch(store.WatchOptions{Kind: "Bridge"})
		if got, _ := e.untilBookmark(w); !slices.Equal(got, []string{"/a"}) {
			e.Errorf("snapshot %v", got)
		}
		create(e, app("b"))
		create(e, bridge("b"))
		e.expect(w, store.Added, bridge("b"))
	}},
	{"watch/of all kinds has all of them", func(e *env) {
		create(e, app("a"))
		create(e, bridge("b"))
		create(e, event("c"))
		w := e.watch(store.WatchOptions{})
		got, _ := e.untilBookmark(w)
		slices.Sort(got)
		if want := []string{"/b", "default/a", "default/c"}; !slices.Equal(got, want) {
			e.Errorf("got %v, want %v", got, want)
		}
		update(e, with(event("c"), func(ev *v1alpha1.Event) { ev.Count = 2 }))
		e.expect(w, store.Modified, event("c"))
	}},
	{"watch/selects by namespace", func(e *env) {
		create(e, appIn("one", "a"))
		create(e, appIn("two", "a"))
		w := e.watch(store.WatchOptions{Namespace: "two"})
		if got, _ := e.untilBookmark(w); !slices.Equal(got, []string{"two/a"}) {
			e.Errorf("snapshot %v", got)
		}
		create(e, appIn("one", "b"))
		create(e, bridge("b"))
		create(e, appIn("two", "b"))
		e.expect(w, store.Added, appIn("two", "b"))
	}},
	{"watch/selects by name", func(e *env) {
		create(e, app("a"))
		create(e, app("b"))
		w := e.watch(store.WatchOptions{Kind: "App", Namespace: "default", Name: "b"})
		if got, _ := e.untilBookmark(w); !slices.Equal(got, []string{"default/b"}) {
			e.Errorf("snapshot %v", got)
		}
		remove(e, app("a"))
		remove(e, app("b"))
		e.expect(w, store.Deleted, app("b"))
	}},
	{"watch/selects what matches", func(e *env) {
		create(e, with(app("a"), setLabel("x", "1")))
		create(e, with(app("b"), setLabel("x", "2")))
		w := e.watch(store.WatchOptions{Match: func(o resource.Object) bool { return o.GetMetadata().GetLabels()["x"] == "2" }})
		if got, _ := e.untilBookmark(w); !slices.Equal(got, []string{"default/b"}) {
			e.Errorf("snapshot %v", got)
		}
		update(e, with(get(e, app("a")), setNode("pve1")))
		update(e, with(get(e, app("b")), setNode("pve1")))
		e.expect(w, store.Modified, app("b"))
	}},
	{"watch/of an unknown kind is invalid", func(e *env) {
		if _, err := e.st.Watch(bg, store.WatchOptions{Kind: "Vhost"}); !errors.Is(err, store.ErrInvalid) {
			e.Errorf("got %v", err)
		}
	}},
	{"watch/from ahead of the store is refused like a compacted one", func(e *env) {
		if _, err := e.st.Watch(bg, store.WatchOptions{From: e.st.Revision() + 1}); !errors.Is(err, store.ErrCompacted) {
			e.Errorf("got %v", err)
		}
	}},
	{"watch/ends without error when it is stopped", func(e *env) {
		w := e.live()
		w.Stop()
		w.Stop()
		if err := e.end(w); err != nil {
			e.Errorf("got %v", err)
		}
		create(e, app("a"))
	}},
	{"watch/ends without error with its context", func(e *env) {
		ctx, cancel := context.WithCancel(bg)
		w, err := e.st.Watch(ctx, store.WatchOptions{})
		if err != nil {
			e.Fatal(err)
		}
		cancel()
		if err := e.end(w); err != nil {
			e.Errorf("got %v", err)
		}
	}},
	{"watch/with an ended context is refused", func(e *env) {
		ctx, cancel := context.WithCancel(bg)
		cancel()
		if _, err := e.st.Watch(ctx, store.WatchOptions{}); !errors.Is(err, context.Canceled) {
			e.Errorf("got %v", err)
		}
	}},
	{"watch/ends with the store", func(e *env) {
		w, blocked := e.live(), e.watch(store.WatchOptions{})
		create(e, app("a"))
		if err := e.st.Close(); err != nil {
			e.Fatal(err)
		}
		for _, w := range []store.Watcher{w, blocked} {
			if err := e.end(w); !errors.Is(err, store.ErrClosed) {
				e.Errorf("got %v", err)
			}
		}
	}},
	{"watch/that is stuck is cut off and delays nobody", func(e *env) {
		stuck, good := e.live(), e.live()
		const rounds, each = 8, MaxWatchLag / 4
		for round := range rounds {
			e.must(func(tx store.Tx) error {
				for i := range each {
					if _, err := tx.Create(app(fmt.Sprintf("r%d-%d", round, i))); err != nil {
						return err
					}
				}
				return nil
			})
			for range each {
				e.next(good)
			}
		}
		if err := e.end(stuck); !errors.Is(err, store.ErrSlow) {
			e.Errorf("got %v", err)
		}
		e.quiet(good)
	}},
	{"watch/that is idle is not taken for stuck", func(e *env) {
		w := e.watch(store.WatchOptions{From: e.st.Revision(), Kind: "Bridge"})
		seen := e.live()
		const rounds, each = 8, MaxWatchLag / 4
		for round := range rounds {
			e.must(func(tx store.Tx) error {
				for i := range each {
					if _, err := tx.Create(app(fmt.Sprintf("r%d-%d", round, i))); err != nil {
						return err
					}
				}
				return nil
			})
			for range each {
				e.next(seen)
			}
			// It wakes up for events it does not select; give it the processor.
			create(e, bridge(fmt.Sprintf("b%d", round)))
			e.expect(w, store.Added, bridge(fmt.Sprintf("b%d", round)))
			e.next(seen)
		}
	}},
	{"watch/counts in Stats until it ends", func(e *env) {
		w := e.live()
		if got := e.st.Stats().Watchers; got != 1 {
			e.Errorf("%d watchers", got)
		}
		w.Stop()
		_ = e.end(w)
		for deadline := time.Now().Add(patience); e.st.Stats().Watchers != 0; {
			if time.Now().After(deadline) {
				e.Fatal("it still counts")
			}
			time.Sleep(time.Millisecond)
		}
	}},
	{"watch/has every event of many writers once and in order", func(e *env) {
		const writers, each = 8, 40
		start := e.st.Revision()
		w := e.watch(store.WatchOptions{From: start})
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				for j := range each {
					a := appIn(fmt.Sprintf("ns%d", i), fmt.Sprint(j%5))
					_, err := e.st.Update(bg, func(tx store.Tx) error {
						if _, err := tx.Get(resource.KeyOf(a)); err == nil {
							_, err = tx.Delete(resource.KeyOf(a), store.Preconditions{})
							return err
						}
						_, err := tx.Create(a)
						return err
					})
					if err != nil {
						e.Error(err)
					}
				}
			})
		}
		wg.Wait()
		live := map[resource.Key]proto.Message{}
		last := start
		for range writers * each {
			ev := e.next(w)
			if ev.Revision <= last {
				e.Fatalf("revision %d after %d", ev.Revision, last)
			}
			last = ev.Revision
			key := resource.KeyOf(ev.Object)
			if _, there := live[key]; there == (ev.Type == store.Added) {
				e.Fatalf("%s, but there: %t", text(ev), there)
			}
			if ev.Type == store.Added {
				live[key] = ev.Object
			} else {
				delete(live, key)
			}
		}
		if last != e.st.Revision() || len(live) != e.st.Stats().Objects {
			e.Errorf("ended at %d with %d objects, the store is at %d with %d", last, len(live), e.st.Revision(), e.st.Stats().Objects)
		}
	}},
}
