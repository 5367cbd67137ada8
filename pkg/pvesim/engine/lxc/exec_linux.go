package lxc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// guestPath is the PATH of root in Debian and Alpine alike.
const guestPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// execLinger is how long a command that ended may keep its output open through a
// process that it left behind.
const execLinger = 2 * time.Second

// Exec implements engine.Engine through lxc-attach, which is also what `pct exec` runs.
func (e *Engine) Exec(ctx context.Context, vmid int, c engine.Command) (int, error) {
	if len(c.Argv) == 0 {
		return 0, errors.New("empty command")
	}
	if err := e.exists(vmid); err != nil {
		return 0, err
	}
	if _, running := e.initPID(vmid); !running {
		return 0, fmt.Errorf("guest %d: %w", vmid, engine.ErrNotRunning)
	}
	argv := []string{"--lxcpath", e.cfg.Dir, "--name", strconv.Itoa(vmid), "--clear-env",
		"--set-var", "PATH=" + guestPath, "--set-var", "HOME=/root"}
	for _, kv := range c.Env {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" || strings.ContainsRune(kv, 0) {
			return 0, fmt.Errorf("environment %q is not NAME=VALUE", name)
		}
		argv = append(argv, "--set-var", kv)
	}
	cmd := exec.Command("lxc-attach", append(append(argv, "--"), c.Argv...)...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	cmd.WaitDelay = execLinger
	// A session of its own: no terminal is looked for, and what is left can be told apart.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return runAttached(ctx, cmd, c.Stdin)
}

// runAttached runs lxc-attach. The command in the guest is its child in another
// process-id namespace and would survive it; when ctx ends, both are killed.
func runAttached(ctx context.Context, cmd *exec.Cmd, stdin io.Reader) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	input, err := feed(cmd, stdin)
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("run lxc-attach: %w", err)
	}
	input()
	ended := context.AfterFunc(ctx, func() { killAttached(cmd.Process.Pid) })
	err = cmd.Wait()
	if !ended() {
		return 0, fmt.Errorf("command was killed: %w", context.Cause(ctx))
	}
	return exitOf(err)
}

// exitOf is the exit code of lxc-attach by what its Wait returned: the command's own, or 128
// and the signal that ended it.
func exitOf(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return 0, nil
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	default:
		return 0, fmt.Errorf("run lxc-attach: %w", err)
	}
}

// feed connects stdin by a pipe of our own. os/exec would wait for the reader to end
// even if the command does not read; a reader that never ends must not hold the result.
func feed(cmd *exec.Cmd, stdin io.Reader) (start func(), err error) {
	if stdin == nil {
		return func() {}, nil // /dev/null
	}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("run lxc-attach: %w", err)
	}
	return func() {
		go func() {
			_, _ = io.Copy(pipe, stdin) // the command may close its end at any time
			_ = pipe.Close()
		}()
	}, nil
}

// killAttached kills lxc-attach and what it runs. The command leads a session, so its
// group takes along what it started, unless that made sessions of its own.
func killAttached(attach int) {
	var all []int
	for queue := []int{attach}; len(queue) > 0; queue = queue[1:] {
		all = append(all, queue[0])
		queue = append(queue, children(queue[0])...)
	}
	for _, pid := range all {
		if group, err := unix.Getpgid(pid); err == nil && group == pid {
			_ = unix.Kill(-pid, unix.SIGKILL)
		}
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}
