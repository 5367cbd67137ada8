package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// What all backends must do is in storetest. Here is what needs a disk that hangs, a
// clock that can be moved, or bounds that are small.

// slowLog is a log whose commits take as long as the test wants.
type slowLog struct{ proceed chan struct{} }

func (l *slowLog) Commit([]Event) error                       { <-l.proceed; return nil }
func (l *slowLog) Events(_, _ uint64, _ int) ([]Event, error) { return nil, store.ErrCompacted }
func (l *slowLog) Audit(*AuditPage) error                     { return nil }
func (l *slowLog) Compact(uint64) error                       { return nil }
func (l *slowLog) Compacted() uint64                          { return InitialRevision }
func (l *slowLog) Size() int64                                { return 0 }
func (l *slowLog) Close() error                               { return nil }

func open(t *testing.T, log Log, opts Options) *Engine {
	t.Helper()
	return New(testRegistry(t), log, NewContents(testRegistry(t)), opts)
}

func testRegistry(t testing.TB) *resource.Registry {
	t.Helper()
	reg, err := resource.NewRegistry(resource.Definition{Message: &v1alpha1.Bridge{}})
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

func createBridge(name string) func(store.Tx) error {
	return func(tx store.Tx) error {
		_, err := tx.Create(&v1alpha1.Bridge{
			ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"),
			Metadata: &v1alpha1.ObjectMeta{Name: name},
		})
		return err
	}
}

func TestUpdateGivesUpOnADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &slowLog{proceed: make(chan struct{})}
		e := open(t, log, Options{})
		defer e.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := e.Update(ctx, createBridge("a"))
		if !errors.Is(err, store.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != time.Second+outcomeGrace {
			t.Errorf("it took %s", took)
		}
		close(log.proceed)
		synctest.Wait()
		if e.Stats().Objects != 1 {
			t.Error("the disk came back, the change did not")
		}
	})
}

func TestUpdateWaitsForASlowDiskAfterItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &slowLog{proceed: make(chan struct{})}
		e := open(t, log, Options{})
		defer e.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		time.AfterFunc(3*time.Second, func() { close(log.proceed) })
		if _, err := e.Update(ctx, createBridge("a")); err != nil {
			t.Errorf("got %v", err)
		}
	})
}

// While the disk hangs, transactions pile up to a bound and can be given up.
func TestWaitingTransactionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &slowLog{proceed: make(chan struct{})}
		e := open(t, log, Options{})
		defer e.Close()
		const n = queueLength + 2*maxBatch + 100
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		errs := make(chan error, n)
		wg.Go(func() {
			if _, err := e.Update(context.Background(), createBridge("a")); err != nil {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		for range n {
			wg.Go(func() {
				_, err := e.Update(ctx, func(tx store.Tx) error { return nil })
				errs <- err
			})
		}
		synctest.Wait()
		if waiting := len(e.queue); waiting != queueLength {
			t.Errorf("%d transactions are queued", waiting)
		}
		cancel()
		synctest.Wait()
		close(log.proceed) // well within the grace of those that were executed
		wg.Wait()
		close(errs)
		abandoned := 0
		for err := range errs {
			if errors.Is(err, context.Canceled) {
				abandoned++
			} else if err != nil {
				t.Errorf("got %v", err)
			}
		}
		if abandoned < n-2*maxBatch {
			t.Errorf("%d of %d were given up", abandoned, n)
		}
	})
}

func TestClosureThatEndsItsGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, nil, Options{})
		defer e.Close()
		_, err := e.Update(context.Background(), func(tx store.Tx) error {
			_ = createBridge("a")(tx)
			runtime.Goexit()
			return nil
		})
		if !errors.Is(err, errGoexit) {
			t.Errorf("got %v", err)
		}
		if _, err := e.Update(context.Background(), createBridge("b")); err != nil {
			t.Errorf("the next one: %v", err)
		}
		if got := e.Stats().Objects; got != 1 {
			t.Errorf("%d objects", got)
		}
	})
}

