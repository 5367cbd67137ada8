package appliance

import (
	"context"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
)

// converge takes the guest's steps of the plan; the others are taken inside it.
func (r *reconciler) converge(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, n network) (*desired, lxc.Observed, error) {
	node, err := common.Node(ctx, conn.API, s.Object.GetSpec().GetNode(), s.Object.GetStatus().GetNode(), cl.GetSpec().GetNode())
	if err != nil {
		return nil, lxc.Observed{}, err
	}
	m := mark(s.Object, conn)
	ask := func() (*desired, error) {
		w, err := readWorld(ctx, s.Client)
		if err != nil {
			return nil, err
		}
		return desire(s.Object, cl, m, n, w, node)
	}
	d, err := ask()
	if err != nil {
		return nil, lxc.Observed{}, err
	}
	before, _ := s.Remembered().(observed)
	rounds := 0
	o, _, err := r.driver(s, conn).Converge(ctx, d.guest, m, node, func(guest lxc.Observed) ([]lxc.Step, *lxc.Blocked) {
		rounds++
		o := observed{guest: guest, inside: before.inside}
		s.Remember(o)
		return plan(d, m, o)
	})
	if err == nil && rounds > 1 {
		d, err = ask() // what it serves may have changed while the guest was worked on
	}
	return d, o, err
}
