package pvesim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// listSnapshots lists them and, last, the present state.
func listSnapshots(c *call) (result, error) {
	g, err := c.node.guests.load(c.node, c.vmid())
	if err != nil {
		return result{}, err
	}
	rows := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(g.conf.Snapshots)) {
		s := g.conf.Snapshots[name].Values
		at, _ := strconv.ParseInt(s["snaptime"], 10, 64) // "" is 0
		row := map[string]any{"name": name, "snaptime": at, "description": s["description"]}
		for from, to := range map[string]string{"parent": "parent", "snapstate": "snapstate"} {
			if s[from] != "" {
				row[to] = s[from]
			}
		}
		rows = append(rows, row)
	}
	now := map[string]any{
		"name": "current", "digest": g.digest, "running": number(c.node.running(c.ctx, g.vmid)), "description": "You are here!",
	}
	if parent := g.conf.Values["parent"]; parent != "" {
		now["parent"] = parent
	}
	return result{data: append(rows, now)}, nil
}

// createSnapshot is create_snapshot of PVE::API2::LXC::Snapshot: all but two names is
// refused in the task.
func createSnapshot(c *call) (result, error) {
	n, vmid, name := c.node, c.vmid(), c.params["snapname"]
	if name == "current" || name == "vzdump" {
		return result{}, die("unable to use snapshot name '%s' (reserved name)", name)
	}
	description := c.params["description"]
	return c.startTask("vzsnapshot", vmidText(vmid), func(t *tasks.Task) error {
		return n.snapshot(t.Context(), vmid, name, description)
	})
}

// snapshot keeps configuration and volumes. As on a real node the lock option, not the
// file lock, guards the time in between.
func (n *Node) snapshot(ctx context.Context, vmid int, name, description string) error {
	var snap *guestconf.Config
	err := n.edit(ctx, vmid, func(conf *guestconf.Config) error {
		if err := n.maySnapshot(conf, name); err != nil {
			return err
		}
		conf.Values["lock"] = "snapshot"
		snap = snapshotOf(conf)
		snap.Values["snapstate"] = "prepare"
		snap.Values["snaptime"] = strconv.FormatInt(time.Now().Unix(), 10)
		snap.SetDescription(description)
		conf.SetSnapshot(name, snap)
		return nil
	})
	if err != nil {
		return err
	}
	if err := n.engine.Snapshot(ctx, vmid, mountedVolumes(snap.Values), name); err != nil {
		return errors.Join(err, n.edit(context.WithoutCancel(ctx), vmid, func(conf *guestconf.Config) error {
			delete(conf.Snapshots, name)
			delete(conf.Values, "lock")
			return nil
		}))
	}
	return n.edit(context.WithoutCancel(ctx), vmid, func(conf *guestconf.Config) error {
		if conf.Values["lock"] != "snapshot" {
			return errors.New("missing snapshot lock")
		}
		delete(conf.Values, "lock")
		delete(conf.Snapshots[name].Values, "snapstate")
		conf.Values["parent"] = name
		return nil
	})
}

// maySnapshot is the beginning of __snapshot_prepare (PVE::AbstractConfig).
func (n *Node) maySnapshot(conf *guestconf.Config, name string) error {
	if conf.Values["template"] == "1" {
		return errors.New("you can't take a snapshot if it's a template")
	}
	if err := checkLock(conf); err != nil {
		return err
	}
	if _, taken := conf.Snapshots[name]; taken {
		return fmt.Errorf("snapshot name '%s' already used", name)
	}
	if !n.hasFeature("snapshot", conf.Values, "", name == "vzdump") {
		return errors.New("snapshot feature is not available")
	}
	return nil
}

// snapshotOf copies what a snapshot keeps of a configuration.
func snapshotOf(conf *guestconf.Config) *guestconf.Config {
	snap := guestconf.New()
	snap.Raw = slices.Clone(conf.Raw)
	for key, value := range conf.Values {
		if key != "lock" && key != "description" && key != "snapstate" && key != "snaptime" && !isUnused(key) {
			snap.Values[key] = value
		}
	}
	return snap
}

func errNoSnapshot(name string) error { return die("snapshot '%s' does not exist", name) }

func deleteSnapshot(c *call) (result, error) {
	n, vmid, name := c.node, c.vmid(), c.params["snapname"]
	return c.startTask("vzdelsnapshot", vmidText(vmid), func(t *tasks.Task) error {
		return n.dropSnapshot(t.Context(), vmid, name)
	})
}

// dropSnapshot is snapshot_delete of PVE::AbstractConfig.
func (n *Node) dropSnapshot(ctx context.Context, vmid int, name string) error {
	var volumes []string
	err := n.edit(ctx, vmid, func(conf *guestconf.Config) error {
		snap := conf.Snapshots[name]
		if snap == nil {
			return errNoSnapshot(name)
		}
		if err := checkLock(conf); err != nil {
			return err
		}
		if conf.Values["template"] == "1" {
			return errors.New("you can't delete a snapshot if vm is a template")
		}
		conf.Values["lock"] = "snapshot-delete"
		snap.Values["snapstate"] = "delete"
		volumes = mountedVolumes(snap.Values)
		return nil
	})
	if err != nil {
		return err
	}
	if err := n.engine.DropSnapshot(ctx, vmid, volumes, name); err != nil {
		return err // the lock stays, as on a real node
	}
	return n.edit(context.WithoutCancel(ctx), vmid, func(conf *guestconf.Config) error {
		parent := ""
		if snap := conf.Snapshots[name]; snap != nil {
			parent = snap.Values["parent"]
			for _, v := range guestVolumes(snap.Values, false) {
				if v.kind() == "volume" && !mentions(conf, name, v.volid) {
					addUnused(conf, v.volid)
				}
			}
		}
		delete(conf.Snapshots, name)
		delete(conf.Values, "lock")
		unlinkParent(conf.Values, name, parent)
		for _, other := range conf.Snapshots {
			unlinkParent(other.Values, name, parent)
		}
		return nil
	})
}

