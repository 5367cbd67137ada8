package daemon

import (
	"context"

	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/server"
)

// planner lets the server ask the controllers for plans, without knowing them.
type planner struct{ manager *runtime.Manager }

// Plan implements server.Planner.
func (p planner) Plan(ctx context.Context, changes []server.PlanChange) (server.Plans, error) {
	asked := make([]runtime.Change, len(changes))
	for i, c := range changes {
		asked[i] = runtime.Change(c)
	}
	plans, err := p.manager.Plan(ctx, asked)
	if err != nil {
		return server.Plans{}, err
	}
	out := server.Plans{Changes: make([]server.Plan, len(plans.Changes))}
	for i, plan := range plans.Changes {
		out.Changes[i] = shown(plan)
	}
	for _, a := range plans.Affected {
		out.Affected = append(out.Affected, server.PlanAffected{Object: a.Object, Plan: shown(a.Plan)})
	}
	if plans.MoreAffected {
		out.Note = "other objects may be affected that are not named here"
	}
	return out, nil
}

// shown is a plan as the server has it.
func shown(plan runtime.Plan) server.Plan {
	out := server.Plan{Notes: plan.Notes, Outside: plan.Outside, ObservedAt: plan.ObservedAt}
	if plan.Blocked != nil {
		out.BlockedReason, out.Blocked = plan.Blocked.Reason, plan.Blocked.Text
	}
	for _, s := range plan.Steps {
		out.Steps = append(out.Steps, server.PlanStep{
			Action: s.Action, Description: s.Text, Effect: string(s.Effect), By: s.By, If: s.If,
		})
	}
	return out
}
