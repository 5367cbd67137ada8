package lxc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// restoredLower stands for the template of a guest that was restored from an archive.
const restoredLower = "restored"

// isCopied tells whether a guest's root is a directory of its own, not an overlay.
func (e *Engine) isCopied(vmid int) bool {
	_, err := os.Stat(filepath.Join(e.guestDir(vmid), "copied"))
	return err == nil
}

// ownFiles is the directory of what a guest has beyond its template.
func (e *Engine) ownFiles(vmid int) string {
	if e.isCopied(vmid) {
		return e.rootfs(vmid)
	}
	return filepath.Join(e.guestDir(vmid), "upper")
}

func (e *Engine) snapDir(vmid int, name string) string {
	return filepath.Join(e.guestDir(vmid), "snap", filepath.Base(name))
}

// copyTree copies a directory with everything that the kernel knows of its files.
func copyTree(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "cp", "--archive", "--reflink=auto", "--no-target-directory", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, lastLine(out))
	}
	return nil
}

// Snapshot implements engine.Engine.
func (e *Engine) Snapshot(ctx context.Context, vmid int, volumes []string, name string) error {
	if err := e.exists(vmid); err != nil {
		return err
	}
	err := copyTree(ctx, e.ownFiles(vmid), e.snapDir(vmid, name))
	for _, v := range volumes {
		if _, serr := os.Stat(e.volumeData(v)); serr == nil && err == nil {
			err = copyTree(ctx, e.volumeData(v), e.volumeSnap(v, name))
		}
	}
	if err != nil {
		return errors.Join(err, e.DropSnapshot(context.WithoutCancel(ctx), vmid, volumes, name))
	}
	return nil
}

// Rollback implements engine.Engine.
func (e *Engine) Rollback(ctx context.Context, vmid int, volumes []string, name string) error {
	if err := e.exists(vmid); err != nil {
		return err
	}
	if _, err := os.Stat(e.snapDir(vmid, name)); err != nil {
		return fmt.Errorf("snapshot %s of guest %d: %w", name, vmid, err)
	}
	if err := e.unmountRoot(vmid); err != nil {
		return err
	}
	own := e.ownFiles(vmid)
	if err := errors.Join(os.RemoveAll(own), e.cleanWork(vmid)); err != nil {
		return fmt.Errorf("roll back guest %d: %w", vmid, err)
	}
	if err := copyTree(ctx, e.snapDir(vmid, name), own); err != nil {
		return err
	}
	for _, v := range volumes {
		if _, err := os.Stat(e.volumeSnap(v, name)); err != nil {
			continue // was not part of it
		}
		if err := os.RemoveAll(e.volumeData(v)); err != nil {
			return err
		}
		if err := copyTree(ctx, e.volumeSnap(v, name), e.volumeData(v)); err != nil {
			return err
		}
	}
	return e.mountRoot(vmid)
}

// cleanWork empties the overlay's work directory, which belongs to the upper one.
func (e *Engine) cleanWork(vmid int) error {
	if e.isCopied(vmid) {
		return nil
	}
	dir := filepath.Join(e.guestDir(vmid), "work")
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755), os.Chown(dir, int(st.Uid), int(st.Gid)))
}

// DropSnapshot implements engine.Engine.
func (e *Engine) DropSnapshot(_ context.Context, vmid int, volumes []string, name string) error {
	err := os.RemoveAll(e.snapDir(vmid, name))
	for _, v := range volumes {
		err = errors.Join(err, os.RemoveAll(e.volumeSnap(v, name)))
	}
	return err
}

