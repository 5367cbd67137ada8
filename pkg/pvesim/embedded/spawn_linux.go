package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine/lxc/cgroup"
)

// nodeNamespaces are what a node with real guests has of its own.
const nodeNamespaces = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID

// spawn starts the first process of a node in a session of its own, so that no terminal
// signal and no end of the daemon reaches it.
func spawn(o Options, args childArgs, log *os.File, files []*os.File) (pid int, err error) {
	cmd := exec.Command(o.Executable, args.argv()...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if o.Engine == EngineLXC {
		cmd.SysProcAttr.Cloneflags = nodeNamespaces
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid = cmd.Process.Pid
	return pid, cmd.Process.Release() // it outlives us; processAlive reaps it if it does not
}

// removeGroups removes the control groups of a node that is gone, in every hierarchy.
// Where the machine does not let us see or change them, there are none of ours.
func removeGroups(dataDir string) error {
	all, err := cgroup.Hierarchies()
	if err != nil {
		return nil
	}
	var failed []error
	for _, h := range all {
		dir := filepath.Join(h.Mount, groupName(dataDir))
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := cgroup.RemoveTree(dir); err != nil {
			failed = append(failed, fmt.Errorf("clean up after node: %w", err))
		}
	}
	return errors.Join(failed...)
}

func closeOnExec(fd int) { syscall.CloseOnExec(fd) }
