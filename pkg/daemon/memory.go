package daemon

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much garbage may come on top of what is in use, in percent of that,
// before it is collected. Most of what a daemon with many objects has in memory is the
// index, which lives for long: at Go's own 100 as much memory again would lie idle. Below
// 50 the collector costs more processor time than memory is worth.
const gcPercent = 50

// boundMemory sets the collector's pace, unless the operator has (GOGC).
func boundMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
