package cgroup

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const hybrid = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 31 0:32 / /somewhere/else rw,relatime - cgroup cgroup rw,memory
`

const unified = `30 24 0:26 /docker/abc /sys/fs/cgroup\040x rw,nosuid - cgroup2 cgroup rw,nsdelegate
garbage
`

func TestParseMounts(t *testing.T) {
	want := []Hierarchy{
		{Version: 1, Controllers: []string{"cpu", "cpuacct"}, Mount: "/sys/fs/cgroup/cpu,cpuacct", Root: "/"},
		{Version: 1, Controllers: []string{"memory"}, Mount: "/sys/fs/cgroup/memory", Root: "/"},
		{Version: 1, Controllers: []string{"name=systemd"}, Mount: "/sys/fs/cgroup/systemd", Root: "/"},
		{Version: 2, Mount: "/sys/fs/cgroup/unified", Root: "/"},
	}
	if diff := cmp.Diff(want, parseMounts(hybrid)); diff != "" {
		t.Errorf("hybrid (-want +got):\n%s", diff)
	}
	want = []Hierarchy{{Version: 2, Mount: "/sys/fs/cgroup x", Root: "/docker/abc"}}
	if diff := cmp.Diff(want, parseMounts(unified)); diff != "" {
		t.Errorf("unified (-want +got):\n%s", diff)
	}
}

func TestMembership(t *testing.T) {
	dirs := membership("4:memory:/a/b\n2:cpu,cpuacct:/c:d\n1:name=systemd:/user.slice\n0::/e/init.scope\n")
	all := parseMounts(hybrid)
	for i, want := range []string{"/c:d", "/a/b", "/user.slice", "/e/init.scope"} {
		if got, ok := dirIn(all[i], dirs); !ok || got != want {
			t.Errorf("%v: %q (%t), want %q", all[i].Controllers, got, ok, want)
		}
	}
	if _, ok := dirIn(Hierarchy{Version: 1, Controllers: []string{"pids"}}, dirs); ok {
		t.Error("a controller that is not there was found")
	}
}

func TestPaths(t *testing.T) {
	h := Hierarchy{Mount: "/sys/fs/cgroup", Root: "/docker/abc", Self: "/docker/abc/node/init.scope"}
	if got := h.Base(); got != "/docker/abc/node" {
		t.Errorf("base %q", got)
	}
	if got := h.Path(h.Base()); got != "/sys/fs/cgroup/node" {
		t.Errorf("path of the base %q", got)
	}
	h = Hierarchy{Mount: "/m", Root: "/", Self: "/a"}
	if got := h.Path(h.Base() + "/guest-101"); got != "/m/a/guest-101" {
		t.Errorf("path %q", got)
	}
}
