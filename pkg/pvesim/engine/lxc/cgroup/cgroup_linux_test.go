package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestKillAndRemove makes a group with a child group and a process in it.
func TestKillAndRemove(t *testing.T) {
	all, err := Hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	h, ok := For(all, "pids")
	if !ok || os.Geteuid() != 0 {
		t.Skip("no pids controller, or not root")
	}
	dir := filepath.Join(h.Mount, "cgroup-test-"+strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(filepath.Join(dir, "child"), 0o755); err != nil {
		t.Skipf("groups can't be made here: %v", err)
	}
	t.Cleanup(func() {
		if err := RemoveTree(dir); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	pid := []byte(strconv.Itoa(cmd.Process.Pid))
	if err := os.WriteFile(filepath.Join(dir, "child", "cgroup.procs"), pid, 0); err != nil {
		_ = cmd.Process.Kill()
		t.Fatal(err)
	}
	if got := Procs(dir); len(got) != 1 || got[0] != cmd.Process.Pid {
		t.Errorf("processes %v, want %d", got, cmd.Process.Pid)
	}
	if got, err := Of(h, cmd.Process.Pid); err != nil || h.Path(got) != filepath.Join(dir, "child") {
		t.Errorf("group of the process: %q (%v)", got, err)
	}
	if err := Kill(dir, 10*time.Second); err != nil {
		t.Error(err)
	}
	<-ended
	if err := RemoveTree(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the group is left: %v", err)
	}
	if err := RemoveTree(dir); err != nil {
		t.Errorf("removing it again: %v", err)
	}
}
