package appliance

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Steps beside the guest's own, taken inside it.
const (
	ActionInstall   = "InstallPackages"
	ActionConfigure = "Configure"
)

// desired is what an Appliance asks for outside, with everything that it depends on resolved.
type desired struct {
	guest  *lxc.Desired
	input  appliance.Input
	bundle appliance.Bundle
	// broken says why there is no bundle; the guest is kept as it should be all the same.
	broken error
}

// observed is what was seen of an Appliance outside.
type observed struct {
	guest lxc.Observed
	// inside is nil as long as nobody has looked, or when the guest has no agent. Its files
	// are always listed. It outlives a stop of the guest, for files do.
	inside *appliance.Observation
	// pending are the settings that count from the guest's next start on.
	pending common.Pending
}

// plan lists the steps from observed to desired, in order; nil desired is deletion. It does
// no I/O and reads no clock.
func plan(d *desired, want ownership.Mark, o observed) ([]lxc.Step, *lxc.Blocked) {
	if d == nil {
		return lxc.Plan(nil, want, o.guest)
	}
	steps, blocked := lxc.Plan(d.guest, want, o.guest)
	if blocked != nil || d.broken != nil {
		return steps, blocked
	}
	inside := o.inside
	if !o.guest.Present {
		inside = nil
	}
	if inside == nil {
		return append(steps, installStep(nil), newSetStep(d.bundle, o.guest.Present)), nil
	}
	if len(inside.Missing) > 0 {
		steps = append(steps, installStep(inside.Missing))
	}
	if differs := appliance.Diff(d.bundle, *inside); len(differs) > 0 {
		steps = append(steps, configureStep(d.bundle, *inside, differs))
	}
	return steps, nil
}

// installStep installs what is missing; nobody has looked when nothing is named.
func installStep(missing []string) lxc.Step {
	if len(missing) > 0 {
		return lxc.NewStep(ActionInstall, runtime.InPlace, "", "install what provides %s", strings.Join(missing, ", "))
	}
	s := lxc.NewStep(ActionInstall, runtime.InPlace, "", "install dnsmasq, caddy and nftables")
	s.If = "unless the template has them"
	return s
}

// newSetStep writes the whole configuration into a guest in which nobody has looked yet.
func newSetStep(b appliance.Bundle, guestIsThere bool) lxc.Step {
	s := lxc.NewStep(ActionConfigure, runtime.InPlace, "", "write %d files and start DHCP, DNS, proxy and NAT", len(b.Files))
	if guestIsThere {
		s.If = "unless they are there"
	}
	return s
}

// configureStep makes the bundle live where something differs from it.
func configureStep(b appliance.Bundle, inside appliance.Observation, differs []string) lxc.Step {
	s := lxc.NewStep(ActionConfigure, runtime.InPlace, "", "bring the configuration up to date: %s", shorten(differs))
	if units := appliance.Restarts(b, inside); len(units) > 0 {
		s.Effect = runtime.Restart
		s.Text += "; restarts " + strings.ReplaceAll(strings.Join(units, ", "), ".service", "")
	}
	return s
}

// desire resolves what an Appliance asks for; node is where its guest would be made.
func desire(a *v1alpha1.Appliance, cl *v1alpha1.Cluster, m ownership.Mark, n network, w world, node string) (*desired, error) {
	guest, err := desiredGuest(a, cl, m, n)
	if err != nil {
		return nil, err
	}
	guest.Node = node
	d := &desired{guest: guest}
	if d.input, err = w.input(a, cl, n, m.Installation); err == nil {
		d.bundle, err = appliance.Render(d.input)
	}
	if err != nil {
		d.broken = runtime.Stalled("RenderFailed", "the configuration cannot be made: %v", err)
	}
	return d, nil
}

// listed is an observation with its files. One that says that exactly the set it was asked
// about is live does not list them.
func listed(b appliance.Bundle, o appliance.Observation, last any) *appliance.Observation {
	before, _ := last.(observed)
	switch {
	case o.Files != nil || o.SetHash != b.Hash:
	case before.inside != nil && before.inside.SetHash == o.SetHash && before.inside.Files != nil:
		o.Files = before.inside.Files
	default:
		o.Files = b.Hashes()
	}
	return &o
}

// Plan implements runtime's Options.Plan.
func (r *reconciler) Plan(ctx context.Context, p runtime.Planning[*v1alpha1.Appliance]) (runtime.Plan, error) {
	o, _ := p.Seen.(observed)
	read, err := p.Once("world", func() (any, error) { return r.readWorld(ctx, p.Client) })
	if err != nil {
		return runtime.Plan{}, err
	}
	w := read.(world)
	if p.Deleted {
		return r.planDeletion(p.Object, o, w)
	}
	conn, cl, err := common.Connect(ctx, p.Client, r.Clusters, p.Object.GetSpec().GetClusterRef().GetName())
	if err != nil {
		return runtime.Plan{}, err
	}
	n, err := findNetwork(ctx, p.Client, p.Object)
	if err != nil {
		return runtime.Plan{}, err
	}
	spec := p.Object.GetSpec()
	m := mark(p.Object, conn)
	m.VMID = cmp.Or(m.VMID, int(spec.GetVmid()))
	node, placed := r.foresee(p.Object, conn, cl, n)
	d, err := desire(p.Object, cl, m, n, w, node)
	if err != nil {
		return runtime.Plan{}, err
	}
	steps, blocked := plan(d, m, o)
	notes := append(lxc.Withheld(d.guest, o.guest), common.DriftNotes(d.guest, o.guest)...)
	if !o.guest.Present {
		notes = append(notes, placed...)
	}
	if spec.GetReadOnly() {
		notes = append(notes, "spec.readOnly is set: nothing of this is done until it is false")
	}
	for _, rej := range d.bundle.Rejected {
		notes = append(notes, fmt.Sprintf("%s %s is left out: %s", rej.Kind, rej.Key, rej.Reason))
	}
	made := runtime.Plan{Steps: lxc.Public(steps), Blocked: blocked, Notes: bounded(notes)}
	made.Steps = append(made.Steps, common.RestartSteps(m.VMID, steps, o.pending, o.guest)...)
	return made, d.broken
}

// maxNotes bounds what a plan says beside its steps.
const maxNotes = 20

func bounded(notes []string) []string {
	if len(notes) <= maxNotes {
		return notes
	}
	return append(notes[:maxNotes:maxNotes], fmt.Sprintf("and %d more", len(notes)-maxNotes))
}

func (r *reconciler) planDeletion(a *v1alpha1.Appliance, o observed, w world) (runtime.Plan, error) {
	if user := w.userOf(a.GetMetadata().GetName()); user != "" {
		return runtime.Plan{}, inUse(user)
	}
	if a.GetStatus().GetVmid() == 0 {
		return runtime.Plan{}, nil
	}
	if a.GetSpec().GetDeletionPolicy() == "Orphan" {
		return common.Orphaned(fmt.Sprintf("guest %d", a.GetStatus().GetVmid())), nil
	}
	conn, err := r.Clusters.Get(a.GetSpec().GetClusterRef().GetName())
	if err != nil {
		return runtime.Plan{}, runtime.Stalled("NotConnected", "%v", err)
	}
	steps, blocked := plan(nil, mark(a, conn), o)
	return runtime.Plan{Steps: lxc.Public(steps), Blocked: blocked}, nil
}
