package bulk

import (
	"context"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// Figures are what nodes and guests use, as the list of all resources said last. They must
// not be changed.
type Figures struct {
	At     time.Time // when the list was asked for
	Nodes  map[string]Use
	Guests map[int]Use
}

// Use is what one of them uses. Sizes are in bytes; what is not told is 0.
type Use struct {
	Node, Tags              string
	Online                  bool    // it runs
	CPU, MaxCPU             float64 // in cores
	Mem, MaxMem, Disk, Size int64
}

// Figures returns the last ones, nil when there are none. It asks nothing.
func (v *View) Figures() *Figures { return v.figures.Load() }

// ReadFigures reads them anew, with one request: a cluster in which no App has a guest is not
// looked at otherwise.
func (v *View) ReadFigures(ctx context.Context) error {
	begin := time.Now()
	rows, err := v.API.ClusterResources(ctx, proxmox.AllResources)
	if err == nil {
		v.sawFigures(begin, rows)
	}
	return err
}

func (v *View) sawFigures(at time.Time, rows []proxmox.Resource) {
	f := &Figures{At: at, Nodes: map[string]Use{}, Guests: make(map[int]Use, len(rows))}
	for _, r := range rows {
		u := Use{
			Node: r.Node, Tags: r.Tags, Online: r.Status == "online" || r.Status == proxmox.StatusRunning, CPU: float64(r.CPU * r.MaxCPU), MaxCPU: float64(r.MaxCPU),
			Mem: int64(r.Mem), MaxMem: int64(r.MaxMem), Disk: int64(r.Disk), Size: int64(r.MaxDisk),
		}
		switch r.Type {
		case "node":
			f.Nodes[r.Node] = u
		case "lxc":
			f.Guests[int(r.VMID)] = u
		}
	}
	if last := v.figures.Load(); last == nil || last.At.Before(at) {
		v.figures.Store(f)
	}
}
