package bolt_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/snapshot"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

// snapshotOf writes a snapshot into a file and opens it.
func snapshotOf(t *testing.T, st *bolt.Store) (*os.File, snapshot.Info) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	info, err := st.Snapshot(f)
	if err != nil {
		t.Fatal(err)
	}
	return f, info
}

// snapshotFile makes a snapshot of a database file that no store has open.
func snapshotFile(t *testing.T, database string, revision uint64, id string) *os.File {
	t.Helper()
	data, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	_, err = snapshot.Write(f, snapshot.Info{Size: int64(len(data)), Revision: revision, StoreID: id}, func(w io.Writer) (int64, error) {
		n, err := w.Write(data)
		return int64(n), err
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSnapshotOfANewerSchemaIsRefused(t *testing.T) {
	path := newPath(t)
	st := open(t, path, bolt.Options{})
	id, revision := st.ID(), st.Revision()
	closeStore(t, st)
	raw(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("schema"), binary.BigEndian.AppendUint64(nil, bolt.SchemaVersion+1))
	})
	f := snapshotFile(t, path, revision, id)
	target := newPath(t)
	if _, err := bolt.Restore(target, f, storetest.Registry(), false); !errors.Is(err, bolt.ErrSchema) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(target)); len(left) != 0 {
		t.Errorf("it left %v", left)
	}
}

func TestSnapshotIsRestored(t *testing.T) {
	st := open(t, newPath(t), bolt.Options{})
	mustCreate(t, st, bridge("a"), event("e", 1))
	at := st.Revision()
	f, info := snapshotOf(t, st)
	mustCreate(t, st, bridge("later"))
	if info.Revision != at || info.StoreID != st.ID() {
		t.Errorf("the snapshot is of revision %d and store %s, want %d and %s", info.Revision, info.StoreID, at, st.ID())
	}
	read, err := snapshot.Verify(f)
	if err != nil || fmt.Sprint(read) != fmt.Sprint(info) {
		t.Errorf("read %+v (%v), wrote %+v", read, err, info)
	}
	path := newPath(t)
	if _, err := bolt.Restore(path, f, storetest.Registry(), false); err != nil {
		t.Fatal(err)
	}
	restored := open(t, path, bolt.Options{})
	if !has(restored, bridge("a")) || !has(restored, event("e", 1)) || has(restored, bridge("later")) {
		t.Error("the restored store has other objects than the snapshot")
	}
	if restored.ID() != st.ID() {
		t.Errorf("its id is %s, want %s", restored.ID(), st.ID())
	}
	// Who has seen what came after the snapshot must list again, and not take what is
	// written now for it.
	for _, from := range []uint64{at, st.Revision()} {
		if _, err := restored.Watch(bg, store.WatchOptions{From: from}); !errors.Is(err, store.ErrCompacted) {
			t.Errorf("a watch from %d of the lost history: %v", from, err)
		}
	}
	if restored.Revision() <= st.Revision() {
		t.Errorf("its revision is %d, revisions up to %d were given out", restored.Revision(), st.Revision())
	}
	mustCreate(t, restored, bridge("new"))
	closeStore(t, restored)
	again := open(t, path, bolt.Options{})
	if !has(again, bridge("new")) {
		t.Error("what was written after the restore is not there after a restart")
	}
}

