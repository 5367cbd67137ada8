package embedded

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine/lxc/cgroup"
)

// runInit is process 1 of the node: it makes the namespaces habitable, starts the server
// and from then on only reaps. LXC's monitors and every orphan of a guest's tools become
// its children. It ends with the server, and the kernel kills what is left.
func runInit(a childArgs, ready *os.File, log *slog.Logger) int {
	fail := func(err error) int {
		log.Error("node can't start", "error", err)
		report(ready, err)
		return 1
	}
	if os.Getpid() != 1 {
		return fail(fmt.Errorf("init runs as process %d instead of 1: it needs a process-id namespace of its own", os.Getpid()))
	}
	executable, err := os.Executable()
	if err != nil {
		return fail(fmt.Errorf("find own executable: %w", err))
	}
	groups, err := cgroup.Hierarchies()
	if err != nil {
		return fail(err)
	}
	if err := cgroup.Enter(groups, groupName(a.DataDir)); err != nil {
		log.Warn("some limits of guests will have no effect", "error", err)
	}
	if err := furnish(a); err != nil {
		return fail(err)
	}
	a.Role = roleServer
	files := make([]*os.File, fdEnd)
	for fd := range files {
		files[fd] = os.NewFile(uintptr(fd), "inherited")
	}
	server, err := os.StartProcess(executable, append([]string{executable}, a.argv()...), &os.ProcAttr{Dir: "/", Files: files})
	if err != nil {
		return fail(fmt.Errorf("start server: %w", err))
	}
	closeAll(files[3:]) // the server's alone from here on: they must close with it
	forwardSignals(server.Pid)
	return reapUntil(server.Pid)
}

// forwardSignals passes on what is sent to the node's only visible process.
func forwardSignals(pid int) {
	c := make(chan os.Signal, 8)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT)
	go func() {
		for s := range c {
			_ = unix.Kill(pid, s.(unix.Signal))
		}
	}()
}

// reapUntil collects every process that ends until that one does; it returns its code.
func reapUntil(pid int) int {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 1 // no children: the server is gone without a trace
		case got != pid:
		case status.Signaled():
			return 128 + int(status.Signal())
		default:
			return status.ExitStatus()
		}
	}
}

// Places in the node's own /run.
const (
	runDir     = "/run/proximity"
	guestsDir  = runDir + "/guests" // LXC's path; open to the ids of guests, unlike a data directory
	resolvConf = runDir + "/resolv.conf"
)

// furnish makes the mounts of the node. The order matters: the control groups have to be
// carried over a sysfs that shows the node's own network, because LXC looks for bridges
// in /sys/class/net.
func furnish(a childArgs) error {
	guests := filepath.Join(nodeDir(a.DataDir), "guests")
	if err := os.MkdirAll(guests, 0o755); err != nil {
		return fmt.Errorf("make guest directory: %w", err)
	}
	steps := []struct {
		what string
		do   func() error
	}{
		{"detach mounts from the host's", func() error { return mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"mount /proc", func() error { return mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, "") }},
		{"mount /run", func() error { return mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755") }},
		{"make directories in /run", makeRun},
		{"mount /sys", mountSys},
		{"mount guests", func() error { return mount(guests, guestsDir, "", unix.MS_BIND, "") }},
		{"map ids", mapIDs},
		{"set resolver", setResolver},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

func mount(source, target, kind string, flags uintptr, data string) error {
	return unix.Mount(source, target, kind, flags, data)
}

func makeRun() error {
	for _, dir := range []string{"/run/netns", "/run/lxc", "/run/lock", runDir, guestsDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// mountSys mounts a sysfs of this network namespace and puts the control groups back.
func mountSys() error {
	const groups, aside = "/sys/fs/cgroup", "/run/cgroup"
	if err := os.Mkdir(aside, 0o755); err != nil {
		return err
	}
	if err := mount(groups, aside, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keep control groups: %w", err)
	}
	if err := mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil {
		return err
	}
	if err := mount(aside, groups, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("put control groups back: %w", err)
	}
	if err := unix.Unmount(aside, unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Remove(aside)
}

// mapIDs allows root the ids of unprivileged guests, as a Proxmox VE installation does,
// without touching the machine's own files. Where those don't exist, nothing reads them.
func mapIDs() error {
	for _, target := range []string{"/etc/subuid", "/etc/subgid"} {
		if err := cover(target, "root:100000:65536\n"); err != nil {
			return err
		}
	}
	return nil
}

// setResolver points the node to the modelled uplink. Programs of the node read the
// mounted file; guests get a copy of it.
func setResolver() error {
	if err := os.WriteFile(resolvConf, []byte("nameserver "+routerIP+"\n"), 0o644); err != nil {
		return err
	}
	return cover("/etc/resolv.conf", "nameserver "+routerIP+"\n")
}

// cover mounts a small file over an existing one.
func cover(target, text string) error {
	if _, err := os.Stat(target); err != nil {
		return nil // there is none, or it is a link into what /run hides now
	}
	source := filepath.Join(runDir, "cover-"+filepath.Base(target))
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		return err
	}
	return mount(source, target, "", unix.MS_BIND, "")
}
