package lxc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/lxc/cgroup"
)

// Engine implements engine.Engine with LXC containers.
type Engine struct {
	cfg    Config
	log    *slog.Logger
	groups []cgroup.Hierarchy
	dialer net.Dialer

	netMu sync.Mutex // ApplyNetwork is one at a time
	usage diskUsage
}

var _ engine.Engine = (*Engine)(nil)

const (
	// startTimeout bounds lxc-start, which takes 0.05 s when nothing is wrong.
	startTimeout = 60 * time.Second
	// stopTimeout bounds an immediate stop, lxc-stop -k and what follows it.
	stopTimeout = 30 * time.Second
)

// New opens the engine in a directory. Guests that run are left alone.
func New(cfg Config) (*Engine, error) {
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make guest directory: %w", err)
	}
	groups, err := cgroup.Hierarchies()
	if err != nil {
		return nil, err
	}
	return &Engine{cfg: cfg, log: cfg.Log, groups: groups}, nil
}

// Name implements engine.Engine.
func (e *Engine) Name() string { return "lxc" }

// Close implements engine.Engine; nothing is held.
func (e *Engine) Close() error { return nil }

// Dial implements engine.Engine: from the namespace that the engine lives in.
func (e *Engine) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return e.dialer.DialContext(ctx, network, address)
}

func (e *Engine) guestDir(vmid int) string {
	return filepath.Join(e.cfg.Dir, strconv.Itoa(vmid))
}

func (e *Engine) exists(vmid int) error {
	if _, err := os.Stat(filepath.Join(e.guestDir(vmid), "lower")); err != nil {
		return fmt.Errorf("guest %d: %w", vmid, engine.ErrNotExist)
	}
	if e.emptied(vmid) {
		return fmt.Errorf("guest %d was destroyed by hand: %w", vmid, engine.ErrNotExist)
	}
	return nil
}

// emptied tells whether the mounted root has no programs in it: lxc-destroy removes all files
// of a guest and then fails at the mount point. A start in between may have written the few
// files that Proxmox writes, so the root need not be empty.
func (e *Engine) emptied(vmid int) bool {
	var dir, root unix.Stat_t
	if unix.Stat(e.guestDir(vmid), &dir) != nil || unix.Stat(e.rootfs(vmid), &root) != nil || dir.Dev == root.Dev {
		return false
	}
	for _, name := range []string{"usr", "sbin"} {
		if _, err := os.Lstat(filepath.Join(e.rootfs(vmid), name)); !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// Create implements engine.Engine.
func (e *Engine) Create(ctx context.Context, g engine.Guest, log io.Writer) (err error) {
	if err := checkGuest(g); err != nil {
		return err
	}
	if log == nil {
		log = io.Discard
	}
	if e.exists(g.VMID) == nil {
		return fmt.Errorf("guest %d has a root file system already", g.VMID)
	}
	lower, err := e.template(ctx, g, log)
	if err != nil {
		return err
	}
	if err := e.newGuestDir(g.VMID); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.remove(g.VMID))
		}
	}()
	if err := e.makeRoot(ctx, g, lower); err != nil {
		return err
	}
	fmt.Fprintf(log, "root file system of guest %d is made from %s\n", g.VMID, g.Template)
	if err := e.prepareNew(g); err != nil {
		return err
	}
	return e.prepareStart(g)
}

// Destroy implements engine.Engine.
func (e *Engine) Destroy(ctx context.Context, vmid int) error {
	if _, running := e.initPID(vmid); running {
		return fmt.Errorf("guest %d is running", vmid)
	}
	return errors.Join(e.remove(vmid), e.removeGroups(vmid))
}

func (e *Engine) remove(vmid int) error {
	if err := e.unmountRoot(vmid); err != nil {
		return err
	}
	if err := os.RemoveAll(e.guestDir(vmid)); err != nil {
		return fmt.Errorf("remove guest %d: %w", vmid, err)
	}
	return nil
}