// A snapshot taken while writers write is one moment: of a transaction it has all or nothing.
func TestSnapshotWhileWritersWrite(t *testing.T) {
	st := open(t, newPath(t), bolt.Options{})
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := create(st, bridge(fmt.Sprintf("w%d-%d", w, i)), event(fmt.Sprintf("w%d-%d", w, i), 1)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 10 {
		before := st.Revision()
		f, info := snapshotOf(t, st)
		path := newPath(t)
		if _, err := bolt.Restore(path, f, storetest.Registry(), false); err != nil {
			t.Fatal(err)
		}
		// It may have a change more than anybody was told of yet, and none less.
		if info.Revision < before {
			t.Errorf("it is of revision %d, the store was at %d", info.Revision, before)
		}
		restored := open(t, path, bolt.Options{})
		bridges, err := restored.List(bg, "Bridge", store.ListOptions{})
		events, err2 := restored.List(bg, "Event", store.ListOptions{})
		if err != nil || err2 != nil || len(bridges.Items) != len(events.Items) {
			t.Errorf("%d bridges and %d events (%v, %v)", len(bridges.Items), len(events.Items), err, err2)
		}
		closeStore(t, restored)
	}
	close(stop)
	writers.Wait()
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	st := open(t, newPath(t), bolt.Options{})
	mustCreate(t, st, bridge("a"))
	f, info := snapshotOf(t, st)
	whole, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	flipped := func(at int) []byte {
		b := append([]byte(nil), whole...)
		b[at] ^= 1
		return b
	}
	damaged := map[string][]byte{
		"empty": {}, "cut off": whole[:len(whole)-1], "without its trailer": whole[:info.Size], "with more": append(flipped(0), 0),
		"something else": []byte("hello"), "first byte": flipped(0), "half-way": flipped(int(info.Size) / 2),
		"magic": flipped(int(info.Size)), "size": flipped(int(info.Size) + 15), "revision": flipped(int(info.Size) + 23),
		"store id": flipped(int(info.Size) + 24), "checksum": flipped(len(whole) - 1),
	}
	for name, data := range damaged {
		t.Run(name, func(t *testing.T) {
			bad := filepath.Join(t.TempDir(), "bad")
			if err := os.WriteFile(bad, data, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(bad)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := snapshot.Verify(f); !errors.Is(err, snapshot.ErrDamaged) {
				t.Errorf("verify: %v", err)
			}
			path := newPath(t)
			if _, err := bolt.Restore(path, f, storetest.Registry(), false); !errors.Is(err, snapshot.ErrDamaged) {
				t.Errorf("restore: %v", err)
			}
			if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

func TestRestoreSparesWhatIsThere(t *testing.T) {
	source := open(t, newPath(t), bolt.Options{})
	mustCreate(t, source, bridge("old"))
	f, _ := snapshotOf(t, source)
	path := newPath(t)
	st := open(t, path, bolt.Options{})
	mustCreate(t, st, bridge("mine"))
	for force, want := range map[bool]error{false: bolt.ErrExists, true: store.ErrLocked} {
		if _, err := bolt.Restore(path, f, storetest.Registry(), force); !errors.Is(err, want) {
			t.Errorf("force %t, in use: %v, want %v", force, err, want)
		}
	}
	mustCreate(t, st, bridge("more"))
	closeStore(t, st)
	if _, err := bolt.Restore(path, f, storetest.Registry(), false); !errors.Is(err, bolt.ErrExists) {
		t.Errorf("got %v", err)
	}
	st = open(t, path, bolt.Options{})
	if !has(st, bridge("mine")) || !has(st, bridge("more")) {
		t.Error("a refused restore changed the database")
	}
	closeStore(t, st)
	if _, err := bolt.Restore(path, f, storetest.Registry(), true); err != nil {
		t.Fatal(err)
	}
	if st = open(t, path, bolt.Options{}); !has(st, bridge("old")) || has(st, bridge("mine")) {
		t.Error("it was not replaced")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	kept, err := filepath.Glob(path + ".replaced-*")
	if left, _ := os.ReadDir(filepath.Dir(path)); err != nil || len(kept) != 1 || len(left) != 2 {
		t.Fatalf("there are %v", left)
	}
	if st = open(t, kept[0], bolt.Options{}); !has(st, bridge("more")) || has(st, bridge("old")) {
		t.Error("the database of before was not kept")
	}
}

// A database that cannot be opened any more is what restoring is for.
func TestRestoreReplacesADamagedDatabase(t *testing.T) {
	source := open(t, newPath(t), bolt.Options{})
	mustCreate(t, source, bridge("old"))
	f, _ := snapshotOf(t, source)
	path := newPath(t)
	if err := os.WriteFile(path, make([]byte, 16384), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bolt.Restore(path, f, storetest.Registry(), true); err != nil {
		t.Fatal(err)
	}
	if st := open(t, path, bolt.Options{}); !has(st, bridge("old")) {
		t.Error("it has not what the snapshot has")
	}
}
