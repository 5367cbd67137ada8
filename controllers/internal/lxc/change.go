package lxc

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/guest/console"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// planChange brings a guest that is ours to what is desired.
func planChange(d *Desired, o Observed) ([]Step, *Blocked) {
	var steps []Step
	name := Name(d.Mark.VMID)
	if change, keys := configChange(d, o.Config); !change.Empty() {
		s := NewStep(ActionUpdate, runtime.InPlace, "differs: "+strings.Join(keys, ", "), "set %s of %s", strings.Join(keys, ", "), name)
		if late := atNextStart(keys); late != "" && o.Running {
			s.Text += "; " + late + " counts from its next start on"
		}
		s.Change = &change
		steps = append(steps, s)
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
	case d.Running && !o.Running:
		steps = append(steps, NewStep(ActionStart, runtime.InPlace, "it should run and is stopped", "start %s", name))
	case !d.Running && o.Running:
		steps = append(steps, NewStep(ActionShutdown, runtime.Restart, "it should be stopped and runs", "shut %s down", name))
	}
	return steps, nil
}

// atNextStart names the keys that a running guest does not take over (PVE::LXC::Config,
// vmconfig_hotplug_pending: what is not hot-pluggable stays pending; the host name is
// written into the guest when it starts).
func atNextStart(keys []string) string {
	var late []string
	for _, key := range keys {
		if key == "hostname" || key == "nameserver" || key == "searchdomain" {
			late = append(late, key)
		}
	}
	return strings.Join(late, ", ")
}

// configChange compares the keys that we own; what others set beside them stays.
func configChange(d *Desired, c proxmox.LXCConfig) (proxmox.LXCUpdate, []string) {
	want := map[string]string{
		"hostname":    d.Hostname,
		"memory":      strconv.Itoa(d.MemoryMiB),
		"swap":        strconv.Itoa(d.SwapMiB),
		"tags":        proxmox.JoinTags(ownership.Tags(c.Tags(), d.Mark.UID)),
		"description": d.Mark.Describe(c.Description()),
	}
	setIf(want, "cores", strconv.Itoa(d.Cores), d.Cores != 0)
	setIf(want, "nameserver", d.Nameserver, d.Nameserver != "")
	setIf(want, "searchdomain", d.SearchDomain, d.SearchDomain != "")
	setIf(want, "startup", d.Startup, d.Startup != "")
	setIf(want, "cmode", console.ShellMode, d.ShellConsole)
	u := proxmox.LXCUpdate{Set: map[string]string{}, Digest: c.Digest}
	for key, value := range want {
		have := c.Value(key)
		switch key {
		case "description":
			have = c.Description()
		case "tags":
			have = proxmox.JoinTags(c.Tags())
		}
		if have != value {
			u.Set[key] = value
		}
	}
	if c.Bool("onboot") != d.OnBoot {
		u.Set["onboot"] = map[bool]string{true: "1", false: "0"}[d.OnBoot]
	}
	for n, nic := range d.NICs {
		if value, differs := nicChange(nic, c, n); differs {
			u.Set["net"+strconv.Itoa(n)] = value
		}
	}
	return u, slices.Sorted(maps.Keys(u.Set))
}

func setIf(m map[string]string, key, value string, when bool) {
	if when {
		m[key] = value
	}
}

// nicChange keeps what others set on the NIC (firewall, rate, tag) and sets ours.
func nicChange(want proxmox.NIC, c proxmox.LXCConfig, n int) (string, bool) {
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
