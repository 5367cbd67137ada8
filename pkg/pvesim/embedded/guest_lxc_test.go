//go:build linux

package embedded

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// leaseOf waits for a guest's IPv4 address on an interface.
func (n *testNode) leaseOf(vmid int, name string) string {
	n.t.Helper()
	var address string
	eventually(n.t, "address of "+name, func() bool {
		for _, i := range n.must(call{Method: "interfaces", VMID: vmid}).Interfaces {
			for _, a := range i.Addresses {
				if ip, _, err := net.ParseCIDR(a); i.Name == name && err == nil && ip.To4() != nil {
					address = ip.String()
				}
			}
		}
		return address != ""
	})
	return address
}

// get is a script that fetches a page with nothing but bash.
func get(host string) string {
	return fmt.Sprintf("exec 3<>/dev/tcp/%[1]s/80; printf 'GET / HTTP/1.0\\r\\nHost: %[1]s\\r\\n\\r\\n' >&3; cat <&3", host)
}

// TestGuestLife goes through a guest's whole life on the modelled uplink.
func TestGuestLife(t *testing.T) {
	n := startNode(t, EngineLXC)
	g := debian(101)
	g.SSHKeys = "ssh-ed25519 AAAA test"
	n.boot(g)

	ip := n.leaseOf(101, "eth0")
	if !strings.HasPrefix(ip, "192.168.50.1") {
		t.Errorf("leased %s, want an address of the router's range", ip)
	}
	if got := n.shell(101, "hostname; cat /root/.ssh/authorized_keys; stat -c %u:%g /etc/hostname /root/.ssh"); got != "test-101\nssh-ed25519 AAAA test\n0:0\n0:0\n" {
		t.Errorf("set-up of the guest: %q", got)
	}
	if got := n.shell(101, get(wwwHost)); !strings.Contains(got, "internet reached from "+ip) {
		t.Errorf("%s answered %q", wwwHost, got)
	}
	if got := n.shell(101, "getent hosts "+debianHost+"; getent hosts debian.org || echo unknown"); !strings.HasPrefix(got, internetIP) || !strings.HasSuffix(got, "unknown\n") {
		t.Errorf("names of the modelled internet: %q", got)
	}
	if got := n.shell(101, "apt-get update -qq 2>&1 && apt-cache policy nginx"); !strings.Contains(got, "http://"+debianHost+"/debian") {
		t.Errorf("package repository: %q", got)
	}

	st := n.must(call{Method: "status", VMID: 101}).Status
	if !st.Running || st.InitPID <= 1 || st.CPUTime <= 0 || st.MemBytes <= 0 || st.NetIn <= 0 || st.Uptime <= 0 || st.Uptime > 5*time.Minute {
		t.Errorf("status %+v", st)
	}
	id := n.shell(101, "cat /etc/machine-id; echo kept > /root/file")
	n.must(call{Method: "shutdown", VMID: 101, Timeout: 30 * time.Second})
	if n.must(call{Method: "status", VMID: 101}).Status.Running {
		t.Fatal("still running after shutdown")
	}
	n.must(call{Method: "start", Guest: g})
	if got := n.shell(101, "cat /etc/machine-id /root/file"); got != id+"kept\n" {
		t.Errorf("after a restart: %q, want %q", got, id+"kept\n")
	}
	n.must(call{Method: "stop", VMID: 101})
	n.must(call{Method: "destroy", VMID: 101})
	if res := n.try(call{Method: "status", VMID: 101}); !strings.Contains(res.Error, engine.ErrNotExist.Error()) {
		t.Errorf("status of a destroyed guest: %q", res.Error)
	}
}

func TestGuestCannotBeMade(t *testing.T) {
	n := startNode(t, EngineLXC)
	missing := debian(101)
	missing.Template = "no-such.tar.zst"
	if res := n.try(call{Method: "create", Guest: missing}); !strings.Contains(res.Error, engine.ErrTemplateNotExist.Error()) {
		t.Errorf("unknown template: %q", res.Error)
	}
	g := debian(102)
	g.NICs[0].Bridge = "vmbr9"
	n.must(call{Method: "create", Guest: g})
	if res := n.try(call{Method: "start", Guest: g}); !strings.Contains(res.Error, engine.ErrBridgeNotExist.Error()) {
		t.Errorf("unknown bridge: %q", res.Error)
	}
	if res := n.try(call{Method: "exec", VMID: 102, Argv: []string{"true"}}); !strings.Contains(res.Error, engine.ErrNotRunning.Error()) {
		t.Errorf("exec in a stopped guest: %q", res.Error)
	}
	entries, err := os.ReadDir(filepath.Join(n.opts.DataDir, "node", "guests"))
	if err != nil || len(entries) != 1 {
		t.Errorf("guest directories %v (%v), want only 102: a create that fails leaves nothing", entries, err)
	}
}

