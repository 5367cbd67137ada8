//go:build linux

package embedded

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine/lxc/cgroup"
)

// traces is what a node could leave outside of its namespaces.
type traces struct {
	processes []string // command lines that name the data directory
	mounts    []string
	groups    []string
	links     []string // all links of the test's own namespace
}

func lookForTraces(t *testing.T, dataDir string) traces {
	t.Helper()
	var found traces
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		text, _ := os.ReadFile(p)
		if line := strings.ReplaceAll(string(text), "\x00", " "); strings.Contains(line, dataDir) && p != fmt.Sprintf("/proc/%d/cmdline", os.Getpid()) {
			found.processes = append(found.processes, line)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dataDir) {
			found.mounts = append(found.mounts, line)
		}
	}
	all, err := cgroup.Hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		dir := filepath.Join(h.Mount, groupName(dataDir))
		if _, err := os.Stat(dir); err == nil {
			found.groups = append(found.groups, dir)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		found.links = append(found.links, l.Attrs().Name)
	}
	return found
}

// members are the processes below the node's control groups, with their start times:
// everything that the node runs.
func members(t *testing.T, dataDir string) map[int]uint64 {
	t.Helper()
	all, err := cgroup.Hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	h, ok := cgroup.For(all, "pids")
	if !ok {
		t.Skip("no pids controller to find the node's processes by")
	}
	found := map[int]uint64{}
	for _, pid := range cgroup.Procs(filepath.Join(h.Mount, groupName(dataDir))) {
		found[pid] = processStart(pid)
	}
	return found
}

// TestShutdownLeavesNothing: guests halt, then nothing of the node is left but its files;
// the next start finds the disks and uses the same ports.
func TestShutdownLeavesNothing(t *testing.T) {
	before := lookForTraces(t, "/nowhere").links
	n := startNode(t, EngineLXC)
	g := debian(101)
	n.boot(g)
	n.shell(101, "echo kept > /root/file")
	running := members(t, n.opts.DataDir)
	if len(running) < 5 {
		t.Errorf("only %d processes in the node's control groups: it does not stay in them", len(running))
	}
	info := n.Info()
	if err := n.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for pid, started := range running {
		if processAlive(pid, started) {
			t.Errorf("process %d survived", pid)
		}
	}
	left := lookForTraces(t, n.opts.DataDir)
	if len(left.processes)+len(left.mounts)+len(left.groups) > 0 || !slices.Equal(left.links, before) {
		t.Errorf("left behind: %+v, links before: %v", left, before)
	}
	if _, err := os.Stat(filepath.Join(n.opts.DataDir, "node", controlName)); err == nil {
		t.Error("the control socket is left")
	}
	if err := n.Shutdown(t.Context()); err != nil {
		t.Errorf("second shutdown: %v", err)
	}

	again := ensureNode(t, n.opts)
	if now := again.Info(); now.APIURL != info.APIURL || now.SSHAddr != info.SSHAddr || now.Forward != info.Forward || now.ForwardTLS != info.ForwardTLS {
		t.Errorf("addresses changed: %+v, were %+v", now, info)
	}
	again.must(call{Method: "start", Guest: g})
	if got := again.shell(101, "cat /root/file"); got != "kept\n" {
		t.Errorf("disk after a restart of the node: %q", got)
	}
}

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

// TestForwardReachesOnlyTheNode sends the forwarder to the modelled internet, and then to
// addresses that exist only outside: those must not be reached, however reachable they
// are for the test itself.
func TestForwardReachesOnlyTheNode(t *testing.T) {
	n := startNode(t, EngineLXC)
	fetch := func() (int, string) {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get("http://" + n.Info().Forward + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if code, body := fetch(); code != http.StatusServiceUnavailable || !strings.Contains(body, "no appliance is ready yet") {
		t.Errorf("without a target: %d %q", code, body)
	}
	if err := n.SetForward(t.Context(), internetIP+":8080", ""); err != nil {
		t.Fatal(err)
	}
	if code, body := fetch(); code != http.StatusOK || body != "internet reached from 192.168.50.2\n" {
		t.Errorf("to the modelled internet: %d %q", code, body)
	}

	outside, err := net.Listen("tcp", ":0") // on every address of the host
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	reached := make(chan string, 16)
	go func() {
		for {
			c, err := outside.Accept()
			if err != nil {
				return
			}
			reached <- c.RemoteAddr().String()
			_ = c.Close()
		}
	}()
	port := outside.Addr().(*net.TCPAddr).Port
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		ip := a.(*net.IPNet).IP
		if ip.To4() == nil {
			continue
		}
		target := net.JoinHostPort(ip.String(), fmt.Sprint(port))
		if err := n.SetForward(t.Context(), target, target); err != nil {
			t.Fatal(err)
		}
		if code, _ := fetch(); code != http.StatusServiceUnavailable {
			t.Errorf("to %s: %d, want 503", target, code)
		}
		if res := n.try(call{Method: "dial", Address: target}); res.Error == "" {
			t.Errorf("the engine reached %s", target)
		}
	}
	select {
	case from := <-reached:
		t.Fatalf("a connection left the node: %s", from)
	default:
	}
	if err := n.SetForward(t.Context(), "example.org:80", ""); err == nil {
		t.Error("a name was accepted as a target")
	}
}

// TestNodeHasNoWayOut looks at the node from inside.
func TestNodeHasNoWayOut(t *testing.T) {
	n := startNode(t, EngineLXC)
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for pid := range members(t, n.opts.DataDir) {
		ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil || ns == own {
			t.Errorf("process %d is in network namespace %s (%v), the host's is %s", pid, ns, err, own)
		}
	}
	routes, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", n.Info().PID))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(routes)) {
		name, _, found := strings.Cut(strings.TrimSpace(line), ":")
		if found && !slices.Contains([]string{"lo", uplinkBridge, uplinkPort}, name) {
			t.Errorf("the node has a link %s", name)
		}
	}
	// Without a namespace of its own the server must not even start.
	_, err = newServer(childArgs{Engine: EngineLXC, HostNetNS: own, DataDir: t.TempDir()}, newRemoteEngine, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "refusing") {
		t.Errorf("a server in the host's network namespace: %v", err)
	}
}

// TestTwoNodes run at once with guests of the same VMID, one in a directory whose name is
// too long for a socket's address.
func TestTwoNodes(t *testing.T) {
	a := startNode(t, EngineLXC)
	long := filepath.Join(t.TempDir(), strings.Repeat("long-directory-name/", 8), "data")
	b := ensureNode(t, Options{DataDir: long, Engine: EngineLXC})
	a.boot(debian(101))
	b.boot(debian(101))
	a.shell(101, "echo a > /root/who")
	b.shell(101, "test ! -e /root/who")
	if err := a.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.shell(101, "true")
}

// TestEnsureTwiceAtOnce: whoever comes second finds the first one's node.
func TestEnsureTwiceAtOnce(t *testing.T) {
	requireLXC(t)
	o := Options{DataDir: t.TempDir(), Engine: EngineLXC}
	t.Cleanup(func() {
		if err := Destroy(context.Background(), o.DataDir); err != nil {
			t.Error(err)
		}
	})
	var instances [3]string
	var all sync.WaitGroup
	for i := range instances {
		all.Go(func() {
			h, err := Ensure(t.Context(), o)
			if err != nil {
				t.Error(err)
				return
			}
			instances[i] = h.Info().Instance
		})
	}
	all.Wait()
	if instances[0] == "" || instances[0] != instances[1] || instances[1] != instances[2] {
		t.Errorf("instances %v, want one", instances)
	}
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
