package pvesim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/firewall"
	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// defaultShutdownTimeout is the schema's, in seconds.
const defaultShutdownTimeout = 60

// power does what every power method does before its task: the guest must exist, be
// (or not be) running, and skiplock is root's alone.
func (c *call) power(wantRunning bool, refusal string) error {
	if c.flag("skiplock") && !c.who.isRoot() {
		return paramError("skiplock", "Only root may use this option.")
	}
	if _, err := c.node.guests.load(c.node, c.vmid()); err != nil {
		return err
	}
	if c.node.running(c.ctx, c.vmid()) != wantRunning {
		return die(refusal, c.vmid())
	}
	return nil
}

func startGuest(c *call) (result, error) {
	if err := c.power(false, "CT %d already running"); err != nil {
		return result{}, err
	}
	n, vmid := c.node, c.vmid()
	return c.startTask("vzstart", vmidText(vmid), func(t *tasks.Task) error { return n.start(t, vmid) })
}

// start is the body of a start task.
func (n *Node) start(t *tasks.Task, vmid int) error {
	return n.withGuest(t.Context(), vmid, func(_ *guestFile, conf *guestconf.Config) (bool, error) {
		if n.running(t.Context(), vmid) {
			return false, fmt.Errorf("CT %d already running", vmid)
		}
		return n.boot(t, vmid, conf)
	})
}

// boot applies pending changes and starts the guest; the caller holds its lock and
// writes the configuration if the answer is true, also with an error: the changes are
// applied before the start is tried.
func (n *Node) boot(t *tasks.Task, vmid int, conf *guestconf.Config) (bool, error) {
	if conf.Values["template"] == "1" {
		return false, errors.New("you can't start a CT if it's a template")
	}
	if len(conf.Pending) > 0 || len(conf.Deleted) > 0 {
		if err := n.applyPending(t.Context(), vmid, conf); err != nil {
			return false, err
		}
		if err := n.guests.store(n, vmid, conf); err != nil {
			return false, err
		}
	}
	g := engineGuest(vmid, conf.Values)
	if missing := n.missingBridge(t.Context(), g.NICs); missing != "" {
		return false, errors.New(missing)
	}
	warnNesting(t, conf.Values["ostype"], g)
	if err := n.engine.Start(t.Context(), g); err != nil {
		n.log.Warn("guest does not start", "vmid", vmid, "error", err)
		if t.Context().Err() != nil {
			return false, err
		}
		t.Logf("%v", err)
		return false, fmt.Errorf("startup for container '%d' failed", vmid)
	}
	return false, nil
}

// missingBridge words the refusal of a NIC on a bridge that does not exist, "" if all do.
func (n *Node) missingBridge(ctx context.Context, nics []engine.NIC) string {
	have, err := n.engine.Bridges(ctx)
	if err != nil {
		return err.Error()
	}
	for _, nic := range nics {
		if nic.Bridge != "" && !slices.Contains(have, nic.Bridge) {
			return "bridge '" + nic.Bridge + "' does not exist"
		}
	}
	return ""
}

func stopGuest(c *call) (result, error) {
	if err := c.power(true, "CT %d not running"); err != nil {
		return result{}, err
	}
	n, vmid, overrule := c.node, c.vmid(), c.flag("overrule-shutdown")
	return c.startTask("vzstop", vmidText(vmid), func(t *tasks.Task) error {
		if overrule {
			n.tasks.StopMatching("vzshutdown", vmidText(vmid))
		}
		return n.withGuest(t.Context(), vmid, func(*guestFile, *guestconf.Config) (bool, error) {
			return false, n.engine.Stop(t.Context(), vmid)
		})
	})
}

func shutdownGuest(c *call) (result, error) {
	if err := c.power(true, "CT %d not running"); err != nil {
		return result{}, err
	}
	n, vmid, timeout, force := c.node, c.vmid(), c.shutdownTimeout(), c.flag("forceStop")
	return c.startTask("vzshutdown", vmidText(vmid), func(t *tasks.Task) error { return n.shutDown(t, vmid, timeout, force) })
}

func (c *call) shutdownTimeout() time.Duration {
	return time.Duration(c.number("timeout", defaultShutdownTimeout)) * time.Second
}

// halt shuts a guest down, by force after the timeout if that is wanted.
func (n *Node) halt(ctx context.Context, vmid int, timeout time.Duration, force bool) error {
	err := n.engine.Shutdown(ctx, vmid, timeout)
	if !errors.Is(err, engine.ErrShutdownTimeout) {
		return err
	}
	if !force {
		return errors.New("container did not stop")
	}
	return n.engine.Stop(ctx, vmid)
}

// rebootGuest stops (by force after the timeout) and starts within one lock.
func rebootGuest(c *call) (result, error) {
	if err := c.power(true, "VM %d not running"); err != nil {
		return result{}, err
	}
	n, vmid, timeout := c.node, c.vmid(), c.shutdownTimeout()
	return c.startTask("vzreboot", vmidText(vmid), func(t *tasks.Task) error {
		return n.withGuest(t.Context(), vmid, func(_ *guestFile, conf *guestconf.Config) (bool, error) {
			if err := n.halt(t.Context(), vmid, timeout, true); err != nil {
				return false, err
			}
			return n.boot(t, vmid, conf)
		})
	})
}

