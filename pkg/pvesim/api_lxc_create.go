package pvesim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

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

// creation is one create or restore under way.
type creation struct {
	vmid     int
	volid    string // of the template or the backup
	template string // its file name
	disks    []disk
	conf     *guestconf.Config
	sshKeys  string
	start    bool
	user     string
	pool     string
	root     bool // root@pam itself asks

	unprivileged string // "" lets the backup decide
	restore      bool
	unique       bool   // new MAC addresses
	over         bool   // force, and there is a guest
	storage      string // for disks that the backup describes
	may          func(path string, privileges ...string) error
	touched      bool // what was there before is gone
}

// prefix is how messages about it begin.
func (cr *creation) prefix() string {
	if cr.restore {
		return fmt.Sprintf("unable to restore CT %d - ", cr.vmid)
	}
	return fmt.Sprintf("unable to create CT %d - ", cr.vmid)
}

// disk is a root file system or a mount point that is to be made.
type disk struct {
	key     string // rootfs, mp0
	storage Storage
	bytes   int64
	options map[string]string
}

// createGuest is create_vm of PVE::API2::LXC: it checks in the order of the real server
// what that checks before it answers, claims the VMID and leaves the rest to a task.
func createGuest(c *call) (result, error) {
	n, vmid := c.node, c.vmid()
	if err := n.needQuorum(); err != nil {
		return result{}, err
	}
	cr := creation{
		vmid: vmid, conf: guestconf.New(), start: c.flag("start"), user: c.who.id, root: c.who.isRoot(), sshKeys: c.params["ssh-public-keys"],
		restore: c.flag("restore"), unique: c.flag("unique"), unprivileged: c.params["unprivileged"], storage: "local", may: c.need, pool: c.params["pool"],
	}
	if s, ok := c.params["storage"]; ok {
		cr.storage = s
	}
	if !cr.restore && cr.unprivileged == "" {
		cr.unprivileged = strconv.Itoa(number(!c.node.cfg.Version.before("9.0"))) // the default of older versions is 0
	}
	if err := c.mayCreate(&cr); err != nil {
		return result{}, err
	}
	if err := c.planTemplate(&cr); err != nil {
		return result{}, err
	}
	if err := c.planDisks(&cr); err != nil {
		return result{}, err
	}
	c.planOptions(&cr)
	if err := n.claimFor(c.ctx, cr); err != nil {
		return result{}, die("%s%s", cr.prefix(), err.Error())
	}
	kind := "vzcreate"
	if cr.restore {
		kind = "vzrestore"
	}
	res, err := c.startTask(kind, vmidText(vmid), func(t *tasks.Task) error { return n.create(t, &cr) })
	if err != nil && cr.over {
		err = errors.Join(err, n.removeLock(c.ctx, vmid, "create"))
	} else if err != nil {
		_ = n.guests.remove(n, vmid) // nobody has seen the claim
	}
	return res, err
}

// claimFor makes the configuration that says "lock: create", or locks the one that is to
// be overwritten.
func (n *Node) claimFor(ctx context.Context, cr creation) error {
	if !cr.over {
		return n.guests.claim(n, cr.vmid)
	}
	_, err := n.setLock(ctx, cr.vmid, "create")
	return err
}

// mayCreate checks the VMID and the caller's rights.
func (c *call) mayCreate(cr *creation) error {
	n := c.node
	privileged := cr.unprivileged == "0"
	if !cr.restore && privileged {
		if err := c.need("/", "Sys.Modify"); err != nil {
			return err
		}
	}
	if c.flag("ha-managed") {
		if err := c.need("/", "Sys.Console"); err != nil {
			return err
		}
	}
	old, err := n.guests.load(n, cr.vmid)
	switch {
	case err == nil && cr.restore && c.flag("force"):
		cr.over = true
		if n.running(c.ctx, cr.vmid) {
			return die("can't overwrite running container")
		}
		if old.conf.Values["protection"] == "1" {
			return die("unable to restore CT %d - protection mode enabled", cr.vmid)
		}
	default:
		if owner := n.ownerOf(cr.vmid); owner != nil {
			return errExists(owner, cr.vmid)
		}
	}
	if err := checkSSHKeys(cr.sshKeys); err != nil {
		return err
	}
	if err := c.poolExists(); err != nil {
		return err
	}
	if err := c.mayAllocate(cr, old); err != nil {
		return err
	}
	m := modification{vmid: cr.vmid, pool: cr.pool, unprivileged: !privileged && (cr.unprivileged == "1" || cr.restore)}
	for _, key := range slices.Sorted(maps.Keys(c.params)) {
		if notOptions[key] && key != "rootfs" {
			continue
		}
		if err := c.mayModify(m, key, c.params[key]); err != nil {
			return err
		}
	}
	return nil
}

