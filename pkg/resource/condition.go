package resource

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// SetCondition adds a copy of c to the object's status.conditions, or replaces the one of
// its type in place, and tells whether that changed anything. lastTransitionTime is kept
// while the condition's status stays the same; otherwise it is c's own or, when c has
// none, now. A kind without status.conditions is left as it is.
func SetCondition(obj Object, c *v1alpha1.Condition) (changed bool) {
	list, ok := conditionList(obj)
	if !ok {
		return false
	}
	c = proto.Clone(c).(*v1alpha1.Condition)
	at := list.Len()
	for i := range list.Len() {
		if old := list.Get(i).Message().Interface().(*v1alpha1.Condition); old.GetType() == c.GetType() {
			at = i
			if old.GetStatus() == c.GetStatus() {
				c.LastTransitionTime = old.GetLastTransitionTime()
			}
			if proto.Equal(old, c) {
				return false
			}
			break
		}
	}
	if c.GetLastTransitionTime() == "" {
		c.LastTransitionTime = time.Now().UTC().Format(time.RFC3339)
	}
	value := protoreflect.ValueOfMessage(c.ProtoReflect())
	if at == list.Len() {
		list.Append(value)
	} else {
		list.Set(at, value)
	}
	return true
}

// RemoveCondition removes the condition of that type and tells whether there was one.
func RemoveCondition(obj Object, typ string) (changed bool) {
	if FindCondition(obj, typ) == nil {
		return false
	}
	list, _ := conditionList(obj)
	kept := 0
	for i := range list.Len() {
		if v := list.Get(i); v.Message().Interface().(*v1alpha1.Condition).GetType() != typ {
			list.Set(kept, v)
			kept++
		}
	}
	list.Truncate(kept)
	return true
}

// conditionList returns the changeable status.conditions of an object, making the status
// when there is none.
func conditionList(obj Object) (protoreflect.List, bool) {
	m := obj.ProtoReflect()
	status := m.Descriptor().Fields().ByJSONName("status")
	if status == nil || status.Message() == nil {
		return nil, false
	}
	conditions := status.Message().Fields().ByJSONName("conditions")
	if conditions == nil || !conditions.IsList() || conditions.Message() == nil ||
		conditions.Message().FullName() != (&v1alpha1.Condition{}).ProtoReflect().Descriptor().FullName() {
		return nil, false
	}
	return m.Mutable(status).Message().Mutable(conditions).List(), true
}