// mentions reports whether anything but that snapshot uses the volume.
func mentions(conf *guestconf.Config, but, volid string) bool {
	used := func(values map[string]string) bool {
		return slices.ContainsFunc(guestVolumes(values, true), func(v guestVolume) bool { return v.volid == volid })
	}
	if used(conf.Values) {
		return true
	}
	for name, s := range conf.Snapshots {
		if name != but && used(s.Values) {
			return true
		}
	}
	return false
}

func unlinkParent(values map[string]string, gone, parent string) {
	switch {
	case values["parent"] != gone:
	case parent == "":
		delete(values, "parent")
	default:
		values["parent"] = parent
	}
}

func rollbackSnapshot(c *call) (result, error) {
	n, vmid, name, start, user := c.node, c.vmid(), c.params["snapname"], c.flag("start"), c.who.id
	return c.startTask("vzrollback", vmidText(vmid), func(t *tasks.Task) error {
		if err := n.rollback(t.Context(), vmid, name); err != nil {
			return err
		}
		if !start {
			return nil
		}
		_, err := n.startTask("vzstart", vmidText(vmid), user, func(t *tasks.Task) error { return n.start(t, vmid) })
		return err
	})
}

// rollback is snapshot_rollback of PVE::AbstractConfig: a guest that runs is killed.
func (n *Node) rollback(ctx context.Context, vmid int, name string) error {
	var volumes []string
	err := n.edit(ctx, vmid, func(conf *guestconf.Config) error {
		if conf.Values["template"] == "1" {
			return errors.New("you can't rollback if vm is a template")
		}
		snap := conf.Snapshots[name]
		if snap == nil {
			return errNoSnapshot(name)
		}
		if err := n.canRollBack(conf, snap, name); err != nil {
			return err
		}
		if state := snap.Values["snapstate"]; state != "" {
			return fmt.Errorf("unable to rollback to incomplete snapshot (snapstate = %s)", state)
		}
		if err := checkLock(conf); err != nil {
			return err
		}
		if n.running(ctx, vmid) {
			if err := n.engine.Stop(ctx, vmid); err != nil {
				return err
			}
		}
		conf.Values["lock"] = "rollback"
		volumes = mountedVolumes(snap.Values)
		return nil
	})
	if err != nil {
		return err
	}
	if err := n.engine.Rollback(ctx, vmid, volumes, name); err != nil {
		return err // the lock stays, as on a real node
	}
	return n.edit(context.WithoutCancel(ctx), vmid, func(conf *guestconf.Config) error {
		if conf.Values["lock"] != "rollback" {
			return errors.New("got wrong lock")
		}
		applySnapshot(conf, name)
		return nil
	})
}

// canRollBack refuses to skip a newer snapshot where the storage cannot (ZFS).
func (n *Node) canRollBack(conf, snap *guestconf.Config, name string) error {
	for _, v := range guestVolumes(snap.Values, false) {
		s, _ := n.storageByID(v.storage())
		if s.Type != "zfspool" {
			continue
		}
		for other, o := range conf.Snapshots {
			if other != name && o.Values["snaptime"] > snap.Values["snaptime"] && strings.Contains(o.Values[v.key], v.volid) {
				return fmt.Errorf("can't rollback, '%s' is not most recent snapshot on '%s'", name, v.volid)
			}
		}
	}
	return nil
}

// applySnapshot makes the configuration that of the snapshot. Description and unused
// volumes stay, volumes that the snapshot does not have become unused.
func applySnapshot(conf *guestconf.Config, name string) {
	snap := conf.Snapshots[name]
	next := snapshotOf(snap)
	for key, value := range conf.Values {
		if isUnused(key) || key == "description" {
			next.Values[key] = value
		}
	}
	for _, v := range guestVolumes(conf.Values, false) {
		has := slices.ContainsFunc(guestVolumes(snap.Values, false), func(w guestVolume) bool { return w.volid == v.volid })
		if v.kind() == "volume" && !has {
			addUnused(next, v.volid)
		}
	}
	next.Values["parent"] = name
	conf.Values, conf.Raw = next.Values, next.Raw
	conf.Pending, conf.Deleted = map[string]string{}, nil
}

// snapshotIndex and the two methods on a snapshot's description.
func snapshotIndex(*call) (result, error) {
	return result{data: []map[string]any{{"cmd": "rollback"}, {"cmd": "config"}}}, nil
}

func getSnapshotConfig(c *call) (result, error) {
	if err := c.needAny(guestACL(c.vmid()), "VM.Snapshot", "VM.Snapshot.Rollback", "VM.Audit"); err != nil {
		return result{}, err
	}
	g, err := c.node.guests.load(c.node, c.vmid())
	if err != nil {
		return result{}, err
	}
	snap := g.conf.Snapshots[c.params["snapname"]]
	if snap == nil {
		return result{}, errNoSnapshot(c.params["snapname"])
	}
	return result{data: c.node.shown(snap, snap.Values)}, nil
}

func putSnapshotConfig(c *call) (result, error) {
	name := c.params["snapname"]
	return result{}, c.node.edit(c.ctx, c.vmid(), func(conf *guestconf.Config) error {
		if err := checkLock(conf); err != nil {
			return err
		}
		snap := conf.Snapshots[name]
		if snap == nil {
			return errNoSnapshot(name)
		}
		if c.has("description") {
			snap.SetDescription(c.params["description"])
		}
		return nil
	})
}
