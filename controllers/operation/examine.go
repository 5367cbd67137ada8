package operation

import (
	"context"
	"fmt"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/examine"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/doctor"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// examined is a connection to Proxmox that is to be examined.
type examined struct {
	client runtime.Client
	object *v1alpha1.Cluster
	conn   *cluster.Connection
}

// clusterTarget finds what is to be examined.
func (r *reconciler) clusterTarget(ctx context.Context, s *session, ref *v1alpha1.ObjectReference) (subject, error) {
	conn, obj, err := r.connection(ctx, s, ref)
	if err != nil {
		return nil, err
	}
	return &examined{client: s.Client, object: obj, conn: conn}, nil
}

// connection finds the connection. One that could not be made cannot be used for anything;
// the Cluster's conditions say why.
func (r *reconciler) connection(ctx context.Context, s *session, ref *v1alpha1.ObjectReference) (*cluster.Connection, *v1alpha1.Cluster, error) {
	obj, err := runtime.Get[*v1alpha1.Cluster](ctx, s.Client, resource.Key{Kind: "Cluster", Name: ref.GetName()})
	if err != nil {
		return nil, nil, fmt.Errorf("cluster %s: %w", ref.GetName(), err)
	}
	conn, err := r.Clusters.Get(ref.GetName())
	if err != nil {
		if c := resource.FindCondition(obj, "Connected"); c.GetStatus() == "False" {
			err = fmt.Errorf("%w: %s", err, c.GetMessage())
		}
		return nil, nil, err
	}
	return conn, obj, nil
}

func (e *examined) label() string { return e.conn.Name }

// do looks at everything. That something is wrong is a finding, not a failure of the
// operation.
func (e *examined) do(ctx context.Context, _ *v1alpha1.OperationSpec) (outcome, error) {
	checks, err := examine.Run(ctx, e.client, e.object, e.conn)
	if err != nil {
		return outcome{}, err
	}
	count := map[string]int{}
	for _, c := range checks {
		count[c.GetStatus()]++
	}
	out := outcome{checks: checks}
	out.message = fmt.Sprintf("%d checks: %d pass, %d warn, %d fail, %d skipped", len(checks),
		count[string(doctor.Pass)], count[string(doctor.Warn)], count[string(doctor.Fail)], count[string(doctor.Skip)])
	return out, nil
}
