package console

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// ptyTerminal is a shell on a pseudo-terminal, as a guest's console is.
type ptyTerminal struct {
	master *os.File
	cmd    *exec.Cmd
	exited chan struct{}
	closed chan struct{}
	once   sync.Once
	// hungUp is closed when no program has the terminal open any more.
	hungUp     chan struct{}
	hungUpOnce sync.Once
	// spoil, when set, changes what is sent.
	mu    sync.Mutex
	spoil func([]byte) []byte
	sent  int
	most  int
}

// startShell starts argv with a terminal of its own.
func startShell(t *testing.T, argv ...string) *ptyTerminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	// Fd made it blocking; reads shall end when it is closed.
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm-256color", "HOME=" + t.TempDir(), "SECRET=of the daemon"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	p := &ptyTerminal{master: os.NewFile(uintptr(mustDup(t, fd)), "ptmx"), cmd: cmd, exited: make(chan struct{}), closed: make(chan struct{}), hungUp: make(chan struct{})}
	_ = master.Close()
	go func() { _ = cmd.Wait(); close(p.exited) }()
	t.Cleanup(func() {
		p.Close()
		_ = cmd.Process.Kill()
		<-p.exited
	})
	return p
}

func mustDup(t *testing.T, fd int) int {
	t.Helper()
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return dup
}

func (p *ptyTerminal) Send(_ context.Context, data []byte) error {
	p.mu.Lock()
	p.sent += len(data)
	p.most = max(p.most, len(data))
	if p.spoil != nil {
		data = p.spoil(data)
	}
	p.mu.Unlock()
	_, err := p.master.Write(data)
	return err
}

func (p *ptyTerminal) Receive(ctx context.Context) ([]byte, error) {
	defer context.AfterFunc(ctx, p.Close)()
	buffer := make([]byte, 4096)
	n, err := p.master.Read(buffer)
	if err != nil {
		p.hungUpOnce.Do(func() { close(p.hungUp) })
	}
	return buffer[:n], err
}

func (p *ptyTerminal) KeepAlive(context.Context) error { return nil }

func (p *ptyTerminal) Close() { p.once.Do(func() { _ = p.master.Close(); close(p.closed) }) }

// kill ends the shell and what runs in the foreground of its terminal, and waits until
// nothing answers any more.
func (p *ptyTerminal) kill() {
	if conn, err := p.master.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) {
			if group, err := unix.IoctlGetInt(int(fd), unix.TIOCGPGRP); err == nil && group > 1 {
				_ = syscall.Kill(-group, syscall.SIGKILL)
			}
		})
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
	<-p.hungUp
}

// setSpoil changes what is sent from now on.
func (p *ptyTerminal) setSpoil(f func([]byte) []byte) {
	p.mu.Lock()
	p.spoil = f
	p.mu.Unlock()
}
