package bolt_test

import (
	"context"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/bolt/crashtest"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

func TestMain(m *testing.M) {
	crashtest.Child()
	killedChild()
	goleak.VerifyTestMain(m)
}

var bg = context.Background()

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "state.db") }

// open opens a store that is closed with the test; the test may close it before.
func open(t testing.TB, path string, opts bolt.Options) *bolt.Store {
	t.Helper()
	st, err := bolt.Open(path, storetest.Registry(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

func closeStore(t testing.TB, st *bolt.Store) {
	t.Helper()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

func bridge(name string) *v1alpha1.Bridge {
	return &v1alpha1.Bridge{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"),
		Metadata: &v1alpha1.ObjectMeta{Name: name},
	}
}

func event(name string, count int32) *v1alpha1.Event {
	return &v1alpha1.Event{
		ApiVersion: resource.APIVersion, Kind: "Event",
		Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: "default"}, Count: count,
	}
}

func create(st store.Store, objects ...resource.Object) error {
	_, err := st.Update(bg, func(tx store.Tx) error {
		for _, o := range objects {
			if _, err := tx.Create(o); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

func mustCreate(t testing.TB, st store.Store, objects ...resource.Object) {
	t.Helper()
	if err := create(st, objects...); err != nil {
		t.Fatal(err)
	}
}

func has(st store.Store, o resource.Object) bool {
	_, err := st.Get(bg, resource.KeyOf(o))
	return err == nil
}

// collect reads n events.
func collect(t testing.TB, w store.Watcher, n int) []store.Event {
	t.Helper()
	var events []store.Event
	for len(events) < n {
		ev, ok := <-w.Events()
		if !ok {
			t.Fatalf("the watch ended after %d of %d events: %v", len(events), n, w.Err())
		}
		events = append(events, ev)
	}
	return events
}
