package tasks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// Task is a running task, as its worker function sees it.
type Task struct {
	UPID   UPID
	ctx    context.Context
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed when the outcome is known

	mu       sync.Mutex
	file     *os.File
	lines    int
	warnings int
	partial  []byte
}

// Context ends when the task is stopped.
func (t *Task) Context() context.Context { return t.ctx }

// Logf writes a line of the task's log.
func (t *Task) Logf(format string, args ...any) {
	_, _ = t.Write([]byte(fmt.Sprintf(format, args...) + "\n"))
}

// Warnf writes a warning; a task that succeeds with some ends as WARNINGS: n.
func (t *Task) Warnf(format string, args ...any) {
	t.mu.Lock()
	t.warnings++
	t.mu.Unlock()
	t.Logf("WARN: "+format, args...)
}

// Write makes a Task the output of programs; whole lines appear in the log.
func (t *Task) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.partial = append(t.partial, b...)
	for {
		i := bytes.IndexByte(t.partial, '\n')
		if i < 0 {
			return len(b), nil
		}
		t.line(string(t.partial[:i]))
		t.partial = t.partial[i+1:]
	}
}

// line writes one line; the caller holds the lock. A log that cannot be written is
// lost, the task goes on.
func (t *Task) line(s string) {
	if t.file == nil || t.lines >= maxLogLines {
		return
	}
	t.lines++
	_, _ = t.file.WriteString(s + "\n")
}

// run calls fn and turns a panic or a stop into an error.
func (t *Task) run(fn func(*Task) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("worker panicked: %v", r)
		}
	}()
	err = fn(t)
	if err != nil && t.ctx.Err() != nil {
		return ErrInterrupted
	}
	return err
}

// close writes the outcome as the last line and returns it.
func (t *Task) close(err error) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.partial) > 0 {
		t.line(string(t.partial))
	}
	exit, last := "OK", "TASK OK"
	switch {
	case errors.Is(err, ErrKilled):
		_ = t.file.Close()
		t.file = nil
		return statusUnexpected
	case err != nil:
		exit = strings.Join(strings.Fields(err.Error()), " ")
		last = "TASK ERROR: " + exit
	case t.warnings > 0:
		exit = fmt.Sprintf("WARNINGS: %d", t.warnings)
		last = "TASK " + exit
	}
	t.lines = 0 // the outcome is always written
	t.line(last)
	_ = t.file.Close()
	t.file = nil
	return exit
}
