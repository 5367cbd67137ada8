package pvesim

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// defaultMaxWorkers is how many guests a bulk task starts or stops at a time where
// datacenter.cfg says nothing.
const defaultMaxWorkers = 4

// defaultBulkTimeout is what a guest without "down" gets to stop.
const defaultBulkTimeout = 180

// bulkGuests are the guests of the node that a bulk call means, in startup order: those
// of vms, or all. Without VM.PowerMgmt on / each must be named and granted.
func (c *call) bulkGuests() ([]*guestFile, error) {
	wanted := pveschema.SplitList(c.params["vms"])
	if !c.may("/", "VM.PowerMgmt") {
		if len(wanted) == 0 {
			return nil, c.need("/", "VM.PowerMgmt")
		}
		for _, vmid := range wanted {
			if err := c.need("/vms/"+vmid, "VM.PowerMgmt"); err != nil {
				return nil, err
			}
		}
	}
	var out []*guestFile
	for _, g := range c.node.inStartupOrder() {
		if len(wanted) == 0 || slices.Contains(wanted, vmidText(g.vmid)) {
			out = append(out, g)
		}
	}
	return out, nil
}

// startAll starts the guests with onboot (with force all) in their order, those of one
// order together, so many at a time.
func startAll(c *call) (result, error) {
	guests, err := c.bulkGuests()
	if err != nil {
		return result{}, err
	}
	n, user, workers := c.node, c.who.id, c.number("max-workers", defaultMaxWorkers)
	if !c.flag("force") {
		guests = slices.DeleteFunc(guests, func(g *guestFile) bool { return g.conf.Values["onboot"] != "1" })
	}
	return c.startTask("startall", "", func(t *tasks.Task) error {
		return inOrder(t, guests, workers, func(g *guestFile) {
			if n.running(t.Context(), g.vmid) || g.conf.Values["template"] == "1" {
				return
			}
			t.Logf("Starting CT %d", g.vmid)
			n.runNested(t, "vzstart", g.vmid, user, func(t *tasks.Task) error { return n.start(t, g.vmid) })
			if up := parseStartup(g.conf.Values["startup"]).up; up > 0 {
				t.Logf("Waiting for %d seconds (startup delay)", int(up/time.Second))
				sleep(t.Context(), up)
			}
		})
	})
}

// stopAll shuts guests down in reverse order, each within its "down" or the timeout, and
// by force after that unless force-stop is 0.
func stopAll(c *call) (result, error) {
	guests, err := c.bulkGuests()
	if err != nil {
		return result{}, err
	}
	slices.Reverse(guests)
	n, user, workers := c.node, c.who.id, c.number("max-workers", defaultMaxWorkers)
	seconds, force := c.number("timeout", defaultBulkTimeout), !c.has("force-stop") || c.flag("force-stop")
	return c.startTask("stopall", "", func(t *tasks.Task) error {
		return inOrder(t, guests, workers, func(g *guestFile) {
			if !n.running(t.Context(), g.vmid) {
				return
			}
			timeout := time.Duration(seconds) * time.Second
			if down := parseStartup(g.conf.Values["startup"]).down; down > 0 {
				timeout = down
			}
			t.Logf("Stopping CT %d (timeout = %s seconds)", g.vmid, strconv.Itoa(int(timeout/time.Second)))
			n.runNested(t, "vzshutdown", g.vmid, user, func(t *tasks.Task) error { return n.shutDown(t, g.vmid, timeout, force) })
		})
	})
}

// runNested runs a task of its own and waits for it; its failure is a line of the log.
func (n *Node) runNested(t *tasks.Task, kind string, vmid int, user string, fn func(*tasks.Task) error) {
	upid, err := n.startTask(kind, vmidText(vmid), user, fn)
	if err != nil {
		t.Logf("%v", err)
		return
	}
	if i, err := n.tasks.Wait(t.Context(), upid); err == nil && i.Failed() {
		t.Logf("CT %d failed: %s", vmid, i.Exit)
	}
}

// inOrder acts on guests, those of one startup order in parallel, at most so many; each
// order waits for the one before.
func inOrder(t *tasks.Task, guests []*guestFile, workers int, act func(*guestFile)) error {
	places := make(chan struct{}, max(workers, 1))
	var wg sync.WaitGroup
	for i, g := range guests {
		if i > 0 && parseStartup(g.conf.Values["startup"]).order != parseStartup(guests[i-1].conf.Values["startup"]).order {
			wg.Wait()
		}
		if err := t.Context().Err(); err != nil {
			break
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			act(g)
		})
	}
	wg.Wait()
	return t.Context().Err()
}
