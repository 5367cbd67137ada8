package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// maxGuests bounds the guests whose configuration is read, and maxNamed those that a message
// names.
const (
	maxGuests = 64
	maxNamed  = 5
)

// isolation looks whether our guests are isolated as those that the platform makes are:
// unprivileged, nesting and no other feature, memory and cores limited, no directory or device
// of the node inside, no raw lines. One that was adopted, or that somebody changed, may not be.
func (e *examination) isolation(ctx context.Context) Check {
	all, err := e.API.ClusterResources(ctx, proxmox.GuestResources)
	if err != nil {
		return unseen("the guests", err)
	}
	var weak []string
	looked, ours, first := 0, 0, 0
	for _, r := range all {
		if r.Type != "lxc" || bool(r.Template) || !slices.Contains(proxmox.SplitTags(r.Tags), ownership.Tag) {
			continue
		}
		if ours++; looked == maxGuests {
			continue
		}
		config, err := e.API.LXCConfig(ctx, r.Node, int(r.VMID))
		if proxmox.IsNotExist(err) {
			continue // gone meanwhile
		}
		if err != nil {
			return unseen(fmt.Sprintf("the configuration of guest %d", int(r.VMID)), err)
		}
		looked++
		if why := weaknesses(config); len(why) > 0 {
			if len(weak) == 0 {
				first = int(r.VMID)
			}
			weak = append(weak, fmt.Sprintf("%d (%s)", int(r.VMID), strings.Join(why, ", ")))
		}
	}
	more := ""
	if ours > looked && looked == maxGuests {
		more = fmt.Sprintf(" (of %d guests only %d were looked at)", ours, looked)
	}
	if len(weak) == 0 {
		return pass("guests are unprivileged and have limits, and nothing of the node is inside%s", more)
	}
	named := weak[:min(len(weak), maxNamed)]
	text := fmt.Sprintf("%d guests have less isolation than the platform gives%s: %s", len(weak), more, strings.Join(named, "; "))
	if len(weak) > len(named) {
		text += "; ..."
	}
	return warn(text, fmt.Sprintf("pct config %d", first), "# only an administrator of the node can have set that; a privileged guest is made unprivileged by a backup and restore with --unprivileged 1")
}

// weaknesses tells what of a guest's configuration gives up isolation.
func weaknesses(c proxmox.LXCConfig) []string {
	return slices.Concat(privileges(c), unlimited(c), shared(c))
}

// Weaker tells what of a guest's configuration gives it more of the node than guests have that
// the platform makes, leaving out limits, which can be set: those that adoption sets.
func Weaker(c proxmox.LXCConfig) []string { return slices.Concat(privileges(c), shared(c)) }

func privileges(c proxmox.LXCConfig) (why []string) {
	if !c.Unprivileged() {
		why = append(why, "privileged")
	}
	for _, f := range c.Features() {
		if f.Key != "nesting" && f.Value != "0" {
			why = append(why, "feature "+f.Key)
		}
	}
	return why
}

func unlimited(c proxmox.LXCConfig) (why []string) {
	if v, ok := c.Get("memory"); ok && v == "0" {
		why = append(why, "no limit of memory")
	}
	if _, cores := c.Get("cores"); !cores {
		if _, limit := c.Get("cpulimit"); !limit {
			why = append(why, "no limit of cores")
		}
	}
	return why
}

// shared is what of the node is in the guest.
func shared(c proxmox.LXCConfig) (why []string) {
	values := c.Values()
	var keys []string
	for k := range values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		switch {
		case isNumbered(k, "mp") && strings.HasPrefix(strings.TrimPrefix(values[k], "volume="), "/"):
			why = append(why, "a directory of the node at "+k)
		case isNumbered(k, "dev"):
			why = append(why, "a device of the node at "+k)
		}
	}
	if len(c.Raw) > 0 {
		why = append(why, "raw lxc lines")
	}
	return why
}

func isNumbered(key, prefix string) bool {
	digits, ok := strings.CutPrefix(key, prefix)
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}
