package lxc

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Desired is a guest as it should be.
type Desired struct {
	Mark     ownership.Mark // VMID included
	Node     string         // where to create it; a guest that exists elsewhere is followed
	Hostname string
	// Template is a volume id or the beginning of a template's name; it matters at creation
	// only. MadeFrom is the volume id that an existing guest was made from, "" when unknown.
	Template string
	MadeFrom string
	// Templates is where it is fetched from and to when it is not on the node.
	Templates Templates
	Storage   string // of the root file system; matters at creation only
	Sizes
	NICs         map[int]proxmox.NIC
	Nameserver   string
	SearchDomain string
	OnBoot       bool
	Startup      string // e.g. order=1
	Nesting      bool
	// ShellConsole: the guest is entered through its console, which must be a root shell. On
	// one that runs already it takes effect with the next start.
	ShellConsole bool
	Running      bool
	// DriftPolicy is what is done about settings that were changed by hand; Applied are
	// Settings as they were set last, nil when that is not known.
	DriftPolicy string
	Applied     map[string]string
	// Moving: a NIC that is to be on another bridge is connected to it while the guest is stopped,
	// so that it claims on neither what it had on the other.
	Moving bool
	// NodeResolver has the guest ask whom its node asks: nameserver and searchdomain are not set.
	NodeResolver bool
	// Adopt takes over an unmarked guest with the mark's VMID, and never makes one.
	Adopt bool
	// AdoptWeaker lets it be one with less isolation than ours have, and ReadOnly looks only.
	AdoptWeaker, ReadOnly bool
}

// ByConsole reports whether guests of a connection are entered through their consoles.
func ByConsole(cl *v1alpha1.Cluster) bool {
	return cl.GetSpec().GetGuestAccess() == cluster.AccessConsole
}

// Observed is a guest as it is.
type Observed struct {
	Present  bool
	Node     string
	Relation ownership.Relation // when Present
	Mark     *ownership.Mark
	Running  bool
	Config   proxmox.LXCConfig
	// AsMade: the guest has just been made by us, and Config is what it was made with. It may
	// not have been read yet, and then has no digest.
	AsMade bool
	// Elsewhere is the VMID of another guest that carries our uid's tag, 0 for none.
	Elsewhere int
	// Template is what there is to make the guest from, looked at when it is absent.
	Template TemplateSeen
}

// Actions, named as events and tasks show them.
const (
	ActionDownload = "DownloadTemplate"
	ActionCreate   = "Create"
	ActionUpdate   = "Update"
	ActionGrowDisk = "GrowDisk"
	ActionStart    = "Start"
	ActionShutdown = "Shutdown"
	ActionDestroy  = "Destroy"
	// ActionAdopt marks a guest as ours; nothing else of it is changed by that.
	ActionAdopt = "Adopt"
)

// ofGuest tells whether an action is one that the Driver takes.
func ofGuest(action string) bool {
	return slices.Contains([]string{ActionDownload, ActionCreate, ActionUpdate, ActionGrowDisk, ActionStart, ActionShutdown, ActionDestroy, ActionAdopt}, action)
}

// Step is one thing to do, to a guest or, in the plans of controllers, beside it.
type Step struct {
	runtime.Step
	Why    string             // a phrase for people
	Change *proxmox.LXCUpdate // of ActionUpdate and ActionAdopt
	Size   string             // of ActionGrowDisk
}

// Blocked says why nothing may be done, and what a human can do.
type Blocked = runtime.Blocked

// Public are steps as plans show them.
func Public(steps []Step) []runtime.Step {
	out := make([]runtime.Step, len(steps))
	for i, s := range steps {
		out[i] = s.Step
	}
	return out
}

// Has tells whether there is a step of that action.
func Has(steps []Step, action string) bool {
	return slices.ContainsFunc(steps, func(s Step) bool { return s.Action == action })
}

// NewStep makes a step; why is a phrase for events, the text a sentence for plans.
func NewStep(action string, effect runtime.Effect, why, format string, args ...any) Step {
	return Step{Step: runtime.Step{Action: action, Effect: effect, Text: fmt.Sprintf(format, args...)}, Why: why}
}

// Plan lists the steps from observed to desired, in order; nil desired is deletion. want
// is the mark that the guest has or would get. Plan does no I/O and reads no clock.
func Plan(desired *Desired, want ownership.Mark, o Observed) ([]Step, *Blocked) {
	if desired == nil {
		return planDeletion(want, o)
	}
	if !o.Present {
		if desired.Adopt {
			return nil, nothingToAdopt(want)
		}
		return planCreation(desired, want, o)
	}
	if adoptable(desired, want, o) {
		return planAdoption(desired, o)
	}
	if b := blockedBy(want, o); b != nil {
		return nil, b
	}
	return planChange(desired, o)
}