func TestWatchersAreBounded(t *testing.T) {
	e := open(t, nil, Options{MaxWatchers: 2})
	defer e.Close()
	for range 2 {
		if _, err := e.Watch(context.Background(), store.WatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Watch(context.Background(), store.WatchOptions{}); !errors.Is(err, store.ErrTooMany) {
		t.Errorf("got %v", err)
	}
}

func TestRingKeepsItsBoundsAndTheNewestCommit(t *testing.T) {
	commit := func(first, n uint64, size int) []Event {
		events := make([]Event, n)
		for i := range events {
			events[i] = Event{Event: store.Event{Revision: first + uint64(i), Encoded: make([]byte, size)}}
		}
		return events
	}
	for _, c := range []struct {
		name    string
		commits [][]Event
		floor   uint64 // all events above it are there
	}{
		{"below its bounds", [][]Event{commit(2, 5, 1), commit(7, 5, 1)}, 1},
		{"above its number", [][]Event{commit(2, 5, 1), commit(7, 5, 1), commit(12, 5, 1)}, 6},
		{"above its bytes", [][]Event{commit(2, 2, 40), commit(4, 1, 40)}, 2},
		{"one large commit", [][]Event{commit(2, 5, 1), commit(7, 50, 1)}, 6},
		{"after a large commit", [][]Event{commit(2, 50, 1), commit(52, 1, 1)}, 42},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRing(1, 10, 100)
			for _, events := range c.commits {
				r.append(events)
			}
			floor, head := r.bounds()
			if floor != c.floor {
				t.Errorf("floor is %d, want %d", floor, c.floor)
			}
			if _, _, ok := r.after(floor-1, 100, nil); ok {
				t.Error("it answers below its floor")
			}
			events, _, ok := r.after(floor, 100, make([]Event, 3))
			if !ok || uint64(len(events)) != head-floor || events[0].Revision != floor+1 {
				t.Errorf("%d events from %d to %d (%t)", len(events), floor, head, ok)
			}
			var bytes int64
			for _, e := range events {
				bytes += int64(len(e.Encoded))
			}
			if bytes != r.bytes {
				t.Errorf("it counts %d bytes and has %d", r.bytes, bytes)
			}
		})
	}
}

// A lone writer's transactions are made durable one by one, and a second writer's that come
// meanwhile together, whoever makes them durable; tasks of the database keep out both.
func TestLoneWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &slowLog{proceed: make(chan struct{}, 100)}
		e := open(t, log, Options{})
		defer e.Close()
		defer close(log.proceed)
		write := func(name string) <-chan error {
			done := make(chan error, 1)
			go func() {
				_, err := e.Update(context.Background(), createBridge(name))
				done <- err
			}()
			synctest.Wait()
			return done
		}
		must := func(done <-chan error) {
			t.Helper()
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			default:
				t.Error("no answer")
			}
		}
		for i := range 4 {
			done := write(fmt.Sprint("lone", i))
			if e.Stats().Objects != i {
				t.Fatal("a change shows that is not durable")
			}
			log.proceed <- struct{}{}
			synctest.Wait()
			must(done)
		}
		first, others := write("first"), []<-chan error{}
		for i := range 3 {
			others = append(others, write(fmt.Sprint("other", i)))
		}
		log.proceed <- struct{}{}
		synctest.Wait()
		must(first)
		log.proceed <- struct{}{}
		synctest.Wait()
		for _, done := range others {
			must(done)
		}
		if got := e.Stats().Commits; got != 6 {
			t.Errorf("%d commits, want one for each lone writer and one for those who waited", got)
		}

		log.proceed <- struct{}{}
		must(write("again")) // alone
		release, entered := make(chan struct{}), make(chan struct{})
		go func() {
			_ = e.BetweenCommits(context.Background(), func(func(error) error) error {
				close(entered)
				<-release
				return nil
			})
		}()
		<-entered
		done := write("during a task")
		log.proceed <- struct{}{}
		synctest.Wait()
		select {
		case <-done:
			t.Error("a commit was made while a task had the database")
		default:
		}
		close(release)
		synctest.Wait()
		must(done)
	})
}

// The records of a large transaction, which all processors make, are those of its changes.
func TestRecordsOfManyChanges(t *testing.T) {
	e := open(t, nil, Options{})
	defer e.Close()
	ctx := audit.WithOrigin(context.Background(), audit.Origin{Type: "user", Identity: "me"})
	const n = 3*manyRecords + 1
	_, err := e.Update(ctx, func(tx store.Tx) error {
		for i := range n {
			if err := createBridge(fmt.Sprint("b", i))(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	records, err := e.Audit(ctx, store.AuditOptions{Limit: store.MaxAuditPage})
	if err != nil || len(records) != n {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for i, r := range records {
		if r.Revision != InitialRevision+uint64(i)+1 || r.Key.Name != fmt.Sprint("b", i) || r.Identity != "me" || r.UID == "" {
			t.Fatalf("record %d: %+v", i, r)
		}
	}
}
