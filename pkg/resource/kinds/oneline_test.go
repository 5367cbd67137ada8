package kinds

import (
	"testing"

	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// fillTexts sets fields at random; their texts are from the sample.
func fillTexts(t *rapid.T, m protoreflect.Message, sample *rapid.Generator[string]) {
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if rapid.IntRange(0, 3).Draw(t, "set") == 0 {
			continue
		}
		value := func(fd protoreflect.FieldDescriptor) protoreflect.Value {
			switch fd.Kind() {
			case protoreflect.StringKind:
				return protoreflect.ValueOfString(sample.Draw(t, "text"))
			case protoreflect.BoolKind:
				return protoreflect.ValueOfBool(true)
			}
			return protoreflect.ValueOfInt32(7)
		}
		switch {
		case fd.IsMap():
			m.Mutable(fd).Map().Set(protoreflect.ValueOfString(sample.Draw(t, "key")).MapKey(), value(fd.MapValue()))
		case fd.IsList() && fd.Message() != nil:
			fillTexts(t, m.Mutable(fd).List().AppendMutable().Message(), sample)
		case fd.IsList():
			m.Mutable(fd).List().Append(value(fd))
		case fd.Message() != nil:
			fillTexts(t, m.Mutable(fd).Message(), sample)
		default:
			m.Set(fd, value(fd))
		}
	}
}

// TestShortLooks: what is asked first, because it costs little, is what the whole look finds:
// text that is no line, and references to Secrets.
func TestShortLooks(t *testing.T) {
	lines, others, references, none := 0, 0, 0, 0
	fine := rapid.SampledFrom([]string{"x", "ü", "", "a b", "~"})
	any := rapid.SampledFrom([]string{"x", "x", "x", "ü", "x", "x", "x", "x", "x", "x", "a\nb", "\x00", "\x7f", "\u2028", "ü\u0085", "\t", "\xff"})
	rapid.Check(t, func(t *rapid.T) {
		all := Registry().Kinds()
		kind := all[rapid.IntRange(0, len(all)-1).Draw(t, "kind")]
		if rapid.Bool().Draw(t, "App") { // which refers to Secrets
			kind, _ = Registry().Get("App")
		}
		obj := kind.New()
		sample := any
		if rapid.Bool().Draw(t, "fine") {
			sample = fine
		}
		fillTexts(t, obj.ProtoReflect(), sample)
		spec, ok := resource.Field(obj, "spec")
		if !ok {
			return
		}
		var p problems
		oneLineMessage(&p, spec, "spec")
		got := isOneLine(spec)
		if got != (len(p.errs) == 0) {
			t.Fatalf("%s\none line: %t, but %v", obj, got, p.errs)
		}
		if got {
			lines++
		} else {
			others++
		}
		want := 0
		_ = protorange.Range(spec, func(v protopath.Values) error {
			if m, ok := v.Index(-1).Value.Interface().(protoreflect.Message); ok {
				if _, is := m.Interface().(*v1alpha1.SecretKeyRef); is {
					want++
				}
			}
			return nil
		})
		if found := resource.SecretReferences(obj); len(found) != want {
			t.Fatalf("%s\nfound %v, has %d", obj, found, want)
		}
		if want > 0 {
			references++
		} else {
			none++
		}
	})
	if lines < 5 || others < 5 || references < 3 || none < 5 {
		t.Errorf("%d of lines, %d of others, %d with references and %d without: not tried", lines, others, references, none)
	}
}
