package lxc

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/lxc/cgroup"
)

// Status implements engine.Engine. Figures that the kernel does not give are zero.
func (e *Engine) Status(ctx context.Context, vmid int) (engine.Status, error) {
	if err := e.exists(vmid); err != nil {
		return engine.Status{}, err
	}
	pid, running := e.initPID(vmid)
	if !running {
		return engine.Status{}, nil
	}
	s := engine.Status{Running: true, InitPID: pid, Uptime: uptime(pid)}
	s.CPUTime = e.cpuTime(vmid)
	s.MemBytes = e.memory(vmid)
	s.NetIn, s.NetOut = traffic(vmid)
	s.DiskBytes = e.usage.of(e.guestDir(vmid))
	return s, nil
}

// group is the guest's directory in the hierarchy of a controller.
func (e *Engine) group(vmid int, controller string) (string, cgroup.Hierarchy, bool) {
	h, ok := cgroup.For(e.groups, controller)
	if !ok {
		return "", h, false
	}
	return h.Path(filepath.Join(h.Base(), groupDir(vmid), "payload")), h, true
}

func (e *Engine) cpuTime(vmid int) time.Duration {
	if dir, h, ok := e.group(vmid, "cpuacct"); ok && h.Version == 1 {
		return time.Duration(readNumber(filepath.Join(dir, "cpuacct.usage")))
	}
	if dir, h, ok := e.group(vmid, "cpu"); ok && h.Version == 2 {
		return time.Duration(readField(filepath.Join(dir, "cpu.stat"), "usage_usec")) * time.Microsecond
	}
	return 0
}

// memory is what the guest uses without the page cache that could be dropped at once, as
// Proxmox VE counts it.
func (e *Engine) memory(vmid int) int64 {
	dir, h, ok := e.group(vmid, "memory")
	if !ok {
		return 0
	}
	usage, cache := "memory.usage_in_bytes", "total_inactive_file"
	if h.Version == 2 {
		usage, cache = "memory.current", "inactive_file"
	}
	return max(0, readNumber(filepath.Join(dir, usage))-readField(filepath.Join(dir, "memory.stat"), cache))
}

func readNumber(name string) int64 {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

// readField reads one "name value" line of a statistics file.
func readField(name, field string) int64 {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == field {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// clockTicks is USER_HZ, the unit of times in /proc; 100 on every architecture of Linux
// that Go supports.
const clockTicks = 100

// uptime is the age of a process by the machine's own clock.
func uptime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name in parentheses may hold anything; the numbers start behind it.
	_, tail, _ := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), " ")
	fields := strings.Fields(tail)
	const startTime = 19 // field 22 of proc(5), counted from field 3
	if len(fields) <= startTime {
		return 0
	}
	ticks, err := strconv.ParseInt(fields[startTime], 10, 64)
	if err != nil {
		return 0
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return max(0, time.Duration(now.Nano())-time.Duration(ticks)*time.Second/clockTicks)
}

// diskUsage remembers how much a guest wrote; adding it up walks all its files.
type diskUsage struct {
	mu    sync.Mutex
	known map[string]diskFigure
}

type diskFigure struct {
	bytes int64
	at    time.Time
}

const (
	// diskFigureAge is how long a figure is good enough; a walk over the some thousand
	// files that a guest wrote takes about 10 ms.
	diskFigureAge = time.Minute
	// maxDiskFigures bounds the memory for figures of guests that are gone.
	maxDiskFigures = 4096
)

// of returns the bytes that a guest's own files take.
func (u *diskUsage) of(guestDir string) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if f, ok := u.known[guestDir]; ok && time.Since(f.at) < diskFigureAge {
		return f.bytes
	}
	if u.known == nil || len(u.known) >= maxDiskFigures {
		u.known = map[string]diskFigure{}
	}
	var total int64
	_ = filepath.WalkDir(filepath.Join(guestDir, "upper"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	u.known[guestDir] = diskFigure{bytes: total, at: time.Now()}
	return total
}
