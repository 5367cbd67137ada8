package bolt_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

// The crash test kills a writing process again and again and looks what is left. The
// writer is this test binary with crashChildEnv set to the database's path.
const (
	crashChildEnv = "PROXIMITY_CRASH_CHILD"
	// crashCyclesEnv sets the number of kills; the default is a smoke test.
	crashCyclesEnv     = "PROXIMITY_CRASH_CYCLES"
	crashCyclesDefault = 10
	crashWriters       = 8
	// crashLog makes the log short enough to be compacted all the time.
	crashLog = 400
)

func crashOptions() bolt.Options {
	return bolt.Options{LogMinEvents: crashLog, LogMaxAge: time.Nanosecond}
}

// pairName names one of the two objects that a writer always writes together.
func pairName(writer int, side string) string { return fmt.Sprintf("w%d-%s", writer, side) }

// crashChild writes until it is killed. Each writer counts up, in one transaction, both
// objects of its pair, and tells the parent only when the store has said yes.
func crashChild(path string) {
	st, err := bolt.Open(path, storetest.Registry(), crashOptions())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var out sync.Mutex
	var wg sync.WaitGroup
	for writer := range crashWriters {
		wg.Go(func() {
			for {
				var count int32
				revision, err := st.Update(bg, func(tx store.Tx) (err error) {
					count, err = countUp(tx, writer)
					return err
				})
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				out.Lock() // a line is one write
				fmt.Fprintf(os.Stdout, "%d %d %d\n", writer, count, revision)
				out.Unlock()
			}
		})
	}
	wg.Wait()
}

func countUp(tx store.Tx, writer int) (int32, error) {
	var count int32
	for _, side := range []string{"left", "right"} {
		next := event(pairName(writer, side), 1)
		cur, err := tx.Get(resource.KeyOf(next))
		if err != nil {
			if _, err = tx.Create(next); err != nil {
				return 0, err
			}
			count = 1
			continue
		}
		next.Count = cur.(*v1alpha1.Event).Count + 1
		count = next.Count
		if _, err := tx.Update(next); err != nil {
			return 0, err
		}
	}
	return count, nil
}

// ledger is what the child acknowledged.
type ledger struct {
	counts   [crashWriters]int32
	revision uint64
	lines    int
}

func TestCrash(t *testing.T) {
	cycles := crashCyclesDefault
	if n, err := strconv.Atoi(os.Getenv(crashCyclesEnv)); err == nil {
		cycles = n
	}
	path := newPath(t)
	closeStore(t, open(t, path, crashOptions()))
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	var book ledger
	for cycle := range cycles {
		life := time.Duration(5+rng.IntN(195)) * time.Millisecond
		runAndKill(t, path, life, &book)
		checkAfterCrash(t, path, &book)
		if t.Failed() {
			t.Fatalf("cycle %d, life %s, seed %d", cycle, life, seed)
		}
	}
	t.Logf("%d kills, %d acknowledged transactions, the store is at %d", cycles, book.lines, book.revision)
	if book.lines < cycles {
		t.Error("the run did too little to mean anything")
	}
}

// runAndKill runs a child and kills it a while after its first acknowledgement.
func runAndKill(t *testing.T, path string, life time.Duration, book *ledger) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashChildEnv+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for armed := false; ; armed = true {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // the kill; a line without its end was never told
		}
		if !armed {
			time.AfterFunc(life, func() { _ = child.Process.Kill() })
		}
		var writer int
		var count int32
		var revision uint64
		if _, err := fmt.Sscan(line, &writer, &count, &revision); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		book.counts[writer] = max(book.counts[writer], count)
		book.revision = max(book.revision, revision)
		book.lines++
	}
	if err := child.Wait(); err == nil || child.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child was not killed: %v", err)
	}
}

// checkAfterCrash holds the file against the ledger and against itself.
func checkAfterCrash(t *testing.T, path string, book *ledger) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	_ = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("database check: %v", err)
		}
		return nil
	})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	st := open(t, path, crashOptions())
	defer closeStore(t, st)
	if st.Revision() < book.revision {
		t.Errorf("the store is at %d, %d was acknowledged", st.Revision(), book.revision)
	}
	book.revision = st.Revision()
	for writer := range crashWriters {
		left, right := count(st, writer, "left"), count(st, writer, "right")
		if left < book.counts[writer] {
			t.Errorf("writer %d: %d is left of %d acknowledged", writer, left, book.counts[writer])
		}
		if left != right {
			t.Errorf("writer %d: half a transaction: %d and %d", writer, left, right)
		}
		book.counts[writer] = left
	}
	checkReplay(t, st)
}

func count(st store.Store, writer int, side string) int32 {
	o, err := st.Get(bg, resource.KeyOf(event(pairName(writer, side), 0)))
	if err != nil {
		return 0
	}
	return o.(*v1alpha1.Event).Count
}

// checkReplay reads the log from its beginning: it has every revision and ends in the
// state that reads show.
func checkReplay(t *testing.T, st *bolt.Store) {
	t.Helper()
	s := st.Stats()
	if s.Revision-s.Compacted > crashLog+2*64 {
		t.Errorf("the log has %d events", s.Revision-s.Compacted)
	}
	w, err := st.Watch(bg, store.WatchOptions{From: s.Compacted})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	last := map[resource.Key]resource.Object{}
	for i, ev := range collect(t, w, int(s.Revision-s.Compacted)) {
		if ev.Revision != s.Compacted+uint64(i)+1 {
			t.Fatalf("event %d after %d has revision %d", i, s.Compacted, ev.Revision)
		}
		last[resource.KeyOf(ev.Object)] = ev.Object
	}
	for key, o := range last {
		now, err := st.Get(bg, key)
		if err != nil || now.GetMetadata().GetResourceVersion() != o.GetMetadata().GetResourceVersion() {
			t.Errorf("%s: the log ends at %s, the object is %v (%v)", key, o.GetMetadata().GetResourceVersion(), now, err)
		}
	}
}