// TestHostileGuest plants links where the node writes before a start.
func TestHostileGuest(t *testing.T) {
	n := startNode(t, EngineLXC)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	g := debian(101)
	n.boot(g)
	n.shell(101, fmt.Sprintf("rm /etc/hostname /etc/resolv.conf; ln -s %s /etc/hostname; ln -s ../../../../../../..%[1]s /etc/resolv.conf", victim))
	n.must(call{Method: "stop", VMID: 101})
	n.must(call{Method: "start", Guest: g})
	if text, err := os.ReadFile(victim); err != nil || string(text) != "untouched" {
		t.Errorf("a file of the host says %q (%v)", text, err)
	}
	if got := n.shell(101, "cat /etc/hostname /etc/resolv.conf"); got != "test-101\nnameserver 192.168.50.1\n" {
		t.Errorf("files in the guest: %q", got)
	}
	// A directory that leads out is an error and not a way.
	n.shell(101, "rm -rf /etc/network; ln -s "+filepath.Dir(victim)+" /etc/network")
	n.must(call{Method: "stop", VMID: 101})
	if res := n.try(call{Method: "start", Guest: g}); res.Error == "" {
		t.Error("a guest whose /etc/network leads to the host was started")
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(victim), "interfaces")); err == nil {
		t.Error("interfaces was written to the host")
	}
}

func TestExec(t *testing.T) {
	n := startNode(t, EngineLXC)
	n.boot(debian(101))
	for _, c := range []struct {
		argv []string
		in   string
		exit int
		out  string
	}{
		{argv: []string{"echo", "a b", "$HOME", ";"}, out: "a b $HOME ;\n"},
		{argv: []string{"--version-of-nothing"}, exit: 127},
		{argv: []string{"/etc/passwd"}, exit: 126},
		{argv: []string{"bash", "-c", "exit 255"}, exit: 255},
		{argv: []string{"bash", "-c", "kill -9 $$"}, exit: 137},
		{argv: []string{"cat"}, in: "from stdin", out: "from stdin"},
		{argv: []string{"bash", "-c", "sleep 60 & echo left"}, out: "left\n"},
		{argv: []string{"bash", "-c", "echo $PATH $HOME; env | grep -c PROXIMITY"}, exit: 1,
			out: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /root\n0\n"},
	} {
		var in []byte
		if c.in != "" {
			in = []byte(c.in)
		}
		res := n.must(call{Method: "exec", VMID: 101, Argv: c.argv, Stdin: in})
		if res.Exit != c.exit || res.Stdout != c.out {
			t.Errorf("%q: exit %d with %q, want %d with %q", c.argv, res.Exit, res.Stdout, c.exit, c.out)
		}
	}
	// Cancelling kills what runs in the guest, not only the tool outside.
	res := n.try(call{Method: "exec", VMID: 101, Timeout: time.Second, Argv: []string{"bash", "-c", "echo $$ > /run/victim; sleep 600; true"}})
	if !strings.Contains(res.Error, "killed") {
		t.Errorf("cancelled command: %+v", res)
	}
	n.shell(101, "pid=$(cat /run/victim); for i in $(seq 100); do [ -d /proc/$pid ] || exit 0; sleep 0.1; done; exit 1")
}

// TestLimits asks the kernel to enforce what the configuration says.
func TestLimits(t *testing.T) {
	n := startNode(t, EngineLXC)
	g := debian(101)
	g.MemoryMiB, g.CPULimit = 96, 0.5
	n.boot(g)
	hungry := call{Method: "exec", VMID: 101, Argv: []string{"dd", "if=/dev/zero", "of=/dev/null", "bs=128M", "count=1"}}
	if res := n.must(hungry); res.Exit == 0 {
		t.Errorf("128 MiB fit into 96 MiB: %+v", res)
	}
	g.MemoryMiB = 512
	n.must(call{Method: "update", Guest: g})
	if res := n.must(hungry); res.Exit != 0 {
		t.Errorf("128 MiB do not fit into 512 MiB: %+v", res)
	}
	before := n.must(call{Method: "status", VMID: 101}).Status.CPUTime
	n.must(call{Method: "exec", VMID: 101, Argv: []string{"timeout", "1", "bash", "-c", "while :; do :; done & while :; do :; done"}})
	if used := n.must(call{Method: "status", VMID: 101}).Status.CPUTime - before; used > 900*time.Millisecond {
		t.Errorf("used %s of CPU within a second at a limit of 0.5 CPUs", used)
	}
	g.MemoryMiB = 64
	n.must(call{Method: "update", Guest: g})
	if res := n.must(hungry); res.Exit == 0 {
		t.Error("a lowered limit is not in force")
	}
}

// TestCoresOfARunningGuest are lowered and raised although the guest's own service manager
// has made groups below the one that carries the limit.
func TestCoresOfARunningGuest(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("one processor only")
	}
	n := startNode(t, EngineLXC)
	g := debian(101)
	g.Cores = 2
	n.boot(g)
	for _, cores := range []int{1, 2, 1} {
		g.Cores = cores
		n.must(call{Method: "update", Guest: g})
		if res := n.must(call{Method: "exec", VMID: 101, Argv: []string{"nproc"}}); strings.TrimSpace(res.Stdout) != strconv.Itoa(cores) {
			t.Errorf("%d cores: nproc says %+v", cores, res)
		}
	}
}
