package pvesim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// cloning is one clone under way.
type cloning struct {
	from, to int
	snapshot string
	storage  string // "" is that of each volume
	full     bool
	pool     string
	target   *Node // that gets the new guest, nil is the source's
	running  bool
	volumes  []guestVolume
	conf     *guestconf.Config
}

// cloneGuest is clone_vm of PVE::API2::LXC. What it refuses before its task, it refuses
// in the order of the real one; the source is locked with "disk" meanwhile, the new
// guest with "create".
func cloneGuest(c *call) (result, error) {
	n, vmid := c.node, c.vmid()
	cl := cloning{from: vmid, to: c.number("newid", 0), snapshot: c.params["snapname"], storage: c.params["storage"], pool: c.params["pool"]}
	if err := c.poolExists(); err != nil {
		return result{}, err
	}
	if err := c.cloneTarget(&cl); err != nil {
		return result{}, err
	}
	if err := n.needQuorum(); err != nil {
		return result{}, err
	}
	source, err := n.setLock(c.ctx, vmid, "disk")
	if err != nil {
		return result{}, err
	}
	if err := n.guests.claim(n, cl.to); err != nil {
		return result{}, errors.Join(err, n.removeLock(c.ctx, vmid, "disk"))
	}
	err = c.planClone(&cl, source)
	if err == nil {
		err = n.guests.store(n, cl.to, cl.conf)
	}
	var res result
	if err == nil {
		res, err = c.startTask("vzclone", vmidText(vmid), func(t *tasks.Task) error { return n.clone(t, cl) })
	}
	if err != nil {
		return result{}, errors.Join(err, n.removeLock(c.ctx, vmid, "disk"), n.guests.remove(n, cl.to))
	}
	return res, nil
}

// cloneTarget checks the node and the storage that the clone goes to.
func (c *call) cloneTarget(cl *cloning) error {
	n := c.node
	if name := c.params["target"]; name != "" && name != n.name && name != "localhost" {
		if cl.target = n.node(name); cl.target == nil {
			return errNoNode(name)
		}
	}
	if cl.storage == "" {
		return nil
	}
	s, err := n.findStorage(cl.storage)
	if err != nil {
		return err
	}
	if cl.target != nil && !s.Shared {
		return die("can't clone to non-shared storage '%s'", cl.storage)
	}
	return nil
}

// errNoNode is check_node_exists of PVE::Cluster.
func errNoNode(name string) error { return die("no such cluster node '%s'", name) }

// planClone makes the configuration of the new guest from that of the source or of its
// snapshot.
func (c *call) planClone(cl *cloning, source *guestconf.Config) error {
	n := c.node
	cl.running = n.running(c.ctx, cl.from)
	cl.full = c.flag("full") || !c.has("full") && source.Values["template"] != "1"
	if cl.storage != "" && !cl.full {
		return die("parameter 'storage' not allowed for linked clones")
	}
	if cl.snapshot != "" {
		if source = source.Snapshots[cl.snapshot]; source == nil {
			return die("snapshot '%s' does not exist", cl.snapshot)
		}
	}
	if err := c.planCloneVolumes(cl, source); err != nil {
		return err
	}
	conf := guestconf.New()
	conf.Raw = slices.Clone(source.Raw)
	for _, key := range slices.Sorted(maps.Keys(source.Values)) {
		value := source.Values[key]
		base, _, _ := pveschema.SplitIndex(key)
		switch {
		case key == "rootfs" || base == "mp" || base == "unused" || slices.Contains(notCloned, key):
		case base == "net":
			p := properties(value, "")
			if err := c.needBridge(p["bridge"]); err != nil {
				return err
			}
			p["hwaddr"] = newMAC() // always another one
			conf.Values[key] = n.formatProperties("net0", p)
		default:
			conf.Values[key] = value
		}
	}
	conf.Values["lock"] = "create"
	if name := c.params["hostname"]; name != "" {
		conf.Values["hostname"] = name
	}
	if text := c.params["description"]; text != "" {
		conf.SetDescription(text)
	}
	cl.conf = conf
	return nil
}

// notCloned are options of the source that a clone does not get.
var notCloned = []string{"lock", "template", "parent", "snaptime", "snapstate", "digest"}

