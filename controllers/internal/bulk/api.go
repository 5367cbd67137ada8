package bulk

import (
	"context"
	"sync"
	"time"

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
	leave := v.waits.until(ctx, node, upid, func(ctx context.Context) ([]proxmox.TaskListEntry, error) {
		return v.API.Tasks(ctx, node, proxmox.TaskFilter{Source: "active", Limit: taskRows})
	})
	defer leave()
	s, err := v.API.WaitTask(ctx, node, upid)
	if vmid, ok := upid.VMID(); ok {
		v.touch(vmid)
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
func (v *View) CreateLXC(ctx context.Context, node string, c proxmox.LXCCreate) (proxmox.UPID, error) {
	v.touch(c.VMID)
	defer v.touch(c.VMID)
	return v.API.CreateLXC(ctx, node, c)
}

// UpdateLXC implements proxmox.GuestWriter.
func (v *View) UpdateLXC(ctx context.Context, node string, vmid int, u proxmox.LXCUpdate) error {
	v.touch(vmid)
	defer v.touch(vmid)
	return v.API.UpdateLXC(ctx, node, vmid, u)
}

// ResizeLXC implements proxmox.GuestWriter.
func (v *View) ResizeLXC(ctx context.Context, node string, vmid int, disk, size string) (proxmox.UPID, error) {
	v.touch(vmid)
	defer v.touch(vmid)
	return v.API.ResizeLXC(ctx, node, vmid, disk, size)
}

// DeleteLXC implements proxmox.GuestWriter.
func (v *View) DeleteLXC(ctx context.Context, node string, vmid int, d proxmox.LXCDelete) (proxmox.UPID, error) {
	v.touch(vmid)
	defer v.touch(vmid)
	return v.API.DeleteLXC(ctx, node, vmid, d)
}

// StartLXC implements proxmox.PowerController.
func (v *View) StartLXC(ctx context.Context, node string, vmid int) (proxmox.UPID, error) {
	v.touch(vmid)
	defer v.touch(vmid)
	return v.API.StartLXC(ctx, node, vmid)
}

// StopLXC implements proxmox.PowerController.
func (v *View) StopLXC(ctx context.Context, node string, vmid int) (proxmox.UPID, error) {
	v.touch(vmid)
	defer v.touch(vmid)
	return v.API.StopLXC(ctx, node, vmid)
}

// ShutdownLXC implements proxmox.PowerController.
func (v *View) ShutdownLXC(ctx context.Context, node string, vmid int, s proxmox.Shutdown) (proxmox.UPID, error) {
	v.touch(vmid)
	defer v.touch(vmid)
	return v.API.ShutdownLXC(ctx, node, vmid, s)
}

// RebootLXC implements proxmox.PowerController.
func (v *View) RebootLXC(ctx context.Context, node string, vmid int, s proxmox.Shutdown) (proxmox.UPID, error) {
	v.touch(vmid)
	defer v.touch(vmid)
	return v.API.RebootLXC(ctx, node, vmid, s)
}

// sharedPatience bounds a list that is fetched for several: a large cluster takes seconds.
const sharedPatience = 30 * time.Second

// shared fetches a list once for all who ask for it at the same time. Nobody gets one whose
// request went out before they asked.
type shared struct {
	mu            sync.Mutex
	running, next *flight
}

// flight is a request and its answer, which is there when done is closed.
type flight struct {
	done chan struct{}
	rows []proxmox.Resource
	err  error
}

// get returns the rows, which others have too and which must not be changed.
func (s *shared) get(ctx context.Context, fetch func(context.Context) ([]proxmox.Resource, error)) ([]proxmox.Resource, error) {
	s.mu.Lock()
	if s.next == nil {
		s.next = &flight{done: make(chan struct{})}
	}
	f := s.next
	if s.running == nil {
		s.running, s.next = f, nil
		go s.run(context.WithoutCancel(ctx), f, fetch)
	}
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.rows, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run fetches, then once more for those who asked meanwhile, until nobody did. It does not
// end with who asked first: others wait for the same answer.
func (s *shared) run(ctx context.Context, f *flight, fetch func(context.Context) ([]proxmox.Resource, error)) {
	for f != nil {
		rctx, cancel := context.WithTimeout(ctx, sharedPatience)
		f.rows, f.err = fetch(rctx)
		cancel()
		close(f.done)
		s.mu.Lock()
		f, s.next = s.next, nil
		s.running = f
		s.mu.Unlock()
	}
}