// mayAllocate demands VM.Allocate on the guest, or for a restore over one VM.Backup.
func (c *call) mayAllocate(cr *creation, old *guestFile) error {
	switch {
	case c.needGuest(modification{vmid: cr.vmid, pool: cr.pool}, "VM.Allocate") == nil:
		return nil
	case cr.over && c.may(guestACL(cr.vmid), "VM.Backup"):
		if old.conf.Values["unprivileged"] == "1" && cr.unprivileged == "0" {
			return c.need("/", "Sys.Modify")
		}
		return nil
	}
	return permError("")
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

// planOptions fills the configuration with everything but the disks.
func (c *call) planOptions(cr *creation) {
	for key, value := range c.params {
		switch {
		case notOptions[key] || isMountPoint(key) || isUnused(key) || value == "":
		case key == "description":
			cr.conf.SetDescription(value)
		default:
			cr.conf.Values[key] = c.node.canonical(key, value)
		}
	}
	if cr.unprivileged == "1" {
		cr.conf.Values["unprivileged"] = "1"
	}
	if cr.restore {
		return
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

// create is the body of the task. It holds the configuration lock throughout and removes
// what it made when it fails.
func (n *Node) create(t *tasks.Task, cr *creation) (err error) {
	unlock, err := n.guests.lock(t.Context(), cr.vmid, n.cfg.LockTimeout)
	if err != nil {
		return err
	}
	build := n.fromTemplate
	if cr.restore {
		build = n.fromBackup
	}
	err = build(t, cr)
	if err == nil && cr.pool != "" {
		// As in the real code a guest that the pool does not take stays.
		if err := n.access.AddToPool(cr.pool, cr.vmid); err != nil {
			unlock()
			return err
		}
	}
	switch {
	case err == nil:
	case cr.over && !cr.touched:
		if g, lerr := n.guests.load(n, cr.vmid); lerr == nil {
			conf := g.conf.Clone()
			delete(conf.Values, "lock")
			err = errors.Join(err, n.guests.store(n, cr.vmid, conf))
		}
	default:
		n.undoCreate(cr.vmid)
	}
	unlock()
	if err != nil {
		return fmt.Errorf("%s%w", cr.prefix(), err)
	}
	if cr.start {
		// A task of its own: this one ends well even if the guest does not start.
		if _, serr := n.startTask("vzstart", vmidText(cr.vmid), cr.user, func(t *tasks.Task) error { return n.start(t, cr.vmid) }); serr != nil {
			t.Logf("start failed: %v", serr)
		}
	}
	return nil
}

// fromTemplate makes a new guest; the caller holds the lock.
func (n *Node) fromTemplate(t *tasks.Task, cr *creation) error {
	if err := n.createDisks(t, cr); err != nil {
		return err
	}
	if !n.hasTemplate(cr.template) {
		t.Logf("volume '%s' does not exist", cr.volid)
		return fmt.Errorf("volume '%s' does not exist", cr.volid)
	}
	if err := n.extract(t.Context(), n.templateBytes(cr.template)); err != nil {
		return err
	}
	if strings.HasSuffix(cr.template, ".tar") {
		if err := n.applyOCI(t, cr); err != nil {
			return err
		}
	}
	g := engineGuest(cr.vmid, cr.conf.Values)
	g.Template, g.SSHKeys, g.Archive = cr.template, cr.sshKeys, n.templateArchive(cr.template)
	if err := n.engine.Create(t.Context(), g, t); err != nil {
		return err
	}
	t.Logf("Detected container architecture: %s", cr.conf.Values["arch"])
	warnNesting(t, cr.conf.Values["ostype"], g)
	setDefaults(cr.vmid, cr.conf)
	return n.guests.store(n, cr.vmid, cr.conf)
}

// setDefaults writes what a new guest's configuration always has.
func setDefaults(vmid int, conf *guestconf.Config) {
	for key, value := range map[string]string{
		"hostname": guestName(vmid, conf.Values), "memory": strconv.Itoa(defaultMemoryMiB), "swap": strconv.Itoa(defaultSwapMiB),
	} {
		if conf.Values[key] == "" {
			conf.Values[key] = value
		}
	}
}
