package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
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

// TestEncodedLists: a list of bytes has what the list of objects has, page by page.
func TestEncodedLists(t *testing.T) {
	e := open(t, nil, Options{})
	defer e.Close()
	ctx := context.Background()
	for i := range 7 {
		if _, err := e.Update(ctx, createBridge(fmt.Sprint("a", i))); err != nil {
			t.Fatal(err)
		}
	}
	odd := func(o resource.Object) bool { return o.GetMetadata().GetName()[1]%2 == 1 }
	for name, opts := range map[string]store.ListOptions{"all": {}, "pages": {Limit: 2}, "selected": {Match: odd}, "selected pages": {Match: odd, Limit: 2}} {
		t.Run(name, func(t *testing.T) {
			for {
				plain, err := e.List(ctx, "Bridge", opts)
				if err != nil {
					t.Fatal(err)
				}
				encoded := opts
				encoded.Encoded = true
				snap, err := e.List(ctx, "Bridge", encoded)
				if err != nil || len(snap.Items) != 0 || len(snap.Encoded) != len(plain.Items) || snap.Revision != plain.Revision ||
					snap.Continue != plain.Continue || snap.Remaining != plain.Remaining {
					t.Fatalf("%d encoded and %d plain objects, %d and %d more (%v)", len(snap.Encoded), len(plain.Items), snap.Remaining, plain.Remaining, err)
				}
				for i, b := range snap.Encoded {
					o := &v1alpha1.Bridge{}
					if err := proto.Unmarshal(b, o); err != nil || !proto.Equal(o, plain.Items[i]) {
						t.Errorf("object %d is %v, want %v (%v)", i, o, plain.Items[i], err)
					}
				}
				if opts.Continue = plain.Continue; opts.Continue == "" {
					return
				}
			}
		})
	}
}

// TestDecodedObjectsAreLetGo: what scans have decoded is kept for the next one, and not for
// ever; what was asked for by name is bounded by number.
func TestDecodedObjectsAreLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, nil, Options{})
		defer e.Close()
		ctx := context.Background()
		const n = recentObjects + 100
		if _, err := e.Update(ctx, func(tx store.Tx) error {
			for i := range n {
				if err := createBridge(fmt.Sprint("a", i))(tx); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		decoded := func() (kept int) {
			walk(e.current.Load().kinds["Bridge"], "", "", func(v *version) bool {
				if v.decoded.Load() != nil {
					kept++
				}
				return true
			})
			return kept
		}
		list := func() resource.Object {
			snap, err := e.List(ctx, "Bridge", store.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return snap.Items[0]
		}
		if got := decoded(); got > recentObjects {
			t.Errorf("%d are kept after they were written", got)
		}
		first := list()
		for range 5 {
			time.Sleep(scanPause - time.Second)
			if list() != first || decoded() != n {
				t.Error("a scan soon after another one decodes again")
			}
		}
		time.Sleep(scanPause + time.Second)
		synctest.Wait()
		if got := decoded(); got != 0 {
			t.Errorf("%d are kept for scans that have ended", got)
		}
		list()
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
