package ownership

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/direct"
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
	md := doc.ProtoReflect().Descriptor()
	t := typeIn(md)
	n, ok := direct.Of(live, md)
	d, also := direct.Of(doc, md)
	if !ok || !also || !t.direct {
		return false
	}
	for i := range t.fields {
		if f := &t.fields[i]; f.wish && f.direct.Has(d) && !overlay(n, d, f, f.name == "metadata") {
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

// overlay puts what doc has in a field over what n has there. What is equal it leaves: most
// is, and setting takes longer than comparing. It answers false where a list that is merged
// has other items, or others first: their order is the library's business.
func overlay(n, doc direct.Struct, f *fieldInfo, metadata bool) bool {
	switch {
	case f.isMap:
		if !maps.Equal(f.direct.Map(n), f.direct.Map(doc)) {
			into := n.Reflect().Mutable(f.fd).Map()
			doc.Reflect().Get(f.fd).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				into.Set(k, v)
				return true
			})
		}
	case f.isList && f.keys != nil:
		return overlayItems(n, doc, f)
	case f.isList && f.isMessage, f.isList && !f.direct.EqualScalars(n, doc):
		replaceList(n.Reflect().Mutable(f.fd).List(), doc.Reflect().Get(f.fd).List(), f.fd)
	case f.isList:
	case f.isMessage:
		n.Reflect().Mutable(f.fd) // there must be one
		return overlayMessage(f.direct.Message(n), f.direct.Message(doc), f.message(), metadata)
	case !f.direct.EqualScalars(n, doc):
		n.Reflect().Set(f.fd, f.direct.Value(doc))
	}
	return true
}

func overlayMessage(n, doc direct.Struct, t *typeInfo, metadata bool) bool {
	for i := range t.fields {
		if f := &t.fields[i]; (!metadata || f.wishInMetadata) && f.direct.Has(doc) && !overlay(n, doc, f, false) {
			return false
		}
	}
	return true
}

func overlayItems(n, doc direct.Struct, f *fieldInfo) bool {
	if f.key == nil || f.direct.Len(n) != f.direct.Len(doc) {
		return false
	}
	for i := range f.direct.Len(doc) {
		is, wanted := f.direct.ItemMessage(n, i), f.direct.ItemMessage(doc, i)
		if !f.keyField.EqualScalars(is, wanted) || !overlayMessage(is, wanted, f.message(), false) {
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
