package lxc

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// planChange brings a guest that is ours to what is desired.
func planChange(d *Desired, o Observed) ([]Step, *Blocked) {
	var steps []Step
	name := Name(d.Mark.VMID)
	change, keys := configChange(d, o.Config)
	moves := d.Moving && o.Running && changesBridge(d, o.Config, change)
	if moves {
		steps = append(steps, NewStep(ActionShutdown, runtime.Restart, "it moves to another network", "shut %s down, which moves to another network", name))
		o.Running = false
	}
	if !change.Empty() {
		steps = append(steps, updateStep(d, o, change, keys))
	}
	grow, blocked := diskChange(d, o.Config)
	if blocked != nil {
		return nil, blocked
	}
	if grow != "" {
		s := NewStep(ActionGrowDisk, runtime.InPlace, "the root file system should be "+grow, "grow the root file system of %s to %s", name, grow)
		s.Size = grow
		steps = append(steps, s)
	}
	switch {
	case d.Running && moves:
		steps = append(steps, NewStep(ActionStart, runtime.InPlace, "it has moved to another network", "start %s", name))
	case d.Running && !o.Running:
		steps = append(steps, NewStep(ActionStart, runtime.InPlace, "it should run and is stopped", "start %s", name))
	case !d.Running && o.Running:
		steps = append(steps, NewStep(ActionShutdown, runtime.Restart, "it should be stopped and runs", "shut %s down", name))
	}
	return steps, nil
}

// changesBridge tells whether a change connects a NIC to another bridge.
func changesBridge(d *Desired, c proxmox.LXCConfig, change proxmox.LXCUpdate) bool {
	for n, want := range d.NICs {
		if _, changes := change.Set["net"+strconv.Itoa(n)]; !changes {
			continue
		}
		if have, ok, err := c.NIC(n); ok && err == nil && have.Bridge != want.Bridge {
			return true
		}
	}
	return false
}

func updateStep(d *Desired, o Observed, change proxmox.LXCUpdate, keys []string) Step {
	s := NewStep(ActionUpdate, runtime.InPlace, "differs: "+strings.Join(keys, ", "), "set %s of %s", strings.Join(keys, ", "), Name(d.Mark.VMID))
	if late := strings.Join(AtNextStart(change.Set), ", "); late != "" && o.Running {
		s.Text += "; " + late + " counts from its next start on"
	}
	s.Change = &change
	return s
}

// AtNextStart names, in order, the keys of a change that a running guest does not take over
// (PVE::LXC::Config, vmconfig_hotplug_pending: what is not hot-pluggable stays pending; the
// host name is written into the guest when it starts).
func AtNextStart(change map[string]string) []string {
	var late []string
	for _, key := range []string{"hostname", "nameserver", "searchdomain"} {
		if _, ok := change[key]; ok {
			late = append(late, key)
		}
	}
	return late
}

// configChange compares the keys that we own; what others set beside them stays, and so does
// what the policy for drift leaves to them.
func configChange(d *Desired, c proxmox.LXCConfig) (proxmox.LXCUpdate, []string) {
	u, _ := allChanges(d, c)
	for _, drift := range Drifted(d, c) {
		delete(u.Set, drift.Key)
	}
	keys := append(slices.Collect(maps.Keys(u.Set)), u.Delete...)
	slices.Sort(keys)
	return u, keys
}

// allChanges is configChange under the policy correct.
func allChanges(d *Desired, c proxmox.LXCConfig) (proxmox.LXCUpdate, []string) {
	u := markChange(d, c)
	for key, value := range d.Settings() {
		switch {
		case strings.HasPrefix(key, "net"), key == "onboot" && c.Bool("onboot") == d.OnBoot:
		case c.Value(key) != value:
			u.Set[key] = value
		}
	}
	for n, nic := range d.NICs {
		if value, differs := nicChange(nic, c, n, d.Moving); differs {
			u.Set["net"+strconv.Itoa(n)] = value
		}
	}
	for _, key := range []string{"nameserver", "searchdomain"} {
		if d.NodeResolver && c.Value(key) != "" {
			u.Delete = append(u.Delete, key)
		}
	}
	return u, slices.Sorted(maps.Keys(u.Set))
}

// markChange puts our mark on the guest, beside the tags and the text of others.
func markChange(d *Desired, c proxmox.LXCConfig) proxmox.LXCUpdate {
	u := proxmox.LXCUpdate{Set: map[string]string{}, Digest: c.Digest}
	if tags := proxmox.JoinTags(ownership.Tags(c.Tags(), d.Mark.UID)); tags != proxmox.JoinTags(c.Tags()) {
		u.Set["tags"] = tags
	}
	if text := d.Mark.Describe(c.Description()); text != c.Description() {
		u.Set["description"] = text
	}
	return u
}

func setIf(m map[string]string, key, value string, when bool) {
	if when {
		m[key] = value
	}
}

// nicChange keeps what others set on the NIC (firewall, rate, tag) and sets ours. A firewall is
// taken off only by a move, which knows what was there.
func nicChange(want proxmox.NIC, c proxmox.LXCConfig, n int, moving bool) (string, bool) {
	have, ok, err := c.NIC(n)
	if !ok || err != nil {
		return want.String(), true
	}
	next := have
	next.Name, next.Bridge, next.IP, next.Gateway, next.LinkDown = want.Name, want.Bridge, want.IP, want.Gateway, false
	next.HWAddr = strings.ToUpper(want.HWAddr)
	if want.MTU != 0 {
		next.MTU = want.MTU
	}
	if want.Firewall || moving && have.Bridge != want.Bridge {
		next.Firewall = want.Firewall
	}
	return next.String(), !next.Equal(have)
}

func diskChange(d *Desired, c proxmox.LXCConfig) (grow string, blocked *Blocked) {
	root, err := c.RootFS()
	if err != nil || root.Size == 0 || d.DiskGiB == 0 {
		return "", nil
	}
	want := int64(d.DiskGiB) << 30
	switch {
	case want > root.Size:
		return strconv.Itoa(d.DiskGiB) + "G", nil
	case want < root.Size:
		return "", &Blocked{Reason: "DiskCannotShrink", Text: fmt.Sprintf(
			"spec.resources.disk is %dGi, the root file system has %s and cannot shrink; set it to at least that", d.DiskGiB, proxmox.FormatSize(root.Size))}
	}
	return "", nil
}
