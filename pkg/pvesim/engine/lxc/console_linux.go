package lxc

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"sync"

	"github.com/creack/pty"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// Console implements engine.Engine by lxc-attach on a terminal, as a console with
// cmode=shell is.
func (e *Engine) Console(ctx context.Context, vmid int, t engine.Terminal) (int, error) {
	if err := e.exists(vmid); err != nil {
		return 0, err
	}
	if _, running := e.initPID(vmid); !running {
		return 0, fmt.Errorf("guest %d: %w", vmid, engine.ErrNotRunning)
	}
	cmd := exec.Command("lxc-attach", "--lxcpath", e.cfg.Dir, "--name", strconv.Itoa(vmid), "--clear-env",
		"--set-var", "PATH="+guestPath, "--set-var", "HOME=/root", "--set-var", "TERM=xterm-256color")
	cmd.Dir = "/"
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		return 0, fmt.Errorf("console of guest %d: %w", vmid, err)
	}
	defer master.Close()
	stop := context.AfterFunc(ctx, func() { killAttached(cmd.Process.Pid) })
	defer stop()
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(master, t.In)
		select {
		case <-done: // the process id may be another's by now
		default:
			killAttached(cmd.Process.Pid) // nobody types any more
		}
	}()
	var resizing sync.WaitGroup
	defer func() { // before the terminal is closed
		close(done)
		resizing.Wait()
	}()
	resizing.Go(func() {
		for {
			select {
			case <-done:
				return
			case s, ok := <-t.Resize:
				if !ok {
					return
				}
				_ = pty.Setsize(master, &pty.Winsize{Rows: uint16(s.Rows), Cols: uint16(s.Columns)})
			}
		}
	})
	_, _ = io.Copy(t.Out, master) // ends with EIO when the shell is gone
	err = cmd.Wait()
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	code, err := exitOf(err)
	if err != nil {
		return 0, fmt.Errorf("console of guest %d: %w", vmid, err)
	}
	return code, nil
}
