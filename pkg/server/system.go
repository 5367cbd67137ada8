package server

import (
	"context"
	"fmt"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// systemService answers the infrastructure routes: sums from observed state here, wishes
// as Operations in system_operation.go.
type systemService struct {
	v1alpha1.UnimplementedSystemServiceServer
	core *core
}

// InfrastructureStatus sums up what controllers observed. An infrastructure without a
// cluster, a bridge and an appliance is not ready: it can't run an App.
func (s *systemService) InfrastructureStatus(ctx context.Context, _ *v1alpha1.InfrastructureStatusRequest) (*v1alpha1.InfrastructureStatusResponse, error) {
	clusters, err := listAs[*v1alpha1.Cluster](ctx, s.core, "Cluster")
	if err != nil {
		return nil, err
	}
	bridges, err := listAs[*v1alpha1.Bridge](ctx, s.core, "Bridge")
	if err != nil {
		return nil, err
	}
	appliances, err := listAs[*v1alpha1.Appliance](ctx, s.core, "Appliance")
	if err != nil {
		return nil, err
	}
	apps, err := listAs[*v1alpha1.App](ctx, s.core, "App")
	if err != nil {
		return nil, err
	}
	resp := &v1alpha1.InfrastructureStatusResponse{
		Ready: len(clusters) > 0 && len(bridges) > 0 && len(appliances) > 0,
		Apps:  int32(len(apps)),
	}
	for _, c := range clusters {
		resp.Clusters = append(resp.Clusters, partStatus(c))
		resp.Ready = resp.Ready && resource.IsReady(c)
	}
	for _, b := range bridges {
		resp.Bridges = append(resp.Bridges, partStatus(b))
		resp.Ready = resp.Ready && resource.IsReady(b)
	}
	for _, a := range appliances {
		resp.Appliances = append(resp.Appliances, applianceInfo(a))
		resp.Ready = resp.Ready && resource.IsReady(a)
	}
	for _, a := range apps {
		if resource.IsReady(a) {
			resp.AppsReady++
		}
	}
	return resp, nil
}

// ProxyStatus lists the vhosts as they were observed.
func (s *systemService) ProxyStatus(ctx context.Context, _ *v1alpha1.ProxyStatusRequest) (*v1alpha1.ProxyStatusResponse, error) {
	vhosts, err := listAs[*v1alpha1.Vhost](ctx, s.core, "Vhost")
	if err != nil {
		return nil, err
	}
	resp := &v1alpha1.ProxyStatusResponse{}
	for _, v := range vhosts {
		ready, reason, message := readiness(v)
		resp.Vhosts = append(resp.Vhosts, &v1alpha1.ProxyVhost{
			Name: v.GetMetadata().GetName(), Namespace: v.GetMetadata().GetNamespace(),
			Appliance: v.GetStatus().GetAppliance(), Hosts: v.GetSpec().GetHosts(),
			Backends: v.GetStatus().GetBackends(), Urls: v.GetStatus().GetUrls(),
			Ready: ready, Reason: reason, Message: message,
		})
	}
	return resp, nil
}

// listAs lists a kind (of all namespaces) as its Go type.
func listAs[T resource.Object](ctx context.Context, c *core, kind string) ([]T, error) {
	snapshot, err := c.list(ctx, kind, selection{})
	if err != nil {
		return nil, err
	}
	items := make([]T, len(snapshot.Items))
	for i, obj := range snapshot.Items {
		typed, ok := obj.(T)
		if !ok {
			return nil, fmt.Errorf("%s is stored as %T", resource.KeyOf(obj), obj)
		}
		items[i] = typed
	}
	return items, nil
}

// readiness reads the Ready condition. One that speaks of an older spec is not an answer yet.
func readiness(obj resource.Object) (ready bool, reason, message string) {
	c := resource.FindCondition(obj, "Ready")
	switch {
	case c == nil:
		return false, "Pending", "not observed yet"
	case !resource.IsReady(obj) && c.GetStatus() == "True":
		return false, "Progressing", "the last change is being carried out"
	}
	return c.GetStatus() == "True", c.GetReason(), c.GetMessage()
}

func partStatus(obj resource.Object) *v1alpha1.PartStatus {
	ready, reason, message := readiness(obj)
	return &v1alpha1.PartStatus{Name: obj.GetMetadata().GetName(), Ready: ready, Reason: reason, Message: message}
}

func applianceInfo(a *v1alpha1.Appliance) *v1alpha1.ApplianceInfo {
	ready, reason, message := readiness(a)
	st := a.GetStatus()
	return &v1alpha1.ApplianceInfo{
		Name: a.GetMetadata().GetName(), Ready: ready, Reason: reason, Message: message,
		Vmid: st.GetVmid(), Node: st.GetNode(), LanAddress: a.GetSpec().GetLan().GetAddress(),
		WanAddress: st.GetWanAddress(), Zone: a.GetSpec().GetDns().GetZone(),
		LeaseCount: st.GetLeaseCount(), VhostCount: st.GetVhostCount(),
		Services: st.GetServices(), Conditions: st.GetConditions(),
	}
}
