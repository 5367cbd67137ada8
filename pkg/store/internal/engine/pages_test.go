package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/proximity-pve/proximity/pkg/store"
)

func TestPinnedListsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, nil, Options{})
		defer e.Close()
		ctx := context.Background()
		write := func(name string) {
			if _, err := e.Update(ctx, createBridge(name)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 4 {
			write(fmt.Sprint("a", i))
		}
		snap, err := e.List(ctx, "Bridge", store.ListOptions{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		write("b")
		for range 2 { // each page gives the list its time again
			time.Sleep(store.PageLife)
			if snap, err = e.List(ctx, "Bridge", store.ListOptions{Limit: 1, Continue: snap.Continue}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(store.PageLife + 1)
		write("c")
		synctest.Wait()
		if n := len(e.pins.views); n != 0 {
			t.Errorf("%d views are still held after a commit", n)
		}
		if _, err := e.List(ctx, "Bridge", store.ListOptions{Limit: 1, Continue: snap.Continue}); !errors.Is(err, store.ErrCompacted) {
			t.Errorf("got %v", err)
		}
	})
}

// A token is read only as it was written, and nothing that is sent as one does harm.
func FuzzContinueToken(f *testing.F) {
	e := New(testRegistry(f), nil, NewContents(testRegistry(f)), Options{})
	f.Cleanup(func() { _ = e.Close() })
	for _, name := range []string{"a", "b", "c"} {
		if _, err := e.Update(context.Background(), createBridge(name)); err != nil {
			f.Fatal(err)
		}
	}
	snap, err := e.List(context.Background(), "Bridge", store.ListOptions{Limit: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(snap.Continue)
	f.Add(position{kind: "App", namespace: "a", after: treeKey("a", "b"), revision: 1 << 63}.token())
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parseToken(text); err == nil && p.token() != text {
			t.Errorf("%q is read as %+v, which is %q", text, p, p.token())
		} else if err != nil && !errors.Is(err, store.ErrInvalid) {
			t.Errorf("got %v", err)
		}
		if text == "" {
			return
		}
		page, err := e.List(context.Background(), "Bridge", store.ListOptions{Limit: 1, Continue: text})
		if err != nil && !errors.Is(err, store.ErrInvalid) && !errors.Is(err, store.ErrCompacted) {
			t.Errorf("got %v", err)
		}
		if err == nil && page.Revision != snap.Revision {
			t.Errorf("a page of revision %d", page.Revision)
		}
	})
}