func (c *call) planCloneVolumes(cl *cloning, source *guestconf.Config) error {
	n := c.node
	shared := true
	for _, v := range guestVolumes(source.Values, false) {
		if v.kind() != "volume" {
			return die("unable to clone mountpoint '%s' (type %s)", v.key, v.kind())
		}
		id := v.storage()
		if cl.storage != "" {
			id = cl.storage
		}
		s, err := n.findStorage(id)
		if err != nil {
			return err
		}
		shared = shared && s.Shared
		if err := c.need(storageACL(id), "Datastore.AllocateSpace"); err != nil {
			return err
		}
		if cl.full && cl.running && cl.snapshot == "" {
			return die("Full clone of a running container is only possible from a snapshot")
		}
		if !cl.full && !n.volumeHasFeature("clone", v.volid, cl.snapshot) {
			return die("Linked clone feature for '%s' is not available", v.volid)
		}
		cl.volumes = append(cl.volumes, v)
	}
	if cl.target != nil && !shared {
		return die("can't clone CT to node '%s' (CT uses local storage)", cl.target.name)
	}
	return nil
}

// clone is the body of the task.
func (n *Node) clone(t *tasks.Task, cl cloning) error {
	t.Logf("creating a clone of container %d with ID %d", cl.from, cl.to)
	err := n.cloneDisks(t, cl)
	after := context.Background() // also when the task was interrupted
	if lerr := n.removeLock(after, cl.from, "disk"); lerr != nil {
		t.Logf("%v", lerr)
	}
	if err == nil && cl.pool != "" {
		err = n.access.AddToPool(cl.pool, cl.to)
	}
	if err == nil {
		err = n.finishClone(after, cl)
	}
	if err != nil {
		n.undoCreate(cl.to)
		return fmt.Errorf("clone failed: %w", err)
	}
	return nil
}

// finishClone unlocks the new guest and gives it to the target.
func (n *Node) finishClone(ctx context.Context, cl cloning) error {
	if err := n.removeLock(ctx, cl.to, "create"); err != nil {
		return err
	}
	if cl.target == nil {
		return nil
	}
	g, err := n.guests.load(n, cl.to)
	if err != nil {
		return err
	}
	return n.handOver(ctx, g, cl.target, g.conf, nil)
}

// cloneDisks makes the volumes and their files. Each volume is in the configuration as
// soon as it exists.
func (n *Node) cloneDisks(t *tasks.Task, cl cloning) error {
	ctx := t.Context()
	if n.running(ctx, cl.from) != cl.running {
		return errors.New("unexpected state change")
	}
	for _, v := range cl.volumes {
		st := n.stateOf(v.volid)
		st.mu.Lock()
		old, ok := st.Volumes[v.volid]
		st.mu.Unlock()
		if !ok {
			return errNoVolume(v.volid)
		}
		id := v.storage()
		if cl.full && cl.storage != "" {
			id = cl.storage
		}
		s, err := n.findStorage(id)
		if err != nil {
			return err
		}
		if cl.full {
			t.Logf("create full clone of mountpoint %s (%s)", v.key, v.volid)
		} else {
			t.Logf("create linked clone of mount point %s (%s)", v.key, v.volid)
		}
		volid, err := n.allocate(s, cl.to, old.Bytes)
		if err != nil {
			return err
		}
		if !cl.full {
			volid, err = n.linkVolume(volid, v.volid)
		}
		if err == nil && v.key != "rootfs" {
			err = n.engine.CopyVolume(ctx, v.volid, cl.snapshot, volid)
		}
		if err != nil {
			return err
		}
		cl.conf.Values[v.key] = n.withVolume(v, volid)
		if err := n.guests.store(n, cl.to, cl.conf); err != nil {
			return err
		}
	}
	return n.engine.Clone(ctx, cl.from, cl.snapshot, engineGuest(cl.to, cl.conf.Values))
}

// linkVolume names a new volume as ZFS and btrfs name one that stands on a base:
// base-100-disk-0/vm-101-disk-0. Others keep their names.
func (n *Node) linkVolume(volid, base string) (string, error) {
	id, name, _ := strings.Cut(volid, ":")
	if s, _ := n.storageByID(id); s.Type != "zfspool" && s.Type != "btrfs" {
		return volid, nil
	}
	_, baseName, _ := strings.Cut(base, ":")
	linked := id + ":" + baseName[strings.LastIndex(baseName, "/")+1:] + "/" + name
	return linked, n.renameVolume(volid, linked)
}

// renameVolume gives a volume another id.
func (n *Node) renameVolume(from, to string) error {
	st := n.stateOf(from)
	st.mu.Lock()
	defer st.mu.Unlock()
	v, ok := st.Volumes[from]
	if !ok {
		return errNoVolume(from)
	}
	delete(st.Volumes, from)
	st.Volumes[to] = v
	return st.save()
}
