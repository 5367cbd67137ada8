package pvesim

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// guestVolume is rootfs, mp[n] or unused[n] of a configuration.
type guestVolume struct {
	key     string
	volid   string // volume id, or a path of the node for bind and device mounts
	path    string // in the guest, / for rootfs
	options map[string]string
}

// kind is what PVE::LXC::classify_mountpoint says.
func (v guestVolume) kind() string {
	switch {
	case strings.HasPrefix(v.volid, "/dev/"):
		return "device"
	case strings.HasPrefix(v.volid, "/"):
		return "bind"
	default:
		return "volume"
	}
}

// storage is the id of the volume's storage.
func (v guestVolume) storage() string {
	id, _, _ := strings.Cut(v.volid, ":")
	return id
}

func isUnused(key string) bool {
	base, _, ok := pveschema.SplitIndex(key)
	return ok && base == "unused"
}

// guestVolumes lists rootfs and the mount points, in the order of their numbers, then the
// unused ones if they are wanted.
func guestVolumes(values map[string]string, unused bool) []guestVolume {
	var out []guestVolume
	for key, value := range values {
		if key != "rootfs" && !isMountPoint(key) && !(unused && isUnused(key)) {
			continue
		}
		p := properties(value, "volume")
		v := guestVolume{key: key, volid: p["volume"], path: p["mp"], options: p}
		if key == "rootfs" {
			v.path = "/"
		}
		out = append(out, v)
	}
	rank := func(key string) int {
		base, n, _ := pveschema.SplitIndex(key)
		return n + map[string]int{"": 0, "mp": 1, "unused": 1000}[base]
	}
	slices.SortFunc(out, func(a, b guestVolume) int { return rank(a.key) - rank(b.key) })
	return out
}

// withVolume writes a mount point again, on another volume or with other options.
func (n *Node) withVolume(v guestVolume, volid string) string {
	p := maps.Clone(v.options)
	p["volume"] = volid
	option := "mp0"
	if v.key == "rootfs" {
		option = "rootfs"
	}
	return n.formatProperties(option, p)
}

// mountedVolumes are the data volumes that a guest's engine keeps apart from its root.
func mountedVolumes(values map[string]string) []string {
	var out []string
	for _, v := range guestVolumes(values, false) {
		if v.key != "rootfs" && v.kind() == "volume" {
			out = append(out, v.volid)
		}
	}
	return out
}

// storageFeatures is what the plugins of PVE::Storage say in volume_has_feature, for raw
// images and subvolumes: feature to the states of a volume for which it is there.
var storageFeatures = map[string]map[string][]string{
	"dir":     {"copy": {"base", "current"}, "template": {"current"}, "rename": {"current"}},
	"lvm":     {"copy": {"base", "current"}, "rename": {"current"}},
	"lvmthin": {"snapshot": {"current"}, "clone": {"base", "snap"}, "template": {"current"}, "copy": {"base", "current", "snap"}, "rename": {"current"}},
	"zfspool": {"snapshot": {"current", "snap"}, "clone": {"base"}, "template": {"current"}, "copy": {"base", "current"}, "rename": {"current"}},
	"btrfs":   {"snapshot": {"current", "snap"}, "clone": {"base", "current", "snap"}, "template": {"current"}, "copy": {"base", "current", "snap"}, "rename": {"current"}},
	"rbd":     {"snapshot": {"current", "snap"}, "clone": {"base", "snap"}, "template": {"current"}, "copy": {"base", "current", "snap"}, "rename": {"current"}},
}

// volumeHasFeature asks the plugin of a volume's storage; storages that are mounted
// directories (nfs, cifs and the like) are like dir.
func (n *Node) volumeHasFeature(feature, volid, snapshot string) bool {
	id, name, _ := strings.Cut(volid, ":")
	s, ok := n.storageByID(id)
	if !ok {
		return false
	}
	state := "current"
	switch {
	case snapshot != "":
		state = "snap"
	case strings.Contains(name, "base-"):
		state = "base"
	}
	features, ok := storageFeatures[s.Type]
	if !ok {
		features = storageFeatures["dir"]
	}
	return slices.Contains(features[feature], state)
}

// hasFeature is has_feature of PVE::LXC::Config: every volume must have it.
func (n *Node) hasFeature(feature string, values map[string]string, snapshot string, backupOnly bool) bool {
	for _, v := range guestVolumes(values, false) {
		if backupOnly && !v.inBackup() {
			continue
		}
		if v.kind() != "volume" || !n.volumeHasFeature(feature, v.volid, snapshot) {
			return false
		}
	}
	return true
}

// inBackup reports whether vzdump takes the volume.
func (v guestVolume) inBackup() bool {
	return v.key == "rootfs" || v.kind() == "volume" && v.options["backup"] == "1"
}

// owner is the guest that a volume belongs to, 0 if there is no such volume.
func (n *Node) owner(volid string) int {
	st := n.stateOf(volid)
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.Volumes[volid].VMID
}

// errNoVolume is what a storage says of a volume that is gone.
func errNoVolume(volid string) error { return die("volume '%s' does not exist", volid) }

// freeVolumes deletes volumes with their files.
func (n *Node) freeVolumes(ctx context.Context, ids ...string) error {
	var err error
	for _, id := range ids {
		err = errors.Join(err, n.engine.RemoveVolume(ctx, id))
	}
	return errors.Join(err, n.release(ids...))
}

// addUnused notes a volume that is no longer mounted, under the first free number.
func addUnused(conf *guestconf.Config, volid string) {
	for i := range 256 {
		key := "unused" + strconv.Itoa(i)
		if conf.Values[key] == volid {
			return
		}
		if _, taken := conf.Values[key]; !taken {
			conf.Values[key] = volid
			return
		}
	}
}

// usedBySnapshots reports whether a snapshot of the guest needs a volume.
func usedBySnapshots(conf *guestconf.Config, volid string) bool {
	for _, s := range conf.Snapshots {
		for _, v := range guestVolumes(s.Values, true) {
			if v.volid == volid {
				return true
			}
		}
	}
	return false
}

// referenced lists every volume of the guest's own that its configuration names, also in
// snapshots and pending changes.
func (n *Node) referenced(vmid int, conf *guestconf.Config) []string {
	seen := map[string]bool{}
	add := func(values map[string]string) {
		for _, v := range guestVolumes(values, true) {
			if v.kind() == "volume" && n.owner(v.volid) == vmid {
				seen[v.volid] = true
			}
		}
	}
	add(conf.Values)
	add(conf.Pending)
	for _, s := range conf.Snapshots {
		add(s.Values)
	}
	return slices.Sorted(maps.Keys(seen))
}

// freeGuestVolumes deletes every volume that a guest owns on this node's storages.
func (n *Node) freeGuestVolumes(ctx context.Context, vmid int) error {
	return n.freeVolumes(ctx, n.ownedVolumes(vmid)...)
}

// ownedVolumes lists the volumes that belong to a guest, whether it names them or not.
func (n *Node) ownedVolumes(vmid int) []string {
	var out []string
	for _, st := range []*storageState{&n.storage, &n.shared} {
		st.mu.Lock()
		for id, v := range st.Volumes {
			if v.VMID == vmid {
				out = append(out, id)
			}
		}
		st.mu.Unlock()
	}
	slices.Sort(out)
	return out
}
