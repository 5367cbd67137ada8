//go:build unix

package embedded

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// notifySignals calls stop on the signals that ask a process to end. A hangup is
// ignored: the node has no terminal.
func notifySignals(stop func()) (undo func()) {
	signal.Ignore(unix.SIGHUP)
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT)
	go func() {
		for range c {
			stop()
		}
	}()
	return func() { signal.Stop(c); close(c) }
}
