package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"syscall"
)

// leaveNoCore keeps what the process has in memory, keys and opened secrets among it, out of
// core dumps: there is no core file, and where the kernel pipes a dump to a program all the
// same, or a debugger makes one, nothing of the memory is in it. Processes that are started
// inherit both. Whoever is root, or may trace the process, can still read its memory.
func leaveNoCore(log *slog.Logger) {
	err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	if err == nil {
		err = os.WriteFile("/proc/self/coredump_filter", []byte("0"), 0)
	}
	if err != nil {
		log.Warn("core dumps of the daemon could hold secrets", "error", fmt.Errorf("turn core dumps off: %w", err))
	}
}
