//go:build linux

package embedded

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine/lxc/cgroup"
)

// TestPowerFailure kills the one process that everything hangs on.
func TestPowerFailure(t *testing.T) {
	n := startNode(t, EngineLXC)
	g := debian(101)
	n.boot(g)
	n.shell(101, "echo kept > /root/file; sync")
	running := members(t, n.opts.DataDir)
	if err := syscall.Kill(n.Info().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "end of all processes", func() bool { return len(members(t, n.opts.DataDir)) == 0 })
	for pid, started := range running {
		if processAlive(pid, started) {
			t.Errorf("process %d survived", pid)
		}
	}
	if left := lookForTraces(t, n.opts.DataDir); len(left.processes)+len(left.mounts) > 0 {
		t.Errorf("left behind: %+v", left)
	}
	again := ensureNode(t, n.opts)
	if again.Info().Instance == n.Info().Instance {
		t.Fatal("the dead node answered")
	}
	if again.must(call{Method: "status", VMID: 101}).Status.Running {
		t.Error("a guest of the dead node counts as running")
	}
	again.must(call{Method: "start", Guest: g})
	if got := again.shell(101, "cat /root/file"); got != "kept\n" {
		t.Errorf("disk after the power failure: %q", got)
	}
}

// TestMonitorKilled: a guest without its LXC monitor counts as stopped, and nothing of it
// runs beside its successor.
func TestMonitorKilled(t *testing.T) {
	n := startNode(t, EngineLXC)
	g := debian(101)
	n.boot(g)
	groups, err := cgroup.Hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	h, _ := cgroup.For(groups, "pids")
	dir := filepath.Join(h.Mount, groupName(n.opts.DataDir), "guest-101")
	old := cgroup.Procs(filepath.Join(dir, "payload"))
	for _, pid := range cgroup.Procs(filepath.Join(dir, "monitor")) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "stopped", func() bool { return !n.must(call{Method: "status", VMID: 101}).Status.Running })
	n.must(call{Method: "start", Guest: g})
	now := cgroup.Procs(filepath.Join(dir, "payload"))
	for _, pid := range old {
		if slices.Contains(now, pid) {
			t.Fatalf("process %d of the old guest runs beside the new one", pid)
		}
	}
	n.shell(101, "true")
}

// TestManyGuestsAtOnce starts and stops guests in parallel, and looks whether init
// collects the monitors that they leave to it.
func TestManyGuestsAtOnce(t *testing.T) {
	n := startNode(t, EngineLXC)
	var all sync.WaitGroup
	for vmid := 101; vmid <= 106; vmid++ {
		all.Go(func() {
			g := debian(vmid)
			for _, c := range []call{
				{Method: "create", Guest: g}, {Method: "start", Guest: g}, {Method: "exec", VMID: vmid, Argv: []string{"true"}},
				{Method: "stop", VMID: vmid}, {Method: "start", Guest: g}, {Method: "stop", VMID: vmid}, {Method: "destroy", VMID: vmid},
			} {
				if res := n.try(c); res.Error != "" || res.Exit != 0 {
					t.Errorf("guest %d: %s: exit %d, %s", vmid, c.Method, res.Exit, res.Error)
				}
			}
		})
	}
	all.Wait()
	eventually(t, "no zombie below init", func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", n.Info().PID))
		if err != nil {
			t.Fatal(err)
		}
		for _, child := range strings.Fields(string(text)) {
			if stat, _ := os.ReadFile("/proc/" + child + "/stat"); strings.Contains(string(stat), ") Z ") {
				return false
			}
		}
		return true
	})
	if left, _ := os.ReadDir(filepath.Join(n.opts.DataDir, "node", "guests")); len(left) != 0 {
		t.Errorf("%d guest directories are left", len(left))
	}
}

// TestHungNode: a node that does not answer is replaced; its guests are not left running
// beside those of the new one.
func TestHungNode(t *testing.T) {
	n := startNode(t, EngineLXC)
	n.boot(debian(101))
	running := members(t, n.opts.DataDir)
	for pid := range running {
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.Contains(string(comm), "--role=") {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			// A thread that is at work stops when it is told, which is a little later.
			eventually(t, "stopped", func() bool {
				stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				return strings.Contains(string(stat), ") T ")
			})
		}
	}
	defer func(was time.Duration) { attachTimeout = was }(attachTimeout)
	attachTimeout = 200 * time.Millisecond
	again := ensureNode(t, n.opts)
	if again.Info().Instance == n.Info().Instance {
		t.Error("attached to a node that is stopped")
	}
	for pid, started := range running {
		if processAlive(pid, started) {
			t.Errorf("process %d of the hung node survived", pid)
		}
	}
}

// TestUplinkRepairsItself: without its DHCP server and resolver no guest gets far.
func TestUplinkRepairsItself(t *testing.T) {
	n := startNode(t, EngineLXC)
	find := func() int {
		for pid := range members(t, n.opts.DataDir) {
			if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(comm) == "dnsmasq\n" {
				return pid
			}
		}
		return 0
	}
	var first int
	eventually(t, "dnsmasq", func() bool { first = find(); return first != 0 })
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another dnsmasq", func() bool { now := find(); return now != 0 && now != first })
	n.boot(debian(101))
	n.leaseOf(101, "eth0")
}

// TestFromOutside enters the node as its Info says, the way an administrator would.
func TestFromOutside(t *testing.T) {
	n := startNode(t, EngineLXC)
	n.boot(debian(101))
	i := n.Info()
	out, err := exec.Command("nsenter", "--target", fmt.Sprint(i.PID), "--net", "--mount", "--pid", "--",
		"lxc-attach", "--lxcpath", i.LXCPath, "--name", "101", "--clear-env", "--", "hostname").CombinedOutput()
	if err != nil || string(out) != "test-101\n" {
		t.Errorf("lxc-attach from outside: %q (%v)", out, err)
	}
}
