package diff

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Shown returns copies of two versions of an object that may be shown: without ownership,
// and with sensitive values hidden, so that only whether they differ can be told. nil stays
// nil.
func Shown(before, after resource.Object) (resource.Object, resource.Object) {
	a, b := bare(before), bare(after)
	var x, y protoreflect.Message
	if a != nil {
		x = a.ProtoReflect()
	}
	if b != nil {
		y = b.ProtoReflect()
	}
	mask(x, y)
	return a, b
}

func bare(obj resource.Object) resource.Object {
	if obj == nil {
		return nil
	}
	obj = resource.Clone(obj)
	obj.GetMetadata().ManagedFields = nil
	return obj
}

// hidden are what stands for two values.
func hidden(same bool) (before, after string) {
	if same {
		return Hidden, Hidden
	}
	return Hidden + " (before)", Hidden + " (after)"
}

// mask hides sensitive values in two messages, of which one may be nil.
func mask(a, b protoreflect.Message) {
	if a == nil && b == nil {
		return
	}
	fields := either(a, b).Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		x, y := value(a, fd), value(b, fd)
		switch {
		case !x.IsValid() && !y.IsValid():
		case resource.IsSensitive(fd):
			maskField(fd, a, b, x, y)
		case fd.IsMap() || fd.Message() == nil:
		case fd.IsList():
			maskList(fd, x, y)
		default:
			mask(sub(a, fd), sub(b, fd))
		}
	}
}

func maskList(fd protoreflect.FieldDescriptor, x, y protoreflect.Value) {
	if resource.ListKeys(fd) != nil {
		olds, news := index(fd, x), index(fd, y)
		for _, name := range olds.order {
			mask(olds.items[name], news.items[name])
		}
		for _, name := range news.order {
			if olds.items[name] == nil {
				mask(nil, news.items[name])
			}
		}
		return
	}
	at := func(v protoreflect.Value, i int) protoreflect.Message {
		if !v.IsValid() || i >= v.List().Len() {
			return nil
		}
		return v.List().Get(i).Message()
	}
	for i := 0; at(x, i) != nil || at(y, i) != nil; i++ {
		mask(at(x, i), at(y, i))
	}
}

func maskField(fd protoreflect.FieldDescriptor, a, b protoreflect.Message, x, y protoreflect.Value) {
	if fd.IsMap() {
		maskMap(fd, x, y)
		return
	}
	before, after := hidden(x.IsValid() && y.IsValid() && x.Equal(y))
	put := func(m protoreflect.Message, text string) {
		switch {
		case m == nil || !m.Has(fd):
		case fd.IsList() || fd.Kind() != protoreflect.StringKind:
			m.Clear(fd) // there is no text to put in its place
		default:
			m.Set(fd, protoreflect.ValueOfString(text))
		}
	}
	put(a, before)
	put(b, after)
}

func maskMap(fd protoreflect.FieldDescriptor, x, y protoreflect.Value) {
	keys := map[string][2]protoreflect.Value{}
	for i, v := range []protoreflect.Value{x, y} {
		if !v.IsValid() {
			continue
		}
		v.Map().Range(func(k protoreflect.MapKey, item protoreflect.Value) bool {
			pair := keys[k.String()]
			pair[i] = item
			keys[k.String()] = pair
			return true
		})
	}
	for key, pair := range keys {
		before, after := hidden(pair[0].IsValid() && pair[1].IsValid() && pair[0].Equal(pair[1]))
		for i, text := range []string{before, after} {
			if !pair[i].IsValid() {
				continue
			}
			entries := []protoreflect.Value{x, y}[i].Map()
			mk := protoreflect.ValueOfString(key).MapKey()
			if fd.MapValue().Kind() != protoreflect.StringKind {
				entries.Clear(mk)
				continue
			}
			entries.Set(mk, protoreflect.ValueOfString(text))
		}
	}
}
