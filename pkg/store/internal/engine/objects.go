package engine

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Stored objects are immutable, so versions of an object may share what did not change:
// a status write copies neither spec nor managedFields. The ring of events holds many
// versions of the same few objects, and this is what keeps it small.

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

// newVersion is a shallow copy of a stored object with metadata of its own.
func newVersion(o resource.Object) resource.Object {
	next := shallow(o)
	m := next.ProtoReflect()
	m.Set(m.Descriptor().Fields().ByName("metadata"), protoreflect.ValueOfMessage(shallowMetadata(o.GetMetadata()).ProtoReflect()))
	return next
}

// shallowMetadata is shallow for metadata: written out, because every write needs it.
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

func hasField(o resource.Object, name string) bool {
	return o.ProtoReflect().Descriptor().Fields().ByJSONName(name) != nil
}

// revised is what an update makes of cur: obj, with the status of cur and with what only
// the store sets in metadata. What did not change it shares with cur; with obj it has
// nothing in common. changed is false when it is cur but for times in managedFields.
func revised(cur, obj resource.Object) (next resource.Object, changed, specChanged bool) {
	next = newVersion(cur)
	n, o := next.ProtoReflect(), obj.ProtoReflect()
	fields := n.Descriptor().Fields()
	for i := range fields.Len() {
		switch fd := fields.Get(i); fd.Name() {
		case "status":
		case "metadata":
			changed = reviseMetadata(next.GetMetadata(), obj.GetMetadata()) || changed
		case "spec":
			if specChanged = !resource.EqualField(cur, obj, "spec"); specChanged { // unset and empty are equal
				replaceField(n, o, fd)
			}
		default:
			changed = reviseField(n, o, fd) || changed
		}
	}
	return next, reviseUnknown(n, o) || changed || specChanged, specChanged
}

// reviseMetadata makes m, which is cur's but for its own fields, what an update to obj's
// metadata makes of it, and tells whether anything but times has changed. Name and
// namespace are the same: they are the key.
func reviseMetadata(m, obj *v1alpha1.ObjectMeta) (changed bool) {
	if !maps.Equal(m.Labels, obj.GetLabels()) {
		m.Labels, changed = maps.Clone(obj.GetLabels()), true
	}
	if !maps.Equal(m.Annotations, obj.GetAnnotations()) {
		m.Annotations, changed = maps.Clone(obj.GetAnnotations()), true
	}
	if !slices.Equal(m.Finalizers, obj.GetFinalizers()) {
		m.Finalizers, changed = slices.Clone(obj.GetFinalizers()), true
	}
	if !equalMessages(m.OwnerReferences, obj.GetOwnerReferences()) {
		m.OwnerReferences, changed = cloneMessages(obj.GetOwnerReferences()), true
	}
	if !equalMessages(m.ManagedFields, obj.GetManagedFields()) { // new times count as soon as something else has changed
		changed = changed || !sameManagers(m.ManagedFields, obj.GetManagedFields())
		m.ManagedFields = cloneMessages(obj.GetManagedFields())
	}
	return reviseUnknown(m.ProtoReflect(), obj.ProtoReflect()) || changed
}

func equalMessages[M proto.Message](a, b []M) bool {
	return slices.EqualFunc(a, b, func(x, y M) bool { return proto.Equal(x, y) })
}

func cloneMessages[M proto.Message](list []M) []M {
	var copies []M
	for _, m := range list {
		copies = append(copies, proto.Clone(m).(M))
	}
	return copies
}

// reviseField gives n a copy of the field's value in o, unless it has an equal one.
func reviseField(n, o protoreflect.Message, fd protoreflect.FieldDescriptor) (changed bool) {
	if n.Has(fd) == o.Has(fd) && (!n.Has(fd) || n.Get(fd).Equal(o.Get(fd))) {
		return false
	}
	replaceField(n, o, fd)
	return true
}

func replaceField(n, o protoreflect.Message, fd protoreflect.FieldDescriptor) {
	if !o.Has(fd) {
		n.Clear(fd)
		return
	}
	only := o.New()
	only.Set(fd, o.Get(fd))
	n.Set(fd, proto.Clone(only.Interface()).ProtoReflect().Get(fd))
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
