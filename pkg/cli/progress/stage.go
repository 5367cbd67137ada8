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

// unseen is the stage of an object without any condition.
var unseen = Stage{Condition: ready, Reason: "Pending", Message: "has not been looked at yet"}

// StageOf reads an object's conditions. The stage names the first one that is not True;
// why is taken from Ready, which knows more (the last error, a dependency), when Ready
// speaks of the same generation.
func StageOf(obj resource.Object) Stage { return stageOf(obj, false) }

// stageOf is StageOf; with staleReady, Ready is older than the other conditions. A
// controller computes Ready at the end of its work and may store conditions before.
func stageOf(obj resource.Object, staleReady bool) Stage {
	stage := unseen
	first, summary := firstNotTrue(obj), currentCondition(obj, ready)
	switch {
	case resource.Deleting(obj):
		stage = Stage{Condition: "Deleting", Reason: "Deleting", Message: "is being removed"}
	case first != nil && isCurrent(obj, first):
		stage = Stage{Condition: first.GetType(), Reason: first.GetReason(), Message: first.GetMessage()}
	case first != nil:
		stage = Stage{Condition: first.GetType(), Reason: "Changed", Message: "the change is being looked at"}
	case summary.GetStatus() == "True":
		stage = Stage{Condition: ready, Reason: summary.GetReason(), Message: summary.GetMessage()}
	case len(resource.Conditions(obj)) > 0:
		stage = Stage{Condition: ready, Reason: "Progressing", Message: "is being worked on"}
	}
	if summary != nil && summary.GetStatus() != "True" && summary.GetMessage() != "" && !(staleReady && first != nil) {
		stage.Reason, stage.Message = summary.GetReason(), summary.GetMessage()
	}
	stage.Stalled = currentCondition(obj, stalled).GetStatus() == "True"
	stage.Reason, stage.Message = term.Clean(stage.Reason), term.Clean(stage.Message)
	return stage
}

// firstNotTrue returns the first condition that is not True for the object's generation,
// but for the computed ones; nil if there is none.
func firstNotTrue(obj resource.Object) *v1alpha1.Condition {
	for _, c := range resource.Conditions(obj) {
		if c.GetType() != ready && c.GetType() != stalled && !(c.GetStatus() == "True" && isCurrent(obj, c)) {
			return c
		}
	}
	return nil
}

func isCurrent(obj resource.Object, c *v1alpha1.Condition) bool {
	return c.GetObservedGeneration() == obj.GetMetadata().GetGeneration()
}

// currentCondition returns the condition of that type if it speaks of the object's generation.
func currentCondition(obj resource.Object, typ string) *v1alpha1.Condition {
	if c := resource.FindCondition(obj, typ); c != nil && isCurrent(obj, c) {
		return c
	}
	return nil
}
