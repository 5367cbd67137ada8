// Package tasks runs the worker tasks of the simulated node and keeps their logs, as
// Proxmox does below /var/log/pve/tasks: one file per task named by its UPID, whose
// last line is the outcome. A task whose log has no such line and whose worker is gone
// (the node was killed) is "unexpected status".
package tasks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what is kept.
const (
	// MaxFinished is how many finished tasks are kept; a real node keeps 1000 to 2000.
	MaxFinished = 1000
	// maxLogLines ends a log that a broken worker would let grow for ever.
	maxLogLines = 10_000
)

// Errors of look-ups and of tasks.
var (
	// ErrUnknown: no task has that UPID.
	ErrUnknown = errors.New("no such task")
	// ErrInterrupted is the outcome of a task that was stopped.
	ErrInterrupted = errors.New("received interrupt")
	// ErrKilled is returned by a worker that is to look as if it had been killed: its log has
	// no outcome.
	ErrKilled = errors.New("worker was killed")
	// ErrForgotten is returned by a worker whose task is to be unknown afterwards.
	ErrForgotten = errors.New("task is forgotten")
)

// statusUnexpected is the exit status of a task that was killed without a word.
const statusUnexpected = "unexpected status"

// Info is what is known of one task.
type Info struct {
	UPID    UPID
	Running bool
	End     int64  // seconds since 1970, 0 while running
	Exit    string // OK, WARNINGS: n or the error text
}

// Failed reports whether the task ended with an error.
func (i Info) Failed() bool {
	return !i.Running && i.Exit != "OK" && !strings.HasPrefix(i.Exit, "WARNINGS: ")
}

// Line is one numbered line of a log, from 1.
type Line struct {
	N int    `json:"n"`
	T string `json:"t"`
}

// Store keeps the tasks of one node.
type Store struct {
	dir     string
	node    string
	started time.Time
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	pid      int64
	active   map[string]*Task
	finished []Info // oldest first
	closed   bool
}

// Open reads the tasks below dir, which is made if it does not exist.
func Open(dir, node string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("tasks: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	now := time.Now()
	s := &Store{
		dir: dir, node: node, started: now, ctx: ctx, cancel: cancel, active: map[string]*Task{},
		// PIDs begin at another number after each start, so that UPIDs differ.
		pid: 4000 + now.UnixNano()/int64(time.Millisecond)%20000,
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("tasks: %w", err)
	}
	for _, e := range entries {
		u, err := ParseUPID(e.Name())
		if err != nil {
			continue // not a task
		}
		i := Info{UPID: u, Exit: statusUnexpected, End: u.Start}
		if st, err := e.Info(); err == nil {
			i.End = st.ModTime().Unix()
		}
		if lines, err := s.readLog(e.Name()); err == nil && len(lines) > 0 {
			i.Exit = outcome(lines[len(lines)-1])
		}
		s.finished = append(s.finished, i)
	}
	slices.SortStableFunc(s.finished, func(a, b Info) int { return int(a.UPID.Start - b.UPID.Start) })
	s.prune()
	return s, nil
}

// outcome reads the exit status from the last line of a log.
func outcome(last string) string {
	switch {
	case last == "TASK OK":
		return "OK"
	case strings.HasPrefix(last, "TASK WARNINGS: "):
		return strings.TrimPrefix(last, "TASK ")
	case strings.HasPrefix(last, "TASK ERROR: "):
		return strings.TrimPrefix(last, "TASK ERROR: ")
	default:
		return statusUnexpected
	}
}

// Start runs fn as a task in the background and returns its UPID. fn's error becomes
// the exit status; it should return soon after its task's context ends.
func (s *Store) Start(typ, id, user string, fn func(*Task) error) (UPID, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return UPID{}, errors.New("node is shutting down")
	}
	s.pid++
	now := time.Now()
	u := UPID{Node: s.node, PID: s.pid, PStart: int64(now.Sub(s.started)/(10*time.Millisecond)) + s.pid, Start: now.Unix(), Type: typ, ID: id, User: user}
	s.running.Add(1)
	s.mu.Unlock()

	f, err := os.OpenFile(filepath.Join(s.dir, u.String()), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		s.running.Done()
		return UPID{}, fmt.Errorf("task log: %w", err)
	}
	t := &Task{UPID: u, file: f, ended: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancelCause(s.ctx)
	s.mu.Lock()
	s.active[u.String()] = t
	s.mu.Unlock()
	go func() {
		defer s.running.Done()
		s.finish(t, t.run(fn))
	}()
	return u, nil
}

func (s *Store) finish(t *Task, err error) {
	exit := t.close(err)
	t.cancel(nil)
	defer close(t.ended)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.active, t.UPID.String())
	if errors.Is(err, ErrForgotten) {
		_ = os.Remove(filepath.Join(s.dir, t.UPID.String())) // what stays is found again at the next start
		return
	}
	s.finished = append(s.finished, Info{UPID: t.UPID, End: time.Now().Unix(), Exit: exit})
	s.prune()
}

