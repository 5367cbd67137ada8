package ownership

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// again is the short way for the common case: the manager is the only one recorded for the
// object, and applies other values, or the same ones, to exactly the fields it applied
// before (fields, see fieldSet). Then nothing can conflict, nothing is pruned, nobody's
// ownership changes, and the merge is to put the values in. It answers nil when the case
// is another one.
//
// A test holds it, with fieldSet, against the library along random histories.
func again(live resource.Object, doc resource.Object, fields, manager string) resource.Object {
	if !mayBeAgain(live, manager) || live.GetMetadata().GetManagedFields()[0].GetFieldsV1() != fields {
		return nil
	}
	if f := live.GetMetadata().GetFinalizers(); len(f) > 1 && hasTwice(f) {
		return nil // the library makes a set of them
	}
	next := resource.CloneWish(live)
	n, d := next.ProtoReflect(), doc.ProtoReflect()
	for _, f := range fieldsIn(d.Descriptor()) {
		if d.Has(f.fd) && resource.IsWish(f.name, false) && !overlay(n, d, f, f.name == "metadata") {
			return nil
		}
	}
	return next
}

// mayBeAgain tells whether the manager is the only one that is recorded, whatever it owns.
func mayBeAgain(live resource.Object, manager string) bool {
	entries := live.GetMetadata().GetManagedFields()
	if len(entries) != 1 {
		return false
	}
	e := entries[0]
	return e.GetManager() == manager && e.GetOperation() == operationApply &&
		e.GetApiVersion() == resource.APIVersion && e.GetFieldsType() == fieldsType && e.GetSubresource() == ""
}

func hasTwice(list []string) bool {
	for i, v := range list {
		if slices.Contains(list[:i], v) {
			return true
		}
	}
	return false
}

// overlay puts what doc has in a field over what n has there. It answers false where a list
// that is merged has other items, or others first: their order is the library's business.
func overlay(n, doc protoreflect.Message, f fieldInfo, metadata bool) bool {
	switch {
	case f.fd.IsMap():
		entries := n.Mutable(f.fd).Map()
		doc.Get(f.fd).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			entries.Set(k, v)
			return true
		})
		return true
	case f.fd.IsList() && f.keys != nil:
		return overlayItems(n.Get(f.fd).List(), doc.Get(f.fd).List(), f.key())
	case f.fd.IsList():
		replaceList(n.Mutable(f.fd).List(), doc.Get(f.fd).List(), f.fd)
		return true
	case f.fd.Message() != nil:
		return overlayMessage(n.Mutable(f.fd).Message(), doc.Get(f.fd).Message(), metadata)
	}
	n.Set(f.fd, doc.Get(f.fd))
	return true
}

func overlayMessage(n, doc protoreflect.Message, metadata bool) bool {
	for _, f := range fieldsIn(doc.Descriptor()) {
		if doc.Has(f.fd) && (!metadata || resource.IsWish(f.name, true)) && !overlay(n, doc, f, false) {
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
