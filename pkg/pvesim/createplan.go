package pvesim

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// planTemplate finds the template's storage; whether the file exists is the task's
// business, after the disk was made.
func (c *call) planTemplate(cr *creation) error {
	cr.volid = c.params["ostemplate"]
	id, name, ok := strings.Cut(cr.volid, ":")
	if !ok {
		return die("Only root can pass arbitrary filesystem paths. at /usr/share/perl5/PVE/Storage.pm line 651.")
	}
	s, err := c.node.findStorage(id)
	if err != nil {
		return err
	}
	if cr.restore {
		return c.mayReadBackup(cr.volid, cr.vmid)
	}
	if cr.template, ok = strings.CutPrefix(name, "vztmpl/"); !ok || !slices.Contains(s.Content, "vztmpl") {
		return die("unable to use volume '%s' - content type needs to be 'vztmpl'", cr.volid)
	}
	if !c.may(storageACL(id), "Datastore.Audit", "Datastore.AllocateSpace", "Datastore.Allocate") {
		return c.need(storageACL(id), "Datastore.AllocateSpace")
	}
	return nil
}

var newDiskRE = regexp.MustCompile(`^([^:\s]+):(\d+(?:\.\d+)?)$`)

// planDisks resolves rootfs and mount points to storages, with the permission to
// allocate there.
func (c *call) planDisks(cr *creation) error {
	fallback := cr.storage
	specs := map[string]string{}
	for key, value := range c.params {
		if key == "rootfs" || isMountPoint(key) {
			specs[key] = value
		}
	}
	if _, ok := specs["rootfs"]; !ok {
		if len(specs) > 0 {
			return die("mount points configured, but 'rootfs' not set - aborting")
		}
		if cr.restore { // the backup tells
			_, err := c.rootStorage(fallback)
			return err
		}
		specs["rootfs"] = fallback + ":" + defaultRootfsGiB
	}
	for _, v := range guestVolumes(specs, false) { // rootfs first
		d, err := c.planDisk(v.key, specs[v.key], fallback)
		if err != nil {
			return err
		}
		cr.disks = append(cr.disks, d)
	}
	return nil
}

func (c *call) planDisk(key, spec, fallback string) (disk, error) {
	options := properties(spec, "volume")
	volume := options["volume"]
	if !strings.Contains(volume, ":") {
		volume = fallback + ":" + volume
	}
	m := newDiskRE.FindStringSubmatch(volume)
	if m == nil {
		return disk{}, die("unable to parse volume ID '%s'", options["volume"])
	}
	s, err := c.rootStorage(m[1])
	if err != nil {
		return disk{}, err
	}
	bytes, err := parseSize(m[2] + "G")
	if err != nil {
		return disk{}, die("%s", err.Error())
	}
	return disk{key: key, storage: s, bytes: bytes, options: options}, nil
}

// rootStorage finds a storage on which the caller may put a guest's disks.
func (c *call) rootStorage(id string) (Storage, error) {
	s, err := c.node.findStorage(id)
	if err != nil {
		return s, err
	}
	if !slices.Contains(s.Content, "rootdir") {
		return s, paramError("storage", "storage '"+s.ID+"' does not support container directories")
	}
	return s, c.need(storageACL(s.ID), "Datastore.AllocateSpace")
}

func isMountPoint(key string) bool {
	return strings.HasPrefix(key, "mp") && strings.Trim(key[2:], "0123456789") == "" && len(key) > 2
}

// warnNesting is the warning that makes a task end as WARNINGS: 1.
func warnNesting(t *tasks.Task, osType string, g engine.Guest) {
	if g.Unprivileged && !g.Nesting && (osType == "debian" || osType == "ubuntu") {
		t.Warnf("Systemd 252 detected. You may need to enable nesting.")
	}
}

func (n *Node) createDisks(t *tasks.Task, cr *creation) error {
	for _, d := range cr.disks {
		used := n.usage(d.storage)
		if d.bytes > (d.storage.Bytes-used)*4 { // thin: four times what is free may be promised
			return fmt.Errorf("unable to create image: no space left on storage '%s'", d.storage.ID)
		}
		volid, err := n.allocate(d.storage, cr.vmid, d.bytes)
		if err != nil {
			return err
		}
		options := maps.Clone(d.options)
		options["volume"], options["size"] = volid, formatSize(d.bytes)
		option := "rootfs"
		if d.key != "rootfs" {
			option = "mp0"
		}
		cr.conf.Values[d.key] = n.formatProperties(option, options)
		name := volid[strings.LastIndexAny(volid, ":/")+1:]
		if d.storage.Type == "lvmthin" {
			t.Logf("  Logical volume \"%s\" created.", name)
		} else {
			t.Logf("Formatting '%s', fmt=raw size=%d preallocation=off", name, d.bytes)
		}
		t.Logf("Creating filesystem with %d 4k blocks and %d inodes", d.bytes/4096, d.bytes/16384)
		t.Logf("Filesystem UUID: %s", newUUID())
	}
	return nil
}

// undoCreate removes everything of a failed create. It does not stop at an error: what
// stays is reported in the log of the node.
func (n *Node) undoCreate(vmid int) {
	ctx := context.Background() // also when the task was interrupted
	if err := n.engine.Destroy(ctx, vmid); err != nil {
		n.log.Error("failed create left a root file system", "vmid", vmid, "error", err)
	}
	if err := n.freeGuestVolumes(ctx, vmid); err != nil {
		n.log.Error("failed create left volumes", "vmid", vmid, "error", err)
	}
	if err := n.guests.remove(n, vmid); err != nil {
		n.log.Error("failed create left a configuration", "vmid", vmid, "error", err)
	}
}