// planCreation makes the guest. As long as nobody has looked for the template, whether it
// has to be fetched is open.
func planCreation(d *Desired, want ownership.Mark, o Observed) ([]Step, *Blocked) {
	if o.Elsewhere != 0 {
		return nil, &Blocked{Reason: "UIDElsewhere", Text: fmt.Sprintf(
			"guest %d carries the tag %s of this object, but VMID %d is reserved for it; remove the tag or the guest", o.Elsewhere, ownership.UIDTag(want.UID), want.VMID)}
	}
	var steps []Step
	from := d.Template
	switch t := o.Template; {
	case t.Blocked != nil:
		return nil, t.Blocked
	case t.Want != d.Template:
		fetch := NewStep(ActionDownload, runtime.InPlace, "it is not there", "fetch template %s to %s", d.Template, nodeName(d.Node))
		fetch.If = "unless it is there"
		steps = append(steps, fetch)
	case t.Volid == "":
		steps = append(steps, NewStep(ActionDownload, runtime.InPlace, "it is not there", "fetch template %s to %s on %s", t.Fetch, t.Storage, nodeName(d.Node)))
	default:
		from = t.Volid
	}
	steps = append(steps, NewStep(ActionCreate, runtime.InPlace, "it does not exist", "create %s (%s) on %s from %s", Name(want.VMID), d.Hostname, nodeName(d.Node), from))
	if d.Running {
		steps = append(steps, NewStep(ActionStart, runtime.InPlace, "it should run", "start %s", it(want.VMID)))
	}
	return steps, nil
}

// Name is what people call a guest; one without a VMID gets the next that is free.
func Name(vmid int) string {
	if vmid == 0 {
		return "a guest with a free VMID"
	}
	return "guest " + strconv.Itoa(vmid)
}

// it is Name for a guest that was named before.
func it(vmid int) string {
	if vmid == 0 {
		return "it"
	}
	return Name(vmid)
}

func nodeName(node string) string {
	if node == "" {
		return "a node that fits"
	}
	return "node " + node
}

// Withheld says what of the desired guest is not brought about, because it would take
// making the guest anew or moving it: nobody but a human may decide that.
func Withheld(d *Desired, o Observed) []string {
	if d == nil || !o.Present {
		return nil
	}
	var notes []string
	if d.Node != "" && o.Node != "" && d.Node != o.Node {
		notes = append(notes, fmt.Sprintf("%s stays on node %s: it is not moved to node %s by itself", Name(d.Mark.VMID), o.Node, d.Node))
	}
	if d.MadeFrom != "" && d.Template != "" && d.MadeFrom != d.Template && !strings.HasPrefix(volumeName(d.MadeFrom), d.Template) {
		notes = append(notes, fmt.Sprintf("%s was made from %s: template %s would take making it anew, which is not done by itself", Name(d.Mark.VMID), d.MadeFrom, d.Template))
	}
	return notes
}

// blockedBy tells whether a guest that is there is not ours to touch.
func blockedBy(want ownership.Mark, o Observed) *Blocked {
	switch o.Relation {
	case ownership.Ours:
		return nil
	case ownership.Copy:
		return &Blocked{Reason: "VMIDIsCopy", Text: fmt.Sprintf(
			"guest %d is a copy (clone or restore) of guest %d and is left alone; destroy it or use another VMID", want.VMID, o.Mark.VMID)}
	case ownership.OtherInstall:
		return &Blocked{Reason: "VMIDTaken", Text: fmt.Sprintf(
			"VMID %d belongs to another installation (%s); use another VMID", want.VMID, o.Mark.Installation)}
	case ownership.OtherObject:
		if m := o.Mark; m.VMID == want.VMID && m.Kind == want.Kind && m.Namespace == want.Namespace && m.Name == want.Name {
			return lostGuest(*m, o.Node)
		}
		return &Blocked{Reason: "VMIDTaken", Text: fmt.Sprintf(
			"VMID %d was made for %s with uid %s; delete that guest or use another VMID", want.VMID, o.Mark, o.Mark.UID)}
	}
	return &Blocked{Reason: "VMIDTaken", Text: fmt.Sprintf(
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
		return nil, &Blocked{Reason: "Protected", Text: fmt.Sprintf("guest %d is protected in Proxmox; `pct set %d --protection 0` on node %s lets it be destroyed", want.VMID, want.VMID, o.Node)}
	}
	const why = "the object is being deleted"
	var steps []Step
	if o.Running {
		steps = append(steps, NewStep(ActionShutdown, runtime.Restart, why, "shut %s down", Name(want.VMID)))
	}
	return append(steps, NewStep(ActionDestroy, runtime.DataLoss, why, "destroy %s and its disks", Name(want.VMID))), nil
}