// Start implements engine.Engine.
func (e *Engine) Start(ctx context.Context, g engine.Guest) error {
	if err := e.exists(g.VMID); err != nil {
		return err
	}
	if _, running := e.initPID(g.VMID); running {
		return fmt.Errorf("guest %d is running already", g.VMID)
	}
	for _, n := range g.NICs {
		if !linkExists(n.Bridge) {
			return fmt.Errorf("bridge %q: %w", n.Bridge, engine.ErrBridgeNotExist)
		}
	}
	// A monitor that was killed leaves the guest's processes behind; two inits on one
	// root file system would destroy it.
	if err := e.killGuest(g.VMID); err != nil {
		return err
	}
	if err := e.prepareBoot(ctx, g); err != nil {
		return err
	}
	if err := e.runStart(ctx, g.VMID); err != nil {
		return errors.Join(err, e.killGuest(g.VMID))
	}
	for _, n := range g.NICs {
		if n.LinkDown {
			if err := setLinkState(hostVeth(g.VMID, n.Index), false); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepareBoot brings the root file system and the configuration up to date.
func (e *Engine) prepareBoot(ctx context.Context, g engine.Guest) error {
	lower, err := os.ReadFile(filepath.Join(e.guestDir(g.VMID), "lower"))
	if err != nil {
		return fmt.Errorf("find template of guest %d: %w", g.VMID, err)
	}
	if !e.isCopied(g.VMID) && !isComplete(string(lower)+".complete") {
		// The cache was cleaned: the guest's own files stand on the template's.
		if _, err := e.template(ctx, g, io.Discard); err != nil {
			return err
		}
	}
	if err := e.mountRoot(g.VMID); err != nil {
		return err
	}
	if err := e.prepareStart(g); err != nil {
		return err
	}
	if err := e.makeVolumes(g); err != nil {
		return err
	}
	text, err := renderConfig(g, e.machine(g))
	if err != nil {
		return err
	}
	name := filepath.Join(e.guestDir(g.VMID), "config")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write configuration of guest %d: %w", g.VMID, err)
	}
	return nil
}

func (e *Engine) machine(g engine.Guest) machine {
	m := machine{guestDir: e.guestDir(g.VMID), haltSig: e.haltSignal(g), cpus: runtime.NumCPU(), volume: e.volumeData}
	h, ok := cgroup.For(e.groups, "memory")
	m.cgroupV2 = ok && h.Version == 2
	if ok && h.Version == 1 {
		_, err := os.Stat(filepath.Join(h.Path(h.Base()), "memory.memsw.limit_in_bytes"))
		m.swapLimit = err == nil
	}
	return m
}

func (e *Engine) runStart(ctx context.Context, vmid int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	dir := e.guestDir(vmid)
	logFile := filepath.Join(dir, "lxc.log")
	_ = os.Remove(logFile) // one start, one log: it can't grow
	out, err := e.lxc(ctx, "lxc-start", vmid, "--daemon",
		"--rcfile", filepath.Join(dir, "config"), "--pidfile", filepath.Join(dir, "monitor.pid"),
		"--logfile", logFile, "--logpriority", "WARN")
	if err != nil {
		text, _ := os.ReadFile(logFile)
		if reason := firstError(string(text)); reason != "" {
			return fmt.Errorf("start guest %d: %w: %s", vmid, err, reason)
		}
		return fmt.Errorf("start guest %d: %w: %s", vmid, err, lastLine(out))
	}
	if _, running := e.initPID(vmid); !running {
		return fmt.Errorf("start guest %d: its init ended at once", vmid)
	}
	return nil
}

// lxc runs one of LXC's tools on a guest.
func (e *Engine) lxc(ctx context.Context, tool string, vmid int, args ...string) ([]byte, error) {
	argv := append([]string{"--lxcpath", e.cfg.Dir, "--name", strconv.Itoa(vmid)}, args...)
	cmd := exec.CommandContext(ctx, tool, argv...)
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second // a daemon that keeps our pipe open must not hold us
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return out, err
}

// Stop implements engine.Engine.
func (e *Engine) Stop(ctx context.Context, vmid int) error {
	if err := e.exists(vmid); err != nil {
		return err
	}
	return e.killGuest(vmid)
}

// Shutdown implements engine.Engine.
func (e *Engine) Shutdown(ctx context.Context, vmid int, timeout time.Duration) error {
	if err := e.exists(vmid); err != nil {
		return err
	}
	if _, running := e.initPID(vmid); !running {
		return e.killGuest(vmid)
	}
	seconds := max(1, int(timeout.Round(time.Second)/time.Second))
	bounded, cancel := context.WithTimeout(ctx, timeout+stopTimeout)
	defer cancel()
	out, err := e.lxc(bounded, "lxc-stop", vmid, "--nokill", "--timeout", strconv.Itoa(seconds))
	if _, running := e.initPID(vmid); running {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.log.Debug("shutdown did not stop the guest", "vmid", vmid, "error", err, "output", lastLine(out))
		return fmt.Errorf("guest %d: %w", vmid, engine.ErrShutdownTimeout)
	}
	return e.killGuest(vmid)
}
