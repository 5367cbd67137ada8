package lxc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// applyLimits writes the limits of a running guest. Memory without and with swap bound
// each other: lowering must start with the one, raising with the other, so the list is
// tried forwards and then backwards.
func (e *Engine) applyLimits(g engine.Guest) error {
	limits := limitsOf(g, e.machine(g))
	if e.writeLimits(g.VMID, limits) == nil {
		return nil
	}
	slices.Reverse(limits)
	if err := e.writeLimits(g.VMID, limits); err == nil {
		return nil
	}
	slices.Reverse(limits)
	return e.writeLimits(g.VMID, limits)
}

// writeLimit sets one limit of a group. A set of processors (cgroup v1) must contain those of
// the groups below, which the guest's service manager makes: narrowing begins at the deepest,
// widening at the top, so both ways are gone.
func writeLimit(dir string, l limit) error {
	file := filepath.Join(dir, l.file)
	if l.controller != "cpuset" {
		return os.WriteFile(file, []byte(l.value), 0)
	}
	var groups []string // top first
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a group that ended meanwhile
		}
		if err == nil && d.IsDir() {
			groups = append(groups, filepath.Join(path, l.file))
		}
		return err
	})
	if err != nil {
		return err
	}
	// Each way fails where the other one works; what counts is the top at the end.
	for _, f := range slices.Backward(groups) {
		_ = os.WriteFile(f, []byte(l.value), 0)
	}
	err = os.WriteFile(file, []byte(l.value), 0)
	for _, f := range groups {
		_ = os.WriteFile(f, []byte(l.value), 0)
	}
	return err
}

func (e *Engine) writeLimits(vmid int, limits []limit) error {
	var failed []error
	for _, l := range limits {
		dir, _, ok := e.group(vmid, l.controller)
		if !ok {
			e.log.Warn("limit has no effect: the machine has no such controller", "vmid", vmid, "limit", l.file)
			continue
		}
		err := writeLimit(dir, l)
		if errors.Is(err, fs.ErrNotExist) {
			continue // swap accounting is off
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("set %s of guest %d: %w", l.file, vmid, err))
		}
	}
	return errors.Join(failed...)
}
