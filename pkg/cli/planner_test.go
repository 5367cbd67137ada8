package cli

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server"
)

// fakePlanner plans a guest for each App and nothing for Namespaces. Labels of the App
// change that: test-seen makes it one that was looked at a minute ago, test-blocked one in
// whose way something is, test-affects lets a Vhost follow it.
type fakePlanner struct{}

func (fakePlanner) Plan(_ context.Context, changes []server.PlanChange) (server.Plans, error) {
	plans := make([]server.Plan, len(changes))
	for i, c := range changes {
		if c.Key.Kind != "App" {
			continue
		}
		p := server.Plan{Outside: true, ObservedAt: time.Now().Add(-90 * time.Second)}
		app, _ := c.Desired.(*v1alpha1.App)
		switch labels := app.GetMetadata().GetLabels(); {
		case c.Desired == nil:
			p.Steps = []server.PlanStep{
				{Action: "Shutdown", Description: "shut guest 100 down", Effect: "restart"},
				{Action: "Destroy", Description: "destroy guest 100 and its disks", Effect: "data loss"},
			}
		case labels["test-blocked"] != "":
			p.BlockedReason, p.Blocked = "VMIDTaken", "VMID 100 is taken\x1b[31m"
		case app.GetSpec().GetState() == "Stopped":
			p.Steps = []server.PlanStep{{Action: "Shutdown", Description: "shut guest 100 down", Effect: "restart"}}
			p.Notes = []string{"something is | not done"}
		case labels["test-seen"] == "":
			p.ObservedAt = time.Time{}
			p.Steps = []server.PlanStep{
				{Action: "DownloadTemplate", Description: "fetch the template", Effect: "in place", If: "unless the node has it"},
				{Action: "Create", Description: "create guest " + c.Key.Name, Effect: "in place"},
				{Action: "ServeNames", Description: "serve its names", Effect: "in place", By: "Appliance proximity"},
			}
		}
		plans[i] = p
	}
	out := server.Plans{Changes: plans}
	for _, c := range changes {
		if app, ok := c.Desired.(*v1alpha1.App); ok && app.GetMetadata().GetLabels()["test-affects"] != "" {
			other := &v1alpha1.Vhost{
				ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Vhost"), Metadata: &v1alpha1.ObjectMeta{Name: "site", Namespace: "default"},
			}
			out.Affected = append(out.Affected, server.PlanAffected{Object: other, Plan: server.Plan{
				Outside: true, Steps: []server.PlanStep{{Action: "ChangeVhost", Description: "serve it from elsewhere", Effect: "in place"}},
			}})
		}
	}
	return out, nil
}
