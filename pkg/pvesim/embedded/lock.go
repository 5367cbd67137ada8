//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// pollPause is the time between two looks where the system offers no event.
const pollPause = 20 * time.Millisecond

// lockNode takes the lock under which a data directory's node is started, found, stopped
// or removed. Locks of open files end with their process, so none is ever left behind.
func lockNode(ctx context.Context, dataDir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(nodeDir(dataDir), "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock node: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock node: %w", err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("lock node, which another process holds: %w", ctx.Err())
		case <-time.After(pollPause):
		}
	}
}

// waitGone waits until a process has ended and is reaped if it is a child of ours. When
// it is the init of a process-id namespace, its end is the end of everything in there.
func waitGone(ctx context.Context, pid int, started uint64) error {
	for processAlive(pid, started) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d does not end: %w", pid, ctx.Err())
		case <-time.After(pollPause):
		}
	}
	return nil
}

// killProcess pulls the plug.
func killProcess(pid int, started uint64) {
	if processAlive(pid, started) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// reap collects a child of ours that ended; for another's process it does nothing.
func reap(pid int) {
	var status unix.WaitStatus
	_, _ = unix.Wait4(pid, &status, unix.WNOHANG, nil)
}
