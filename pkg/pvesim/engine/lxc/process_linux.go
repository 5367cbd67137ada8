package lxc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine/lxc/cgroup"
)

// monitorPID returns the LXC monitor of a guest. The pid file alone proves nothing: the
// number may belong to somebody else by now, so the process must carry LXC's own title.
func (e *Engine) monitorPID(vmid int) (int, bool) {
	text, err := os.ReadFile(filepath.Join(e.guestDir(vmid), "monitor.pid"))
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return 0, false
	}
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.HasPrefix(string(title), "[lxc monitor] ") {
		return 0, false
	}
	words := strings.Fields(strings.Trim(string(title), "\x00"))
	return pid, words[len(words)-1] == strconv.Itoa(vmid)
}

// initPID returns the guest's init in the node's process-id namespace: the child of the
// monitor that is process 1 of its own namespace.
func (e *Engine) initPID(vmid int) (int, bool) {
	monitor, ok := e.monitorPID(vmid)
	if !ok {
		return 0, false
	}
	for _, child := range children(monitor) {
		if isNamespaceInit(child) {
			return child, true
		}
	}
	return 0, false
}

func children(pid int) []int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range strings.Fields(string(text)) {
		if n, err := strconv.Atoi(f); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

// isNamespaceInit looks for a living process that is number 1 in a namespace below ours.
func isNamespaceInit(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	inner, alive := false, true
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case len(f) > 2 && f[0] == "NSpid:":
			inner = f[len(f)-1] == "1"
		case len(f) > 1 && f[0] == "State:":
			alive = f[1] != "Z" && f[1] != "X"
		}
	}
	return inner && alive
}

// killGuest makes sure that no process, link or control group of a guest is left: LXC's
// own stop first, then SIGKILL to what survived it (a monitor that hangs, a guest whose
// monitor was killed).
func (e *Engine) killGuest(vmid int) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if monitor, ok := e.monitorPID(vmid); ok {
		out, err := e.lxc(ctx, "lxc-stop", vmid, "--kill")
		if err != nil {
			e.log.Debug("lxc-stop failed", "vmid", vmid, "error", err, "output", lastLine(out))
		}
		waitExit(monitor, stopTimeout)
	}
	_ = os.Remove(filepath.Join(e.guestDir(vmid), "monitor.pid"))
	return errors.Join(e.removeGroups(vmid), removeGuestLinks(vmid))
}

// removeGroups kills what is left in a guest's control groups and removes them.
func (e *Engine) removeGroups(vmid int) error {
	var failed []error
	for _, h := range e.groups {
		dir := h.Path(filepath.Join(h.Base(), groupDir(vmid)))
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		failed = append(failed, cgroup.Kill(dir, stopTimeout), cgroup.RemoveTree(dir))
	}
	return errors.Join(failed...)
}

// waitExit waits until a process is gone, without polling.
func waitExit(pid int, atMost time.Duration) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // gone already
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(atMost)
	for left := atMost; left > 0; left = time.Until(deadline) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(left.Milliseconds()))
		if n > 0 || (err != nil && !errors.Is(err, unix.EINTR)) {
			return
		}
	}
}

// firstError is the first complaint in an LXC log, without its time and source columns.
func firstError(text string) string {
	for line := range strings.Lines(text) {
		if _, reason, found := strings.Cut(line, " ERROR "); found {
			if _, after, found := strings.Cut(reason, " - "); found {
				reason = after
			}
			return strings.TrimSpace(reason)
		}
	}
	return ""
}
