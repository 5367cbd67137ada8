package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

var errMine = errors.New("an error of the closure")

var txCases = []testCase{
	{"tx/takes effect as a whole", func(e *env) {
		b := create(e, app("b"))
		revision := e.must(func(tx store.Tx) error {
			_, err1 := tx.Create(app("a"))
			_, err2 := tx.Delete(resource.KeyOf(b), store.Preconditions{})
			_, err3 := tx.Create(bridge("c"))
			return errors.Join(err1, err2, err3)
		})
		get(e, app("a"))
		e.gone(b)
		if c := get(e, bridge("c")); rev(c) != revision || revision != e.st.Revision() {
			e.Errorf("last change %d, transaction %d, store %d", rev(c), revision, e.st.Revision())
		}
	}},
	{"tx/that fails has no effect", func(e *env) {
		b := create(e, app("b"))
		w := e.live()
		e.refused(errMine, func(tx store.Tx) error {
			_, err1 := tx.Create(app("a"))
			_, err2 := tx.Update(with(app("b"), setNode("pve1")))
			_, err3 := tx.Delete(resource.KeyOf(b), store.Preconditions{})
			return errors.Join(err1, err2, err3, errMine)
		})
		e.gone(app("a"))
		e.same(get(e, b), b)
		e.quiet(w)
	}},
	{"tx/returns the closure's error as it is", func(e *env) {
		if _, err := e.st.Update(bg, func(store.Tx) error { return errMine }); err != errMine {
			e.Errorf("got %v", err)
		}
	}},
	{"tx/may go on after an error that it handles", func(e *env) {
		create(e, app("a"))
		e.must(func(tx store.Tx) error {
			if _, err := tx.Create(app("a")); !errors.Is(err, store.ErrAlreadyExists) {
				return err
			}
			_, err := tx.Create(app("b"))
			return err
		})
		get(e, app("b"))
	}},
	{"tx/reads its own writes", func(e *env) {
		create(e, app("b"))
		e.must(func(tx store.Tx) error {
			a, err := tx.Create(app("a"))
			if err != nil {
				return err
			}
			if got, err := tx.Get(resource.KeyOf(a)); err != nil || got != a {
				e.Errorf("created, then got %v (%v)", got, err)
			}
			if _, err := tx.Delete(resource.KeyOf(app("b")), store.Preconditions{}); err != nil {
				return err
			}
			if _, err := tx.Get(resource.KeyOf(app("b"))); !errors.Is(err, store.ErrNotFound) {
				e.Errorf("deleted, then got %v", err)
			}
			if _, err := tx.Create(appIn("other", "c")); err != nil {
				return err
			}
			if got := names(tx.List("App", "")); !slices.Equal(got, []string{"default/a", "other/c"}) {
				e.Errorf("listed %v", got)
			}
			if got := names(tx.List("App", "other")); !slices.Equal(got, []string{"other/c"}) {
				e.Errorf("listed %v", got)
			}
			if got := tx.List("Bridge", ""); len(got) != 0 {
				e.Errorf("listed %v", got)
			}
			return nil
		})
	}},
	{"tx/shows nothing before it ends", func(e *env) {
		e.must(func(tx store.Tx) error {
			if _, err := tx.Create(app("a")); err != nil {
				return err
			}
			e.gone(app("a"))
			if got := e.list("App", store.ListOptions{}); len(got) != 0 {
				e.Errorf("listed %v", got)
			}
			return nil
		})
	}},
	{"tx/shows everything once it has ended", func(e *env) {
		for i := range 100 {
			a := app(fmt.Sprintf("a%d", i))
			revision := e.must(creating(a))
			get(e, a)
			if got := len(e.list("App", store.ListOptions{})); got != i+1 {
				e.Fatalf("%d objects after %d transactions", got, i+1)
			}
			if e.st.Revision() < revision {
				e.Fatalf("the store is at %d after a transaction at %d", e.st.Revision(), revision)
			}
		}
	}},
	{"tx/that only reads returns the revision it saw", func(e *env) {
		create(e, app("a"))
		before := e.st.Revision()
		revision := e.must(func(tx store.Tx) error { _, err := tx.Get(resource.KeyOf(app("a"))); return err })
		if revision != before || e.st.Revision() != before {
			e.Errorf("returned %d, was %d, is %d", revision, before, e.st.Revision())
		}
	}},
	{"tx/gives every change a revision of its own", func(e *env) {
		w := e.live()
		var revisions []uint64
		last := e.must(func(tx store.Tx) error {
			o, err := tx.Create(app("a"))
			for i := 0; i < 3 && err == nil; i++ {
				revisions = append(revisions, rev(o))
				o, err = tx.Update(with(app("a"), setNode(strconv.Itoa(i))))
			}
			revisions = append(revisions, rev(o))
			return err
		})
		if !slices.IsSorted(revisions) || len(slices.Compact(slices.Clone(revisions))) != 4 || revisions[3] != last {
			e.Errorf("revisions %v, the last is %d", revisions, last)
		}
		for i, r := range revisions {
			if ev := e.next(w); ev.Revision != r || rev(ev.Object) != r {
				e.Errorf("event %d is %s at %d, want %d", i, text(ev), ev.Revision, r)
			}
		}
	}},
	{"tx/may create and delete the same object", func(e *env) {
		w := e.live()
		e.must(func(tx store.Tx) error {
			a, err := tx.Create(app("a"))
			if err == nil {
				_, err = tx.Delete(resource.KeyOf(a), store.Preconditions{})
			}
			return err
		})
		e.gone(app("a"))
		e.expect(w, store.Added, app("a"))
		e.expect(w, store.Deleted, app("a"))
		e.quiet(w)
	}},
	{"tx/may delete and create the same name", func(e *env) {
		a := create(e, app("a"))
		e.must(func(tx store.Tx) error {
			_, err := tx.Delete(resource.KeyOf(a), store.Preconditions{})
			if err == nil {
				_, err = tx.Create(app("a"))
			}
			return err
		})
		if got := get(e, a); got.Metadata.Uid == a.Metadata.Uid {
			e.Error("the uid is the old one")
		}
	}},
	{"tx/checks versions against its own writes", func(e *env) {
		a := create(e, app("a"))
		e.refused(store.ErrConflict, func(tx store.Tx) error {
			if _, err := tx.Update(with(a, setNode("pve1"))); err != nil {
				return err
			}
			_, err := tx.Update(with(a, setNode("pve2")))
			return err
		})
	}},
	{"tx/cannot be used after it has ended", func(e *env) {
		var kept store.Tx
		e.must(func(tx store.Tx) error { kept = tx; return nil })
		if _, err := kept.Create(app("a")); !errors.Is(err, store.ErrInvalid) {
			e.Errorf("got %v", err)
		}
		e.gone(app("a"))
	}},
	{"tx/panics in the caller and is undone", func(e *env) {
		func() {
			defer func() {
				if p := recover(); !strings.Contains(fmt.Sprint(p), "boom") {
					e.Errorf("recovered %v", p)
				}
			}()
			_, _ = e.st.Update(bg, func(tx store.Tx) error {
				_, _ = tx.Create(app("a"))
				panic("boom")
			})
		}()
		e.gone(app("a"))
		create(e, app("b"))
	}},
	{"tx/with too many changes is refused, even if it ignores the error", func(e *env) {
		e.refused(store.ErrTooLarge, func(tx store.Tx) error {
			for i := range store.MaxTxObjects + 1 {
				_, _ = tx.Create(app(strconv.Itoa(i)))
			}
			return nil
		})
		if got := e.st.Stats().Objects; got != 0 {
			e.Errorf("%d objects", got)
		}
	}},
	{"tx/with too many bytes is refused", func(e *env) {
		big := with(app("a"), setNode(strings.Repeat("x", store.MaxObjectBytes-1024)))
		e.refused(store.ErrTooLarge, func(tx store.Tx) error {
			for i := range store.MaxTxBytes/store.MaxObjectBytes + 1 {
				big.Metadata.Name = strconv.Itoa(i)
				if _, err := tx.Create(big); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{"tx/with an ended context does not run", func(e *env) {
		ctx, cancel := context.WithCancel(bg)
		cancel()
		_, err := e.st.Update(ctx, creating(app("a")))
		if !errors.Is(err, context.Canceled) {
			e.Errorf("got %v", err)
		}
		e.gone(app("a"))
	}},
	{"tx/can be taken back while it waits", func(e *env) {
		entered, leave, abandoned := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			_, _ = e.st.Update(bg, func(store.Tx) error { close(entered); <-leave; return nil })
		}()
		<-entered
		ctx, cancel := context.WithCancel(bg)
		go func() {
			_, err := e.st.Update(ctx, creating(app("a")))
			abandoned <- err
		}()
		cancel()
		if err := <-abandoned; !errors.Is(err, context.Canceled) {
			e.Errorf("got %v", err)
		}
		close(leave)
		create(e, app("b"))
		e.gone(app("a"))
	}},
	{"tx/failing does not hurt others that are committed with it", func(e *env) {
		entered, leave := make(chan struct{}), make(chan struct{})
		go func() {
			_, _ = e.st.Update(bg, func(store.Tx) error { close(entered); <-leave; return nil })
		}()
		<-entered
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				_, err := e.st.Update(bg, func(tx store.Tx) error {
					_, err := tx.Create(app(fmt.Sprintf("a%d", i)))
					if i%2 == 1 {
						return errMine
					}
					return err
				})
				if failed := err != nil; failed != (i%2 == 1) {
					e.Errorf("transaction %d: %v", i, err)
				}
			})
		}
		close(leave)
		wg.Wait()
		if got := e.st.Stats().Objects; got != 25 {
			e.Errorf("%d objects", got)
		}
	}},
	{"tx/loses no update of many writers", func(e *env) {
		create(e, event("counter"))
		const writers, each = 16, 25
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range each {
					_, err := e.st.Update(bg, func(tx store.Tx) error {
						o, err := tx.Get(resource.KeyOf(event("counter")))
						if err != nil {
							return err
						}
						_, err = tx.Update(with(o.(*v1alpha1.Event), func(ev *v1alpha1.Event) { ev.Count++ }))
						return err
					})
					if err != nil {
						e.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := get(e, event("counter")).Count; got != writers*each+1 {
			e.Errorf("counted %d of %d", got-1, writers*each)
		}
	}},
	{"tx/lets one of many win who expect the same version", func(e *env) {
		a := create(e, event("a"))
		const rounds, writers = 20, 8
		for round := range rounds {
			var wg sync.WaitGroup
			results := make([]error, writers)
			for i := range writers {
				wg.Go(func() {
					next := proto.Clone(a).(*v1alpha1.Event)
					next.Count, next.Message = int32(round), fmt.Sprint(round, i)
					_, results[i] = e.st.Update(bg, updating(next))
				})
			}
			wg.Wait()
			won := 0
			for _, err := range results {
				if err == nil {
					won++
				} else if !errors.Is(err, store.ErrConflict) {
					e.Error(err)
				}
			}
			if won != 1 {
				e.Fatalf("%d of %d writers won", won, writers)
			}
			a = get(e, a)
		}
	}},
}
