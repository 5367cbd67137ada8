package progress

import (
	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Conditions that are computed from the others.
const (
	ready   = "Ready"
	stalled = "Stalled"
)

// Stage is what an object waits for.
type Stage struct {
	// Condition is the type of the first condition that is not True for the object's
	// generation, or Ready.
	Condition string
	Reason    string
	Message   string
	// Stalled: it waits for a human.
	Stalled bool
}

// String is the form of lines: Condition: message (Reason).
func (s Stage) String() string {
	text := s.Condition
	if s.Message != "" {
		text += ": " + s.Message
	}
	if s.Reason != "" && s.Reason != s.Condition {
		text += " (" + s.Reason + ")"
	}
	return text
}

// StageOf reads an object's conditions. The stage names the first one that is not True;
// why is taken from Ready, which knows more (the last error, a dependency), when Ready
// speaks of the same generation.
func StageOf(obj resource.Object) Stage {
	gen := obj.GetMetadata().GetGeneration()
	stage := Stage{Condition: ready, Reason: "Pending", Message: "has not been looked at yet"}
	if resource.Deleting(obj) {
		stage = Stage{Condition: "Deleting", Reason: "Deleting", Message: "is being removed"}
	}
	current := func(c *v1alpha1.Condition) bool { return c.GetObservedGeneration() == gen }
	for _, c := range resource.Conditions(obj) {
		if c.GetType() == ready || c.GetType() == stalled || c.GetStatus() == "True" && current(c) || resource.Deleting(obj) {
			continue
		}
		stage = Stage{Condition: c.GetType(), Reason: c.GetReason(), Message: c.GetMessage()}
		if !current(c) {
			stage.Reason, stage.Message = "Changed", "the change is being looked at"
		}
		break
	}
	if c := resource.FindCondition(obj, ready); c != nil && current(c) && c.GetStatus() != "True" && c.GetMessage() != "" {
		stage.Reason, stage.Message = c.GetReason(), c.GetMessage()
	}
	if c := resource.FindCondition(obj, stalled); c.GetStatus() == "True" && current(c) {
		stage.Stalled = true
	}
	stage.Reason, stage.Message = term.Clean(stage.Reason), term.Clean(stage.Message)
	return stage
}
