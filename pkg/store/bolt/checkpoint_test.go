package bolt_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

// objectsOf returns all objects that reads show.
func objectsOf(t *testing.T, st *bolt.Store) map[resource.Key]resource.Object {
	t.Helper()
	all := map[resource.Key]resource.Object{}
	for _, kind := range storetest.Registry().Kinds() {
		snap, err := st.List(bg, kind.Name, store.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range snap.Items {
			all[resource.KeyOf(o)] = o
		}
	}
	return all
}

func expectObjects(t *testing.T, st *bolt.Store, want map[resource.Key]resource.Object) {
	t.Helper()
	have := objectsOf(t, st)
	for key, o := range want {
		if other, ok := have[key]; !ok || !proto.Equal(o, other) {
			t.Errorf("%s is %v, want %v", key, other, o)
		}
		delete(have, key)
	}
	for key := range have {
		t.Errorf("%s is there and should not be", key)
	}
}

// checkpointOf reads the numbers of the log from a file that nobody has open.
func checkpointOf(t *testing.T, path string) (compacted, checkpoint, revision uint64) {
	t.Helper()
	raw(t, path, func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte("meta"))
		compacted = binary.BigEndian.Uint64(meta.Get([]byte("compacted")))
		checkpoint = binary.BigEndian.Uint64(meta.Get([]byte("checkpoint")))
		revision = binary.BigEndian.Uint64(meta.Get([]byte("revision")))
		return nil
	})
	return compacted, checkpoint, revision
}

// asItIs copies the file of an open store, as a power failure would leave it.
func asItIs(t *testing.T, st *bolt.Store) string {
	t.Helper()
	m, err := st.Moment(bg)
	if err != nil {
		t.Fatal(err)
	}
	differences, err := m.Differences()
	if err != nil || len(differences) > 0 {
		t.Errorf("reads and file differ: %q (%v)", differences, err)
	}
	path := newPath(t)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Copy(f), m.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func expectClean(t *testing.T, path string) {
	t.Helper()
	report, err := bolt.CheckFile(path, storetest.Registry(), false)
	if err != nil || len(report.GetProblems()) > 0 {
		t.Errorf("%s: %q (%v)", path, report.GetProblems(), err)
	}
}

// randomChanges creates, changes and deletes some of a hundred objects.
func randomChanges(t *testing.T, st *bolt.Store, rng *rand.Rand, n int) {
	t.Helper()
	for range n {
		_, err := st.Update(bg, func(tx store.Tx) error {
			for range 1 + rng.IntN(4) {
				o := event(fmt.Sprintf("e%02d", rng.IntN(100)), rng.Int32())
				_, err := tx.Get(resource.KeyOf(o))
				switch {
				case errors.Is(err, store.ErrNotFound):
					_, err = tx.Create(o)
				case rng.IntN(3) == 0:
					_, err = tx.Delete(resource.KeyOf(o), store.Preconditions{})
				default:
					_, err = tx.Update(o)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// At whatever moment the process dies, in a round or between two, what is in the file is
// what was there: the buckets and the log behind the checkpoint.
func TestEveryMomentOfACheckpoint(t *testing.T) {
	seed := rand.Uint64()
	for name, opts := range map[string]bolt.Options{
		"never":               {},
		"all the time":        {CheckpointBytes: 1},
		"now and then":        {CheckpointBytes: 4 << 10},
		"with a short log":    {CheckpointBytes: 1 << 10, LogMinEvents: 50, LogMaxAge: 1},
		"held up by checking": {LogMinEvents: 20, LogMaxAge: 1},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			path := newPath(t)
			st := open(t, path, opts)
			behind := false
			for range 25 {
				randomChanges(t, st, rng, 1+rng.IntN(8))
				want := objectsOf(t, st)
				copied := asItIs(t, st)
				expectClean(t, copied)
				_, checkpoint, revision := checkpointOf(t, copied)
				behind = behind || checkpoint != revision
				again := open(t, copied, opts)
				expectObjects(t, again, want)
				randomChanges(t, again, rng, 2)
				want = objectsOf(t, again)
				closeStore(t, again)
				expectClean(t, copied)
				compacted, checkpoint, revision := checkpointOf(t, copied)
				if checkpoint != revision || compacted > checkpoint {
					t.Errorf("closed with a log to read: compacted %d, checkpoint %d, revision %d", compacted, checkpoint, revision)
				}
				expectObjects(t, open(t, copied, opts), want)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
			if !behind && opts.CheckpointBytes != 1 { // there a commit's share is all there is
				t.Error("the checkpoint was never behind")
			}
		})
	}
}

// A compaction that asks for more than the checkpoint has passed moves it first.
func TestCompactionMovesTheCheckpoint(t *testing.T) {
	st := open(t, newPath(t), bolt.Options{})
	randomChanges(t, st, rand.New(rand.NewPCG(1, 2)), 300)
	want := objectsOf(t, st)
	if err := st.Compact(bg, st.Revision()); err != nil {
		t.Fatal(err)
	}
	copied := asItIs(t, st)
	expectClean(t, copied)
	if compacted, checkpoint, revision := checkpointOf(t, copied); compacted != revision || checkpoint != revision {
		t.Errorf("compacted %d, checkpoint %d, revision %d", compacted, checkpoint, revision)
	}
	expectObjects(t, open(t, copied, bolt.Options{}), want)
	randomChanges(t, st, rand.New(rand.NewPCG(3, 4)), 10)
	expectObjects(t, open(t, asItIs(t, st), bolt.Options{}), objectsOf(t, st))
}

// What is in the log alone is in a defragmented file and in a restored one, too.
func TestRewritesTakeTheBacklogAlong(t *testing.T) {
	path := newPath(t)
	st := open(t, path, bolt.Options{})
	randomChanges(t, st, rand.New(rand.NewPCG(5, 6)), 200)
	want := objectsOf(t, st)
	if _, err := st.Defrag(bg); err != nil {
		t.Fatal(err)
	}
	copied := asItIs(t, st)
	if _, checkpoint, revision := checkpointOf(t, copied); checkpoint == revision {
		t.Error("there is no backlog")
	}
	expectClean(t, copied)
	expectObjects(t, open(t, copied, bolt.Options{}), want)

	f, err := os.Create(newPath(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := st.Snapshot(f); err != nil {
		t.Fatal(err)
	}
	restored := newPath(t)
	if _, err := bolt.Restore(restored, f, storetest.Registry(), false); err != nil {
		t.Fatal(err)
	}
	expectClean(t, restored)
	expectObjects(t, open(t, restored, bolt.Options{}), want)
}