// Clone implements engine.Engine.
func (e *Engine) Clone(ctx context.Context, from int, snapshot string, g engine.Guest) (err error) {
	if err := errors.Join(checkGuest(g), e.exists(from)); err != nil {
		return err
	}
	source := e.ownFiles(from)
	if snapshot != "" {
		source = e.snapDir(from, snapshot)
	}
	if err := e.newGuestDir(g.VMID); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.remove(g.VMID))
		}
	}()
	for _, name := range []string{"lower", "copied"} {
		raw, err := os.ReadFile(filepath.Join(e.guestDir(from), name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err = errors.Join(err, os.WriteFile(filepath.Join(e.guestDir(g.VMID), name), raw, 0o644)); err != nil {
			return fmt.Errorf("clone guest %d: %w", from, err)
		}
	}
	if err := copyTree(ctx, source, e.ownFiles(g.VMID)); err != nil {
		return err
	}
	if !e.isCopied(g.VMID) {
		if err := e.overlayDirs(g, "work", "rootfs"); err != nil {
			return err
		}
		if err := e.mountRoot(g.VMID); err != nil {
			return err
		}
	}
	return errors.Join(e.prepareNew(g), e.prepareStart(g))
}

// newGuestDir makes an empty directory for a guest; what a crash left of an earlier
// attempt is not a guest.
func (e *Engine) newGuestDir(vmid int) error {
	if e.exists(vmid) == nil {
		return fmt.Errorf("guest %d has a root file system already", vmid)
	}
	if err := e.remove(vmid); err != nil {
		return err
	}
	if err := os.Mkdir(e.guestDir(vmid), 0o755); err != nil {
		return fmt.Errorf("make guest directory: %w", err)
	}
	return nil
}

// overlayDirs makes directories of a guest that its root owns.
func (e *Engine) overlayDirs(g engine.Guest, names ...string) error {
	owner := ownerOf(g.Unprivileged)
	for _, name := range names {
		dir := filepath.Join(e.guestDir(g.VMID), name)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, owner, owner)); err != nil {
			return fmt.Errorf("make root file system: %w", err)
		}
	}
	return nil
}

// ownerOf is the node's id of a guest's root.
func ownerOf(unprivileged bool) int {
	if unprivileged {
		return idShift
	}
	return 0
}

// Dump implements engine.Engine. Volumes are mounted in the guest's own mount namespace,
// so they are not below its root here.
func (e *Engine) Dump(ctx context.Context, vmid int, w io.Writer) error {
	if err := e.exists(vmid); err != nil {
		return err
	}
	if err := e.mountRoot(vmid); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(e.rootfs(vmid), &st); err != nil {
		return fmt.Errorf("dump guest %d: %w", vmid, err)
	}
	return pack(ctx, e.rootfs(vmid), st.Uid == idShift, w)
}

// pack writes a directory as an archive; sockets and the like come out as tar can.
func pack(ctx context.Context, dir string, shifted bool, w io.Writer) error {
	argv := inIDMap(shifted, "tar", "--create", "--file=-", "--directory="+dir, "--numeric-owner", "--one-file-system",
		"--sparse", "--warning=no-file-ignored", "--warning=no-file-changed", "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*", ".")
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var problems strings.Builder
	cmd.Stdout, cmd.Stderr = w, &problems
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil // a file changed while it was read: the guest runs
	}
	if err != nil {
		return fmt.Errorf("pack %s: %w: %s", dir, err, lastLine([]byte(problems.String())))
	}
	return nil
}

// unpack reads an archive into a directory.
func unpack(ctx context.Context, dir string, shifted bool, r io.Reader) error {
	argv := inIDMap(shifted, "tar", "--extract", "--file=-", "--directory="+dir, "--numeric-owner", "--preserve-permissions",
		"--exclude=./dev/*", "--exclude=dev/*", "--exclude=./etc/vzdump")
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = r
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("unpack into %s: %w: %s", dir, err, lastLine(out))
	}
	return nil
}

// inIDMap puts a command into the identities of unprivileged guests.
func inIDMap(shifted bool, argv ...string) []string {
	if !shifted {
		return argv
	}
	ids := fmt.Sprintf("0:%d:%d", idShift, idCount)
	return append([]string{"lxc-usernsexec", "-m", "u:" + ids, "-m", "g:" + ids, "--"}, argv...)
}

// Restore implements engine.Engine.
func (e *Engine) Restore(ctx context.Context, g engine.Guest, r io.Reader) (err error) {
	if err := checkGuest(g); err != nil {
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
	if err := e.overlayDirs(g, "rootfs"); err != nil {
		return err
	}
	if err := unpack(ctx, e.rootfs(g.VMID), g.Unprivileged, r); err != nil {
		return err
	}
	for name, text := range map[string]string{"copied": "", "lower": restoredLower} {
		if err := os.WriteFile(filepath.Join(e.guestDir(g.VMID), name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("restore guest %d: %w", g.VMID, err)
		}
	}
	return e.prepareStart(g)
}
