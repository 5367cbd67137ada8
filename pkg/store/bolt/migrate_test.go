package bolt_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

// fixture writes the file that a version of that schema has made to path. Files are never
// made anew: they are what that version's users have.
func fixture(t *testing.T, schema int, path string) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("testdata/schema-%d.db.gz", schema))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What all fixtures hold: bridges a and held (being deleted), an event e of count 1, one
// that was changed 30 times, and a log of the last 20 changes, which ends with the
// deletion of bridge b.
const (
	fixtureRevision  = 37
	fixtureCompacted = 17
)

func expectFixture(t *testing.T, st *bolt.Store) {
	t.Helper()
	s := st.Stats()
	if s.Revision != fixtureRevision || s.Compacted != fixtureCompacted || s.Objects != 4 {
		t.Errorf("stats are %+v", s)
	}
	held, err := st.Get(bg, keyOf("held"))
	if err != nil || !resource.Deleting(held) || held.GetMetadata().GetLabels()["tier"] != "gold" {
		t.Errorf("bridge held is %v (%v)", held, err)
	}
	if !has(st, bridge("a")) || has(st, bridge("b")) || !has(st, event("e", 1)) {
		t.Error("objects are missing, or back")
	}
	w, err := st.Watch(bg, store.WatchOptions{From: fixtureCompacted})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	events := collect(t, w, fixtureRevision-fixtureCompacted)
	for i, ev := range events {
		if ev.Revision != fixtureCompacted+uint64(i)+1 {
			t.Errorf("event %d has revision %d", i, ev.Revision)
		}
	}
	if last := events[len(events)-1]; last.Type != store.Deleted || last.Object.GetMetadata().GetName() != "b" {
		t.Errorf("the last event is %+v", last)
	}
}

func TestFilesOfEveryOlderSchemaAreMigrated(t *testing.T) {
	for schema := bolt.OldestSchema; schema < bolt.SchemaVersion; schema++ {
		t.Run(fmt.Sprint(schema), func(t *testing.T) {
			path := newPath(t)
			fixture(t, schema, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			st := open(t, path, bolt.Options{})
			expectFixture(t, st)
			mustCreate(t, st, bridge("new"))
			checkLog(t, st, path)
			again := open(t, path, bolt.Options{})
			if !has(again, bridge("new")) || !has(again, bridge("a")) {
				t.Error("an object is lost after a restart")
			}
			kept, err := os.ReadFile(fmt.Sprintf("%s.schema-%d", path, schema))
			if err != nil || string(kept) != string(before) {
				t.Errorf("the old file was not kept as it was (%v)", err)
			}
		})
	}
}

// A database that is larger than what one transaction of a migration takes.
func TestMigrationInSeveralTransactions(t *testing.T) {
	path := newPath(t)
	fixture(t, 1, path)
	raw(t, path, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("obj/Event"))
		_, sample := b.Cursor().First()
		sample = append([]byte(nil), sample...)
		other, err := tx.CreateBucket([]byte("obj/Later"))
		for i := range 12_000 {
			err = errors.Join(err, other.Put(fmt.Appendf(nil, "default\x00x%d", i), append(sample, make([]byte, 1000)...)))
		}
		return err
	})
	st := open(t, path, bolt.Options{})
	expectFixture(t, st)
	closeStore(t, st)
	raw(t, path, func(tx *bbolt.Tx) error {
		n := 0
		err := tx.Bucket([]byte("obj/Later")).ForEach(func(k, v []byte) error {
			n++
			_, err := bolt.Unseal(v)
			return err
		})
		if n != 12_000 {
			t.Errorf("%d objects of a kind that this version does not know", n)
		}
		return err
	})
}

// A file that this version could not read after the migration stays as it is.
func TestDamagedFileOfAnOlderSchemaStaysAsItIs(t *testing.T) {
	path := newPath(t)
	fixture(t, 1, path)
	raw(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("obj/Bridge")).Put([]byte("\x00a"), []byte{0xff}) })
	before, _ := os.ReadFile(path)
	if _, err := bolt.Open(path, storetest.Registry(), bolt.Options{}); !errors.Is(err, bolt.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || string(after) != string(before) {
		t.Errorf("the file was changed (%v)", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("besides the database there is %v", left)
	}
}

func TestSnapshotOfAnOlderSchemaIsRestored(t *testing.T) {
	old := filepath.Join(t.TempDir(), "old.db")
	fixture(t, 1, old)
	f := snapshotFile(t, old, fixtureRevision, "fe498e3d-4c57-4c27-8e4c-ef0da28f351b")
	path := newPath(t)
	if _, err := bolt.Restore(path, f, storetest.Registry(), false); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("besides the database there is %v", left)
	}
	if st := open(t, path, bolt.Options{}); !has(st, bridge("held")) || has(st, bridge("b")) {
		t.Error("the objects are others")
	}
}

// rewriteStages are the moments of a rewrite at which a crash could leave something else.
var rewriteStages = []string{"copy", "migrate to 2", "migrate to 3", "sync", "rename", "sync directory", "done"}

// killedAt names the stage at which the child of a test kills itself; killedFile its file,
// killedWork what it does.
const (
	killedAt   = "PROXIMITY_TEST_KILLED_AT"
	killedFile = "PROXIMITY_TEST_KILLED_FILE"
	killedWork = "PROXIMITY_TEST_KILLED_WORK"
)

// killedChild does nothing in an ordinary process.
func killedChild() {
	stage := os.Getenv(killedAt)
	if stage == "" {
		return
	}
	st, err := bolt.Open(os.Getenv(killedFile), storetest.Registry(), bolt.Options{}.WithRewriting(func(at string) error {
		if at == stage {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}))
	if err == nil && os.Getenv(killedWork) == "defrag" {
		_, err = st.Defrag(context.Background())
	}
	fmt.Fprintln(os.Stderr, "not killed:", err)
	os.Exit(1)
}

// killWhileRewriting runs a process that works on the file and dies at the stage.
func killWhileRewriting(t *testing.T, path, work, stage string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), killedAt+"="+stage, killedFile+"="+path, killedWork+"="+work)
	out, _ := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Fatalf("it was not killed: %s", out)
	}
}

func TestKilledInTheMiddleOfAMigration(t *testing.T) {
	for _, stage := range rewriteStages {
		t.Run(stage, func(t *testing.T) {
			path := newPath(t)
			fixture(t, 1, path)
			killWhileRewriting(t, path, "", stage)
			expectFixture(t, open(t, path, bolt.Options{}))
			expectNoLeftovers(t, path)
		})
	}
}

func expectNoLeftovers(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), "rewrite") {
			t.Errorf("%s is left", e.Name())
		}
	}
}
