package cli

import (
	"context"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/server"
)

// fakePlanner plans a guest for each App and nothing for Namespaces. Labels of the App
// change that: test-seen makes it one that was looked at a minute ago, test-blocked one in
// whose way something is.
type fakePlanner struct{}

func (fakePlanner) Plan(_ context.Context, changes []server.PlanChange) ([]server.Plan, error) {
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
	return plans, nil
}
