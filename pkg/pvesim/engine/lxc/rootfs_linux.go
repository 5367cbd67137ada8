package lxc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// rootfs is where a guest's root file system is mounted.
func (e *Engine) rootfs(vmid int) string { return filepath.Join(e.guestDir(vmid), "rootfs") }

// template returns the extracted template of a guest, extracting it when this is the
// first time. Several engines may share the cache: the extraction happens under a lock
// file, in a directory that gets its name only when it is complete.
func (e *Engine) template(ctx context.Context, g engine.Guest, log io.Writer) (string, error) {
	if g.Template == "" || g.Template != filepath.Base(g.Template) {
		return "", fmt.Errorf("template %q: %w", g.Template, engine.ErrTemplateNotExist)
	}
	variant := "p0"
	if g.Unprivileged {
		variant = fmt.Sprintf("u%d", idShift)
	}
	name, archive := g.Template, filepath.Join(e.cfg.TemplateDir, g.Template)
	if g.Archive != "" { // it may be replaced under the same name
		archive = g.Archive
		if st, err := os.Stat(archive); err == nil {
			name = fmt.Sprintf("%s@%d", name, st.ModTime().UnixNano())
		}
	}
	dir := filepath.Join(e.cfg.RootfsDir, name, variant)
	marker := dir + ".complete"
	if isComplete(marker) {
		return dir, nil
	}
	if _, err := os.Stat(archive); err != nil {
		return "", fmt.Errorf("template %s: %w", g.Template, engine.ErrTemplateNotExist)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("cache of templates: %w", err)
	}
	unlock, err := lockFile(filepath.Join(filepath.Dir(dir), ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if isComplete(marker) {
		return dir, nil // another engine was first
	}
	fmt.Fprintf(log, "extracting archive '%s'\n", archive)
	if err := extract(ctx, archive, dir, g.Unprivileged); err != nil {
		return "", fmt.Errorf("extract template %s: %w", g.Template, err)
	}
	if err := os.WriteFile(marker, nil, 0o644); err != nil {
		return "", fmt.Errorf("extract template %s: %w", g.Template, err)
	}
	return dir, nil
}

// isComplete tells whether an extraction was finished. It is then never touched again,
// even if the archive changes: guests may stand on it.
func isComplete(marker string) bool {
	_, err := os.Stat(marker)
	return err == nil
}

// extract unpacks an archive beside its place and renames it there. For unprivileged
// guests tar runs inside the id map, so that ownership on disk comes out shifted. Device
// nodes are left out: they can't be made inside an id map, and /dev is made by LXC.
func extract(ctx context.Context, archive, dir string, shifted bool) error {
	source, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer source.Close()
	temp := dir + ".new"
	if err := errors.Join(os.RemoveAll(temp), os.RemoveAll(dir), os.Mkdir(temp, 0o755)); err != nil {
		return err
	}
	argv := []string{"tar", "--extract", "--file=-", "--directory=" + temp,
		"--numeric-owner", "--preserve-permissions", "--exclude=./dev/*", "--exclude=dev/*"}
	if flag := compression(archive); flag != "" {
		argv = append(argv, flag)
	}
	if shifted {
		if err := os.Chown(temp, idShift, idShift); err != nil {
			return err
		}
		argv = inIDMap(shifted, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = source
	if out, err := cmd.CombinedOutput(); err != nil {
		_ = os.RemoveAll(temp)
		return fmt.Errorf("%s: %w: %s", argv[0], err, lastLine(out))
	}
	return os.Rename(temp, dir)
}

// compression is tar's option for an archive's suffix; a pipe can't be inspected.
func compression(archive string) string {
	switch filepath.Ext(archive) {
	case ".zst":
		return "--zstd"
	case ".xz":
		return "--xz"
	case ".gz", ".tgz":
		return "--gzip"
	default:
		return ""
	}
}

// makeRoot makes the directories of a new guest's root file system and mounts it.
func (e *Engine) makeRoot(ctx context.Context, g engine.Guest, lower string) error {
	if err := e.overlayDirs(g, "upper", "work", "rootfs"); err != nil {
		return err
	}
	// Which template is below is part of the disk: it must not follow a new archive.
	if err := os.WriteFile(filepath.Join(e.guestDir(g.VMID), "lower"), []byte(lower), 0o644); err != nil {
		return fmt.Errorf("make root file system: %w", err)
	}
	err := e.mountRoot(g.VMID)
	if err == nil {
		return nil
	}
	e.log.Warn("overlay refused, copying the template instead", "vmid", g.VMID, "error", err)
	copyCmd := exec.CommandContext(ctx, "cp", "--archive", "--reflink=auto", lower+"/.", e.rootfs(g.VMID))
	if out, err := copyCmd.CombinedOutput(); err != nil {
		return fmt.Errorf("copy template: %w: %s", err, lastLine(out))
	}
	return os.WriteFile(filepath.Join(e.guestDir(g.VMID), "copied"), nil, 0o644)
}

// mountRoot mounts a guest's overlay if it is not mounted already.
func (e *Engine) mountRoot(vmid int) error {
	dir := e.guestDir(vmid)
	if e.isCopied(vmid) {
		return nil
	}
	if mounted, err := isMountpoint(e.rootfs(vmid)); mounted || err != nil {
		return err
	}
	lower, err := os.ReadFile(filepath.Join(dir, "lower"))
	if err != nil {
		return fmt.Errorf("find template of guest %d: %w", vmid, err)
	}
	for _, p := range []string{string(lower), dir} {
		if strings.ContainsAny(p, `,:\`) {
			return fmt.Errorf("path %q can't be used in mount options", p)
		}
	}
	// index=off: a namespace that is going away may still hold the previous mount.
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,index=off", lower, dir, dir)
	if err := unix.Mount("overlay", e.rootfs(vmid), "overlay", 0, options); err != nil {
		return fmt.Errorf("mount overlay of guest %d: %w", vmid, err)
	}
	return nil
}

// unmountRoot detaches a guest's overlay; no error if it is not mounted.
func (e *Engine) unmountRoot(vmid int) error {
	err := unix.Unmount(e.rootfs(vmid), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unmount root of guest %d: %w", vmid, err)
	}
	return nil
}

// isMountpoint compares the device of a directory with that of its parent.
func isMountpoint(dir string) (bool, error) {
	var here, above unix.Stat_t
	if err := unix.Lstat(dir, &here); err != nil {
		return false, fmt.Errorf("look at %s: %w", dir, err)
	}
	if err := unix.Lstat(filepath.Dir(dir), &above); err != nil {
		return false, fmt.Errorf("look at %s: %w", dir, err)
	}
	return here.Dev != above.Dev, nil
}

// lockFile takes an exclusive lock and returns the function that gives it back. It
// waits for as long as another process extracts.
func lockFile(name string) (func(), error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { _ = f.Close() }, nil
}

// lastLine is the end of a tool's output, for an error message.
func lastLine(out []byte) string {
	text := strings.TrimSpace(string(out))
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	const most = 300
	return text[:min(len(text), most)]
}