// prune drops the oldest finished tasks; the caller holds the lock, or nobody else
// knows the store yet.
func (s *Store) prune() {
	for len(s.finished) > MaxFinished {
		_ = os.Remove(filepath.Join(s.dir, s.finished[0].UPID.String())) // a leftover is pruned at the next start
		s.finished = s.finished[1:]
	}
}

// Status returns one task.
func (s *Store) Status(upid string) (Info, error) {
	u, err := ParseUPID(upid)
	if err != nil {
		return Info{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.active[u.String()]; ok {
		return Info{UPID: u, Running: true}, nil
	}
	for i := len(s.finished) - 1; i >= 0; i-- {
		if s.finished[i].UPID == u {
			return s.finished[i], nil
		}
	}
	return Info{}, ErrUnknown
}

// Wait returns the outcome of a task as soon as it has ended.
func (s *Store) Wait(ctx context.Context, upid string) (Info, error) {
	s.mu.Lock()
	t := s.active[upid]
	s.mu.Unlock()
	if t != nil {
		select {
		case <-ctx.Done():
			return Info{}, ctx.Err()
		case <-t.ended:
		}
	}
	return s.Status(upid)
}

// List returns the running tasks and the finished ones, newest first each.
func (s *Store) List() (active, finished []Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.active {
		active = append(active, Info{UPID: t.UPID, Running: true})
	}
	slices.SortFunc(active, func(a, b Info) int { return strings.Compare(b.UPID.String(), a.UPID.String()) })
	finished = slices.Clone(s.finished)
	slices.Reverse(finished)
	return active, finished
}

// Log returns lines of a task's log from start (0 is the first), at most limit (0 is
// all), and how many there are. The log of an unknown task is one line that says so.
func (s *Store) Log(upid string, start, limit int) ([]Line, int, error) {
	u, err := ParseUPID(upid)
	if err != nil {
		return nil, 0, err
	}
	lines, err := s.readLog(u.String())
	if errors.Is(err, fs.ErrNotExist) {
		lines = []string{"unable to open file - No such file or directory"}
	} else if err != nil {
		return nil, 0, err
	}
	if len(lines) == 0 {
		lines = []string{"no content"}
	}
	var out []Line
	for i := start; i < len(lines) && (limit == 0 || len(out) < limit); i++ {
		out = append(out, Line{N: i + 1, T: lines[i]})
	}
	return out, len(lines), nil
}

func (s *Store) readLog(name string) ([]string, error) {
	raw, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n"), nil
}

// Stop ends a running task with ErrInterrupted; one that has finished is left alone.
func (s *Store) Stop(upid string) {
	s.mu.Lock()
	t := s.active[upid]
	s.mu.Unlock()
	if t != nil {
		t.cancel(ErrInterrupted)
	}
}

// StopMatching stops the running tasks of a type and id.
func (s *Store) StopMatching(typ, id string) {
	active, _ := s.List()
	for _, i := range active {
		if i.UPID.Type == typ && i.UPID.ID == id {
			s.Stop(i.UPID.String())
		}
	}
}

// Close refuses new tasks, interrupts the running ones and waits for them until ctx
// ends.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for _, t := range s.active {
		t.cancel(ErrInterrupted)
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	defer s.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("tasks still running: %w", ctx.Err())
	}
}
