package embedded

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ensureAndDie is a daemon that starts a node and is killed at once.
const ensureAndDie = "ensure-and-die"

func runEnsureAndDie(dataDir, engineName string) int {
	h, err := Ensure(ctxForever, Options{DataDir: dataDir, Engine: engineName})
	if err != nil {
		os.Stderr.WriteString(err.Error())
		return 1
	}
	_ = json.NewEncoder(os.Stdout).Encode(h.Info())
	self, _ := os.FindProcess(os.Getpid())
	_ = self.Kill()
	select {}
}

// TestNodeOutlivesDaemon: the daemon's death is not the node's, and the next daemon finds
// the same node with the same guests.
func TestNodeOutlivesDaemon(t *testing.T) {
	for _, name := range []string{EngineMem, EngineLXC} {
		t.Run(name, func(t *testing.T) {
			if name == EngineLXC {
				requireLXC(t)
			}
			o := Options{DataDir: t.TempDir(), Engine: name}
			out, err := exec.Command(os.Args[0], ensureAndDie, o.DataDir, name).Output()
			if err == nil {
				t.Fatal("the daemon was not killed")
			}
			var was Info
			if err := json.Unmarshal(out, &was); err != nil {
				t.Fatalf("daemon said %q: %v", out, err)
			}
			n := ensureNode(t, o)
			if n.Info() != was || !n.Attached() {
				t.Errorf("found %+v (attached: %v), started was %+v", n.Info(), n.Attached(), was)
			}
		})
	}
}

func TestMemNode(t *testing.T) {
	n := startNode(t, EngineMem)
	n.boot(debian(101))
	if res := n.must(call{Method: "exec", VMID: 101, Argv: []string{"cat", "/etc/hostname"}}); res.Exit != 0 || strings.TrimSpace(res.Stdout) != "test-101" {
		t.Errorf("hostname: %+v", res)
	}
	if n.Attached() || n.Info().LXCPath != "" || n.Info().Engine != EngineMem || n.Info().PID == 0 {
		t.Errorf("info %+v", n.Info())
	}
	if err := n.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if processAlive(n.Info().PID, processStart(n.Info().PID)) {
		t.Error("the process is left")
	}
	o := n.opts
	o.Engine = EngineLXC
	if _, err := Ensure(t.Context(), o); err == nil {
		t.Error("a data directory with guests in memory was opened with engine lxc")
	}
}

func TestStartFailsWithItsReason(t *testing.T) {
	o := Options{DataDir: t.TempDir(), Engine: EngineMem, Executable: "/bin/false"}
	_, err := Ensure(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "ended at once") {
		t.Errorf("an executable that ends: %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.DataDir, "node", controlName)); err == nil {
		t.Error("the control socket of a node that never started is left")
	}
	o.Executable = "/nonexistent"
	if _, err := Ensure(t.Context(), o); err == nil {
		t.Error("a missing executable was started")
	}
	if err := os.WriteFile(statePath(o.DataDir), []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Executable = ""
	ensureNode(t, o) // a torn state file is no obstacle
}

func TestDestroy(t *testing.T) {
	n := startNode(t, EngineMem)
	pid, started := n.Info().PID, processStart(n.Info().PID)
	if err := Destroy(t.Context(), n.opts.DataDir); err != nil {
		t.Fatal(err)
	}
	if processAlive(pid, started) {
		t.Error("the node still runs")
	}
	if _, err := os.Stat(filepath.Join(n.opts.DataDir, "node")); !os.IsNotExist(err) {
		t.Errorf("files are left: %v", err)
	}
	for _, dir := range []string{n.opts.DataDir, filepath.Join(t.TempDir(), "never-was")} {
		if err := Destroy(t.Context(), dir); err != nil {
			t.Errorf("destroy without a node: %v", err)
		}
	}
}

func TestListenLoopback(t *testing.T) {
	log := discard
	first, err := listenLoopback("127.0.0.1:0", 0, log)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := listenLoopback(first.Addr().String(), 0, log)
	if err != nil {
		t.Fatalf("a port that is in use: %v", err)
	}
	defer second.Close()
	if portOf(second) == portOf(first) || portOf(second) == 0 {
		t.Errorf("port %d beside %d", portOf(second), portOf(first))
	}
	port := portOf(second)
	_ = second.Close()
	again, err := listenLoopback("", port, log)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if portOf(again) != port {
		t.Errorf("port %d, want the last one, %d", portOf(again), port)
	}
	for _, bad := range []string{"0.0.0.0:0", "192.0.2.1:80", "localhost", ":"} {
		if l, err := listenLoopback(bad, 0, log); err == nil && !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
			t.Errorf("listens on %s", l.Addr())
		}
	}
}

func TestChooseEngine(t *testing.T) {
	empty := t.TempDir() // a cache without anything: lxc is never possible with it
	for _, c := range []struct {
		engine, last string
		want         string
		fails        bool
	}{
		{engine: EngineAuto, want: EngineMem},
		{engine: EngineMem, want: EngineMem},
		{engine: EngineLXC, fails: true},
		{engine: EngineAuto, last: EngineLXC, fails: true},
		{engine: EngineMem, last: EngineLXC, fails: true},
		{engine: EngineAuto, last: EngineMem, want: EngineMem},
	} {
		got, reason, err := chooseEngine(Options{Engine: c.engine, CacheDir: empty}, state{Engine: c.last})
		if got != c.want || (err != nil) != c.fails || (got == EngineMem && reason == "") {
			t.Errorf("%+v: engine %q, reason %q, error %v", c, got, reason, err)
		}
	}
}
