package engine

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// shallow returns a message with the same field values as m. Its own fields may be set;
// what they refer to is shared with m and must not be changed.
func shallow[M proto.Message](m M) M {
	src := m.ProtoReflect()
	dst := src.New()
	src.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		dst.Set(fd, v)
		return true
	})
	dst.SetUnknown(src.GetUnknown())
	return dst.Interface().(M)
}

// shallowMetadata is shallow for metadata: written out, because every new object needs it.
func shallowMetadata(m *v1alpha1.ObjectMeta) *v1alpha1.ObjectMeta {
	c := &v1alpha1.ObjectMeta{
		Name: m.GetName(), Namespace: m.GetNamespace(), Labels: m.GetLabels(), Annotations: m.GetAnnotations(),
		Uid: m.GetUid(), ResourceVersion: m.GetResourceVersion(), Generation: m.GetGeneration(),
		CreationTimestamp: m.GetCreationTimestamp(), DeletionTimestamp: m.GetDeletionTimestamp(),
		Finalizers: m.GetFinalizers(), OwnerReferences: m.GetOwnerReferences(), ManagedFields: m.GetManagedFields(),
	}
	reviseUnknown(c.ProtoReflect(), m.ProtoReflect())
	return c
}

// reviseMetadata makes m what an update to obj's metadata makes of it, and tells whether
// anything but times has changed. What changed, m shares with obj. Name and namespace are
// the same: they are the key.
func reviseMetadata(m, obj *v1alpha1.ObjectMeta) (changed bool) {
	if !maps.Equal(m.Labels, obj.GetLabels()) {
		m.Labels, changed = obj.GetLabels(), true
	}
	if !maps.Equal(m.Annotations, obj.GetAnnotations()) {
		m.Annotations, changed = obj.GetAnnotations(), true
	}
	if !slices.Equal(m.Finalizers, obj.GetFinalizers()) {
		m.Finalizers, changed = obj.GetFinalizers(), true
	}
	if !equalLists(m.OwnerReferences, obj.GetOwnerReferences()) {
		m.OwnerReferences, changed = obj.GetOwnerReferences(), true
	}
	if !equalLists(m.ManagedFields, obj.GetManagedFields()) { // new times count as soon as something else has changed
		changed = changed || !sameManagers(m.ManagedFields, obj.GetManagedFields())
		m.ManagedFields = obj.GetManagedFields()
	}
	return reviseUnknown(m.ProtoReflect(), obj.ProtoReflect()) || changed
}

func equalLists[M proto.Message](a, b []M) bool {
	return slices.EqualFunc(a, b, func(x, y M) bool { return proto.Equal(x, y) })
}

// reviseUnknown does the same for fields that this version of the program does not know.
func reviseUnknown(n, o protoreflect.Message) (changed bool) {
	if bytes.Equal(n.GetUnknown(), o.GetUnknown()) {
		return false
	}
	n.SetUnknown(bytes.Clone(o.GetUnknown()))
	return true
}

func sameManagers(a, b []*v1alpha1.ManagedFieldsEntry) bool {
	return slices.EqualFunc(a, b, func(x, y *v1alpha1.ManagedFieldsEntry) bool {
		if x.GetTime() != y.GetTime() {
			y = shallow(y)
			y.Time = x.GetTime()
		}
		return proto.Equal(x, y)
	})
}

// timestamp is the form of times in metadata: RFC 3339, UTC, whole seconds.
func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
