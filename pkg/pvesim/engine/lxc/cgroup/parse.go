package cgroup

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Hierarchy is one mounted tree of control groups.
type Hierarchy struct {
	// Version is 1 or 2.
	Version int
	// Controllers are its controllers; "name=systemd" for a named one. For version 2 they
	// are those of the root's cgroup.controllers.
	Controllers []string
	// Mount is where it is mounted, Root the directory of the tree that is seen there.
	Mount, Root string
	// Self is the calling process's own directory in the tree, e.g. "/user.slice".
	Self string
}

// initScope is the leaf in which an init system keeps itself, so that the directory
// above it has no processes of its own and may have children with controllers. LXC
// removes this suffix when it looks for the place to put its own directories.
const initScope = "init.scope"

// Base is the directory under which children of the calling process's group are made.
func (h Hierarchy) Base() string {
	if path.Base(h.Self) == initScope {
		return path.Dir(h.Self)
	}
	return h.Self
}

// Path is the file system path of a directory of the tree ("/a/b", as /proc/PID/cgroup
// shows it).
func (h Hierarchy) Path(dir string) string {
	if h.Root != "/" && (dir == h.Root || strings.HasPrefix(dir, h.Root+"/")) {
		dir = strings.TrimPrefix(dir, h.Root)
	}
	return filepath.Join(h.Mount, dir)
}

// Has tells whether the hierarchy carries that controller.
func (h Hierarchy) Has(controller string) bool {
	return slices.Contains(h.Controllers, controller)
}

// parseMounts reads the cgroup mounts of /proc/self/mountinfo. Of a tree that is mounted
// more than once, the first mount counts.
func parseMounts(mountinfo string) []Hierarchy {
	var found []Hierarchy
	seen := map[string]bool{}
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(tail) < 3 {
			continue
		}
		h := Hierarchy{Root: unescape(fields[3]), Mount: unescape(fields[4])}
		switch tail[0] {
		case "cgroup2":
			h.Version = 2
		case "cgroup":
			h.Version = 1
			h.Controllers = controllersOf(tail[2])
		default:
			continue
		}
		id := tail[0] + strings.Join(h.Controllers, ",")
		if !seen[id] {
			seen[id] = true
			found = append(found, h)
		}
	}
	return found
}

// controllersOf picks the controllers out of a version 1 mount's super options.
func controllersOf(superOptions string) []string {
	var names []string
	for option := range strings.SplitSeq(superOptions, ",") {
		switch {
		case strings.HasPrefix(option, "name="):
			names = append(names, option)
		case slices.Contains(knownV1, option):
			names = append(names, option)
		}
	}
	return names
}

var knownV1 = []string{
	"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids",
	"net_cls", "net_prio", "perf_event", "hugetlb", "rdma", "misc",
}

// membership reads /proc/PID/cgroup and returns the directory in each hierarchy, keyed
// by the controllers as they are written there ("" for version 2).
func membership(procCgroup string) map[string]string {
	dirs := map[string]string{}
	for line := range strings.Lines(procCgroup) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 {
			dirs[parts[1]] = parts[2]
		}
	}
	return dirs
}

// dirIn picks the directory of one hierarchy from a membership.
func dirIn(h Hierarchy, dirs map[string]string) (string, bool) {
	if h.Version == 2 {
		dir, ok := dirs[""]
		return dir, ok
	}
	for key, dir := range dirs {
		for name := range strings.SplitSeq(key, ",") {
			if name != "" && h.Has(name) {
				return dir, true
			}
		}
	}
	return "", false
}

// unescape undoes the octal escapes of /proc/self/mountinfo for the four characters
// that the kernel escapes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
