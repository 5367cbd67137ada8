package bolt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

// raw changes a database file behind the store's back.
func raw(t *testing.T, path string, change func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestSecondOpenIsRefusedWithTheHolder(t *testing.T) {
	path := newPath(t)
	open(t, path, bolt.Options{})
	_, err := bolt.Open(path, storetest.Registry(), bolt.Options{})
	if !errors.Is(err, store.ErrLocked) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{path, "in use by another process", "pid " + strconv.Itoa(os.Getpid())} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
}

func TestFileIsReadableByItsOwnerOnly(t *testing.T) {
	path := newPath(t)
	st := open(t, path, bolt.Options{})
	check := func() {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode is %v (%v)", info.Mode(), err)
		}
	}
	check()
	closeStore(t, st)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, path, bolt.Options{})
	check()
}

func TestMissingDirectoryIsAnError(t *testing.T) {
	_, err := bolt.Open(filepath.Join(t.TempDir(), "none", "state.db"), storetest.Registry(), bolt.Options{})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestIDStaysWithTheFile(t *testing.T) {
	path := newPath(t)
	st := open(t, path, bolt.Options{})
	id := st.ID()
	closeStore(t, st)
	if again := open(t, path, bolt.Options{}).ID(); id == "" || again != id {
		t.Errorf("id was %q and is %q", id, again)
	}
	if other := open(t, newPath(t), bolt.Options{}).ID(); other == id {
		t.Error("two files have the same id")
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	made := func(t *testing.T, path string) {
		st := open(t, path, bolt.Options{})
		mustCreate(t, st, bridge("a"), bridge("b"))
		closeStore(t, st)
	}
	put := func(bucket, key string, value []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			made(t, path)
			raw(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), value) })
		}
	}
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	for name, c := range map[string]struct {
		prepare func(t *testing.T, path string)
		want    error
		says    string
	}{
		"newer schema": {put("meta", "schema", number(bolt.SchemaVersion+1)), bolt.ErrSchema, "use the version that wrote it"},
		"older schema": {put("meta", "schema", number(0)), bolt.ErrSchema, "schema 0"},
		"no schema":    {put("meta", "schema", nil), bolt.ErrDamaged, "schema"},
		"damaged object": {
			put("obj/Bridge", "\x00a", []byte{0xff}), bolt.ErrDamaged, "Bridge",
		},
		"object under another key":    {put("obj/Bridge", "\x00c", nil), bolt.ErrDamaged, "Bridge"},
		"revision behind the log":     {put("meta", "revision", number(2)), bolt.ErrDamaged, "revision"},
		"checkpoint ahead of the log": {put("meta", "checkpoint", number(9)), bolt.ErrDamaged, "checkpoint"},
		"no checkpoint":               {put("meta", "checkpoint", nil), bolt.ErrDamaged, "checkpoint"},
		"log without its beginning": {func(t *testing.T, path string) {
			made(t, path)
			raw(t, path, func(tx *bbolt.Tx) error {
				k, _ := tx.Bucket([]byte("log")).Cursor().First()
				return tx.Bucket([]byte("log")).Delete(k)
			})
		}, bolt.ErrDamaged, "log"},
		"no log": {func(t *testing.T, path string) {
			made(t, path)
			raw(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("log")) })
		}, bolt.ErrDamaged, "log"},
		"bbolt file of something else": {func(t *testing.T, path string) {
			raw(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("x")); return err })
		}, bolt.ErrDamaged, "something else"},
		"text": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("not a database\n"), 1000), 0o600); err != nil {
				t.Fatal(err)
			}
		}, bolt.ErrDamaged, "invalid"},
		"zeros where pages were": {func(t *testing.T, path string) {
			made(t, path)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			info, _ := f.Stat()
			page := int64(os.Getpagesize())
			_, err = f.WriteAt(make([]byte, info.Size()-2*page), 2*page)
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}, bolt.ErrDamaged, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			c.prepare(t, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = bolt.Open(path, storetest.Registry(), bolt.Options{})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the refused file was changed (%v)", err)
			}
		})
	}
}

// A kind that is not in the registry was written by another version of the daemon.
func TestUnknownKindsStayInTheFile(t *testing.T) {
	few, err := resource.NewRegistry(resource.Definition{Message: &v1alpha1.Event{}})
	if err != nil {
		t.Fatal(err)
	}
	path := newPath(t)
	st := open(t, path, bolt.Options{})
	start := st.Revision()
	mustCreate(t, st, event("a", 1), bridge("b"), event("c", 1))
	closeStore(t, st)

	older, err := bolt.Open(path, few, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer older.Close()
	if got := older.Stats().Objects; got != 2 {
		t.Errorf("%d objects", got)
	}
	w, err := older.Watch(bg, store.WatchOptions{From: start})
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a", "c"} {
		if ev := collect(t, w, 1)[0]; ev.Object.GetMetadata().GetName() != name {
			t.Errorf("event %d is about %s", i, ev.Object.GetMetadata().GetName())
		}
	}
	mustCreate(t, older, event("d", 1))
	closeStore(t, older)

	st = open(t, path, bolt.Options{})
	if !has(st, bridge("b")) || !has(st, event("d", 1)) {
		t.Error("an object is lost")
	}
}

// A power failure while a file is being made may leave any part of it. So it must not be
// at its place before it is whole: a part would be refused as damaged for ever.
func TestFileAppearsWhole(t *testing.T) {
	path := newPath(t)
	opened := 0
	open(t, path, bolt.Options{}.WithFile(func(f *os.File) {
		opened++
		if info, err := os.Stat(path); err == nil && info.Size() == 0 {
			t.Errorf("%s is at its place and empty", f.Name())
		}
	}))
	if opened == 0 {
		t.Error("no file was opened")
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("beside the database there is something: %v (%v)", entries, err)
	}
}
