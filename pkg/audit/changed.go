package audit

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/sealed"
)

const (
	// MaxFields bounds the paths of one record.
	MaxFields = 32
	// more stands for those that are left out.
	more = "..."
)

// Changed returns the paths of the fields that differ between two versions of an object, and
// what they were and are. Lists are compared as a whole, maps by their keys, status is one
// field without a value, beside which a new task is told. It is on the way of every write, so it avoids what costs: parts
// that both versions share, as versions of stored objects do, are not looked into.
func Changed(was, is resource.Object) (paths []string, values []Value) {
	d := &differ{}
	d.object(was, is)
	return d.paths, d.values
}

// Whole returns the values of an object that was created, or deleted.
func Whole(obj resource.Object, deleted bool) []Value {
	d := &differ{whole: true}
	nothing, _ := obj.ProtoReflect().Type().Zero().Interface().(resource.Object)
	if deleted {
		d.object(obj, nothing)
	} else {
		d.object(nothing, obj)
	}
	return d.values
}

func (d *differ) object(was, is resource.Object) {
	d.metadata(was.GetMetadata(), is.GetMetadata())
	a, b := was.ProtoReflect(), is.ProtoReflect()
	fields := a.Descriptor().Fields()
	for i := range fields.Len() {
		switch fd := fields.Get(i); {
		case fd.Name() == "api_version" || fd.Name() == "kind" || fd.Name() == "metadata":
		case fd.Name() == "status":
			if !d.whole && !same(fd, a, b) {
				d.add("status")
				d.task(fd, a, b)
			}
		case d.whole && fd.Message() != nil && !fd.IsList() && !fd.IsMap():
			d.message(a.Get(fd).Message(), b.Get(fd).Message(), fd.JSONName())
		default:
			d.field(fd, a, b, "")
		}
	}
}

// task tells of a task that the status names and did not before.
func (d *differ) task(status protoreflect.FieldDescriptor, a, b protoreflect.Message) {
	fd := TaskOf(status)
	if fd == nil {
		return
	}
	before, after := a.Get(status).Message().Get(fd).String(), b.Get(status).Message().Get(fd).String()
	if after != "" && after != before {
		d.add(TaskField)
		d.value(TaskField, given(before), given(after))
	}
}

// TaskOf returns the field of a kind's status that TaskField names, nil when it has none.
func TaskOf(status protoreflect.FieldDescriptor) protoreflect.FieldDescriptor {
	fd := status.Message().Fields().ByName("task")
	if fd == nil || fd.Kind() != protoreflect.StringKind || fd.IsList() {
		return nil
	}
	return fd
}

// metadata compares what users set and what deletion sets; the rest changes with every
// change, never, or (managedFields) says only whose the others are.
func (d *differ) metadata(a, b *v1alpha1.ObjectMeta) {
	if a == b {
		return
	}
	for _, m := range []struct {
		path string
		a, b map[string]string
	}{{"metadata.labels", a.GetLabels(), b.GetLabels()}, {"metadata.annotations", a.GetAnnotations(), b.GetAnnotations()}} {
		if !maps.Equal(m.a, m.b) {
			d.entries(m.a, m.b, m.path, false)
		}
	}
	if a.GetDeletionTimestamp() != b.GetDeletionTimestamp() {
		d.add("metadata.deletionTimestamp")
		d.value("metadata.deletionTimestamp", given(a.GetDeletionTimestamp()), given(b.GetDeletionTimestamp()))
	}
	if !slices.Equal(a.GetFinalizers(), b.GetFinalizers()) {
		d.add("metadata.finalizers")
		d.value("metadata.finalizers", given(strings.Join(a.GetFinalizers(), ",")), given(strings.Join(b.GetFinalizers(), ",")))
	}
	if !slices.EqualFunc(a.GetOwnerReferences(), b.GetOwnerReferences(), func(x, y *v1alpha1.OwnerReference) bool { return proto.Equal(x, y) }) {
		d.add("metadata.ownerReferences")
	}
}

type differ struct {
	// whole: of an object that is new or gone, and whose parts are told one by one.
	whole  bool
	paths  []string
	values []Value
	bytes  int // of values
}

func (d *differ) full() bool { return len(d.paths) == MaxFields }

func (d *differ) add(path string) {
	switch {
	case d.full():
		d.paths[MaxFields-1] = more
	default:
		d.paths = append(d.paths, path)
	}
}

// message compares field by field.
func (d *differ) message(a, b protoreflect.Message, path string) {
	if a.Interface() == b.Interface() {
		return
	}
	fields := a.Descriptor().Fields()
	for i := range fields.Len() {
		d.field(fields.Get(i), a, b, path)
	}
}

func (d *differ) field(fd protoreflect.FieldDescriptor, a, b protoreflect.Message, path string) {
	inA, inB := a.Has(fd), b.Has(fd)
	switch {
	case !inA && !inB:
	case fd.IsMap():
		at := resource.JoinPath(path, fd.JSONName())
		d.entries(plain(a.Get(fd).Map()), plain(b.Get(fd).Map()), at, resource.IsSensitive(fd))
	case inA && inB && fd.Message() != nil && !fd.IsList():
		d.message(a.Get(fd).Message(), b.Get(fd).Message(), resource.JoinPath(path, fd.JSONName()))
	case !same(fd, a, b):
		at := resource.JoinPath(path, fd.JSONName())
		d.add(at)
		d.value(at, d.text(fd, a), d.text(fd, b))
	}
}

// plain is a map of text to scalars, as text.
func plain(m protoreflect.Map) map[string]string {
	entries := make(map[string]string, m.Len())
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		entries[k.String()] = v.String()
		return true
	})
	return entries
}

func (d *differ) entries(a, b map[string]string, path string, sensitive bool) {
	var keys []string
	for k, v := range a {
		if other, has := b[k]; !has || other != v {
			keys = append(keys, k)
		}
	}
	for k := range b {
		if _, has := a[k]; !has {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	entry := func(m map[string]string, k string) *string {
		v, has := m[k]
		if !has {
			return nil
		}
		if sensitive {
			v = sealed.MarkOf(v)
		}
		return &v
	}
	for _, k := range keys {
		at := resource.KeyPath(path, k)
		d.add(at)
		d.value(at, entry(a, k), entry(b, k))
	}
}

// same compares a field that is no map.
func same(fd protoreflect.FieldDescriptor, a, b protoreflect.Message) bool {
	if a.Has(fd) != b.Has(fd) {
		return false
	}
	av, bv := a.Get(fd), b.Get(fd)
	switch {
	case fd.Message() == nil:
		return av.Equal(bv)
	case !fd.IsList():
		return equal(av.Message(), bv.Message())
	}
	x, y := av.List(), bv.List()
	if x.Len() != y.Len() {
		return false
	}
	for i := range x.Len() {
		if !equal(x.Get(i).Message(), y.Get(i).Message()) {
			return false
		}
	}
	return true
}

// equal is proto.Equal, which for whole messages is faster than reflection.
func equal(a, b protoreflect.Message) bool {
	x, y := a.Interface(), b.Interface()
	return x == y || proto.Equal(x, y)
}
