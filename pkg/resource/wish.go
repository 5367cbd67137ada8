package resource

import (
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Wish is the part of an object that people and programs ask for, as a tree of
// map[string]any, []any, string, bool and int64: all but apiVersion, kind, status and what
// of metadata only the server sets. Field ownership works on such trees, because they can
// tell an empty list from one that was not written.
type Wish map[string]any

// wishMetadata are the fields of metadata that a Wish has.
var wishMetadata = []string{"labels", "annotations", "finalizers", "ownerReferences"}

// IsWish tells whether the field of that JSON name, of an object or (inMetadata) of its
// metadata, is part of a Wish.
func IsWish(name string, inMetadata bool) bool {
	if inMetadata {
		return slices.Contains(wishMetadata, name)
	}
	return name != "apiVersion" && name != "kind" && name != "status"
}

// WishOf returns the wish of an object. It shares nothing with it.
func WishOf(obj Object) Wish { return wishBuilder{}.object(obj.ProtoReflect(), nil, nil) }

// Wish returns what the document says, exactly as it was written: empty lists and
// mappings too, no defaults. The one exception are list keys: where the document leaves
// one out, it is taken from defaulted, the same object with its defaults.
func (d Document) Wish(defaulted Object) Wish {
	return wishBuilder{}.object(d.Object.ProtoReflect(), defaulted.ProtoReflect(), d.written())
}

// HasEmpty tells whether the document has empty lists or mappings, which its object cannot
// tell from unset ones.
func (d Document) HasEmpty() bool {
	written := d.written()
	return written != nil && hasEmpty(d.Object.ProtoReflect(), written)
}

// EncodeJSON returns the document as one line of JSON, with the empty lists and mappings
// that were written and that the object itself cannot tell from unset ones.
func (d Document) EncodeJSON() ([]byte, error) {
	if !d.HasEmpty() {
		return EncodeJSON(d.Object)
	}
	b := wishBuilder{whole: true}
	data, err := json.Marshal(b.message(d.Object.ProtoReflect(), nil, d.written()))
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", KeyOf(d.Object), err)
	}
	return data, nil
}

// wishBuilder builds trees. whole: of all fields, not of the wish only.
type wishBuilder struct{ whole bool }

func (b wishBuilder) object(m, defaulted protoreflect.Message, lines *lineTree) Wish {
	tree := Wish(b.message(m, defaulted, lines))
	for name := range tree {
		if !IsWish(name, false) {
			delete(tree, name)
		}
	}
	if meta, ok := tree["metadata"].(map[string]any); ok {
		for name := range meta {
			if !IsWish(name, true) {
				delete(meta, name)
			}
		}
		if list, ok := meta["finalizers"].([]any); ok {
			meta["finalizers"] = unique(list)
		}
		if len(meta) == 0 {
			delete(tree, "metadata")
		}
	}
	return tree
}

// unique drops repetitions from a list of text that is a set.
func unique(list []any) []any {
	var kept []any
	for _, v := range list {
		if !slices.Contains(kept, v) {
			kept = append(kept, v)
		}
	}
	return kept
}

// message builds the tree of a message. defaulted and lines may be nil.
func (b wishBuilder) message(m, defaulted protoreflect.Message, lines *lineTree) map[string]any {
	tree := map[string]any{}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !b.whole && fd.JSONName() == "status" && m.Descriptor().Fields().ByName("metadata") != nil {
			continue
		}
		below := lines.child(fd.JSONName())
		switch {
		case m.Has(fd):
			tree[fd.JSONName()] = b.field(fd, m.Get(fd), has(defaulted, fd), below)
		case below != nil && fd.IsList():
			tree[fd.JSONName()] = []any{}
		case below != nil && fd.IsMap():
			tree[fd.JSONName()] = map[string]any{}
		}
	}
	return tree
}

// has returns the field's value where there is one.
func has(m protoreflect.Message, fd protoreflect.FieldDescriptor) protoreflect.Value {
	if m == nil || !m.Has(fd) {
		return protoreflect.Value{}
	}
	return m.Get(fd)
}

func (b wishBuilder) field(fd protoreflect.FieldDescriptor, v, defaulted protoreflect.Value, lines *lineTree) any {
	switch {
	case fd.IsMap():
		entries := make(map[string]any, v.Map().Len())
		v.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
			entries[key.String()] = plain(value)
			return true
		})
		return entries
	case fd.IsList():
		list := v.List()
		items := make([]any, list.Len())
		for i := range items {
			items[i] = b.item(fd, list.Get(i), itemAt(defaulted, i), lines.child(IndexPath("", i)))
		}
		return items
	case fd.Message() != nil:
		return b.message(v.Message(), messageOf(defaulted), lines)
	}
	return plain(v)
}

func (b wishBuilder) item(fd protoreflect.FieldDescriptor, v, defaulted protoreflect.Value, lines *lineTree) any {
	if fd.Message() == nil {
		return plain(v)
	}
	full := messageOf(defaulted)
	tree := b.message(v.Message(), full, lines)
	for _, key := range ListKeys(fd) {
		kd := fd.Message().Fields().ByJSONName(key)
		if _, written := tree[key]; !written && full != nil && full.Has(kd) {
			tree[key] = plain(full.Get(kd))
		}
	}
	return tree
}

