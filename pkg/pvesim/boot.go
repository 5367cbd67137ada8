package pvesim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// noStartupOrder is the place of guests without order: after all others.
const noStartupOrder = 1 << 30

// shutdownTimeout is what a guest gets to halt when the node goes down; the real node
// gives three minutes.
const shutdownTimeout = 3 * time.Minute

// startup is a guest's startup option.
type startup struct {
	order    int
	up, down time.Duration
}

func parseStartup(s string) startup {
	st := startup{order: noStartupOrder}
	p := properties(s, "order")
	if n, err := strconv.Atoi(p["order"]); err == nil {
		st.order = n
	}
	seconds := func(s string) time.Duration {
		n, _ := strconv.Atoi(s) // "" is 0
		return time.Duration(n) * time.Second
	}
	st.up, st.down = seconds(p["up"]), seconds(p["down"])
	return st
}

// inStartupOrder sorts guests as a node boots them: by order, then by VMID.
func (n *Node) inStartupOrder() []*guestFile {
	all := n.guests.all(n)
	slices.SortStableFunc(all, func(a, b *guestFile) int {
		return parseStartup(a.conf.Values["startup"]).order - parseStartup(b.conf.Values["startup"]).order
	})
	return all
}

// Boot does what the boot of a node does: staged network changes are committed, the
// networks that were applied are taken over, the network comes up, guests with onboot start in their order, each waiting up to its
// "up" seconds for those before. Guests that run are left alone, so a Boot of a node
// whose guests survived changes nothing. A guest that does not start stops nothing: its
// task tells why.
func (n *Node) Boot(ctx context.Context) error {
	if err := n.commitNetwork(ctx); err != nil {
		return fmt.Errorf("commit the staged network: %w", err)
	}
	if err := n.adoptSDN(); err != nil {
		return fmt.Errorf("take over the applied networks: %w", err)
	}
	// As on a real node an interface that cannot be made does not stop the boot.
	if err := n.ifreload(ctx, func(line string) { n.log.Warn("network", "message", line) }); err != nil {
		n.log.Error("network is not complete", "error", err)
	}
	for _, g := range n.inStartupOrder() {
		if g.conf.Values["onboot"] != "1" || n.running(ctx, g.vmid) {
			continue
		}
		if err := n.bootGuest(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) bootGuest(ctx context.Context, g *guestFile) error {
	upid, err := n.startTask("vzstart", vmidText(g.vmid), access.Root, func(t *tasks.Task) error { return n.start(t, g.vmid) })
	if err != nil {
		return err
	}
	i, err := n.tasks.Wait(ctx, upid)
	if err != nil {
		return err
	}
	if i.Failed() {
		n.log.Error("guest did not start with the node", "vmid", g.vmid, "error", i.Exit)
		return nil
	}
	if up := parseStartup(g.conf.Values["startup"]).up; up > 0 && !sleep(ctx, up) {
		return ctx.Err()
	}
	return nil
}

// maxParallelStops is how many guests of one order are stopped at a time.
const maxParallelStops = 8

// Shutdown stops all guests in reverse order, those of one order together, each within
// its "down" seconds or three minutes, then by force.
func (n *Node) Shutdown(ctx context.Context) error {
	var running []*guestFile
	for _, g := range n.inStartupOrder() {
		if n.running(ctx, g.vmid) {
			running = append(running, g)
		}
	}
	slices.Reverse(running)
	var failed error
	for len(running) > 0 {
		order := parseStartup(running[0].conf.Values["startup"]).order
		same := slices.IndexFunc(running, func(g *guestFile) bool { return parseStartup(g.conf.Values["startup"]).order != order })
		if same < 0 {
			same = len(running)
		}
		failed = errors.Join(failed, n.stopTogether(ctx, running[:same]))
		running = running[same:]
	}
	return failed
}

func (n *Node) stopTogether(ctx context.Context, guests []*guestFile) error {
	errs := make([]error, len(guests))
	places := make(chan struct{}, maxParallelStops)
	var wg sync.WaitGroup
	for i, g := range guests {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			timeout := shutdownTimeout
			if down := parseStartup(g.conf.Values["startup"]).down; down > 0 {
				timeout = down
			}
			if err := n.stopForShutdown(ctx, g.vmid, timeout); err != nil {
				errs[i] = fmt.Errorf("stop guest %d: %w", g.vmid, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (n *Node) stopForShutdown(ctx context.Context, vmid int, timeout time.Duration) error {
	unlock, err := n.guests.lock(ctx, vmid, n.cfg.LockTimeout)
	if err != nil {
		// Whatever holds the lock ends with the node.
		return n.engine.Stop(ctx, vmid)
	}
	defer unlock()
	return n.halt(ctx, vmid, timeout, true)
}
