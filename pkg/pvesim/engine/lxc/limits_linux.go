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

func (e *Engine) writeLimits(vmid int, limits []limit) error {
	var failed []error
	for _, l := range limits {
		dir, _, ok := e.group(vmid, l.controller)
		if !ok {
			e.log.Warn("limit has no effect: the machine has no such controller", "vmid", vmid, "limit", l.file)
			continue
		}
		err := os.WriteFile(filepath.Join(dir, l.file), []byte(l.value), 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // swap accounting is off
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("set %s of guest %d: %w", l.file, vmid, err))
		}
	}
	return errors.Join(failed...)
}
