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
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

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
	// While the node was down its ports were anybody's: a port that another test took is
	// replaced. That several were taken is not what happened.
	changed, now := 0, again.Info()
	for _, pair := range [][2]string{{now.APIURL, info.APIURL}, {now.SSHAddr, info.SSHAddr}, {now.Forward, info.Forward}, {now.ForwardTLS, info.ForwardTLS}} {
		if pair[0] != pair[1] {
			changed++
			t.Logf("address %s, was %s", pair[0], pair[1])
		}
	}
	if changed > 1 {
		t.Errorf("addresses changed: %+v, were %+v", now, info)
	}
	again.must(call{Method: "start", Guest: g})
	if got := again.shell(101, "cat /root/file"); got != "kept\n" {
		t.Errorf("disk after a restart of the node: %q", got)
	}
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
