// Package diff compares two versions of an object field by field, for people, and hides
// what must not be shown. It is pure.
//
// What is compared is what people and programs ask for: labels, annotations, finalizers
// and owners, and everything outside metadata and status. Lists with (list_keys) are
// compared item by item, all other lists as a whole. Values of (sensitive) fields are never
// in a result; only that they differ is.
package diff

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Hidden stands for a sensitive value.
const Hidden = "***"

// Change is one field that differs.
type Change struct {
	// Path from the object's root; items of lists with keys are named by them:
	// spec.ports[name=http].port.
	Path string
	// Old and New are the values as JSON, "" for a field that is not set.
	Old, New string
}

// Objects lists the fields that differ, in the order of the schema; nil is an object that
// is not there. Both must be of one kind.
func Objects(before, after resource.Object) []Change {
	var changes []Change
	var a, b protoreflect.Message
	if before != nil {
		a = before.ProtoReflect()
	}
	if after != nil {
		b = after.ProtoReflect()
	}
	if a == nil && b == nil {
		return nil
	}
	fields := either(a, b).Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !resource.IsWish(fd.JSONName(), false) {
			continue
		}
		if fd.JSONName() == "metadata" {
			ma, mb := sub(a, fd), sub(b, fd)
			meta := fd.Message().Fields()
			for j := range meta.Len() {
				if mf := meta.Get(j); resource.IsWish(mf.JSONName(), true) {
					field(&changes, "metadata."+mf.JSONName(), mf, ma, mb)
				}
			}
			continue
		}
		field(&changes, fd.JSONName(), fd, a, b)
	}
	return changes
}

func either(a, b protoreflect.Message) protoreflect.Message {
	if a != nil {
		return a
	}
	return b
}

// sub returns a message field, nil when it is not set.
func sub(m protoreflect.Message, fd protoreflect.FieldDescriptor) protoreflect.Message {
	if m == nil || !m.Has(fd) {
		return nil
	}
	return m.Get(fd).Message()
}

// value returns a field, an invalid value when it is not set.
func value(m protoreflect.Message, fd protoreflect.FieldDescriptor) protoreflect.Value {
	if m == nil || !m.Has(fd) {
		return protoreflect.Value{}
	}
	return m.Get(fd)
}

func field(out *[]Change, path string, fd protoreflect.FieldDescriptor, a, b protoreflect.Message) {
	x, y := value(a, fd), value(b, fd)
	switch {
	case !x.IsValid() && !y.IsValid():
	case resource.IsSensitive(fd) && !fd.IsMap():
		leaf(out, path, fd, x, y)
	case fd.IsMap():
		mapField(out, path, fd, x, y)
	case fd.IsList() && fd.Message() != nil && resource.ListKeys(fd) != nil:
		keyedList(out, path, fd, x, y)
	case fd.IsList() || fd.Message() == nil:
		leaf(out, path, fd, x, y)
	default:
		message(out, path, sub(a, fd), sub(b, fd))
	}
}

// message compares field by field. A message that is set but has no fields is a change too.
func message(out *[]Change, path string, a, b protoreflect.Message) {
	n := len(*out)
	fields := either(a, b).Descriptor().Fields()
	for i := range fields.Len() {
		field(out, path+"."+fields.Get(i).JSONName(), fields.Get(i), a, b)
	}
	if n == len(*out) && (a == nil) != (b == nil) {
		c := Change{Path: path}
		if a != nil {
			c.Old = "{}"
		} else {
			c.New = "{}"
		}
		*out = append(*out, c)
	}
}

func leaf(out *[]Change, path string, fd protoreflect.FieldDescriptor, x, y protoreflect.Value) {
	if x.IsValid() && y.IsValid() && x.Equal(y) {
		return
	}
	*out = append(*out, Change{path, text(fd, x), text(fd, y)})
}

func mapField(out *[]Change, path string, fd protoreflect.FieldDescriptor, x, y protoreflect.Value) {
	at := func(v protoreflect.Value, key string) protoreflect.Value {
		if !v.IsValid() {
			return protoreflect.Value{}
		}
		return v.Map().Get(protoreflect.ValueOfString(key).MapKey())
	}
	var keys []string
	for _, v := range []protoreflect.Value{x, y} {
		if v.IsValid() {
			v.Map().Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
				keys = append(keys, k.String())
				return true
			})
		}
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		p, q := at(x, key), at(y, key)
		if p.IsValid() && q.IsValid() && p.Equal(q) {
			continue
		}
		*out = append(*out, Change{resource.KeyPath(path, key), scalarText(fd, p), scalarText(fd, q)})
	}
}

func keyedList(out *[]Change, path string, fd protoreflect.FieldDescriptor, x, y protoreflect.Value) {
	olds, news := index(fd, x), index(fd, y)
	order := slices.Clone(olds.order)
	for _, name := range news.order {
		if olds.items[name] == nil {
			order = append(order, name)
		}
	}
	n := len(*out)
	for _, name := range order {
		message(out, path+"["+name+"]", olds.items[name], news.items[name])
	}
	if n == len(*out) && !slices.Equal(olds.order, news.order) {
		*out = append(*out, Change{path, orderText(olds), orderText(news)})
	}
}

// keyed is a list of messages by the text of their keys.
type keyed struct {
	order []string
	items map[string]protoreflect.Message
}

func index(fd protoreflect.FieldDescriptor, v protoreflect.Value) keyed {
	k := keyed{items: map[string]protoreflect.Message{}}
	if !v.IsValid() {
		return k
	}
	for i := range v.List().Len() {
		m := v.List().Get(i).Message()
		var parts []string
		for _, key := range resource.ListKeys(fd) {
			kd := m.Descriptor().Fields().ByJSONName(key)
			parts = append(parts, key+"="+m.Get(kd).String())
		}
		name := strings.Join(parts, ",")
		if _, twice := k.items[name]; twice { // not a valid list, but it must not be lost
			name = fmt.Sprintf("%s,#%d", name, i)
		}
		k.order, k.items[name] = append(k.order, name), m
	}
	return k
}

func orderText(k keyed) string {
	data, err := json.Marshal(k.order)
	if err != nil {
		return ""
	}
	return string(data)
}

// text is a value as JSON, hidden where it must be.
func text(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if !v.IsValid() {
		return ""
	}
	if resource.IsSensitive(fd) {
		return encode(Hidden)
	}
	if !fd.IsList() {
		return encode(tree(fd, v))
	}
	items := make([]any, v.List().Len())
	for i := range items {
		items[i] = tree(fd, v.List().Get(i))
	}
	return encode(items)
}

func scalarText(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if !v.IsValid() {
		return ""
	}
	if resource.IsSensitive(fd) {
		return encode(Hidden)
	}
	return encode(v.Interface())
}

// tree is a scalar or a message as encoding/json takes it.
func tree(fd protoreflect.FieldDescriptor, v protoreflect.Value) any {
	if fd.Message() == nil {
		return v.Interface()
	}
	out := map[string]json.RawMessage{}
	m := v.Message()
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.IsMap() {
			entries := map[string]json.RawMessage{}
			v.Map().Range(func(k protoreflect.MapKey, item protoreflect.Value) bool {
				entries[k.String()] = json.RawMessage(scalarText(f, item))
				return true
			})
			out[f.JSONName()] = json.RawMessage(encode(entries))
			return true
		}
		out[f.JSONName()] = json.RawMessage(text(f, v))
		return true
	})
	return out
}

func encode(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil { // text, numbers, booleans and maps of them
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}
