package crashtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

// childEnv makes a process a writer; its value is a Workload.
const childEnv = "PROXIMITY_CRASHTEST_WORKLOAD"

// Workload is what a writing process does.
type Workload struct {
	Path    string // of the database
	Writers int
	// LogEvents is how many events the log keeps. A short one is compacted all the time.
	LogEvents uint64
	// Checkpoint is bolt.Options.CheckpointBytes. With a short one objects are written to
	// their place all the time, a few with each commit.
	Checkpoint uint64
	// Room is bolt.Options.RoomBytes.
	Room int64
	// Trail, when set, is the directory of an audit trail that follows the store meanwhile.
	Trail string
	// Transactions is what each writer does before the store is closed and opened again;
	// 0 means to go on until the process is killed.
	Transactions int
	// Opens is how often that happens, at least once.
	Opens int
	// DefragEvery, when set, is how often the file is rewritten meanwhile.
	DefragEvery time.Duration
}

func (w Workload) options() bolt.Options {
	return bolt.Options{LogMinEvents: w.LogEvents, LogMaxAge: time.Nanosecond, CheckpointBytes: w.Checkpoint, RoomBytes: w.Room}
}

// Command is a child process that does the workload. Its standard output is for Ledger.
func (w Workload) Command(ctx context.Context, prefix ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	value, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	argv := append(prefix, self)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"="+string(value))
	return cmd, nil
}

// Child does nothing in an ordinary process. In one that Command made it does the
// workload and ends the process.
func Child() {
	value := os.Getenv(childEnv)
	if value == "" {
		return
	}
	var w Workload
	err := json.Unmarshal([]byte(value), &w)
	if err == nil {
		err = w.run(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// speaker writes the lines of several goroutines, each line as one write.
type speaker struct {
	mu  sync.Mutex
	out io.Writer
}

func (s *speaker) say(format string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.out.Write(fmt.Appendf(nil, format+"\n", args...))
	return err
}

func (w Workload) run(out io.Writer) error {
	s := &speaker{out: out}
	for range max(1, w.Opens) {
		if err := w.runOnce(s); err != nil {
			return err
		}
	}
	return nil
}

// runOnce opens the store, writes, and closes it. A failure of one writer ends the others.
func (w Workload) runOnce(s *speaker) error {
	st, err := bolt.Open(w.Path, storetest.Registry(), w.options())
	if err != nil {
		return err
	}
	if err := s.say("%s %d", openedLine, st.Revision()); err != nil {
		return err
	}
	unfollow, err := w.follow(st, s)
	if err != nil {
		return errors.Join(err, st.Close())
	}
	watch, err := st.Watch(context.Background(), store.WatchOptions{From: st.Revision()})
	if err != nil {
		return errors.Join(err, unfollow(), st.Close())
	}
	errs := make([]error, w.Writers+1)
	var writers, watcher sync.WaitGroup
	watcher.Go(func() {
		for ev := range watch.Events() {
			if errs[w.Writers] = s.say("%s %d", seenLine, ev.Revision); errs[w.Writers] != nil {
				return
			}
		}
	})
	for writer := range w.Writers {
		writers.Go(func() {
			if errs[writer] = w.write(st, s, writer); errs[writer] != nil {
				_ = st.Close() // the others' writes fail now
			}
		})
	}
	stop := w.defrag(st)
	writers.Wait()
	stopErr := errors.Join(stop(), unfollow())
	watch.Stop()
	watcher.Wait()
	return errors.Join(append(errs, stopErr, st.Close())...)
}

// defrag rewrites the file again and again until it is told to stop.
func (w Workload) defrag(st *bolt.Store) (stop func() error) {
	if w.DefragEvery == 0 {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		for {
			select {
			case <-ctx.Done():
				ended <- nil
				return
			case <-time.After(w.DefragEvery):
			}
			if _, err := st.Defrag(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
				ended <- err
				return
			}
		}
	}()
	return func() error { cancel(); return <-ended }
}

// write counts up and tells so only when the store has said yes.
func (w Workload) write(st store.Store, s *speaker, writer int) error {
	for i := 0; w.Transactions == 0 || i < w.Transactions; i++ {
		var n int32
		revision, err := st.Update(asUser(writer), func(tx store.Tx) (err error) {
			n, err = step(tx, writer)
			return err
		})
		if err != nil {
			return fmt.Errorf("writer %d: %w", writer, err)
		}
		if err := s.say("%s %d %d %d", writtenLine, writer, n, revision); err != nil {
			return err
		}
	}
	return nil
}

// payload is a text of a writer's nth transaction: mostly short, sometimes longer than a
// page of the database.
func payload(writer int, n int32) string {
	size := (int(n)*37 + writer*101) % 300
	if (int(n)+writer)%10 == 0 {
		size *= 40
	}
	return strings.Repeat(string(rune('a'+n%26)), size)
}
