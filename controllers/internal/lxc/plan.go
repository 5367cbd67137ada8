package lxc

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// Desired is a guest as it should be.
type Desired struct {
	Mark     ownership.Mark // VMID included
	Node     string         // where to create it; a guest that exists elsewhere is followed
	Hostname string
	// Template resolves the template's volume id; it is called at creation only.
	Template func(ctx context.Context) (string, error)
	Storage  string // of the root file system; matters at creation only
	Sizes
	NICs         map[int]proxmox.NIC
	Nameserver   string
	SearchDomain string
	OnBoot       bool
	Startup      string // e.g. order=1
	Nesting      bool
	Running      bool
}

// Observed is a guest as it is.
type Observed struct {
	Present  bool
	Node     string
	Relation ownership.Relation // when Present
	Mark     *ownership.Mark
	Running  bool
	Config   proxmox.LXCConfig
	// Elsewhere is the VMID of another guest that carries our uid's tag, 0 for none.
	Elsewhere int
}

// Action is what a step does.
type Action string

// Actions, named as events and tasks show them.
const (
	ActionCreate   Action = "Create"
	ActionUpdate   Action = "Update"
	ActionGrowDisk Action = "GrowDisk"
	ActionStart    Action = "Start"
	ActionShutdown Action = "Shutdown"
	ActionDestroy  Action = "Destroy"
)

// Effect is what a step means for what runs and is stored in the guest.
type Effect string

// Effects, from harmless to destructive.
const (
	InPlace  Effect = "in place"
	Restart  Effect = "restart"
	DataLoss Effect = "data loss"
)

// Step is one thing to do.
type Step struct {
	Action Action
	Effect Effect
	Why    string             // a phrase for people
	Change *proxmox.LXCUpdate // of ActionUpdate
	Size   string             // of ActionGrowDisk
}

// Blocked says why nothing may be done, and what a human can do.
type Blocked struct{ Reason, Text string }

// Plan lists the steps from observed to desired, in order; nil desired is deletion. want
// is the mark that the guest has or would get. Plan does no I/O and reads no clock.
func Plan(desired *Desired, want ownership.Mark, o Observed) ([]Step, *Blocked) {
	if desired == nil {
		return planDeletion(want, o)
	}
	if !o.Present {
		if o.Elsewhere != 0 {
			return nil, &Blocked{"UIDElsewhere", fmt.Sprintf(
				"guest %d carries the tag %s of this object, but VMID %d is reserved for it; remove the tag or the guest", o.Elsewhere, ownership.UIDTag(want.UID), want.VMID)}
		}
		steps := []Step{{Action: ActionCreate, Effect: InPlace, Why: "it does not exist"}}
		if desired.Running {
			steps = append(steps, Step{Action: ActionStart, Effect: InPlace, Why: "it should run"})
		}
		return steps, nil
	}
	if b := blockedBy(want, o); b != nil {
		return nil, b
	}
	return planChange(desired, o)
}

// blockedBy tells whether a guest that is there is not ours to touch.
func blockedBy(want ownership.Mark, o Observed) *Blocked {
	switch o.Relation {
	case ownership.Ours:
		return nil
	case ownership.Copy:
		return &Blocked{"VMIDIsCopy", fmt.Sprintf(
			"guest %d is a copy (clone or restore) of guest %d and is left alone; destroy it or use another VMID", want.VMID, o.Mark.VMID)}
	case ownership.OtherInstall:
		return &Blocked{"VMIDTaken", fmt.Sprintf(
			"VMID %d belongs to another installation (%s); use another VMID", want.VMID, o.Mark.Installation)}
	case ownership.OtherObject:
		return &Blocked{"VMIDTaken", fmt.Sprintf(
			"VMID %d was made for %s with uid %s; delete that guest or use another VMID", want.VMID, o.Mark, o.Mark.UID)}
	}
	return &Blocked{"VMIDTaken", fmt.Sprintf(
		"VMID %d is taken by a guest that is not ours (%s); use another VMID, or remove that guest", want.VMID, orUnnamed(o.Config.Hostname()))}
}

func orUnnamed(name string) string {
	if name == "" {
		return "without a name"
	}
	return name
}

func planDeletion(want ownership.Mark, o Observed) ([]Step, *Blocked) {
	if !o.Present || o.Relation != ownership.Ours {
		return nil, nil // nothing of ours is there
	}
	if o.Config.Bool("protection") {
		return nil, &Blocked{"Protected", fmt.Sprintf("guest %d is protected in Proxmox; clear its protection to let it be destroyed", want.VMID)}
	}
	var steps []Step
	if o.Running {
		steps = append(steps, Step{Action: ActionShutdown, Effect: Restart, Why: "the object is being deleted"})
	}
	return append(steps, Step{Action: ActionDestroy, Effect: DataLoss, Why: "the object is being deleted"}), nil
}

func planChange(d *Desired, o Observed) ([]Step, *Blocked) {
	var steps []Step
	if change, keys := configChange(d, o.Config); !change.Empty() {
		steps = append(steps, Step{Action: ActionUpdate, Effect: InPlace, Change: &change, Why: "differs: " + strings.Join(keys, ", ")})
	}
	grow, blocked := diskChange(d, o.Config)
	if blocked != nil {
		return nil, blocked
	}
	if grow != "" {
		steps = append(steps, Step{Action: ActionGrowDisk, Effect: InPlace, Size: grow, Why: "the root file system should be " + grow})
	}
	switch {
	case d.Running && !o.Running:
		steps = append(steps, Step{Action: ActionStart, Effect: InPlace, Why: "it should run and is stopped"})
	case !d.Running && o.Running:
		steps = append(steps, Step{Action: ActionShutdown, Effect: Restart, Why: "it should be stopped and runs"})
	}
	return steps, nil
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
		return "", &Blocked{"DiskCannotShrink", fmt.Sprintf(
			"spec.resources.disk is %dGi, the root file system has %s and cannot shrink; set it to at least that", d.DiskGiB, proxmox.FormatSize(root.Size))}
	}
	return "", nil
}
