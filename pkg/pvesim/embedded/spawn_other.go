//go:build unix && !linux

package embedded

import (
	"os"
	"os/exec"
	"syscall"
)

// spawn starts a node with guests in memory, in a session of its own.
func spawn(o Options, args childArgs, log *os.File, files []*os.File) (pid int, err error) {
	cmd := exec.Command(o.Executable, args.argv()...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid = cmd.Process.Pid
	return pid, cmd.Process.Release()
}

func removeGroups(string) error { return nil }

func closeOnExec(fd int) { syscall.CloseOnExec(fd) }
