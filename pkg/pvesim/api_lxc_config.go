package pvesim

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// configPut is a PUT config, taken apart.
type configPut struct {
	set    map[string]string
	remove []string
	revert []string
	digest string
}

// immutable options cannot be set or deleted after create.
var immutable = []string{"unprivileged", "arch", "ostype", "rootfs"}

// required options cannot be deleted.
var required = []string{"memory", "rootfs", "ostype", "arch"}

// putConfig changes a configuration synchronously. On a running guest some options
// apply now, others wait for the next start.
func putConfig(c *call) (result, error) {
	n, vmid := c.node, c.vmid()
	put, err := c.parsePut()
	if err != nil {
		return result{}, err
	}
	g, err := n.guests.load(n, vmid)
	if err != nil {
		return result{}, err
	}
	m := modification{vmid: vmid, old: g.conf, unprivileged: g.conf.Values["unprivileged"] == "1"}
	for _, key := range put.remove {
		if err := c.mayModify(m, key, ""); err != nil {
			return result{}, err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(put.set)) {
		if err := c.mayModify(m, key, put.set[key]); err != nil {
			return result{}, err
		}
	}
	return result{}, n.withGuest(c.ctx, vmid, func(g *guestFile, conf *guestconf.Config) (bool, error) {
		if put.digest != "" && put.digest != g.digest {
			return false, die("detected modified configuration - file changed by other user? Try again.")
		}
		// What is pending is written before anything is applied to what runs.
		if err := n.writable(vmid); err != nil {
			return false, err
		}
		if err := c.stage(put, conf); err != nil {
			return false, err
		}
		if !n.running(c.ctx, vmid) {
			return true, n.applyPending(c.ctx, vmid, conf)
		}
		return true, n.hotplug(c, vmid, conf)
	})
}

func (c *call) parsePut() (configPut, error) {
	p := configPut{set: map[string]string{}, digest: c.params["digest"]}
	p.remove = pveschema.SplitList(c.params["delete"])
	p.revert = pveschema.SplitList(c.params["revert"])
	given := 0
	for key, value := range c.params {
		switch key {
		case "node", "vmid", "digest":
			continue
		case "delete", "revert":
		default:
			p.set[key] = value
		}
		given++
	}
	if given == 0 {
		return p, die("no options specified")
	}
	for list, name := range map[*[]string]string{&p.remove: "delete", &p.revert: "revert"} {
		for _, key := range *list {
			if _, ok := c.node.schema["PUT /nodes/{node}/lxc/{vmid}/config"].Lookup(key); !ok || key == "node" || key == "vmid" {
				return p, paramError(name, "unknown option '"+key+"'")
			}
			if _, both := p.set[key]; both {
				return p, paramError(name, "you can't use '-"+key+"' and -"+name+" "+key+"' at the same time")
			}
		}
	}
	return p, nil
}

// stage writes the request into the pending section, from which it is applied.
func (c *call) stage(p configPut, conf *guestconf.Config) error {
	for _, key := range p.revert {
		delete(conf.Pending, key)
		conf.Deleted = slices.DeleteFunc(conf.Deleted, func(d string) bool { return d == key })
	}
	for _, key := range p.remove {
		switch {
		case key == "unprivileged":
			return die("unable to delete read-only option: '%s'", key)
		case slices.Contains(required, key):
			return die("unable to delete required option '%s'", key)
		}
		delete(conf.Pending, key)
		if _, set := conf.Values[key]; set && !slices.Contains(conf.Deleted, key) {
			conf.Deleted = append(conf.Deleted, key)
			slices.Sort(conf.Deleted)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.set)) {
		value := p.set[key]
		if slices.Contains(immutable, key) && value != conf.Values[key] {
			return die("unable to modify read-only option: '%s'", key)
		}
		if err := c.stageValue(conf, key, value); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) stageValue(conf *guestconf.Config, key, value string) error {
	conf.Deleted = slices.DeleteFunc(conf.Deleted, func(d string) bool { return d == key })
	if isMountPoint(key) && newDiskRE.MatchString(properties(value, "volume")["volume"]) {
		d, err := c.planDisk(key, value, "local")
		if err != nil {
			return err
		}
		volid, err := c.node.allocate(d.storage, c.vmid(), d.bytes)
		if err != nil {
			return err
		}
		d.options["volume"], d.options["size"] = volid, formatSize(d.bytes)
		conf.Pending[key] = c.node.formatProperties("mp0", d.options)
		return nil
	}
	value = c.node.canonical(key, value)
	if key == "description" {
		var d guestconf.Config
		d.Values = map[string]string{}
		d.SetDescription(value)
		value = d.Values["description"]
	}
	if value == "" && key != "description" {
		if _, set := conf.Values[key]; set {
			conf.Deleted = append(conf.Deleted, key)
			slices.Sort(conf.Deleted)
		}
		delete(conf.Pending, key)
		return nil
	}
	if conf.Values[key] == value {
		delete(conf.Pending, key)
		return nil
	}
	conf.Pending[key] = value
	return nil
}

// applyPending makes every pending change real, as at a start. A volume that is no longer
// mounted becomes unused, an unused one that is deleted is gone.
func (n *Node) applyPending(ctx context.Context, vmid int, conf *guestconf.Config) error {
	before := guestVolumes(conf.Values, true)
	conf.Values = conf.Effective()
	if conf.Values["description"] == "" {
		delete(conf.Values, "description")
	}
	conf.Pending, conf.Deleted = map[string]string{}, nil
	return n.settleVolumes(ctx, vmid, before, conf)
}

// settleVolumes looks after volumes that a change took out of the configuration.
func (n *Node) settleVolumes(ctx context.Context, vmid int, before []guestVolume, conf *guestconf.Config) error {
	now := map[string]bool{}
	for _, v := range guestVolumes(conf.Values, true) {
		now[v.volid] = true
	}
	for _, v := range before {
		switch {
		case now[v.volid] || v.kind() != "volume" || n.owner(v.volid) != vmid:
		case !isUnused(v.key):
			addUnused(conf, v.volid)
		case !usedBySnapshots(conf, v.volid):
			if err := n.freeVolumes(ctx, v.volid); err != nil {
				return err
			}
		}
	}
	return nil
}

// configOnly options change the file at once and nothing in the guest.
var configOnly = []string{"description", "onboot", "startup", "protection", "tags", "lock", "hookscript", "hostname", "cores", "template"}

// live options change a running guest at once.
var live = []string{"cpulimit", "cpuunits", "memory", "swap"}

// hotplug applies what can be applied to a running guest; the rest stays pending.
func (n *Node) hotplug(c *call, vmid int, conf *guestconf.Config) error {
	before, volumes := engineGuest(vmid, conf.Values), guestVolumes(conf.Values, true)
	touched := ""
	apply := func(key string) {
		if isLive(key) {
			touched = key
		}
	}
	for _, key := range slices.Sorted(maps.Keys(conf.Pending)) {
		if !hotpluggable(key, conf) {
			continue
		}
		conf.Values[key] = conf.Pending[key]
		if conf.Values[key] == "" { // an emptied description
			delete(conf.Values, key)
		}
		delete(conf.Pending, key)
		apply(key)
	}
	conf.Deleted = slices.DeleteFunc(conf.Deleted, func(key string) bool {
		if !hotUnpluggable(key) {
			return false
		}
		delete(conf.Values, key)
		apply(key)
		return true
	})
	if err := n.settleVolumes(c.ctx, vmid, volumes, conf); err != nil {
		return err
	}
	if touched == "" {
		return nil
	}
	after := engineGuest(vmid, conf.Values)
	after.Hostname = before.Hostname // changes inside the guest at the next start only
	if err := n.engine.Update(c.ctx, after); err != nil {
		if errors.Is(err, engine.ErrBridgeNotExist) {
			err = errors.New(n.missingBridge(c.ctx, after.NICs))
		}
		return paramError(touched, "unable to hotplug "+touched+": "+err.Error())
	}
	return nil
}

func isLive(key string) bool {
	base, _, ok := pveschema.SplitIndex(key)
	return slices.Contains(live, key) || ok && (base == "net" || base == "mp")
}

func hotpluggable(key string, conf *guestconf.Config) bool {
	if isMountPoint(key) {
		return conf.Values[key] == "" // a new one is mounted, a changed one waits
	}
	return isLive(key) || slices.Contains(configOnly, key)
}

func hotUnpluggable(key string) bool {
	base, n, indexed := pveschema.SplitIndex(key)
	switch {
	case indexed && base == "net":
		return n < 10 // the real server's pattern takes one digit
	case key == "swap" || key == "cpulimit" || key == "cpuunits" || strings.HasPrefix(key, "unused"):
		return true
	}
	return slices.Contains(configOnly, key)
}
