package pvesim

import (
	"fmt"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// guestFeature tells whether all volumes can be snapshotted, cloned or copied.
func guestFeature(c *call) (result, error) {
	g, err := c.node.guests.load(c.node, c.vmid())
	if err != nil {
		return result{}, err
	}
	values, name := g.conf.Values, c.params["snapname"]
	if name != "" {
		snap := g.conf.Snapshots[name]
		if snap == nil {
			return result{}, errNoSnapshot(name)
		}
		values = snap.Values
	}
	return result{data: map[string]any{"hasFeature": number(c.node.hasFeature(c.params["feature"], values, name, false))}}, nil
}

// makeTemplate turns a guest into a template. As in the real code the answer is null and
// not the UPID of the task, which works on the configuration as it was.
func makeTemplate(c *call) (result, error) {
	n, vmid := c.node, c.vmid()
	unlock, err := n.guests.lock(c.ctx, vmid, n.cfg.LockTimeout)
	if err != nil {
		return result{}, err
	}
	defer unlock()
	g, err := n.guests.load(n, vmid)
	if err != nil {
		return result{}, err
	}
	switch {
	case checkLock(g.conf) != nil:
		return result{}, checkLock(g.conf)
	case len(g.conf.Snapshots) > 0:
		return result{}, die("unable to create template, because CT contains snapshots")
	case g.conf.Values["template"] == "1":
		return result{}, die("you can't convert a template to a template")
	case n.running(c.ctx, vmid):
		return result{}, die("you can't convert a CT to template if the CT is running")
	}
	_, err = c.startTask("vztemplate", vmidText(vmid), func(t *tasks.Task) error {
		conf := g.conf.Clone()
		if err := n.makeBase(t, conf); err != nil {
			return err
		}
		conf.Values["template"] = "1"
		return n.guests.store(n, vmid, conf)
	})
	return result{}, err
}

// makeBase renames every volume to base-... (PVE::LXC::template_create).
func (n *Node) makeBase(t *tasks.Task, conf *guestconf.Config) error {
	for _, v := range guestVolumes(conf.Values, false) {
		if v.kind() == "volume" && !n.volumeHasFeature("template", v.volid, "") {
			//lint:ignore ST1005 the real text
			return fmt.Errorf("Template feature is not available for '%s'", v.volid)
		}
	}
	for _, v := range guestVolumes(conf.Values, false) {
		if v.kind() != "volume" {
			continue
		}
		at := strings.LastIndexAny(v.volid, ":/") + 1
		_, number, _ := strings.Cut(v.volid[at:], "-")
		base := v.volid[:at] + "base-" + number
		if err := n.renameVolume(v.volid, base); err != nil {
			return err
		}
		if v.key != "rootfs" {
			if err := n.engine.RenameVolume(t.Context(), v.volid, base); err != nil {
				return err
			}
		}
		conf.Values[v.key] = n.withVolume(v, base)
	}
	return nil
}
