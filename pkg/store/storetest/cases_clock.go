package storetest

import (
	"fmt"
	"testing/synctest"
	"time"

	"github.com/proximity-pve/proximity/pkg/store"
)

// silent makes sure that nothing was delivered.
func (e *env) silent(w store.Watcher) {
	e.Helper()
	synctest.Wait()
	select {
	case ev := <-w.Events():
		e.Fatalf("got %s at %d", text(ev), ev.Revision)
	default:
	}
}

// bookmarkAt waits for a bookmark with that revision.
func (e *env) bookmarkAt(w store.Watcher, revision uint64) {
	e.Helper()
	synctest.Wait()
	select {
	case ev := <-w.Events():
		if ev.Type != store.Bookmark || ev.Object != nil || ev.Revision != revision {
			e.Fatalf("got %s at %d, want a bookmark at %d", text(ev), ev.Revision, revision)
		}
	default:
		e.Fatalf("no bookmark came")
	}
}

var clockCases = []testCase{
	{"bookmark/tells a watcher what passed it by", func(e *env) {
		w := e.watch(store.WatchOptions{Kind: "Bridge", From: e.st.Revision()})
		create(e, app("a"))
		create(e, app("b"))
		time.Sleep(store.BookmarkPeriod - time.Nanosecond)
		e.silent(w)
		time.Sleep(time.Nanosecond)
		e.bookmarkAt(w, e.st.Revision())
		create(e, bridge("c"))
		e.expect(w, store.Added, bridge("c"))
	}},
	{"bookmark/is a revision to resume from", func(e *env) {
		w := e.watch(store.WatchOptions{Kind: "Bridge", From: e.st.Revision()})
		create(e, app("a"))
		time.Sleep(store.BookmarkPeriod)
		at := e.st.Revision()
		e.bookmarkAt(w, at)
		w.Stop()
		create(e, bridge("b"))
		e.expect(e.watch(store.WatchOptions{Kind: "Bridge", From: at}), store.Added, bridge("b"))
	}},
	{"bookmark/is not sent when nothing happens", func(e *env) {
		create(e, app("a"))
		w := e.live()
		time.Sleep(24 * time.Hour)
		e.silent(w)
	}},
	{"bookmark/is not sent when the watcher has the newest change", func(e *env) {
		w := e.live()
		a := create(e, app("a"))
		e.expect(w, store.Added, a)
		time.Sleep(24 * time.Hour)
		e.silent(w)
	}},
	{"bookmark/is sent once for what passed by", func(e *env) {
		w := e.watch(store.WatchOptions{Name: "x", From: e.st.Revision()})
		create(e, app("a"))
		time.Sleep(store.BookmarkPeriod)
		e.bookmarkAt(w, e.st.Revision())
		time.Sleep(24 * time.Hour)
		e.silent(w)
	}},
	{"bookmark/after the one that ends the snapshot", func(e *env) {
		w := e.watch(store.WatchOptions{Kind: "Bridge"})
		e.bookmarkAt(w, e.st.Revision())
		create(e, app("a"))
		time.Sleep(store.BookmarkPeriod)
		e.bookmarkAt(w, e.st.Revision())
	}},
	{"bookmark/comes between changes that never pause", func(e *env) {
		w := e.watch(store.WatchOptions{Kind: "Bridge", From: e.st.Revision()})
		const span = 30 * time.Minute
		for i := range int(span / time.Second) {
			create(e, app(fmt.Sprintf("a%d", i)))
			time.Sleep(time.Second)
		}
		synctest.Wait()
		n, last := 0, uint64(0)
		for len(w.Events()) > 0 {
			ev := e.next(w)
			if ev.Type != store.Bookmark || ev.Revision <= last {
				e.Fatalf("got %s at %d after %d", text(ev), ev.Revision, last)
			}
			last = ev.Revision
			n++
		}
		if most := int(span / store.BookmarkPeriod); n > most || n < most-1 {
			e.Errorf("%d bookmarks in %s", n, span)
		}
	}},
}
