package bulk

import (
	"context"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// ClusterResources asks always, but once for all who ask for guests at the same time: the
// answer is never older than the question.
func (v *View) ClusterResources(ctx context.Context, kind proxmox.ResourceKind) ([]proxmox.Resource, error) {
	if kind != proxmox.GuestResources {
		return v.API.ClusterResources(ctx, kind)
	}
	return v.lists.get(ctx, func(ctx context.Context) ([]proxmox.Resource, error) { return v.API.ClusterResources(ctx, kind) })
}

// WaitTask waits as the connection does, together with others for tasks of the node, and
// notes tasks that ended: what they did is looked at by who waited.
func (v *View) WaitTask(ctx context.Context, node string, upid proxmox.UPID) (proxmox.TaskStatus, error) {
	list := func(ctx context.Context) ([]proxmox.TaskListEntry, error) {
		return v.API.Tasks(ctx, node, proxmox.TaskFilter{Source: "all", Limit: taskRows})
	}
	done := v.waits.until(ctx, node, upid, list, func(ctx context.Context) (proxmox.TaskStatus, error) { return v.API.TaskStatus(ctx, node, upid) })
	s, err := proxmox.TaskStatus{UPID: upid, Status: "stopped", Exit: proxmox.TaskOK}, error(nil)
	if !done {
		s, err = v.API.WaitTask(ctx, node, upid)
	}
	if vmid, ok := upid.VMID(); ok {
		if err != nil {
			v.distrust(vmid)
		}
		v.settle(vmid, err != nil)
	}
	if upid.Type == proxmox.TaskDownload {
		v.fetched(upid.Node)
	}
	if err == nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		if len(v.awaited) >= maxAwaited {
			clear(v.awaited) // then some are looked at once more
		}
		v.awaited[upid] = true
	}
	return s, err
}

// maxAwaited bounds the tasks that were waited for and that no look has seen yet.
const maxAwaited = 4096

// The changes. What they do is not relied upon before it has been looked at.

// CreateLXC implements proxmox.GuestWriter.
func (v *View) CreateLXC(ctx context.Context, node string, c proxmox.LXCCreate) (upid proxmox.UPID, err error) {
	err = v.changing(c.VMID, func() (err error) {
		upid, err = v.API.CreateLXC(ctx, node, c)
		return err
	})
	return upid, err
}

// UpdateLXC implements proxmox.GuestWriter.
func (v *View) UpdateLXC(ctx context.Context, node string, vmid int, u proxmox.LXCUpdate) error {
	return v.changing(vmid, func() error { return v.API.UpdateLXC(ctx, node, vmid, u) })
}

// ResizeLXC implements proxmox.GuestWriter.
func (v *View) ResizeLXC(ctx context.Context, node string, vmid int, disk, size string) (upid proxmox.UPID, err error) {
	err = v.changing(vmid, func() (err error) {
		upid, err = v.API.ResizeLXC(ctx, node, vmid, disk, size)
		return err
	})
	return upid, err
}

// DeleteLXC implements proxmox.GuestWriter.
func (v *View) DeleteLXC(ctx context.Context, node string, vmid int, d proxmox.LXCDelete) (upid proxmox.UPID, err error) {
	err = v.changing(vmid, func() (err error) {
		upid, err = v.API.DeleteLXC(ctx, node, vmid, d)
		return err
	})
	return upid, err
}

// StartLXC implements proxmox.PowerController.
func (v *View) StartLXC(ctx context.Context, node string, vmid int) (upid proxmox.UPID, err error) {
	err = v.starting(vmid, func() (err error) {
		upid, err = v.API.StartLXC(ctx, node, vmid)
		return err
	})
	return upid, err
}

// StopLXC implements proxmox.PowerController.
func (v *View) StopLXC(ctx context.Context, node string, vmid int) (upid proxmox.UPID, err error) {
	err = v.changing(vmid, func() (err error) {
		upid, err = v.API.StopLXC(ctx, node, vmid)
		return err
	})
	return upid, err
}

// ShutdownLXC implements proxmox.PowerController.
func (v *View) ShutdownLXC(ctx context.Context, node string, vmid int, s proxmox.Shutdown) (upid proxmox.UPID, err error) {
	err = v.changing(vmid, func() (err error) {
		upid, err = v.API.ShutdownLXC(ctx, node, vmid, s)
		return err
	})
	return upid, err
}

// RebootLXC implements proxmox.PowerController.
func (v *View) RebootLXC(ctx context.Context, node string, vmid int, s proxmox.Shutdown) (upid proxmox.UPID, err error) {
	err = v.changing(vmid, func() (err error) {
		upid, err = v.API.RebootLXC(ctx, node, vmid, s)
		return err
	})
	return upid, err
}
