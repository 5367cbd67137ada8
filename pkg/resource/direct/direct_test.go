package direct_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/internal/kindtest"
	"github.com/proximity-pve/proximity/pkg/resource/direct"
)

// fill sets some fields of a message.
func fill(t *rapid.T, m protoreflect.Message, depth int) {
	scalar := func(fd protoreflect.FieldDescriptor) protoreflect.Value {
		switch fd.Kind() {
		case protoreflect.BoolKind:
			return protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool"))
		case protoreflect.Int32Kind:
			return protoreflect.ValueOfInt32(rapid.Int32Range(-1, 1).Draw(t, "int32"))
		}
		return protoreflect.ValueOfString(rapid.SampledFrom([]string{"", "a", "ü"}).Draw(t, "text"))
	}
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if depth > 3 || rapid.Bool().Draw(t, string(fd.Name())) {
			continue
		}
		switch {
		case fd.IsMap():
			m.Mutable(fd).Map().Set(protoreflect.ValueOfString(rapid.SampledFrom([]string{"k", "l"}).Draw(t, "key")).MapKey(), scalar(fd.MapValue()))
		case fd.IsList():
			for range rapid.IntRange(0, 2).Draw(t, "items") {
				if fd.Message() != nil {
					fill(t, m.Mutable(fd).List().AppendMutable().Message(), depth+1)
				} else {
					m.Mutable(fd).List().Append(scalar(fd))
				}
			}
		case fd.Message() != nil:
			fill(t, m.Mutable(fd).Message(), depth+1)
		default:
			m.Set(fd, scalar(fd))
		}
	}
}

// text is a message as this package reads it, or as protobuf's reflection does.
func text(s direct.Struct, md protoreflect.MessageDescriptor) string {
	out := "{"
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		f, ok := direct.FieldOf(fd)
		if !ok || !f.Has(s) {
			continue
		}
		out += fmt.Sprint(fd.Name(), "=")
		switch {
		case fd.IsMap():
			out += fmt.Sprint(f.Len(s), f.Map(s))
		case fd.IsList():
			for j := range f.Len(s) {
				switch {
				case fd.Message() != nil:
					out += text(f.ItemMessage(s, j), fd.Message())
				case f.IsText():
					out += fmt.Sprintf("%q", f.ItemText(s, j))
				default:
					out += f.ItemValue(s, j).String()
				}
			}
		case fd.Message() != nil:
			out += text(f.Message(s), fd.Message())
		case f.IsText():
			out += fmt.Sprintf("%q%q", f.Text(s), f.Value(s))
		default:
			out += f.Value(s).String()
		}
	}
	return out + "}"
}

func reflected(m protoreflect.Message) string {
	out := "{"
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if !m.Has(fd) {
			continue
		}
		out += fmt.Sprint(fd.Name(), "=")
		v := m.Get(fd)
		switch {
		case fd.IsMap():
			entries := map[string]string{}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool { entries[k.String()] = v.String(); return true })
			out += fmt.Sprint(v.Map().Len(), entries)
		case fd.IsList():
			for j := range v.List().Len() {
				switch item := v.List().Get(j); {
				case fd.Message() != nil:
					out += reflected(item.Message())
				case fd.Kind() == protoreflect.StringKind:
					out += fmt.Sprintf("%q", item.String())
				default:
					out += item.String()
				}
			}
		case fd.Message() != nil:
			out += reflected(v.Message())
		case fd.Kind() == protoreflect.StringKind:
			out += fmt.Sprintf("%q%q", v.String(), v)
		default:
			out += v.String()
		}
	}
	return out + "}"
}

// TestReadsWhatReflectionReads: all kinds are known, and every field of random objects is, has
// and equals what protobuf's reflection says.
func TestReadsWhatReflectionReads(t *testing.T) {
	for _, k := range kindtest.Registry().Kinds() {
		md := k.Descriptor()
		if !direct.Knows(md) {
			t.Errorf("%s is not known", k.Name)
			continue
		}
		t.Run(k.Name, rapid.MakeCheck(func(t *rapid.T) {
			var both [2]protoreflect.Message
			var in [2]direct.Struct
			for i := range both {
				obj := k.New()
				fill(t, obj.ProtoReflect(), 0)
				s, ok := direct.Of(obj, md)
				if !ok {
					t.Fatal("it is not what it is")
				}
				both[i], in[i] = obj.ProtoReflect(), s
				if got, want := text(s, md), reflected(both[i]); got != want {
					t.Fatalf("got  %s\nwant %s", got, want)
				}
				if s.Reflect() != both[i] {
					t.Fatal("it is another message to reflection")
				}
			}
			spec := md.Fields().ByName("spec")
			if spec == nil || !both[0].Has(spec) || !both[1].Has(spec) {
				return
			}
			f, _ := direct.FieldOf(spec)
			a, b := f.Message(in[0]), f.Message(in[1])
			for i := range spec.Message().Fields().Len() {
				fd := spec.Message().Fields().Get(i)
				if fd.Message() != nil {
					continue
				}
				f, _ := direct.FieldOf(fd)
				x, y := a.Reflect(), b.Reflect()
				want := x.Has(fd) == y.Has(fd) && x.Get(fd).Equal(y.Get(fd))
				if got := f.EqualScalars(a, b); got != want {
					t.Fatalf("%s of %v and %v: equal is %t", fd.Name(), x, y, got)
				}
			}
		}))
	}
}

func TestWhatIsNotKnown(t *testing.T) {
	md := (&v1alpha1.App{}).ProtoReflect().Descriptor()
	var none *v1alpha1.App
	for _, m := range []proto.Message{none, &v1alpha1.Bridge{}, dynamicpb.NewMessage(md)} {
		if _, ok := direct.Of(m, md); ok {
			t.Errorf("%T is taken for an App", m)
		}
	}
	for _, m := range []proto.Message{&v1alpha1.DefragResponse{}, &v1alpha1.ApplyResult{}} { // 64-bit numbers; bytes
		if direct.Knows(m.ProtoReflect().Descriptor()) {
			t.Errorf("%T has fields that are not known", m)
		}
	}
	app := &v1alpha1.App{Spec: &v1alpha1.AppSpec{Env: []*v1alpha1.EnvVar{nil}}}
	s, _ := direct.Of(app, md)
	spec, _ := direct.FieldOf(md.Fields().ByName("spec"))
	env, _ := direct.FieldOf(md.Fields().ByName("spec").Message().Fields().ByName("env"))
	name, _ := direct.FieldOf((&v1alpha1.EnvVar{}).ProtoReflect().Descriptor().Fields().ByName("name"))
	if name.Has(env.ItemMessage(spec.Message(s), 0)) {
		t.Error("an item that is nothing has a name")
	}
}
