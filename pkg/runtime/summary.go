package runtime

import (
	"errors"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// summarize computes Ready from the declared conditions, in order, and the outcome: Ready
// is True when all of them are True for this generation and the outcome is no error;
// otherwise it names the first that is not.
func summarize(obj resource.Object, table []string, err error) {
	gen := obj.GetMetadata().GetGeneration()
	var waiting *WaitingError
	var stalled *StalledError
	errors.As(err, &waiting)
	errors.As(err, &stalled)
	if stalled == nil {
		removeCondition(obj, ConditionStalled)
	} else {
		setCondition(obj, ConditionStalled, "True", stalled.Reason, stalled.Text)
	}
	first := firstNotTrue(obj, table, gen)
	switch {
	case stalled != nil:
		setCondition(obj, ConditionReady, "False", stalled.Reason, stalled.Text)
	case waiting != nil:
		setCondition(obj, ConditionReady, "False", waiting.Reason, waiting.Text)
	case err != nil:
		setCondition(obj, ConditionReady, "False", "Retrying", err.Error())
	case first != nil:
		status := first.GetStatus()
		if status != "Unknown" {
			status = "False"
		}
		setCondition(obj, ConditionReady, status, first.GetReason(), first.GetMessage())
	default:
		setCondition(obj, ConditionReady, "True", "Ready", "everything is as declared")
	}
}

// showProgress lets Ready name the step that a reconcile is at, when it is saved half-way.
func showProgress(obj resource.Object, table []string) {
	if first := firstNotTrue(obj, table, obj.GetMetadata().GetGeneration()); first != nil {
		setCondition(obj, ConditionReady, "False", first.GetReason(), first.GetMessage())
	}
}

func firstNotTrue(obj resource.Object, table []string, gen int32) *v1alpha1.Condition {
	for _, typ := range table {
		c := resource.FindCondition(obj, typ)
		if c == nil || c.GetStatus() == "True" && c.GetObservedGeneration() != gen {
			return &v1alpha1.Condition{Type: typ, Status: "Unknown", Reason: "Progressing", Message: "the next step is " + typ}
		}
		if c.GetStatus() != "True" {
			return c
		}
	}
	return nil
}

// removeCondition drops a condition that is only present while it is True.
func removeCondition(obj resource.Object, typ string) {
	conds := resource.Conditions(obj)
	i := slices.IndexFunc(conds, func(c *v1alpha1.Condition) bool { return c.GetType() == typ })
	if i < 0 {
		return
	}
	status, _ := resource.Field(obj, "status")
	fd := status.Descriptor().Fields().ByName("conditions")
	old := status.Get(fd).List()
	kept := status.NewField(fd).List()
	for j := 0; j < old.Len(); j++ {
		if j != i {
			kept.Append(old.Get(j))
		}
	}
	status.Set(fd, protoreflect.ValueOfList(kept))
}
