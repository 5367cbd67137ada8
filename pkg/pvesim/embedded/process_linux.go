package embedded

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// processStart is the kernel's start time of a process in clock ticks, 0 if it is gone.
func processStart(pid int) uint64 {
	started, _ := processStat(pid)
	return started
}

// processAlive tells whether that very process still runs. A zombie does not.
func processAlive(pid int, started uint64) bool {
	if pid <= 1 || started == 0 {
		return false
	}
	now, state := processStat(pid)
	if now == started && state == "Z" {
		reap(pid) // only after the start time proved that it is not another child of ours
	}
	return now == started && state != "Z" && state != "X"
}

// processStat reads field 22 (start time) and 3 (state) of /proc/PID/stat.
func processStat(pid int) (started uint64, state string) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, ""
	}
	// The name in parentheses may hold anything; the numbers start behind it.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const stateField, startField = 0, 19 // counted from field 3 of proc(5)
	if len(fields) <= startField {
		return 0, ""
	}
	started, _ = strconv.ParseUint(fields[startField], 10, 64)
	return started, fields[stateField]
}

// ownNetNS names the network namespace of the calling process.
func ownNetNS() string {
	name, _ := os.Readlink("/proc/self/ns/net")
	return name
}
