package pvesim

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"

	"golang.org/x/crypto/ssh"
)

// notOptions are parameters of create that are not options of the guest.
var notOptions = map[string]bool{
	"node": true, "vmid": true, "ostemplate": true, "storage": true, "password": true, "ssh-public-keys": true, "start": true,
	"pool": true, "restore": true, "force": true, "unique": true, "bwlimit": true, "ignore-unpack-errors": true, "ha-managed": true,
	"unprivileged": true, "rootfs": true,
}

// defaultRootfsGiB is what a guest gets whose root file system was not described.
const defaultRootfsGiB = "4"

// creation is one create under way.
type creation struct {
	vmid     int
	volid    string // of the template
	template string // its file name
	disks    []disk
	conf     *guestconf.Config
	sshKeys  string
	start    bool
	user     string
	pool     string
}

// disk is a root file system or a mount point that is to be made.
type disk struct {
	key     string // rootfs, mp0
	storage Storage
	bytes   int64
	options map[string]string
}

// createGuest checks what the real server checks before it answers, claims the VMID and
// leaves the rest to a task.
func createGuest(c *call) (result, error) {
	n, vmid := c.node, c.vmid()
	if err := n.needQuorum(); err != nil {
		return result{}, err
	}
	if owner := n.ownerOf(vmid); owner != nil {
		return result{}, errExists(owner, vmid)
	}
	cr := creation{vmid: vmid, conf: guestconf.New(), start: c.flag("start"), user: c.who.id, sshKeys: c.params["ssh-public-keys"], pool: c.params["pool"]}
	if err := checkSSHKeys(cr.sshKeys); err != nil {
		return result{}, err
	}
	if err := c.poolExists(); err != nil {
		return result{}, err
	}
	if c.needGuest(modification{vmid: vmid, pool: c.params["pool"]}, "VM.Allocate") != nil {
		return result{}, permError("")
	}
	if c.flag("restore") {
		return result{}, die("unable to restore CT %d - backups are not simulated", vmid)
	}
	unprivileged := !c.has("unprivileged") || c.flag("unprivileged")
	if !unprivileged {
		if err := c.need("/", "Sys.Modify"); err != nil {
			return result{}, err
		}
	}
	m := modification{vmid: vmid, unprivileged: unprivileged, pool: c.params["pool"]}
	for _, key := range slices.Sorted(maps.Keys(c.params)) {
		if notOptions[key] && key != "rootfs" {
			continue
		}
		if err := c.mayModify(m, key, c.params[key]); err != nil {
			return result{}, err
		}
	}
	if err := c.planTemplate(&cr); err != nil {
		return result{}, err
	}
	if err := c.planDisks(&cr); err != nil {
		return result{}, err
	}
	c.planOptions(&cr, unprivileged)
	if err := n.guests.claim(n, vmid); err != nil {
		return result{}, die("unable to create CT %d - %s", vmid, err.Error())
	}
	res, err := c.startTask("vzcreate", vmidText(vmid), func(t *tasks.Task) error { return n.create(t, cr) })
	if err != nil {
		_ = n.guests.remove(n, vmid) // nobody has seen the claim
	}
	return res, err
}

func checkSSHKeys(keys string) error {
	rest := []byte(strings.TrimSpace(keys))
	for len(rest) > 0 {
		var err error
		if _, _, _, rest, err = ssh.ParseAuthorizedKey(rest); err != nil {
			return die("SSH public key validation error")
		}
	}
	return nil
}

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
	fallback := "local"
	if s, ok := c.params["storage"]; ok {
		fallback = s
	}
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
		specs["rootfs"] = fallback + ":" + defaultRootfsGiB
	}
	for _, key := range slices.Sorted(maps.Keys(specs)) {
		d, err := c.planDisk(key, specs[key], fallback)
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
	s, err := c.node.findStorage(m[1])
	if err != nil {
		return disk{}, err
	}
	if !slices.Contains(s.Content, "rootdir") {
		return disk{}, paramError("storage", "storage '"+s.ID+"' does not support container directories")
	}
	if err := c.need(storageACL(s.ID), "Datastore.AllocateSpace"); err != nil {
		return disk{}, err
	}
	bytes, err := parseSize(m[2] + "G")
	if err != nil {
		return disk{}, die("%s", err.Error())
	}
	return disk{key: key, storage: s, bytes: bytes, options: options}, nil
}

