package common

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// CondRestartPending tells of settings that count from the guest's next start on. It is there
// only once there were some, and is no part of Ready.
const CondRestartPending = "RestartPending"

// Pending are the settings of a guest that count from its next start on, as far as somebody
// has asked. The zero Pending knows of none.
type Pending struct {
	// Keys are those as of the configuration with the digest of.
	Keys []string
	of   string
	// stoppedOf is the digest of the configuration when the guest was seen stopped last.
	stoppedOf string
}

// Saw notes a look at the guest: what its configuration was before a start counts since then.
func (p *Pending) Saw(o lxc.Observed) {
	if o.Present && !o.Running {
		p.stoppedOf = o.Config.Digest
	}
}

// look brings p up to date. Proxmox is asked only when the configuration is another one than
// the last time: its digest counts pending changes too.
func (p *Pending) look(ctx context.Context, api cluster.API, vmid int, o lxc.Observed) (changed bool, err error) {
	digest := o.Config.Digest
	switch {
	case !o.Running || digest != "" && digest == p.of:
		return false, nil
	case o.AsMade: // it was started with what it has
		changed = len(p.Keys) > 0 || p.of != digest
		p.Keys, p.of = nil, digest
		return changed, nil
	case digest != "" && digest == p.stoppedOf:
		p.Keys, p.of = nil, digest
		return true, nil
	}
	changes, err := api.LXCPending(ctx, o.Node, vmid)
	if err != nil {
		return false, lxc.Classify(fmt.Errorf("read pending changes of guest %d: %w", vmid, err))
	}
	p.Keys, p.of = nil, digest
	for _, c := range changes {
		if c.IsPending() {
			p.Keys = append(p.Keys, c.Key)
		}
	}
	slices.Sort(p.Keys)
	return true, nil
}

// ReportPending says which settings of a guest that is ours count from its next start on.
// changed tells whether p is to be remembered anew.
func ReportPending[T resource.Object](ctx context.Context, s *runtime.Session[T], api cluster.API, vmid int, p *Pending, o lxc.Observed) (changed bool, err error) {
	if changed, err = p.look(ctx, api, vmid, o); err != nil {
		return false, err
	}
	switch {
	case o.Running && len(p.Keys) > 0:
		s.True(CondRestartPending, "PendingChanges", "%s of guest %d on node %s counts from its next start on: `pct reboot %d` there, when it suits",
			strings.Join(p.Keys, ", "), vmid, o.Node, vmid)
	case resource.FindCondition(s.Object, CondRestartPending) != nil:
		s.False(CondRestartPending, "NothingPending", "no setting waits for a restart")
	}
	return changed, nil
}

// RestartSteps is, in a plan, the restart that settings need to count, which nobody but a
// human decides about: those that wait for one already, and those that the steps add.
func RestartSteps(vmid int, steps []lxc.Step, p Pending, o lxc.Observed) []runtime.Step {
	if !o.Running {
		return nil
	}
	keys := slices.Clone(p.Keys)
	for _, s := range steps {
		if s.Action == lxc.ActionUpdate {
			keys = append(keys, lxc.AtNextStart(s.Change.Set)...)
		}
	}
	slices.Sort(keys)
	if keys = slices.Compact(keys); len(keys) == 0 {
		return nil
	}
	return []runtime.Step{{Action: "Restart", Effect: runtime.Restart, By: "you",
		Text: fmt.Sprintf("restart %s for %s to count, when it suits", lxc.Name(vmid), strings.Join(keys, ", "))}}
}
