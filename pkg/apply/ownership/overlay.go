package ownership

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// The short way for the common case: the manager is the only one recorded for the object,
// and applies other values, or the same ones, to exactly the fields it applied before (see
// fieldSet). Then nothing can conflict, nothing is pruned, nobody's ownership changes, and
// the merge is to put the values in.
//
// A test holds it, with fieldSet, against the library along random histories.

// soleApplier tells whether the manager is the only one that is recorded, by applying, and
// with which fields.
func soleApplier(live resource.Object, manager string) (fields string, is bool) {
	entries := live.GetMetadata().GetManagedFields()
	if len(entries) != 1 {
		return "", false
	}
	e := entries[0]
	return e.GetFieldsV1(), e.GetManager() == manager && e.GetOperation() == operationApply &&
		e.GetApiVersion() == resource.APIVersion && e.GetFieldsType() == fieldsType && e.GetSubresource() == ""
}

// again puts the values of a document whose fields are those of the object's only manager
// into the object. It answers false when that takes the library: the object is then worth
// nothing.
func again(live, doc resource.Object) bool {
	if f := live.GetMetadata().GetFinalizers(); len(f) > 1 && hasTwice(f) {
		return false // the library makes a set of them
	}
	n, d := live.ProtoReflect(), doc.ProtoReflect()
	fields := fieldsIn(d.Descriptor())
	for i := range fields {
		if f := &fields[i]; f.wish && d.Has(f.fd) && !overlay(n, d, f, f.name == "metadata") {
			return false
		}
	}
	return true
}

func hasTwice(list []string) bool {
	for i, v := range list {
		if slices.Contains(list[:i], v) {
			return true
		}
	}
	return false
}

// overlay puts what doc has in a field over what n has there. What is equal it leaves, for
// setting takes longer than comparing. It answers false where a list that is merged has other
// items, or others first: their order is the library's business.
func overlay(n, doc protoreflect.Message, f *fieldInfo, metadata bool) bool {
	v := doc.Get(f.fd)
	switch {
	case f.fd.IsMap():
		if n.Has(f.fd) && n.Get(f.fd).Equal(v) {
			return true
		}
		entries := n.Mutable(f.fd).Map()
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			entries.Set(k, v)
			return true
		})
		return true
	case f.fd.IsList() && f.keys != nil:
		return overlayItems(n.Get(f.fd).List(), v.List(), f.key)
	case f.fd.IsList():
		if !n.Has(f.fd) || !n.Get(f.fd).Equal(v) {
			replaceList(n.Mutable(f.fd).List(), v.List(), f.fd)
		}
		return true
	case f.fd.Message() != nil:
		return overlayMessage(n.Mutable(f.fd).Message(), v.Message(), metadata)
	}
	if !n.Has(f.fd) || !n.Get(f.fd).Equal(v) {
		n.Set(f.fd, v)
	}
	return true
}

func overlayMessage(n, doc protoreflect.Message, metadata bool) bool {
	fields := fieldsIn(doc.Descriptor())
	for i := range fields {
		if f := &fields[i]; (!metadata || f.wishInMetadata) && doc.Has(f.fd) && !overlay(n, doc, f, false) {
			return false
		}
	}
	return true
}

func overlayItems(n, doc protoreflect.List, key protoreflect.FieldDescriptor) bool {
	if key == nil || n.Len() != doc.Len() {
		return false
	}
	for i := range doc.Len() {
		is, wanted := n.Get(i).Message(), doc.Get(i).Message()
		if is.Get(key).String() != wanted.Get(key).String() || !overlayMessage(is, wanted, false) {
			return false
		}
	}
	return true
}

// replaceList makes n a copy of a list that is owned as a whole.
func replaceList(n, doc protoreflect.List, fd protoreflect.FieldDescriptor) {
	n.Truncate(0)
	for i := range doc.Len() {
		item := doc.Get(i)
		if fd.Message() != nil {
			item = protoreflect.ValueOfMessage(proto.Clone(item.Message().Interface()).ProtoReflect())
		}
		n.Append(item)
	}
}
