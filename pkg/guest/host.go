package guest

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
)

const (
	// maxInterfaces bounds /etc/network/interfaces: thousands of stanzas.
	maxInterfaces = 1 << 20
	// lockWait is how long the file's lock is waited for, in seconds: what Proxmox itself
	// waits.
	lockWait = "10"
)

//go:embed swap.sh
var swapProgram []byte

// ReadInterfaces implements [Host].
func (o *OnNode) ReadInterfaces(ctx context.Context, node string) ([]byte, error) {
	res, err := o.nodeOK(ctx, node, nil, "cat", o.interfaces)
	if err == nil && res.Truncated {
		err = ErrTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("read %s on %s: %w", o.interfaces, node, err)
	}
	return res.Stdout, nil
}

// WriteInterfaces implements [Host].
//
// An edit that Proxmox has staged in interfaces.new replaces this file at its next
// reload, with what is written here lost: make sure that nothing is staged.
func (o *OnNode) WriteInterfaces(ctx context.Context, node string, was, now []byte) error {
	if len(now) > maxInterfaces || len(now) == 0 {
		return fmt.Errorf("write %s on %s: %d bytes are not within 1 to %d", o.interfaces, node, len(now), maxInterfaces)
	}
	w := interfacesWrite{o: o, node: node, was: sha256Hex(was), now: sha256Hex(now), temp: o.beside("interfaces")}
	err := w.run(ctx, now)
	if err != nil {
		err = fmt.Errorf("write %s on %s: %w", o.interfaces, node, err)
	}
	return err
}

// beside names a hidden temporary file in the directory of the interfaces file: a rename
// is atomic only within one file system.
func (o *OnNode) beside(what string) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	return path.Join(path.Dir(o.interfaces), ".proximity-"+what+"-"+hex.EncodeToString(random[:]))
}

// interfacesWrite is one WriteInterfaces under way. was and now are SHA-256 sums.
type interfacesWrite struct {
	o        *OnNode
	node     string
	was, now string
	temp     string
}

func (w interfacesWrite) run(ctx context.Context, now []byte) error {
	defer w.remove(ctx, w.temp)
	if _, err := w.o.nodeOK(ctx, w.node, now, "tee", w.temp); err != nil {
		return err
	}
	if sum, err := w.sum(ctx, w.temp); err != nil {
		return err
	} else if sum != w.now {
		return fmt.Errorf("%s arrived damaged", w.temp)
	}
	// Where sync cannot do a single file, the rename still orders data before name on the
	// file systems that Proxmox installs.
	if _, err := w.o.exec.Exec(ctx, w.node, []string{"sync", w.temp}, nil, 0); err != nil {
		return err
	}
	verdict, err := w.swap(ctx)
	if err != nil {
		return err
	}
	switch verdict {
	case "swapped":
		return nil
	case "changed":
		return ErrChanged
	}
	return w.swapInSteps(ctx)
}

// swap compares and renames in one program that runs under the lock, so that nobody who
// takes the lock gets in between.
func (w interfacesWrite) swap(ctx context.Context) (verdict string, err error) {
	program := w.o.beside("swap")
	defer w.remove(ctx, program)
	if _, err := w.o.nodeOK(ctx, w.node, swapProgram, "tee", program); err != nil {
		return "", err
	}
	argv := []string{"flock", "-w", lockWait, w.o.lock, "/bin/sh", program, w.o.interfaces, w.temp, w.was}
	res, err := w.o.exec.Exec(ctx, w.node, argv, nil, 0)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(res.Stdout)), nil
}

// swapInSteps is for a node whose ssh allows only single programs: compare and rename are
// two runs, each under the lock, a few milliseconds apart.
func (w interfacesWrite) swapInSteps(ctx context.Context) error {
	sum, err := w.sum(ctx, w.o.interfaces, "flock", "-w", lockWait, w.o.lock)
	if err != nil {
		return err
	}
	if sum != w.was {
		return ErrChanged
	}
	if _, err := w.o.nodeOK(ctx, w.node, nil, "flock", "-w", lockWait, w.o.lock, "mv", "-T", w.temp, w.o.interfaces); err != nil {
		return err
	}
	if sum, err = w.sum(ctx, w.o.interfaces); err == nil && sum != w.now {
		err = ErrChanged
	}
	return err
}

// sum returns a file's SHA-256; prefix is put before the command.
func (w interfacesWrite) sum(ctx context.Context, file string, prefix ...string) (string, error) {
	res, err := w.o.nodeOK(ctx, w.node, nil, append(prefix, "sha256sum", file)...)
	if err != nil {
		return "", err
	}
	sum, _, _ := strings.Cut(string(res.Stdout), " ")
	return sum, nil
}

// remove tidies up, even when ctx is over. What it fails to remove is hidden and harmless.
func (w interfacesWrite) remove(ctx context.Context, file string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_, _ = w.o.exec.Exec(ctx, w.node, []string{"rm", "-f", file}, nil, 0)
}

// ReloadNetwork implements [Host].
func (o *OnNode) ReloadNetwork(ctx context.Context, node string) error {
	if _, err := o.nodeOK(ctx, node, nil, "ifreload", "-a"); err != nil {
		return fmt.Errorf("reload the network of %s: %w", node, err)
	}
	return nil
}

// nodeOK runs a program on the node whose failure is an error.
func (o *OnNode) nodeOK(ctx context.Context, node string, stdin []byte, argv ...string) (Result, error) {
	res, err := o.exec.Exec(ctx, node, argv, bytes.NewReader(stdin), maxInterfaces)
	if err == nil {
		err = exitError(argv[0], res)
	}
	return res, err
}
