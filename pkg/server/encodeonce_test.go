package server

import (
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
		json      jsonOnce
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
				packed, err := packEvent(ev)
				if err != nil {
					t.Error(err)
					return
				}
				line, err := json.encode(ev.Object)
				if err != nil {
					t.Error(err)
					return
				}
				decoded, err := packed.UnmarshalNew()
				if err != nil || !proto.Equal(decoded, ev.Object) {
					t.Errorf("%v (%v) was sent for %v", decoded, err, ev.Object)
				}
				mu.Lock()
				encodings[unsafe.SliceData(packed.Value)] = true
				encodings[unsafe.SliceData(line)] = true
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
	if len(encodings) != 2*changes || len(objects) != changes {
		t.Errorf("%d changes were encoded %d times, as protobuf and as JSON together; want %d", changes, len(encodings), 2*changes)
	}
	if len(json.entries) > maxJSONKept || len(json.order) != len(json.entries) {
		t.Errorf("%d encodings are kept, in an order of %d", len(json.entries), len(json.order))
	}
}

func TestJSONOnceIsBounded(t *testing.T) {
	var json jsonOnce
	for range 3 * maxJSONKept {
		if _, err := json.encode(app("default", "web")); err != nil {
			t.Fatal(err)
		}
	}
	if len(json.entries) != maxJSONKept || len(json.order) != maxJSONKept {
		t.Errorf("%d encodings are kept, in an order of %d; the bound is %d", len(json.entries), len(json.order), maxJSONKept)
	}
}