// itemAt returns item i of a list that may not be there.
func itemAt(list protoreflect.Value, i int) protoreflect.Value {
	if !list.IsValid() || i >= list.List().Len() {
		return protoreflect.Value{}
	}
	return list.List().Get(i)
}

func messageOf(v protoreflect.Value) protoreflect.Message {
	if !v.IsValid() {
		return nil
	}
	return v.Message()
}

// plain is a scalar as trees have it.
func plain(v protoreflect.Value) any {
	if n, ok := v.Interface().(int32); ok {
		return int64(n)
	}
	return v.Interface()
}

// child returns the lines of a field or item, nil when it was not written.
func (t *lineTree) child(step string) *lineTree {
	if t == nil {
		return nil
	}
	for i := range t.kids {
		if t.kids[i].step == step {
			return &t.kids[i]
		}
	}
	return nil
}

// hasEmpty tells whether an empty list or mapping of scalars was written.
func hasEmpty(m protoreflect.Message, lines *lineTree) bool {
	for i := range lines.kids {
		kid := &lines.kids[i]
		fd := m.Descriptor().Fields().ByJSONName(kid.step)
		switch {
		case fd == nil:
		case fd.IsMap() || fd.IsList():
			if !m.Has(fd) {
				return true
			}
			for j := 0; fd.IsList() && fd.Message() != nil && j < len(kid.kids) && j < m.Get(fd).List().Len(); j++ {
				if hasEmpty(m.Get(fd).List().Get(j).Message(), &kid.kids[j]) {
					return true
				}
			}
		case fd.Message() != nil && m.Has(fd) && hasEmpty(m.Get(fd).Message(), kid):
			return true
		}
	}
	return false
}

// SetWish replaces the wish of an object and leaves the rest of it as it is. A tree that
// does not fit the kind is an error, and the object is then worth nothing.
func SetWish(obj Object, tree Wish) error {
	m := obj.ProtoReflect()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if fd := fields.Get(i); IsWish(fd.JSONName(), false) && fd.JSONName() != "metadata" {
			m.Clear(fd)
		}
	}
	meta := m.Mutable(fields.ByName("metadata")).Message()
	for _, name := range wishMetadata {
		meta.Clear(meta.Descriptor().Fields().ByJSONName(name))
	}
	return setMessage(m, tree, "")
}

func setMessage(m protoreflect.Message, tree map[string]any, path string) error {
	for name, value := range tree {
		at := JoinPath(path, name)
		fd := m.Descriptor().Fields().ByJSONName(name)
		if fd == nil {
			return fmt.Errorf("%s: no such field", at)
		}
		if err := setField(m, fd, value, at); err != nil {
			return err
		}
	}
	return nil
}

func setField(m protoreflect.Message, fd protoreflect.FieldDescriptor, value any, path string) error {
	switch v := value.(type) {
	case nil: // as if it were not there
		return nil
	case map[string]any:
		if fd.IsMap() {
			entries := m.Mutable(fd).Map()
			for key, item := range v {
				scalar, err := scalarOf(fd.MapValue(), item, KeyPath(path, key))
				if err != nil {
					return err
				}
				entries.Set(protoreflect.ValueOfString(key).MapKey(), scalar)
			}
			return nil
		}
		if fd.Message() != nil && !fd.IsList() {
			return setMessage(m.Mutable(fd).Message(), v, path)
		}
	case []any:
		if fd.IsList() {
			return setList(m.Mutable(fd).List(), fd, v, path)
		}
	default:
		if !fd.IsList() && !fd.IsMap() {
			scalar, err := scalarOf(fd, value, path)
			if err == nil {
				m.Set(fd, scalar)
			}
			return err
		}
	}
	return fmt.Errorf("%s: %T does not fit", path, value)
}

func setList(list protoreflect.List, fd protoreflect.FieldDescriptor, items []any, path string) error {
	for i, item := range items {
		at := IndexPath(path, i)
		if fd.Message() == nil {
			scalar, err := scalarOf(fd, item, at)
			if err != nil {
				return err
			}
			list.Append(scalar)
			continue
		}
		tree, ok := item.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: %T does not fit", at, item)
		}
		if err := setMessage(list.AppendMutable().Message(), tree, at); err != nil {
			return err
		}
	}
	return nil
}

func scalarOf(fd protoreflect.FieldDescriptor, value any, path string) (protoreflect.Value, error) {
	switch v := value.(type) {
	case string:
		if fd.Kind() == protoreflect.StringKind {
			return protoreflect.ValueOfString(v), nil
		}
	case bool:
		if fd.Kind() == protoreflect.BoolKind {
			return protoreflect.ValueOfBool(v), nil
		}
	case int64:
		if fd.Kind() == protoreflect.Int32Kind && int64(int32(v)) == v {
			return protoreflect.ValueOfInt32(int32(v)), nil
		}
	}
	return protoreflect.Value{}, fmt.Errorf("%s: %T does not fit", path, value)
}

// ListKeys returns the JSON names of the fields that tell the items of a list apart; nil
// for a list that has none, and is replaced as a whole. The slice must not be changed.
func ListKeys(fd protoreflect.FieldDescriptor) []string { return rulesOf(fd).listKeys }
