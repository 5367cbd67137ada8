package lxc

import (
	"fmt"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Sizes are the limits of a guest.
type Sizes struct {
	Cores     int // 0: all
	MemoryMiB int
	SwapMiB   int
	DiskGiB   int
}

// Size reads the limits of a spec over defaults. Quantities are rounded up to what Proxmox
// counts in: MiB for memory, GiB for disks.
func Size(r *v1alpha1.Resources, def Sizes) (Sizes, error) {
	s := def
	if r.GetCores() != 0 {
		s.Cores = int(r.GetCores())
	}
	for _, f := range []struct {
		name, text string
		unit       int64
		to         *int
	}{
		{"memory", r.GetMemory(), 1 << 20, &s.MemoryMiB},
		{"swap", r.GetSwap(), 1 << 20, &s.SwapMiB},
		{"disk", r.GetDisk(), 1 << 30, &s.DiskGiB},
	} {
		if strings.TrimSpace(f.text) == "" {
			continue
		}
		bytes, err := resource.ParseQuantity(f.text)
		if err != nil {
			return def, fmt.Errorf("spec.resources.%s: %w", f.name, err)
		}
		*f.to = int((bytes + f.unit - 1) / f.unit)
	}
	return s, nil
}
