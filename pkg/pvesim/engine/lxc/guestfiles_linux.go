package lxc

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// maxGuestFile bounds how much of a file that the guest may have written is read.
const maxGuestFile = 256 << 10

// guestFS writes into a guest's root file system from outside. The guest decides what is
// there, so every access goes through os.Root: a link that leads out of the guest is an
// error and not a way to the node's files. Files are written beside their place and
// renamed, which replaces a link instead of following it.
type guestFS struct {
	root  *os.Root
	shift int // owner of root's files on disk
}

func (e *Engine) openGuest(g engine.Guest) (*guestFS, error) {
	root, err := os.OpenRoot(e.rootfs(g.VMID))
	if err != nil {
		return nil, fmt.Errorf("open root file system of guest %d: %w", g.VMID, err)
	}
	f := &guestFS{root: root}
	if g.Unprivileged {
		f.shift = idShift
	}
	return f, nil
}

func (f *guestFS) close() { _ = f.root.Close() }

// read returns a regular file's text, "" when there is none or it is too large.
func (f *guestFS) read(name string) string {
	info, err := f.root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxGuestFile {
		return ""
	}
	file, err := f.root.Open(name)
	if err != nil {
		return ""
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxGuestFile))
	if err != nil {
		return ""
	}
	return string(text)
}

// write replaces a file, unless it says so already or the guest opted out.
func (f *guestFS) write(name, text string, mode fs.FileMode) error {
	dir, base := path.Split(name)
	if _, err := f.root.Lstat(dir + ".pve-ignore." + base); err == nil {
		return nil
	}
	if f.read(name) == text && text != "" {
		return nil
	}
	if err := f.mkdir(path.Clean(dir), 0o755); err != nil {
		return err
	}
	temp := dir + "." + base + ".pve-new"
	if err := f.root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: %w", name, err)
	}
	file, err := f.root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = file.WriteString(text)
	err = errors.Join(err, file.Chown(f.shift, f.shift), file.Chmod(mode), file.Close())
	if err == nil {
		err = f.root.Rename(temp, name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// mkdir makes one directory below an existing one.
func (f *guestFS) mkdir(name string, mode fs.FileMode) error {
	if _, err := f.root.Stat(name); err == nil {
		return nil
	}
	if err := f.root.Mkdir(name, mode); err != nil {
		return fmt.Errorf("make directory %s: %w", name, err)
	}
	return f.root.Chown(name, f.shift, f.shift)
}

// prepareNew writes what only a new guest gets.
func (e *Engine) prepareNew(g engine.Guest) error {
	f, err := e.openGuest(g)
	if err != nil {
		return err
	}
	defer f.close()
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	if err := f.write("etc/machine-id", hex.EncodeToString(id)+"\n", 0o444); err != nil {
		return err
	}
	if strings.TrimSpace(g.SSHKeys) == "" {
		return nil
	}
	if err := f.mkdir("root/.ssh", 0o700); err != nil {
		return err
	}
	return f.write("root/.ssh/authorized_keys", strings.TrimSpace(g.SSHKeys)+"\n", 0o600)
}

// prepareStart writes what a guest gets before each start.
func (e *Engine) prepareStart(g engine.Guest) error {
	f, err := e.openGuest(g)
	if err != nil {
		return err
	}
	defer f.close()
	node, err := os.ReadFile(e.cfg.ResolvConf)
	if err != nil {
		return fmt.Errorf("read the node's resolver: %w", err)
	}
	return errors.Join(
		f.write("etc/hostname", g.Hostname+"\n", 0o644),
		f.write("etc/hosts", renderHosts(f.read("etc/hosts"), g), 0o644),
		f.write("etc/resolv.conf", renderResolvConf(string(node), g), 0o644),
		f.writeInterfaces(g.NICs))
}

func (f *guestFS) writeInterfaces(nics []engine.NIC) error {
	const name = "etc/network/interfaces"
	return f.write(name, renderInterfaces(f.read(name), nics), 0o644)
}

// haltSignal is what makes the guest's init shut down. It depends on the init: SIGPWR,
// LXC's default, means nothing to systemd without a unit for it.
func (e *Engine) haltSignal(g engine.Guest) string {
	f, err := e.openGuest(g)
	if err != nil {
		return "SIGPWR"
	}
	defer f.close()
	target, _ := f.root.Readlink("sbin/init")
	switch path.Base(target) {
	case "systemd":
		return "SIGRTMIN+3"
	case "busybox":
		return "SIGUSR2"
	default:
		return "SIGPWR"
	}
}
