package lxc

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/proximity-pve/proximity/pkg/guest/console"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// Policies for settings that somebody changed by hand.
const (
	DriftCorrect = "correct" // set them again; "" is the same
	DriftWarn    = "warn"    // leave them and say so
	DriftIgnore  = "ignore"  // leave them
)

// Settings are the keys of a guest's configuration that d decides, with the values that are
// ours: of a NIC only our part. Marks (tags, description) are not among them: they are put
// back under any policy, or the guest would not be known again.
func (d *Desired) Settings() map[string]string {
	s := map[string]string{
		"hostname": d.Hostname,
		"memory":   strconv.Itoa(d.MemoryMiB),
		"swap":     strconv.Itoa(d.SwapMiB),
		"onboot":   map[bool]string{true: "1", false: "0"}[d.OnBoot],
	}
	setIf(s, "cores", strconv.Itoa(d.Cores), d.Cores != 0)
	setIf(s, "nameserver", d.Nameserver, d.Nameserver != "")
	setIf(s, "searchdomain", d.SearchDomain, d.SearchDomain != "")
	setIf(s, "startup", d.Startup, d.Startup != "")
	setIf(s, "cmode", console.ShellMode, d.ShellConsole)
	for n, nic := range d.NICs {
		s["net"+strconv.Itoa(n)] = nic.String()
	}
	return s
}

// Drift is a setting that is left as somebody made it by hand.
type Drift struct{ Key, Have, Want string }

func (d Drift) String() string {
	if d.Have == "" {
		return fmt.Sprintf("%s is not set instead of %s", d.Key, d.Want)
	}
	return fmt.Sprintf("%s is %s instead of %s", d.Key, d.Have, d.Want)
}

// Drifted are the settings that differ though d has not asked for anything else since they
// were set, in the order of their keys; none under the policy correct. A setting of which
// that is not known is not among them: it is set.
func Drifted(d *Desired, c proxmox.LXCConfig) []Drift {
	if d.DriftPolicy == "" || d.DriftPolicy == DriftCorrect {
		return nil
	}
	change, _ := allChanges(d, c)
	want := d.Settings()
	var drifted []Drift
	for _, key := range slices.Sorted(maps.Keys(change.Set)) {
		if applied, known := d.Applied[key]; known && applied == want[key] {
			drifted = append(drifted, Drift{key, c.Value(key), change.Set[key]})
		}
	}
	return drifted
}
