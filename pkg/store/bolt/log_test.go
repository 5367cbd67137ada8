package bolt_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/internal/engine"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

func keyOf(bridgeName string) resource.Key { return resource.KeyOf(bridge(bridgeName)) }

// bump writes one Event n times, in transactions of up to 100 changes.
func bump(t testing.TB, st store.Store, n int, message string) {
	t.Helper()
	for n > 0 {
		_, err := st.Update(bg, func(tx store.Tx) error {
			for range min(n, 100) {
				e := event("bumped", int32(n))
				e.Message = message
				_, err := tx.Update(e)
				if errors.Is(err, store.ErrNotFound) {
					_, err = tx.Create(e)
				}
				if err != nil {
					return err
				}
				n--
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// checkLog closes the store and compares the log in the file with what meta says of it.
func checkLog(t *testing.T, st *bolt.Store, path string) {
	t.Helper()
	stats := st.Stats()
	closeStore(t, st)
	raw(t, path, func(tx *bbolt.Tx) error {
		var events, size uint64
		err := tx.Bucket([]byte("log")).ForEach(func(_, v []byte) error {
			events++
			size += uint64(len(v))
			return nil
		})
		if want := stats.Revision - stats.Compacted; events != want {
			t.Errorf("%d events in the log, want %d", events, want)
		}
		if got := tx.Bucket([]byte("meta")).Get([]byte("log-bytes")); fmt.Sprintf("%x", got) != fmt.Sprintf("%016x", size) {
			t.Errorf("meta says %x bytes, the log has %x", got, size)
		}
		return err
	})
}

func TestLogKeepsTheNewestEvents(t *testing.T) {
	path := newPath(t)
	st := open(t, path, bolt.Options{LogMinEvents: 500, LogMaxAge: time.Nanosecond})
	bump(t, st, 3000, "")
	if s := st.Stats(); s.Revision-s.Compacted != 500 {
		t.Errorf("%d events are kept", s.Revision-s.Compacted)
	}
	checkLog(t, st, path)
}

// What the documentation of Options promises.
func TestDefaultBoundsOfTheLog(t *testing.T) {
	if events, age, bytes := bolt.Defaults(); events != 10_000 || age != time.Hour || bytes != 256<<20 {
		t.Errorf("%d events, %s, %d bytes", events, age, bytes)
	}
	path := newPath(t)
	st := open(t, path, bolt.Options{LogMaxAge: time.Nanosecond})
	bump(t, st, 10_500, "")
	if s := st.Stats(); s.Revision-s.Compacted != 10_000 {
		t.Errorf("%d events are kept", s.Revision-s.Compacted)
	}
	checkLog(t, st, path)
}

func TestLogKeepsYoungEvents(t *testing.T) {
	path := newPath(t)
	st := open(t, path, bolt.Options{LogMinEvents: 500, LogMaxAge: time.Hour})
	bump(t, st, 3000, "")
	if s := st.Stats(); s.Revision-s.Compacted != 3000 {
		t.Errorf("%d events are kept", s.Revision-s.Compacted)
	}
	checkLog(t, st, path)
}

func TestLogStaysBelowItsSize(t *testing.T) {
	const limit = 256 << 10
	path := newPath(t)
	st := open(t, path, bolt.Options{LogMaxBytes: limit})
	bump(t, st, 3000, strings.Repeat("x", 1000))
	s := st.Stats()
	if kept := s.Revision - s.Compacted; kept < limit/1400 || kept > limit/1000 {
		t.Errorf("%d events of about 1.2 kB are kept", kept)
	}
	checkLog(t, st, path)
}

// A log that is far above new bounds shrinks with each commit, in small steps.
func TestLogShrinksInSteps(t *testing.T) {
	path := newPath(t)
	st := open(t, path, bolt.Options{})
	bump(t, st, 2000, "")
	closeStore(t, st)
	st = open(t, path, bolt.Options{LogMinEvents: 100, LogMaxAge: time.Nanosecond})
	last := st.Stats().Compacted
	for st.Stats().Revision-last > 100 {
		bump(t, st, 2, "") // one commit
		now := st.Stats().Compacted
		if removed := now - last; removed == 0 || removed > 2+64 {
			t.Fatalf("a commit removed %d events", removed)
		}
		last = now
	}
	checkLog(t, st, path)
}

func TestCompactRemovesMoreThanOneTransactionTakes(t *testing.T) {
	path := newPath(t)
	st := open(t, path, bolt.Options{})
	bump(t, st, 5000, "")
	if err := st.Compact(bg, st.Revision()-1); err != nil {
		t.Fatal(err)
	}
	if s := st.Stats(); s.Revision-s.Compacted != 1 {
		t.Errorf("%d events are kept", s.Revision-s.Compacted)
	}
	checkLog(t, st, path)
}

// A watcher that starts further back than the events in memory reads the file first and
// is not cut off for the distance.
func TestWatchReadsTheFileAndThenTheMemory(t *testing.T) {
	st := open(t, newPath(t), bolt.Options{MaxWatchLag: 1000})
	start := st.Revision()
	const n = 10_000
	bump(t, st, n, "")
	w, err := st.Watch(bg, store.WatchOptions{From: start})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for i := range n + 2000 {
		if i%20 == 0 && i/20 < 2000/4 { // the store goes on meanwhile
			bump(t, st, 4, "meanwhile")
		}
		if ev := collect(t, w, 1)[0]; ev.Revision != start+uint64(i)+1 {
			t.Fatalf("event %d has revision %d", i, ev.Revision)
		}
	}
}

func TestRecordRoundTrip(t *testing.T) {
	ev := engine.Event{
		Event: store.Event{Type: store.Modified, Object: event("a", 3), Revision: 7},
		Key:   resource.KeyOf(event("a", 3)), Time: time.Unix(1_700_000_000, 42),
	}
	var err error
	if ev.Encoded, err = proto.Marshal(ev.Object); err != nil {
		t.Fatal(err)
	}
	got, err := bolt.DecodeRecord(storetest.Registry(), 7, bolt.EncodeRecord(ev))
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got.Object, ev.Object) {
		t.Errorf("object is %v", got.Object)
	}
	got.Object, ev.Object = nil, nil
	if !reflect.DeepEqual(got, ev) {
		t.Errorf("got %+v, want %+v", got, ev)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	reg := storetest.Registry()
	for _, o := range []resource.Object{event("a", 3), bridge("b")} {
		encoded, err := proto.Marshal(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bolt.EncodeRecord(engine.Event{Event: store.Event{Type: store.Added, Encoded: encoded}, Key: resource.KeyOf(o)}))
	}
	empty, _ := proto.Marshal(&emptypb.Empty{})
	f.Add(bolt.EncodeRecord(engine.Event{Event: store.Event{Type: store.Deleted, Encoded: empty}, Key: resource.Key{Kind: "Unknown"}}))
	f.Fuzz(func(t *testing.T, record []byte) {
		ev, err := bolt.DecodeRecord(reg, 1, record)
		if err != nil || ev.Object == nil {
			return
		}
		// What decodes names itself consistently and survives another round.
		if resource.KeyOf(ev.Object) != ev.Key {
			t.Fatalf("record of %s holds %s", ev.Key, resource.KeyOf(ev.Object))
		}
		if ev.Encoded, err = proto.Marshal(ev.Object); err != nil {
			t.Fatal(err)
		}
		again, err := bolt.DecodeRecord(reg, 1, bolt.EncodeRecord(ev))
		if err != nil || again.Key != ev.Key || again.Type != ev.Type || !proto.Equal(again.Object, ev.Object) {
			t.Fatalf("second round: %+v (%v)", again, err)
		}
	})
}
