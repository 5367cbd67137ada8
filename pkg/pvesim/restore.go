package pvesim

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// fromBackup makes a guest from a backup (the restore half of create_vm); the caller
// holds the lock. Nothing of a guest that is overwritten is touched before the new disks
// are there.
func (n *Node) fromBackup(t *tasks.Task, cr *creation) error {
	ctx := t.Context()
	if n.running(ctx, cr.vmid) {
		return errors.New("can't overwrite running container")
	}
	t.Logf("recovering backed-up configuration from '%s'", cr.volid)
	b, ok := n.backup(cr.volid)
	if !ok {
		return errNoVolume(cr.volid)
	}
	text, err := b.fileNamed(archivedConfig)
	if err != nil {
		return err
	}
	old, err := n.guests.load(n, cr.vmid)
	if err != nil {
		return err
	}
	saved := guestconf.Parse(text)
	if err := cr.mayRestore(n, saved, old.conf); err != nil {
		return err
	}
	if len(cr.disks) == 0 {
		if err := n.disksOf(cr, saved.Values); err != nil {
			return err
		}
	}
	cr.touched = true
	replaced := n.referenced(cr.vmid, old.conf)
	if err := n.createDisks(t, cr); err != nil {
		return err
	}
	if cr.over {
		if err := errors.Join(n.engine.Destroy(ctx, cr.vmid), n.freeVolumes(ctx, replaced...)); err != nil {
			return err
		}
	}
	t.Logf("restoring '%s' now..", cr.volid)
	t.Logf("extracting archive '/var/lib/vz/dump/%s'", b.name)
	merge(n, cr, saved)
	if err := n.unpackBackup(ctx, b, engineGuest(cr.vmid, cr.conf.Values), cr.conf); err != nil {
		return err
	}
	t.Logf("merging backed-up and given configuration..")
	setDefaults(cr.vmid, cr.conf)
	if saved.Values["template"] == "1" {
		t.Logf("Convert restored container to template...")
		if err := n.makeBase(t, cr.conf); err != nil {
			return err
		}
		cr.conf.Values["template"] = "1"
	}
	return n.guests.store(n, cr.vmid, cr.conf)
}

// mayRestore decides between privileged and unprivileged, and checks the bridges that
// the backup brings.
func (cr *creation) mayRestore(n *Node, saved, old *guestconf.Config) error {
	for _, key := range slices.Sorted(maps.Keys(saved.Values)) {
		base, _, _ := pveschema.SplitIndex(key)
		if _, given := cr.conf.Values[key]; base != "net" || given {
			continue
		}
		if bridge := properties(saved.Values[key], "")["bridge"]; bridge != "" {
			if err := cr.may(n.bridgeACL(bridge), "SDN.Use"); err != nil {
				return err
			}
		}
	}
	if cr.unprivileged == "" && saved.Values["unprivileged"] == "1" {
		cr.conf.Values["unprivileged"] = "1"
	}
	if cr.conf.Values["unprivileged"] != "1" && (!cr.over || old.Values["unprivileged"] == "1") {
		return cr.may("/", "Sys.Modify")
	}
	return nil
}

// disksOf plans the disks as the backup describes them, all on one storage.
func (n *Node) disksOf(cr *creation, values map[string]string) error {
	s, err := n.findStorage(cr.storage)
	if err != nil {
		return err
	}
	if values["rootfs"] == "" {
		//lint:ignore ST1005 the real text
		return errors.New("rootfs configuration could not be recovered, please check and specify manually!")
	}
	for _, v := range guestVolumes(values, false) {
		if v.kind() != "volume" {
			if !cr.root {
				return fmt.Errorf("restoring '%s' to %s mount is only possible for root", v.key, v.kind())
			}
			cr.conf.Values[v.key] = values[v.key]
			continue
		}
		bytes, err := parseSize(v.options["size"])
		if err != nil || bytes == 0 {
			return fmt.Errorf("unable to detect disk size - please specify %s (size)", v.key)
		}
		cr.disks = append(cr.disks, disk{key: v.key, storage: s, bytes: bytes, options: v.options})
	}
	return nil
}

// merge adds what the backup says to what was asked for (sanitize_and_merge_config of
// PVE::LXC::Create).
func merge(n *Node, cr *creation, saved *guestconf.Config) {
	for key, value := range saved.Values {
		base, _, _ := pveschema.SplitIndex(key)
		_, given := cr.conf.Values[key]
		switch {
		case slices.Contains([]string{"rootfs", "unprivileged", "parent", "lock", "template"}, key) || base == "mp" || base == "unused":
		case key == "features" && !cr.root && cr.conf.Values["unprivileged"] != "1" && saved.Values["unprivileged"] == "1":
		case base == "net" && cr.unique:
			p := properties(value, "")
			p["hwaddr"] = newMAC()
			cr.conf.Values[key] = n.formatProperties("net0", p)
		case !given:
			cr.conf.Values[key] = value
		}
	}
	if cr.root {
		cr.conf.Raw = slices.Clone(saved.Raw)
	}
}

// unpackBackup fills root file system and volumes. What the archive has below a mount
// point goes into its volume.
func (n *Node) unpackBackup(ctx context.Context, b backupFile, g engine.Guest, conf *guestconf.Config) error {
	extract := func(rename func(string) (string, bool), read func(io.Reader) error) error {
		from, done, err := b.open()
		if err != nil {
			return err
		}
		defer done()
		return pipe(func(w io.Writer) error {
			tw := tar.NewWriter(w)
			if err := copyEntries(ctx, tw, from, rename); err != nil {
				return err
			}
			return tw.Close()
		}, read)
	}
	skip := []string{"/etc/vzdump"}
	var volumes []guestVolume
	for _, v := range guestVolumes(conf.Values, false) {
		if v.key != "rootfs" && v.kind() == "volume" {
			skip = append(skip, v.path)
			volumes = append(volumes, v)
		}
	}
	if err := extract(without(skip...), func(r io.Reader) error { return n.engine.Restore(ctx, g, r) }); err != nil {
		return err
	}
	for _, v := range volumes {
		err := extract(only(v.path), func(r io.Reader) error { return n.engine.RestoreVolume(ctx, v.volid, g.Unprivileged, r) })
		if err != nil {
			return err
		}
	}
	return nil
}