// destroyGuest removes a guest with its volumes and its entries in the ACL.
func destroyGuest(c *call) (result, error) {
	n, vmid := c.node, c.vmid()
	g, err := n.guests.load(n, vmid)
	if err != nil {
		return result{}, err
	}
	force, how := c.flag("force"), destruction{purge: c.flag("purge"), unreferenced: c.flag("destroy-unreferenced-disks")}
	check := func(ctx context.Context, g *guestFile) error {
		switch {
		case g.conf.Values["protection"] == "1":
			return die("can't remove CT %d - protection mode enabled", vmid)
		case checkLock(g.conf) != nil:
			return checkLock(g.conf)
		case !force && n.running(ctx, vmid):
			return die("unable to destroy CT %d - container is running", vmid)
		}
		return nil
	}
	if err := check(c.ctx, g); err != nil {
		return result{}, err
	}
	return c.startTask("vzdestroy", vmidText(vmid), func(t *tasks.Task) error {
		unlock, err := n.guests.lock(t.Context(), vmid, n.cfg.LockTimeout)
		if err != nil {
			return err
		}
		defer unlock()
		g, err := n.guests.load(n, vmid)
		if err != nil {
			return err
		}
		if err := check(t.Context(), g); err != nil { // things may have changed meanwhile
			return err
		}
		return n.destroy(t, g, how)
	})
}

// destruction says what goes with a guest beside what its configuration names.
type destruction struct{ purge, unreferenced bool }

func (n *Node) destroy(t *tasks.Task, g *guestFile, how destruction) error {
	if n.running(t.Context(), g.vmid) {
		t.Logf("forced to stop CT %d before destroying!", g.vmid)
		if err := n.engine.Stop(t.Context(), g.vmid); err != nil {
			return err
		}
	}
	conf := g.conf.Clone()
	conf.Values["lock"] = "destroyed"
	if err := n.guests.store(n, g.vmid, conf); err != nil {
		return err
	}
	if err := n.engine.Destroy(t.Context(), g.vmid); err != nil {
		return err
	}
	volumes := n.referenced(g.vmid, g.conf)
	if how.unreferenced {
		volumes = n.ownedVolumes(g.vmid)
	}
	if err := n.freeVolumes(t.Context(), volumes...); err != nil {
		return err
	}
	if how.purge {
		t.Logf("purging CT %d from related configurations..", g.vmid)
	}
	if err := n.access.ForgetGuest(g.vmid); err != nil {
		return err
	}
	if err := n.firewall.Drop(firewall.Guest(vmidText(g.vmid))); err != nil {
		return err
	}
	return n.guests.remove(n, g.vmid)
}

// resizeGuest grows a disk. The engine has thin storage: only the size is recorded.
func resizeGuest(c *call) (result, error) {
	n, vmid, key := c.node, c.vmid(), c.params["disk"]
	g, err := n.guests.load(n, vmid)
	if err != nil {
		return result{}, err
	}
	bytes, err := newDiskSize(g.conf, key, c.params["size"])
	if err != nil {
		return result{}, err
	}
	if err := checkLock(g.conf); err != nil {
		return result{}, err
	}
	if d := c.params["digest"]; d != "" && d != g.digest {
		return result{}, die("detected modified configuration - file changed by other user? Try again.")
	}
	return c.startTask("resize", vmidText(vmid), func(t *tasks.Task) error {
		return n.withGuest(t.Context(), vmid, func(_ *guestFile, conf *guestconf.Config) (bool, error) {
			p := properties(conf.Values[key], "volume")
			p["size"] = formatSize(bytes)
			if err := n.setVolumeSize(p["volume"], bytes); err != nil {
				return false, err
			}
			option := "rootfs"
			if key != "rootfs" {
				option = "mp0"
			}
			conf.Values[key] = n.formatProperties(option, p)
			t.Logf("Image resized.")
			return true, nil
		})
	})
}

// newDiskSize computes the size that +2G or 10G asks for.
func newDiskSize(conf *guestconf.Config, key, size string) (int64, error) {
	value, ok := conf.Values[key]
	if !ok {
		return 0, die("disk '%s' does not exist", key)
	}
	old, err := parseSize(properties(value, "volume")["size"])
	if err != nil {
		return 0, die("%s", err.Error())
	}
	grow := size != "" && size[0] == '+'
	bytes, err := parseSize(size[number(grow):])
	if err != nil {
		return 0, die("%s", err.Error())
	}
	if grow {
		bytes += old
	}
	switch {
	case bytes < old:
		return 0, die("unable to shrink disk size")
	case bytes == old:
		return 0, die("disk is already at specified size")
	}
	return bytes, nil
}
