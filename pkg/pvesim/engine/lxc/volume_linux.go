package lxc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// A data volume is a directory <Dir>/volumes/<id>/data, which is bound into the guest at
// its start, with snapshots beside it.

func (e *Engine) volumeDir(volume string) string {
	return filepath.Join(e.cfg.Dir, "volumes", url.PathEscape(volume))
}

func (e *Engine) volumeData(volume string) string { return filepath.Join(e.volumeDir(volume), "data") }

func (e *Engine) volumeSnap(volume, name string) string {
	return filepath.Join(e.volumeDir(volume), "snap", filepath.Base(name))
}

// makeVolume makes the directory of a volume on its first use.
func (e *Engine) makeVolume(volume string, unprivileged bool) error {
	dir := e.volumeData(volume)
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	owner := ownerOf(unprivileged)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(dir, owner, owner)); err != nil {
		return fmt.Errorf("make volume %s: %w", volume, err)
	}
	return nil
}

func (e *Engine) makeVolumes(g engine.Guest) error {
	for _, m := range g.Mounts {
		if err := e.makeVolume(m.Volume, g.Unprivileged); err != nil {
			return err
		}
	}
	return nil
}

// CopyVolume implements engine.Engine.
func (e *Engine) CopyVolume(ctx context.Context, from, snapshot, to string) error {
	source := e.volumeData(from)
	if snapshot != "" {
		source = e.volumeSnap(from, snapshot)
	}
	if _, err := os.Stat(source); errors.Is(err, fs.ErrNotExist) && snapshot == "" {
		return nil // never mounted, so empty
	}
	return copyTree(ctx, source, e.volumeData(to))
}

// RenameVolume implements engine.Engine.
func (e *Engine) RenameVolume(_ context.Context, from, to string) error {
	err := os.Rename(e.volumeDir(from), e.volumeDir(to))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // never mounted, so empty
	}
	return err
}

// RemoveVolume implements engine.Engine.
func (e *Engine) RemoveVolume(_ context.Context, volume string) error {
	return os.RemoveAll(e.volumeDir(volume))
}

// DumpVolume implements engine.Engine.
func (e *Engine) DumpVolume(ctx context.Context, volume string, unprivileged bool, w io.Writer) error {
	if err := e.makeVolume(volume, unprivileged); err != nil {
		return err
	}
	return pack(ctx, e.volumeData(volume), unprivileged, w)
}

// RestoreVolume implements engine.Engine.
func (e *Engine) RestoreVolume(ctx context.Context, volume string, unprivileged bool, r io.Reader) error {
	if err := e.makeVolume(volume, unprivileged); err != nil {
		return err
	}
	return unpack(ctx, e.volumeData(volume), unprivileged, r)
}

// plugMounts binds volumes into a running guest that are not mounted there yet, as
// Proxmox VE does for a new mount point.
func (e *Engine) plugMounts(g engine.Guest, pid int) error {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return fmt.Errorf("mounts of guest %d: %w", g.VMID, err)
	}
	for _, m := range g.Mounts {
		if strings.Contains(string(raw), " "+m.Path+" ") {
			continue
		}
		if err := e.makeVolume(m.Volume, g.Unprivileged); err != nil {
			return err
		}
		done := make(chan error, 1)
		go func() { done <- bindInto(e.volumeData(m.Volume), pid, m.Path, m.ReadOnly) }()
		if err := <-done; err != nil {
			return fmt.Errorf("mount %s in guest %d: %w", m.Volume, g.VMID, err)
		}
	}
	return nil
}

// bindInto mounts a directory in another mount namespace. It takes over the thread that
// it runs on, which ends with its goroutine.
func bindInto(dir string, pid int, target string, readOnly bool) error {
	runtime.LockOSThread() // for good: the thread has another namespace afterwards
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(tree)
	if readOnly {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, attr); err != nil {
			return fmt.Errorf("mount_setattr: %w", err)
		}
	}
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("setns: %w", err)
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	return nil
}
