// Package local runs programs on the machine that the daemon itself runs on, when that is
// a Proxmox VE node and the daemon is root.
//
// It promises what [guest.NodeExec] promises. A cancelled context kills the program and
// what it started.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"syscall"
	"time"

	"github.com/proximity-pve/proximity/pkg/guest"
)

const (
	// DefaultConcurrency bounds programs at once.
	DefaultConcurrency = 8
	// waitDelay is how long output pipes that a killed program's children still hold are
	// waited for.
	waitDelay = 2 * time.Second
	// signalled is added to a signal's number to make an exit code, as in a shell.
	signalled = 128
	notFound  = 127
)

// environment is all that programs get: pct and lxc-attach hand their own on, unless told
// otherwise, and the daemon's may hold secrets.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root"}

// Exec runs programs on this machine. It implements [guest.NodeExec].
type Exec struct {
	node   string
	places chan struct{}
}

var _ guest.NodeExec = (*Exec)(nil)

// New returns the way to run programs on this machine, which Proxmox VE knows as node.
// concurrency 0 means DefaultConcurrency.
func New(node string, concurrency int) (*Exec, error) {
	if node == "" || concurrency < 0 {
		return nil, fmt.Errorf("local: node %q with concurrency %d", node, concurrency)
	}
	return &Exec{node: node, places: make(chan struct{}, cmp.Or(concurrency, DefaultConcurrency))}, nil
}

// Exec implements [guest.NodeExec].
func (e *Exec) Exec(ctx context.Context, node string, argv []string, stdin io.Reader, maxOutput int) (guest.Result, error) {
	if node != e.node {
		return guest.Result{}, fmt.Errorf("%w: this machine is node %s, not %s", guest.ErrUnreachable, e.node, node)
	}
	if len(argv) == 0 {
		return guest.Result{}, errors.New("local: no program given")
	}
	select {
	case e.places <- struct{}{}:
		defer func() { <-e.places }()
	case <-ctx.Done():
		return guest.Result{}, ctx.Err()
	}
	stdout, stderr := guest.NewCapture(maxOutput), guest.NewCapture(maxOutput)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = environment, "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	cmd.WaitDelay = waitDelay
	// A group of its own, so that what the program started dies with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

	err := cmd.Run()
	res := guest.Result{
		Stdout: stdout.Bytes(), Stderr: stderr.Bytes(),
		Truncated: stdout.Truncated() || stderr.Truncated(),
	}
	var exit *exec.ExitError
	switch {
	// ErrWaitDelay: the program ended well, but a child of it still holds its output.
	case err == nil, errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil:
		return res, nil
	case ctx.Err() != nil:
		return guest.Result{}, ctx.Err()
	case errors.As(err, &exit):
		res.ExitCode = exitCode(exit)
		return res, nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		// The same as over ssh, where the login shell says so.
		return guest.Result{ExitCode: notFound, Stderr: []byte(argv[0] + ": not found\n")}, nil
	}
	return guest.Result{}, fmt.Errorf("run %s on %s: %w", argv[0], node, err)
}

func exitCode(e *exec.ExitError) int {
	if s, ok := e.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return signalled + int(s.Signal())
	}
	return e.ExitCode()
}