func isMountPoint(key string) bool {
	return strings.HasPrefix(key, "mp") && strings.Trim(key[2:], "0123456789") == "" && len(key) > 2
}

// planOptions fills the configuration with everything but the disks.
func (c *call) planOptions(cr *creation, unprivileged bool) {
	for key, value := range c.params {
		switch {
		case notOptions[key] || isMountPoint(key) || value == "":
		case key == "description":
			cr.conf.SetDescription(value)
		default:
			cr.conf.Values[key] = c.node.canonical(key, value)
		}
	}
	if unprivileged {
		cr.conf.Values["unprivileged"] = "1"
	}
	if cr.conf.Values["arch"] == "" {
		cr.conf.Values["arch"] = "amd64"
	}
	if cr.conf.Values["ostype"] == "" {
		cr.conf.Values["ostype"] = osTypeOf(cr.template)
	}
}

// osTypeOf reads the operating system from a template's name, where the real server
// looks into the files.
func osTypeOf(template string) string {
	name, _, _ := strings.Cut(template, "-")
	for _, known := range []string{"debian", "devuan", "ubuntu", "centos", "fedora", "opensuse", "archlinux", "alpine", "gentoo", "nixos"} {
		if name == known {
			return known
		}
	}
	return "unmanaged"
}

// create is the body of the vzcreate task. It holds the configuration lock throughout
// and removes what it made when it fails.
func (n *Node) create(t *tasks.Task, cr creation) (err error) {
	unlock, err := n.guests.lock(t.Context(), cr.vmid, n.cfg.LockTimeout)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			n.undoCreate(cr.vmid)
			err = fmt.Errorf("unable to create CT %d - %w", cr.vmid, err)
		}
		unlock()
		if err == nil && cr.start {
			// A task of its own: this one ends well even if the guest does not start.
			if _, serr := n.startTask("vzstart", vmidText(cr.vmid), cr.user, func(t *tasks.Task) error { return n.start(t, cr.vmid) }); serr != nil {
				t.Logf("start failed: %v", serr)
			}
		}
	}()
	if err := n.createDisks(t, cr); err != nil {
		return err
	}
	if !n.hasTemplate(cr.template) {
		t.Logf("volume '%s' does not exist", cr.volid)
		return fmt.Errorf("volume '%s' does not exist", cr.volid)
	}
	g := engineGuest(cr.vmid, cr.conf.Values)
	g.Template, g.SSHKeys = cr.template, cr.sshKeys
	if err := n.engine.Create(t.Context(), g, t); err != nil {
		return err
	}
	t.Logf("Detected container architecture: %s", cr.conf.Values["arch"])
	warnNesting(t, cr.conf.Values["ostype"], g)
	if err := n.guests.store(n, cr.vmid, cr.conf); err != nil || cr.pool == "" {
		return err
	}
	return n.access.AddToPool(cr.pool, cr.vmid)
}

// warnNesting is the warning that makes a task end as WARNINGS: 1.
func warnNesting(t *tasks.Task, osType string, g engine.Guest) {
	if g.Unprivileged && !g.Nesting && (osType == "debian" || osType == "ubuntu") {
		t.Warnf("Systemd 252 detected. You may need to enable nesting.")
	}
}

func (n *Node) createDisks(t *tasks.Task, cr creation) error {
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
	if err := n.releaseGuest(vmid); err != nil {
		n.log.Error("failed create left volumes", "vmid", vmid, "error", err)
	}
	if err := n.guests.remove(n, vmid); err != nil {
		n.log.Error("failed create left a configuration", "vmid", vmid, "error", err)
	}
}
