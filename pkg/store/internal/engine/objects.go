package engine

import (
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
	setField(next, "metadata", shallow(o.GetMetadata()).ProtoReflect())
	return next
}

func setField(o resource.Object, name string, value protoreflect.Message) {
	m := o.ProtoReflect()
	m.Set(m.Descriptor().Fields().ByJSONName(name), protoreflect.ValueOfMessage(value))
}

// shareField makes dst's sub-message the very one of src, or clears it.
func shareField(dst, src resource.Object, name string) {
	d := dst.ProtoReflect()
	fd := d.Descriptor().Fields().ByJSONName(name)
	if fd == nil {
		return
	}
	if v, ok := resource.Field(src, name); ok {
		d.Set(fd, protoreflect.ValueOfMessage(v))
	} else {
		d.Clear(fd)
	}
}

func hasField(o resource.Object, name string) bool {
	return o.ProtoReflect().Descriptor().Fields().ByJSONName(name) != nil
}

// sameApartFromTimes tells whether two versions of an object are equal but for the times
// in managedFields. An unset and an empty spec are equal.
func sameApartFromTimes(cur, next resource.Object, specEqual bool) bool {
	probe := newVersion(next)
	if specEqual {
		shareField(probe, cur, "spec")
	}
	m := probe.GetMetadata()
	if sameManagers(cur.GetMetadata().GetManagedFields(), m.GetManagedFields()) {
		m.ManagedFields = cur.GetMetadata().GetManagedFields()
	}
	return proto.Equal(cur, probe)
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
