package proxmox

import (
	"context"
	"net/http"
	"time"
)

// StartLXC starts a guest. Pending changes are applied first. A task that ends OK means
// that init was spawned, not that the guest is ready; [IsAlreadyRunning] when it runs.
func (c *Client) StartLXC(ctx context.Context, node string, vmid int) (UPID, error) {
	return c.power(ctx, node, vmid, "/nodes/{node}/lxc/{vmid}/status/start", nil)
}

// StopLXC kills a guest at once; [IsNotRunning] when it does not run.
func (c *Client) StopLXC(ctx context.Context, node string, vmid int) (UPID, error) {
	return c.power(ctx, node, vmid, "/nodes/{node}/lxc/{vmid}/status/stop", nil)
}

// Shutdown says how long a guest may take to stop by itself. The guest's configuration
// lock is held meanwhile.
type Shutdown struct {
	// Timeout is rounded up to seconds; 0 is the server's 60 s.
	Timeout time.Duration
	// Force kills the guest after Timeout; otherwise the task fails and the guest runs
	// on. A reboot always does.
	Force bool
}

func (s Shutdown) seconds() int { return wholeSeconds(s.Timeout) }

// wholeSeconds rounds up.
func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// ShutdownLXC asks a guest to stop.
func (c *Client) ShutdownLXC(ctx context.Context, node string, vmid int, s Shutdown) (UPID, error) {
	return c.power(ctx, node, vmid, "/nodes/{node}/lxc/{vmid}/status/shutdown", func(r request) request {
		return r.withInt("timeout", s.seconds()).withBool("forceStop", s.Force)
	})
}

// RebootLXC stops a guest, kills it after the timeout, and starts it with its pending
// changes.
func (c *Client) RebootLXC(ctx context.Context, node string, vmid int, s Shutdown) (UPID, error) {
	return c.power(ctx, node, vmid, "/nodes/{node}/lxc/{vmid}/status/reboot", func(r request) request {
		return r.withInt("timeout", s.seconds())
	})
}

func (c *Client) power(ctx context.Context, node string, vmid int, template string, fill func(request) request) (UPID, error) {
	if err := checkGuest(node, vmid); err != nil {
		return UPID{}, err
	}
	r := route(http.MethodPost, template, node, vmid)
	if fill != nil {
		r = fill(r)
	}
	return launch(ctx, c, r)
}
