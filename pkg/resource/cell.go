package resource

import (
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// Cell is the text of one column of a table: the field at path ("status.address",
// "spec.rules[0].path", "metadata.labels[tier]") or, for "condition:Ready", the status of
// that condition. Items of a list are joined by commas; a reference is kind/name, or the
// name alone when it has no kind. "keys:spec.stringData,spec.data" are the keys of maps.
// What is not set or does not exist is "".
func Cell(obj Object, path string) string {
	if typ, ok := strings.CutPrefix(path, "condition:"); ok {
		return FindCondition(obj, typ).GetStatus()
	}
	if paths, ok := strings.CutPrefix(path, "keys:"); ok {
		return strings.Join(keysAt(obj.ProtoReflect(), paths), ",")
	}
	v, ok := valueAt(obj.ProtoReflect(), path)
	if !ok {
		return ""
	}
	var items []string
	switch holder := v.Interface().(type) {
	case protoreflect.List:
		for i := range holder.Len() {
			items = append(items, cellText(holder.Get(i)))
		}
	case protoreflect.Map:
		for _, key := range sortedKeys(holder) {
			items = append(items, key+"="+holder.Get(protoreflect.ValueOfString(key).MapKey()).String())
		}
	default:
		return cellText(v)
	}
	return strings.Join(items, ",")
}

// keysAt returns the sorted keys of the maps at paths, which are joined by commas.
func keysAt(m protoreflect.Message, paths string) []string {
	var keys []string
	for path := range strings.SplitSeq(paths, ",") {
		v, ok := valueAt(m, path)
		if !ok {
			continue
		}
		if entries, ok := v.Interface().(protoreflect.Map); ok {
			keys = append(keys, sortedKeys(entries)...)
		}
	}
	slices.Sort(keys)
	return keys
}

// cellText is the text of a single value.
func cellText(v protoreflect.Value) string {
	m, ok := v.Interface().(protoreflect.Message)
	if !ok {
		return v.String()
	}
	if ref, ok := m.Interface().(*v1alpha1.ObjectReference); ok {
		return Key{Kind: ref.GetKind(), Name: ref.GetName()}.Short()
	}
	name := m.Descriptor().Fields().ByJSONName("name")
	if name == nil || name.Kind() != protoreflect.StringKind {
		return ""
	}
	return m.Get(name).String()
}

// valueAt returns the value of the field at path; false when it is not set or the path
// leads nowhere.
func valueAt(m protoreflect.Message, path string) (v protoreflect.Value, ok bool) {
	v = protoreflect.ValueOfMessage(m)
	for _, step := range splitPath(path) {
		switch holder := v.Interface().(type) {
		case protoreflect.Message:
			fd := holder.Descriptor().Fields().ByJSONName(step)
			if fd == nil || !holder.Has(fd) {
				return v, false
			}
			v = holder.Get(fd)
		case protoreflect.List:
			i, err := strconv.Atoi(strings.Trim(step, "[]"))
			if err != nil || i < 0 || i >= holder.Len() {
				return v, false
			}
			v = holder.Get(i)
		case protoreflect.Map:
			key := protoreflect.ValueOfString(strings.Trim(step, "[]")).MapKey()
			if !holder.Has(key) {
				return v, false
			}
			v = holder.Get(key)
		default:
			return v, false
		}
	}
	return v, true
}
