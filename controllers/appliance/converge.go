package appliance

import (
	"context"
	"slices"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// converge takes the guest's steps of the plan; the others are taken inside it.
func (r *reconciler) converge(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, n network) (*desired, lxc.Observed, error) {
	spec, last := s.Object.GetSpec().GetNode(), s.Object.GetStatus().GetNode()
	m := mark(s.Object, conn)
	ask := func() (*desired, error) {
		w, err := r.readWorld(ctx, s.Client)
		if err != nil {
			return nil, err
		}
		return desire(s.Object, cl, m, n, w, spec)
	}
	d, err := ask()
	if err != nil {
		return nil, lxc.Observed{}, err
	}
	before, _ := s.Remembered().(observed)
	rounds := 0
	driver := r.driver(s, conn)
	announce := driver.Before
	driver.Before = func(ctx context.Context, step lxc.Step, o lxc.Observed) error {
		if step.Action == lxc.ActionStart {
			r.askAgain(s.Object.GetMetadata().GetName())
			if ready, why := common.BridgeOn(n.of, o.Node); !ready { // without it the guest would not start
				return runtime.Waiting(common.DependencyRecheck, "BridgeNotReady", "%s", why)
			}
		}
		return announce(ctx, step, o)
	}
	driver.Place = func(ctx context.Context) (string, error) {
		return r.stands(ctx, s.Object, conn, cl, n)
	}
	o, _, err := driver.Converge(ctx, d.guest, m, last, func(guest lxc.Observed) ([]lxc.Step, *lxc.Blocked) {
		rounds++
		o := observed{guest: guest, inside: before.inside, pending: before.pending}
		o.pending.Saw(guest)
		before = o
		s.Remember(o)
		steps, blocked := plan(d, m, o)
		// What is to be done in the guest alone is looked at there first.
		if blocked == nil && s.Object.GetSpec().GetReadOnly() && len(steps) > 0 && !insideOnly(steps) {
			blocked = lxc.ReadOnly(steps)
		}
		return steps, blocked
	})
	if err == nil {
		status(s).Applied = common.ReportDrift(ctx, s, d.guest, o)
		changed, perr := common.ReportPending(ctx, s, conn.API, m.VMID, &before.pending, o)
		if changed {
			s.Remember(before)
		}
		if perr != nil { // the next look asks again; what is served does not wait for that
			s.Log.Info("pending changes are not known", "error", perr)
		}
	}
	if err == nil && rounds > 1 {
		d, err = ask() // what it serves may have changed while the guest was worked on
	}
	return d, o, err
}

// insideOnly tells whether nothing of the guest itself is to be done.
func insideOnly(steps []lxc.Step) bool {
	return !slices.ContainsFunc(steps, func(st lxc.Step) bool { return st.Action != ActionInstall && st.Action != ActionConfigure })
}
