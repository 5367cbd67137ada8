package pvesim

import (
	"context"
	"errors"
	"fmt"

	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// moving is one move_volume.
type moving struct {
	vmid, to     int
	key, target  string // volume keys
	digest       string
	targetDigest string
	storage      Storage
	deleteSource bool
	volid        string
}

// moveVolume gives a volume to another guest or copies it to another storage.
func moveVolume(c *call) (result, error) {
	m := moving{
		vmid: c.vmid(), to: c.number("target-vmid", 0), key: c.params["volume"], target: c.params["target-volume"],
		digest: c.params["digest"], targetDigest: c.params["target-digest"], deleteSource: c.flag("delete"),
	}
	if m.target == "" {
		m.target = m.key
	}
	switch {
	case c.has("storage") && c.has("target-vmid"):
		return result{}, die("either set storage or target-vmid, but not both")
	case c.has("target-vmid"):
		return c.reassignVolume(m)
	case c.has("storage"):
		return c.moveToStorage(m)
	default:
		const msg = "either set 'storage' or 'target-vmid'"
		return result{}, paramErrors(map[string]string{"target-vmid": msg, "storage": msg})
	}
}

func (c *call) reassignVolume(m moving) (result, error) {
	n := c.node
	if err := c.need(guestACL(m.to), "VM.Config.Disk"); err != nil {
		return result{}, err
	}
	_, _, v, err := n.checkReassign(c.ctx, m)
	if err != nil {
		return result{}, err
	}
	if err := c.need(storageACL(v.storage()), "Datastore.AllocateSpace"); err != nil {
		return result{}, err
	}
	id := fmt.Sprintf("%d-%s>%d-%s", m.vmid, m.key, m.to, m.target)
	return c.startTask("move_volume", id, func(t *tasks.Task) error { return n.reassign(t, m) })
}

// checkReassign says no as move_volume of PVE::API2::LXC does.
func (n *Node) checkReassign(ctx context.Context, m moving) (from, to *guestFile, v guestVolume, err error) {
	if m.key == "rootfs" || m.target == "rootfs" {
		return nil, nil, v, die("Cannot move to/from 'rootfs'")
	}
	if isUnused(m.key) && !isUnused(m.target) {
		return nil, nil, v, die("Moving an unused volume to a used one is not possible")
	}
	if from, err = n.guests.load(n, m.vmid); err != nil {
		return nil, nil, v, die("could not find CT %d", m.vmid)
	}
	owner := n.ownerOf(m.to)
	if owner == nil {
		return nil, nil, v, die("could not find CT %d", m.to)
	}
	if owner != n {
		return nil, nil, v, die("Both containers need to be on the same node (%s != %s)", n.name, owner.name)
	}
	if to, err = n.guests.load(n, m.to); err != nil {
		return nil, nil, v, err
	}
	return from, to, v, n.checkReassigned(ctx, m, from, to, &v)
}

func (n *Node) checkReassigned(ctx context.Context, m moving, from, to *guestFile, v *guestVolume) error {
	const modified = "detected modified configuration - file changed by other user? Try again."
	if err := errors.Join(checkLock(from.conf), checkLock(to.conf)); err != nil {
		return err
	}
	value, ok := from.conf.Values[m.key]
	_, taken := to.conf.Values[m.target]
	for _, w := range guestVolumes(map[string]string{m.key: value}, true) {
		*v = w
	}
	switch {
	case from.conf.Values["template"] == "1" || to.conf.Values["template"] == "1":
		return die("Can't move volumes from or to template CT")
	case m.digest != "" && m.digest != from.digest:
		return die("Container %d: "+modified, m.vmid)
	case m.targetDigest != "" && m.targetDigest != to.digest:
		return die("Container %d: "+modified, m.to)
	case !ok:
		return die("volume '%s' for container '%d' does not exist", m.key, m.vmid)
	case taken:
		return die("Target volume key '%s' is already in use for container '%d'", m.target, m.to)
	case usedBySnapshots(from.conf, v.volid):
		return die("Cannot move volume used by a snapshot to another container")
	case !n.volumeHasFeature("rename", v.volid, ""):
		return die("Storage does not support moving of this disk to another container")
	case v.kind() != "volume":
		return die("Cannot move a bindmount or device mount to another container")
	case n.running(ctx, m.vmid) && !isUnused(m.key):
		return die("Cannot move in-use volume while the source CT is running - detach or shutdown first")
	}
	return nil
}

// reassign is the body of the task. Both file locks are held, the source's first.
func (n *Node) reassign(t *tasks.Task, m moving) error {
	ctx := t.Context()
	unlock, err := n.guests.lock(ctx, m.vmid, n.cfg.LockTimeout)
	if err != nil {
		return err
	}
	defer unlock()
	if m.to != m.vmid {
		unlock, err := n.guests.lock(ctx, m.to, n.cfg.LockTimeout)
		if err != nil {
			return err
		}
		defer unlock()
	}
	from, to, v, err := n.checkReassign(ctx, m)
	if err != nil {
		return err
	}
	t.Logf("moving volume '%s' from container '%d' to '%d'", m.key, m.vmid, m.to)
	volid, err := n.giveVolume(ctx, v.volid, m.to)
	if err != nil {
		return err
	}
	t.Logf("removing volume '%s' from container '%d' config", m.key, m.vmid)
	source := from.conf.Clone()
	delete(source.Values, m.key)
	target := to.conf.Clone()
	if m.to == m.vmid {
		target = source
	}
	if isUnused(m.target) {
		target.Values[m.target] = volid
	} else {
		target.Values[m.target] = n.withVolume(v, volid)
	}
	// The order of the real code: a crash in between leaves the volume in neither.
	if err := n.guests.store(n, m.vmid, source); err != nil {
		return err
	}
	if err := n.guests.store(n, m.to, target); err != nil {
		return err
	}
	if n.running(ctx, m.to) && !isUnused(m.target) {
		if err := n.engine.Update(ctx, engineGuest(m.to, target.Values)); err != nil {
			t.Warnf("unable to hotplug %s: %v", m.target, err)
		}
	}
	t.Logf("target container '%d' updated with '%s'", m.to, m.target)
	return nil
}

// giveVolume makes another guest the owner of a volume, under a name of its own.
func (n *Node) giveVolume(ctx context.Context, volid string, vmid int) (string, error) {
	st := n.stateOf(volid)
	st.mu.Lock()
	old, ok := st.Volumes[volid]
	st.mu.Unlock()
	if !ok {
		return "", errNoVolume(volid)
	}
	s, err := n.findStorage(guestVolume{volid: volid}.storage())
	if err != nil {
		return "", err
	}
	next, err := n.allocate(s, vmid, old.Bytes)
	if err != nil {
		return "", err
	}
	if err := n.engine.RenameVolume(ctx, volid, next); err != nil {
		return "", errors.Join(err, n.release(next))
	}
	return next, n.release(volid)
}

func (c *call) moveToStorage(m moving) (result, error) {
	n := c.node
	if err := c.need(storageACL(c.params["storage"]), "Datastore.AllocateSpace"); err != nil {
		return result{}, err
	}
	var err error
	if m.storage, err = n.findStorage(c.params["storage"]); err != nil {
		return result{}, err
	}
	if isUnused(m.key) {
		return result{}, die("cannot move volume '%s', only configured volumes can be moved to another storage", m.key)
	}
	g, err := n.guests.load(n, m.vmid)
	if err != nil {
		return result{}, err
	}
	switch {
	case checkLock(g.conf) != nil:
		return result{}, checkLock(g.conf)
	case n.running(c.ctx, m.vmid):
		return result{}, die("cannot move volumes of a running container")
	case g.conf.Values[m.key] == "":
		return result{}, die("unable to parse volume ''")
	case m.digest != "" && m.digest != g.digest:
		return result{}, die("detected modified configuration - file changed by other user? Try again.")
	}
	m.volid = properties(g.conf.Values[m.key], "volume")["volume"]
	if m.deleteSource && usedBySnapshots(g.conf, m.volid) {
		return result{}, die("you can't move a volume with snapshots and delete the source")
	}
	if _, err := n.setLock(c.ctx, m.vmid, "disk"); err != nil {
		return result{}, err
	}
	res, err := c.startTask("move_volume", vmidText(m.vmid), func(t *tasks.Task) error {
		err := n.moveDisk(t, m)
		return errors.Join(err, n.removeLock(context.WithoutCancel(t.Context()), m.vmid, "disk"))
	})
	if err != nil {
		return result{}, errors.Join(err, n.removeLock(c.ctx, m.vmid, "disk"))
	}
	return res, nil
}

// moveDisk copies a volume to another storage and lets the old one go, or keeps it as
// unused.
func (n *Node) moveDisk(t *tasks.Task, m moving) error {
	ctx := t.Context()
	st := n.stateOf(m.volid)
	st.mu.Lock()
	old, ok := st.Volumes[m.volid]
	st.mu.Unlock()
	if !ok {
		return errNoVolume(m.volid)
	}
	volid, err := n.allocate(m.storage, m.vmid, old.Bytes)
	if err != nil {
		return err
	}
	if m.key != "rootfs" {
		if err := n.engine.CopyVolume(ctx, m.volid, "", volid); err != nil {
			return errors.Join(err, n.freeVolumes(context.WithoutCancel(ctx), volid))
		}
	}
	err = n.edit(ctx, m.vmid, func(conf *guestconf.Config) error {
		for _, v := range guestVolumes(conf.Values, false) {
			if v.key == m.key {
				conf.Values[m.key] = n.withVolume(v, volid)
			}
		}
		if !m.deleteSource {
			addUnused(conf, m.volid)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, n.freeVolumes(context.WithoutCancel(ctx), volid))
	}
	if m.deleteSource {
		return n.freeVolumes(ctx, m.volid)
	}
	return nil
}
