package server

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// TestEventsAreEncodedOnce: however many watch, over gRPC or REST, there is one encoding of
// each change, and it is that of its object.
func TestEventsAreEncodedOnce(t *testing.T) {
	const watchers, changes = 100, 20
	st := memory.New(kinds.Registry())
	defer st.Close()
	var (
		once      eventOnce
		mu        sync.Mutex
		encodings = map[*byte]bool{}
		objects   = map[string]bool{}
		wg        sync.WaitGroup
	)
	for range watchers {
		w, err := st.Watch(t.Context(), store.WatchOptions{From: st.Revision()})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer w.Stop()
			for range changes {
				ev := <-w.Events()
				live := &watch{live: true, encoded: &once}
				message, err := live.encode(ev, asMessage, encodeMessage)
				line, lineErr := live.encode(ev, asLine, (&eventWriter{}).line)
				sent, sentErr := live.encode(ev, asServerSent, (&eventWriter{}).serverSent)
				if err := errors.Join(err, lineErr, sentErr); err != nil {
					t.Error(err)
					return
				}
				got := &v1alpha1.WatchEvent{}
				if err := proto.Unmarshal(message, got); err != nil || got.GetType() != string(ev.Type) || got.GetResourceVersion() != fmt.Sprint(ev.Revision) {
					t.Errorf("%v (%v) was sent for %v", got, err, ev)
				}
				decoded, err := got.GetObject().UnmarshalNew()
				if err != nil || !proto.Equal(decoded, ev.Object) {
					t.Errorf("%v (%v) was sent for %v", decoded, err, ev.Object)
				}
				if want := fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n", ev.Revision, ev.Type, line); string(sent) != want {
					t.Errorf("%q was sent, want %q", sent, want)
				}
				mu.Lock()
				for _, data := range [][]byte{message, line, sent} {
					encodings[unsafe.SliceData(data)] = true
				}
				objects[string(line)] = true
				mu.Unlock()
			}
		})
	}
	for i := range changes {
		_, err := st.Update(t.Context(), func(tx store.Tx) error {
			if i == 0 {
				_, err := tx.Create(app("default", "web"))
				return err
			}
			web, err := tx.Get(resource.Key{Kind: "App", Namespace: "default", Name: "web"})
			if err != nil {
				return err
			}
			next := resource.Clone(web).(*v1alpha1.App)
			next.Spec.Vmid = proto.Int32(int32(1000 + i))
			_, err = tx.Update(next)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if want := int(eventForms) * changes; len(encodings) != want || len(objects) != changes {
		t.Errorf("%d changes were encoded %d times, in all forms together; want %d", changes, len(encodings), want)
	}
}

// TestSnapshotsAreNotKept: what a watch begins with would push out what all wait for.
func TestSnapshotsAreNotKept(t *testing.T) {
	var once eventOnce
	w := &watch{encoded: &once, shown: func(o resource.Object) resource.Object { return o }}
	for _, step := range []struct {
		ev   store.Event
		kept int
	}{
		{store.Event{Type: store.Added, Object: app("default", "a"), Revision: 1}, 0},
		{store.Event{Type: store.Bookmark, Revision: 1}, 0},
		{store.Event{Type: store.Added, Object: app("default", "b"), Revision: 2}, 1},
		{store.Event{Type: store.Bookmark, Revision: 3}, 1},
	} {
		ev, _ := w.translate(step.ev)
		if _, err := w.encode(ev, asMessage, encodeMessage); err != nil {
			t.Fatal(err)
		}
		if len(once.entries) != step.kept {
			t.Errorf("after %v %d: %d are kept, want %d", ev.Type, ev.Revision, len(once.entries), step.kept)
		}
	}
}

// TestOneChangeInTwoRoles: a change that is a new object for one watcher, whose selector it
// begins to match, is a changed one for another.
func TestOneChangeInTwoRoles(t *testing.T) {
	var once eventOnce
	obj := app("default", "a")
	for _, typ := range []store.EventType{store.Modified, store.Added, store.Modified} {
		w := &watch{live: true, encoded: &once}
		line, err := w.encode(store.Event{Type: typ, Object: obj, Revision: 2}, asLine, (&eventWriter{}).line)
		if want := fmt.Sprintf(`{"type":"%s",`, typ); err != nil || !strings.HasPrefix(string(line), want) {
			t.Errorf("%.40s (%v), want %s", line, err, want)
		}
	}
}

func TestEventOnceIsBounded(t *testing.T) {
	for _, tt := range []struct {
		name        string
		bytes, kept int
	}{
		{"small events", 1000, maxEventsKept},
		{"large events", maxEventBytesKept / 4, 4},
		{"events that are larger than what is kept", maxEventBytesKept + 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var once eventOnce
			data := make([]byte, tt.bytes)
			for i := range 3 * maxEventsKept {
				ev := store.Event{Type: store.Modified, Object: app("default", "web"), Revision: uint64(i)}
				got, err := once.encode(ev, asLine, func(store.Event) ([]byte, error) { return data, nil })
				if err != nil || len(got) != tt.bytes {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
			}
			if len(once.entries) != tt.kept || len(once.order) != tt.kept || once.bytes != tt.kept*tt.bytes {
				t.Errorf("%d events with %d bytes are kept, in an order of %d; want %d", len(once.entries), once.bytes, len(once.order), tt.kept)
			}
		})
	}
}
