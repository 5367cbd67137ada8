package daemon

import (
	"context"

	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/server"
)

// planner lets the server ask the controllers for plans, without knowing them.
type planner struct{ manager *runtime.Manager }

// Plan implements server.Planner.
func (p planner) Plan(ctx context.Context, changes []server.PlanChange) ([]server.Plan, error) {
	asked := make([]runtime.Change, len(changes))
	for i, c := range changes {
		asked[i] = runtime.Change(c)
	}
	plans, err := p.manager.Plan(ctx, asked)
	if err != nil {
		return nil, err
	}
	out := make([]server.Plan, len(plans))
	for i, plan := range plans {
		out[i] = server.Plan{Notes: plan.Notes, Outside: plan.Outside, ObservedAt: plan.ObservedAt}
		if plan.Blocked != nil {
			out[i].BlockedReason, out[i].Blocked = plan.Blocked.Reason, plan.Blocked.Text
		}
		for _, s := range plan.Steps {
			out[i].Steps = append(out[i].Steps, server.PlanStep{
				Action: s.Action, Description: s.Text, Effect: string(s.Effect), By: s.By, If: s.If,
			})
		}
	}
	return out, nil
}
