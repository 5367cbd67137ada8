// Package examine makes an examination of a Cluster out of its object and connection: the
// same for the status of the Cluster and for an Operation that asks for one.
package examine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/doctor"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// patience bounds an examination: a node that does not answer costs its share of it.
const patience = time.Minute

// Run examines a cluster; it only looks.
func Run(ctx context.Context, c runtime.Client, obj *v1alpha1.Cluster, conn *cluster.Connection) ([]*v1alpha1.Check, error) {
	subject, err := subjectOf(ctx, c, obj, conn)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return checks(doctor.Examine(ctx, subject)), nil
}

// Want is what a cluster's object asks of its connection, but for the Bridges.
func Want(obj *v1alpha1.Cluster) doctor.Want {
	spec := obj.GetSpec()
	w := doctor.Want{
		Node: spec.GetNode(), Storage: spec.GetStorage(), Uplink: spec.GetWanBridge(),
		VMIDStart: int(spec.GetVmidStart()), VMIDEnd: int(spec.GetVmidEnd()),
		Downloads: len(spec.GetTemplateSources()) > 0,
	}
	for _, t := range []string{spec.GetApplianceTemplate(), spec.GetAppTemplate()} {
		ours := slices.ContainsFunc(spec.GetTemplateSources(), func(s *v1alpha1.TemplateSource) bool { return s.GetName() == t })
		if t != "" && !ours && !slices.Contains(w.Templates, t) {
			w.Templates = append(w.Templates, t)
		}
	}
	return w
}

func subjectOf(ctx context.Context, c runtime.Client, obj *v1alpha1.Cluster, conn *cluster.Connection) (doctor.Subject, error) {
	s := doctor.Subject{
		API: conn.API, Endpoint: conn.Endpoint, Identity: conn.Identity, Want: Want(obj),
		Access: doctor.Access{Mode: conn.Mode, Host: conn.NodeHost},
	}
	if conn.Host != nil {
		s.Access.Probe = conn.ProbeNode
	}
	bridges, err := runtime.List[*v1alpha1.Bridge](ctx, c, "Bridge", "")
	if err != nil {
		return s, fmt.Errorf("list bridges: %w", err)
	}
	for _, b := range bridges {
		if cmp.Or(b.GetSpec().GetClusterRef().GetName(), cluster.DefaultName) == obj.GetMetadata().GetName() {
			if b.GetSpec().GetBackend() == common.BackendSDN {
				s.Want.Networks = append(s.Want.Networks, b.GetSpec().GetSdn().GetZone(), b.GetSpec().GetInterfaceName())
				continue
			}
			s.Want.Bridges = append(s.Want.Bridges, cmp.Or(b.GetSpec().GetInterfaceName(), b.GetMetadata().GetName()))
		}
	}
	return s, nil
}

func checks(found []doctor.Check) []*v1alpha1.Check {
	out := make([]*v1alpha1.Check, len(found))
	for i, c := range found {
		out[i] = &v1alpha1.Check{
			Name: proto.String(c.Name), Status: proto.String(string(c.Status)), Message: proto.String(c.Message), Fix: c.Fix,
		}
	}
	return out
}

// Worst returns the status that a list of checks amounts to, and the first check that has
// it; nil when all is well.
func Worst(all []*v1alpha1.Check) (doctor.Status, *v1alpha1.Check) {
	for _, status := range []doctor.Status{doctor.Fail, doctor.Warn} {
		for _, c := range all {
			if c.GetStatus() == string(status) {
				return status, c
			}
		}
	}
	return doctor.Pass, nil
}
