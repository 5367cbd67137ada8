package bolt_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

// swollen has a database most of which is free pages.
func swollen(t *testing.T, path string) *bolt.Store {
	t.Helper()
	st := open(t, path, bolt.Options{LogMinEvents: 10, LogMaxAge: time.Nanosecond})
	bump(t, st, 3000, strings.Repeat("x", 10_000))
	return st
}

func TestDefragWhileWritersWrite(t *testing.T) {
	path := newPath(t)
	st := swollen(t, path)
	start := st.Revision()
	w, err := st.Watch(bg, store.WatchOptions{From: start})
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 4, 60
	var wg sync.WaitGroup
	for writer := range writers {
		wg.Go(func() {
			for i := range each {
				if err := create(st, bridge(fmt.Sprintf("w%d-%d", writer, i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var first bolt.DefragInfo
	for i := range 5 {
		info, err := st.Defrag(bg)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = info
		}
	}
	if first.After >= first.Before/4 {
		t.Errorf("it went from %d to %d bytes", first.Before, first.After)
	}
	wg.Wait()
	for i, ev := range collect(t, w, writers*each) {
		if ev.Revision != start+uint64(i)+1 {
			t.Fatalf("event %d has revision %d", i, ev.Revision)
		}
	}
	w.Stop()
	// The next start sees what was acknowledged, in the file that is there now.
	checkLog(t, st, path)
	again := open(t, path, bolt.Options{})
	for writer := range writers {
		for i := range each {
			if !has(again, bridge(fmt.Sprintf("w%d-%d", writer, i))) {
				t.Fatalf("bridge w%d-%d is lost", writer, i)
			}
		}
	}
	expectNoLeftovers(t, path)
}

// A reader that is slow has the old file for as long as it takes; nobody waits for it.
func TestDefragWhileASnapshotIsTaken(t *testing.T) {
	path := newPath(t)
	st := swollen(t, path)
	reading, proceed := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		var once sync.Once
		_, err := st.Snapshot(writerFunc(func(p []byte) (int, error) {
			once.Do(func() { close(reading); <-proceed })
			return len(p), nil
		}))
		done <- err
	}()
	<-reading
	if _, err := st.Defrag(bg); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, st, bridge("after"))
	close(proceed)
	if err := <-done; err != nil {
		t.Error(err)
	}
	closeStore(t, st)
	if !has(open(t, path, bolt.Options{}), bridge("after")) {
		t.Error("a change after the defragmentation is lost")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestKilledInTheMiddleOfADefrag(t *testing.T) {
	for _, stage := range rewriteStages {
		if strings.HasPrefix(stage, "migrate") {
			continue
		}
		t.Run(stage, func(t *testing.T) {
			path := newPath(t)
			st := open(t, path, bolt.Options{})
			mustCreate(t, st, bridge("a"))
			bump(t, st, 100, "x")
			revision := st.Revision()
			closeStore(t, st)
			killWhileRewriting(t, path, "defrag", stage)
			st = open(t, path, bolt.Options{})
			if st.Revision() != revision || !has(st, bridge("a")) {
				t.Errorf("the store is at %d, was at %d", st.Revision(), revision)
			}
			mustCreate(t, st, bridge("b"))
			expectNoLeftovers(t, path)
			checkLog(t, st, path)
		})
	}
}

// An error before the file is replaced changes nothing; one after it, when a power failure
// could bring the old file back, ends all writing.
func TestFailedDefrag(t *testing.T) {
	for _, stage := range []string{"copy", "sync", "rename", "sync directory"} {
		t.Run(stage, func(t *testing.T) {
			path := newPath(t)
			st := openGood(t, path, bolt.Options{}.WithRewriting(func(at string) error {
				if at == stage {
					return errors.New("no luck")
				}
				return nil
			}))
			before := st.Stats()
			_, err := st.Defrag(bg)
			if err == nil || !strings.Contains(err.Error(), "no luck") || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
			expectNoLeftovers(t, path)
			if stage == "sync directory" {
				if !errors.Is(err, store.ErrReadOnly) {
					t.Errorf("got %v", err)
				}
				expectReadOnly(t, st, before, "no luck")
				return
			}
			mustCreate(t, st, bridge("later"))
			closeStore(t, st)
			if st = open(t, path, bolt.Options{}); !has(st, bridge("good")) || !has(st, bridge("later")) {
				t.Error("an object is lost")
			}
		})
	}
}

// Who waits for the lock of a file that is being replaced must get the new file: what it
// wrote to the old one would be lost with it.
func TestWaitingForAFileThatIsReplaced(t *testing.T) {
	path := newPath(t)
	st := open(t, path, bolt.Options{})
	mustCreate(t, st, bridge("a"))
	opened := make(chan struct{})
	var once sync.Once
	got := make(chan *bolt.Store, 1)
	go func() {
		next, err := bolt.Open(path, storetest.Registry(), bolt.Options{}.WithFile(func(*os.File) { once.Do(func() { close(opened) }) }))
		if err != nil {
			t.Error(err)
		}
		got <- next
	}()
	<-opened // it has the old file and waits for its lock
	if _, err := st.Defrag(bg); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, st, bridge("b"))
	closeStore(t, st)
	next := <-got
	if next == nil {
		return
	}
	t.Cleanup(func() { _ = next.Close() })
	if !has(next, bridge("b")) {
		t.Error("it opened the file that was replaced")
	}
}

// A bit that flips on the disk is found, wherever in an object it is.
func TestFlippedBitsAreFound(t *testing.T) {
	path := newPath(t)
	st := open(t, path, bolt.Options{})
	mustCreate(t, st, event("e", 1))
	closeStore(t, st)
	var value []byte
	raw(t, path, func(tx *bbolt.Tx) error {
		value = append([]byte(nil), tx.Bucket([]byte("obj/Event")).Get([]byte("default\x00e"))...)
		return nil
	})
	for bit := range len(value) * 8 {
		bad := append([]byte(nil), value...)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := bolt.Unseal(bad); err == nil {
			t.Errorf("bit %d flipped and nobody saw it", bit)
		}
	}
	raw(t, path, func(tx *bbolt.Tx) error {
		value[len(value)/2] ^= 4
		return tx.Bucket([]byte("obj/Event")).Put([]byte("default\x00e"), value)
	})
	if _, err := bolt.Open(path, storetest.Registry(), bolt.Options{}); !errors.Is(err, bolt.ErrDamaged) {
		t.Errorf("got %v", err)
	}
}
