package bolt_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/internal/engine"
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
		next := uint64(0)
		err := tx.Bucket([]byte("log")).ForEach(func(k, v []byte) error {
			size += uint64(len(v))
			chunk, err := bolt.DecodeChunk(binary.BigEndian.Uint64(k), v)
			for _, ev := range chunk {
				if next != 0 && ev.Revision != next {
					t.Errorf("revision %d is where %d should be", ev.Revision, next)
				}
				next = ev.Revision + 1
				if ev.Revision > stats.Compacted {
					events++
				}
			}
			return err
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

// sampleEvents are changes of objects that follow one another from revision 7 on.
func sampleEvents(t testing.TB, n int, message string) []engine.Event {
	t.Helper()
	events := make([]engine.Event, n)
	for i := range events {
		obj := event("a", int32(i))
		obj.Message = message
		encoded, err := proto.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		events[i] = engine.Event{
			Event: store.Event{Type: store.Modified, Encoded: encoded, Revision: 7 + uint64(i)},
			Key:   resource.KeyOf(obj), Time: time.Unix(1_700_000_000, int64(i)),
		}
	}
	return events
}

func TestChunksRoundTrip(t *testing.T) {
	for _, size := range []int{0, 10, 5_000, 40_000} {
		events := sampleEvents(t, 50, strings.Repeat("x", size))
		chunks, counts := bolt.EncodeChunks(events)
		if size > 0 && size < 5_000 && len(chunks) > 1 || size >= 5_000 && len(chunks) < 10 {
			t.Errorf("%d chunks for 50 events of %d bytes", len(chunks), size)
		}
		for i, chunk := range chunks {
			want := events[:counts[i]]
			events = events[counts[i]:]
			last := want[len(want)-1].Revision
			got, err := bolt.DecodeChunk(last, chunk)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("chunk %d of events of %d bytes: got %+v, want %+v (%v)", i, size, got, want, err)
			}
			if _, err := bolt.DecodeChunk(last+1, chunk); err == nil {
				t.Error("a chunk under another revision was read")
			}
			if len(chunk) < 2_000 {
				for bit := range len(chunk) * 8 {
					bad := append([]byte(nil), chunk...)
					bad[bit/8] ^= 1 << (bit % 8)
					if _, err := bolt.DecodeChunk(last, bad); err == nil {
						t.Errorf("bit %d flipped and nobody saw it", bit)
					}
				}
			}
		}
		if len(events) > 0 {
			t.Errorf("%d events are in no chunk", len(events))
		}
	}
}

func FuzzDecodeChunk(f *testing.F) {
	for _, n := range []int{1, 3} {
		chunks, _ := bolt.EncodeChunks(sampleEvents(f, n, "x"))
		f.Add(uint64(7+n-1), chunks[0][:len(chunks[0])-4])
	}
	f.Add(uint64(1), []byte{0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, last uint64, chunk []byte) {
		events, err := bolt.DecodeChunk(last, bolt.Seal(chunk)) // what a disk does, the checksum finds
		if err != nil {
			return
		}
		// What decodes has the revisions it says and survives another round.
		var again []engine.Event
		chunks, counts := bolt.EncodeChunks(events)
		n := 0
		for i, chunk := range chunks {
			n += counts[i]
			part, err := bolt.DecodeChunk(events[n-1].Revision, chunk)
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, part...)
		}
		if len(events) == 0 || events[len(events)-1].Revision != last || !reflect.DeepEqual(again, events) {
			t.Fatalf("second round: %+v, was %+v", again, events)
		}
	})
}
