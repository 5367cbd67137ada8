package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

func TestMain(m *testing.M) {
	if IsChild(os.Args[1:]) {
		os.Exit(ChildMain(context.Background(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

var quiet = slog.New(slog.DiscardHandler)

// running opens a database with some objects, as a daemon does.
func running(t *testing.T, dir string) *Database {
	t.Helper()
	db, err := OpenDatabase(t.Context(), dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	for _, name := range []string{"a", "b", "c"} { // a commit each, so that the log has each by itself
		_, err := db.Update(t.Context(), func(tx store.Tx) error {
			_, err := tx.Create(&v1alpha1.Bridge{
				ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"),
				Metadata: &v1alpha1.ObjectMeta{Name: name},
			})
			return err
		})
		if err != nil && !errors.Is(err, store.ErrAlreadyExists) {
			t.Fatal(err)
		}
	}
	return db
}

func TestCheckOfARunningAndAStoppedDaemon(t *testing.T) {
	dir := t.TempDir()
	db := running(t, dir)
	report, err := CheckRunning(t.Context(), db.Store, dir)
	if err != nil || len(report.GetProblems())+len(report.GetNotes()) > 0 || report.GetObjects() != 3 || report.GetEvents() != 3 || report.GetUsedBytes() <= 0 || report.GetUsedBytes() >= report.GetFileBytes() {
		t.Errorf("running: %v (%v)", report, err)
	}
	if _, err := (Stopped{}).Check(t.Context(), dir); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "stop the daemon first") || !strings.Contains(err.Error(), "pid") {
		t.Errorf("running, with --data-dir: %v", err)
	}
	if _, _, err := (Stopped{}).Defrag(t.Context(), dir); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "stop the daemon first") {
		t.Errorf("running, with --data-dir: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, after, err := Stopped{}.Defrag(t.Context(), dir)
	if err != nil || after <= 0 || after >= before {
		t.Errorf("defrag from %d to %d (%v)", before, after, err)
	}
	stopped, err := Stopped{}.Check(t.Context(), dir)
	if err != nil || len(stopped.GetProblems()) > 0 || stopped.GetRevision() != report.GetRevision() || stopped.GetStoreId() != db.ID() {
		t.Errorf("stopped: %v (%v)", stopped, err)
	}
	if _, err := (Stopped{}).Check(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no database: %v", err)
	}
	if _, _, err := (Stopped{}).Defrag(t.Context(), t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no database: %v", err)
	}
}

// raw changes the file of a stopped daemon behind its back.
func raw(t *testing.T, dir string, change func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, DatabaseFile), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	bucket := func(tx *bbolt.Tx, name string) *bbolt.Bucket { return tx.Bucket([]byte(name)) }
	rev := func(n byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, n} }
	for name, c := range map[string]struct {
		change func(tx *bbolt.Tx) error
		want   string
	}{
		"gap in the log":      {func(tx *bbolt.Tx) error { return bucket(tx, "log").Delete(rev(3)) }, "after revision 2 comes 4"},
		"log that ends early": {func(tx *bbolt.Tx) error { return bucket(tx, "log").Delete(rev(4)) }, "revision"},
		"object that is gone": {func(tx *bbolt.Tx) error { return bucket(tx, "obj/Bridge").Delete([]byte("\x00a")) }, "Bridge a: revision 2 of the log has it, it is not there"},
		"object that is another": {func(tx *bbolt.Tx) error {
			b := bucket(tx, "obj/Bridge")
			return b.Put([]byte("\x00a"), append([]byte(nil), b.Get([]byte("\x00b"))...))
		}, "Bridge a: what is there is Bridge b"},
		"flipped bit": {func(tx *bbolt.Tx) error {
			b := bucket(tx, "obj/Bridge")
			v := append([]byte(nil), b.Get([]byte("\x00a"))...)
			v[3] ^= 1
			return b.Put([]byte("\x00a"), v)
		}, "not those that were written"},
		"wrong size of the log": {func(tx *bbolt.Tx) error { return bucket(tx, "meta").Put([]byte("log-bytes"), rev(1)) }, "the database counted 1"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := running(t, dir).Close(); err != nil {
				t.Fatal(err)
			}
			raw(t, dir, c.change)
			report, err := Stopped{}.Check(t.Context(), dir)
			if err != nil || !strings.Contains(strings.Join(report.GetProblems(), "\n"), c.want) {
				t.Errorf("got %v (%v)", report, err)
			}
		})
	}
}

// overwrite puts rubbish over pages of the database, or over the numbers that say how
// large they are: what bbolt faults on.
func overwrite(t *testing.T, dir string, fill byte) {
	t.Helper()
	path := filepath.Join(dir, DatabaseFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	for at := 2 * page; at < min(len(data), 20*page); at += page {
		for i := 8; i < 200; i++ { // the page's type, counts and first elements
			data[at+i] = fill
		}
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestStartAfterAStopThatWasNotClean(t *testing.T) {
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	dir := t.TempDir()
	db := running(t, dir)
	if err := db.Store.Close(); err != nil { // the mark stays, as after a kill
		t.Fatal(err)
	}
	again, err := OpenDatabase(t.Context(), dir, logger)
	if err != nil || !strings.Contains(log.String(), "was not closed the last time") {
		t.Fatalf("got %v, log %s", err, log.String())
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	log.Reset()
	if again, err = OpenDatabase(t.Context(), dir, logger); err != nil || log.Len() > 0 {
		t.Fatalf("after a clean stop: %v, log %s", err, log.String())
	}
	if _, err := OpenDatabase(t.Context(), dir, quiet); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "a daemon runs on") || !strings.Contains(err.Error(), "pid") {
		t.Errorf("a second daemon: %v", err)
	}
	if err := again.Store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, fill := range []byte{0, 0xff, 0x41} {
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		overwrite(t, copied, fill)
		_, err := OpenDatabase(t.Context(), copied, quiet)
		if !errors.Is(err, bolt.ErrDamaged) {
			t.Fatalf("filled with %#x: %v", fill, err)
		}
		for _, want := range []string{"keep a copy", "proxctl admin check --data-dir " + copied, "proxctl admin snapshot restore FILE --data-dir " + copied} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("it does not say %q: %v", want, err)
			}
		}
	}
}

// Restoring is the way out of a damaged file.
func TestRestoreAfterDamage(t *testing.T) {
	dir := t.TempDir()
	db := running(t, dir)
	f, err := os.Create(filepath.Join(t.TempDir(), "snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Snapshot(f); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), db.Store.Close()); err != nil {
		t.Fatal(err)
	}
	overwrite(t, dir, 0xff)
	if err := (Stopped{}).Restore(io.Discard, f.Name(), dir, true); err != nil {
		t.Fatal(err)
	}
	again := running(t, dir)
	if again.Stats().Objects != 3 {
		t.Errorf("%d objects", again.Stats().Objects)
	}
}
