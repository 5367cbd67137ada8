package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Hierarchies lists what is mounted in the calling process's mount namespace.
func Hierarchies() ([]Hierarchy, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("read own control groups: %w", err)
	}
	dirs := membership(string(own))
	found := parseMounts(string(mounts))
	for i := range found {
		h := &found[i]
		if h.Version == 2 {
			text, _ := os.ReadFile(filepath.Join(h.Mount, "cgroup.controllers"))
			h.Controllers = strings.Fields(string(text))
		}
		h.Self, _ = dirIn(*h, dirs)
	}
	return found, nil
}

// For picks the hierarchy that carries a controller; ok is false when there is none.
func For(all []Hierarchy, controller string) (h Hierarchy, ok bool) {
	for _, h := range all {
		if h.Has(controller) {
			return h, true
		}
	}
	return Hierarchy{}, false
}

// Of returns the directory of a process in a hierarchy.
func Of(h Hierarchy, pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", fmt.Errorf("read control groups of process %d: %w", pid, err)
	}
	dir, ok := dirIn(h, membership(string(text)))
	if !ok {
		return "", fmt.Errorf("process %d is in no group of %v", pid, h.Controllers)
	}
	return dir, nil
}

// Enter makes the group /<name>/init.scope in every hierarchy and moves the calling
// process there, so that everything it starts lives below /<name>. Hierarchies that
// refuse are named in the error; the others are entered all the same.
func Enter(all []Hierarchy, name string) error {
	var failed []error
	for _, h := range all {
		if h.Version == 2 && len(h.Controllers) > 0 {
			delegate(h.Path(h.Root), h.Controllers)
		}
		top := filepath.Join(h.Mount, name)
		leaf := filepath.Join(top, initScope)
		if err := os.MkdirAll(leaf, 0o755); err != nil {
			failed = append(failed, err)
			continue
		}
		if h.Has("cpuset") && h.Version == 1 {
			inheritCPUs(h.Mount, top)
			inheritCPUs(top, leaf)
		}
		if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			failed = append(failed, err)
			continue
		}
		if h.Version == 2 {
			delegate(top, h.Controllers)
		}
	}
	return errors.Join(failed...)
}

// inheritCPUs gives a new version 1 cpuset, which is made empty, what its parent has.
// Best effort: a cpuset without CPUs refuses processes, which Enter reports.
func inheritCPUs(parent, child string) {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		if text, err := os.ReadFile(filepath.Join(parent, name)); err == nil {
			_ = os.WriteFile(filepath.Join(child, name), text, 0)
		}
	}
}

// delegate lets the children of a version 2 group use its controllers. Best effort: the
// limits that need a missing controller are reported when they are set.
func delegate(dir string, controllers []string) {
	for _, c := range controllers {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0)
	}
}

// Procs lists the processes in a group and in all groups below it.
func Procs(dir string) []int {
	var pids []int
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir // vanished meanwhile
		}
		if !d.IsDir() {
			return nil
		}
		text, _ := os.ReadFile(filepath.Join(p, "cgroup.procs"))
		for _, f := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// killPause is how long Kill waits between looks; killing is asynchronous.
const killPause = 10 * time.Millisecond

// Kill sends SIGKILL to everything in a group until it is empty or the time is over.
func Kill(dir string, within time.Duration) error {
	for deadline := time.Now().Add(within); ; time.Sleep(killPause) {
		pids := Procs(dir)
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes in %s survive SIGKILL", len(pids), dir)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// RemoveTree removes a group and all groups below it. A group that is not there is no
// error; one that still has processes is.
func RemoveTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir
		}
		if d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	if err != nil {
		return err
	}
	sort.Sort(sort.Reverse(sort.StringSlice(dirs))) // children before parents
	for _, d := range dirs {
		if err := rmdir(d); err != nil {
			return fmt.Errorf("remove control group: %w", err)
		}
	}
	return nil
}

// removePatience bounds how long a group is tried to be removed: it stays busy until its last
// zombie is reaped, which takes seconds on a loaded machine.
const removePatience = 10 * time.Second

func rmdir(dir string) error {
	for deadline := time.Now().Add(removePatience); ; time.Sleep(killPause) {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}
