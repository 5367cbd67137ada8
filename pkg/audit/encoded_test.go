package audit_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// TestTellerTellsWhatChangedDoes, of any two versions of the spec of any kind, or that it
// does not know; and it mostly knows.
func TestTellerTellsWhatChangedDoes(t *testing.T) {
	type kindOf struct {
		kind   *resource.Kind
		spec   protoreflect.FieldDescriptor
		teller *audit.Teller
	}
	var all []kindOf
	for _, k := range kinds.Registry().Kinds() {
		if fd := k.Descriptor().Fields().ByName("spec"); fd != nil {
			all = append(all, kindOf{k, fd, audit.NewTeller(fd.Message())})
		}
	}
	known, asked := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.SampledFrom(all).Draw(t, "kind")
		was := k.kind.New()
		fillSpec(t, was.ProtoReflect().Mutable(k.spec).Message(), 0)
		is := resource.Clone(was)
		is.ProtoReflect().Mutable(k.spec)
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			changeSpec(t, is.ProtoReflect().Mutable(k.spec).Message())
		}
		unknown := rapid.IntRange(0, 9).Draw(t, "unknown") == 0
		if unknown {
			b := protowire.AppendVarint(protowire.AppendTag(nil, 9000, protowire.VarintType), 1)
			is.ProtoReflect().Mutable(k.spec).Message().SetUnknown(b)
		}
		encode := func(obj resource.Object) []byte {
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(obj.ProtoReflect().Get(k.spec).Message().Interface())
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		paths, values, ok := k.teller.Changed("spec", encode(was), encode(is))
		asked++
		if !ok {
			return
		}
		if known++; unknown {
			t.Fatal("it knows what nobody knows")
		}
		wantPaths, wantValues := audit.Changed(was, is)
		if !slices.Equal(paths, wantPaths) || !reflect.DeepEqual(values, wantValues) {
			t.Fatalf("%s: got %q %q, want %q %q\nwas %v\nis  %v", k.kind.Name, paths, lines(values), wantPaths, lines(wantValues), was, is)
		}
	})
	if known*2 < asked {
		t.Errorf("it knew %d of %d", known, asked)
	}
}

// TestTellerRefusesWhatIsNoMessage: bytes that protobuf's encoder does not write are left to
// who decodes them.
func TestTellerRefusesWhatIsNoMessage(t *testing.T) {
	k, _ := kinds.Registry().Get("App")
	teller := audit.NewTeller(k.Descriptor().Fields().ByName("spec").Message())
	text := func(b []byte, num protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
	}
	whole := text(nil, 1, "web")
	for name, b := range map[string][]byte{
		"cut off": whole[:2], "twice": text(whole, 1, "b"), "another type": protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1),
		"another order": text(text(nil, 3, "Running"), 1, "web"), "unknown": text(nil, 9000, "a"),
	} {
		if paths, _, ok := teller.Changed("spec", nil, b); ok {
			t.Errorf("%s: it tells of %q", name, paths)
		}
		if paths, _, ok := teller.Changed("spec", b, nil); ok {
			t.Errorf("%s before: it tells of %q", name, paths)
		}
	}
}

var specTexts = []string{"", "a", "b", "ab", "ba", "\"<\\\n\u00e9", strings.Repeat("long ", 60), strings.Repeat("long ", 60) + "é", versionOne + box, versionTwo + box}

func fillSpec(t *rapid.T, m protoreflect.Message, level int) {
	for i := range m.Descriptor().Fields().Len() {
		if rapid.IntRange(0, 2).Draw(t, "set") == 0 {
			fillSpecField(t, m, m.Descriptor().Fields().Get(i), level)
		}
	}
}

func fillSpecField(t *rapid.T, m protoreflect.Message, fd protoreflect.FieldDescriptor, level int) {
	const deepest = 3
	switch {
	case fd.IsMap():
		for range rapid.IntRange(0, 3).Draw(t, "entries") {
			if fd.MapValue().Message() == nil {
				m.Mutable(fd).Map().Set(protoreflect.ValueOfString(rapid.SampledFrom(specTexts).Draw(t, "key")).MapKey(), specScalar(t, fd.MapValue()))
			}
		}
	case fd.IsList():
		for range rapid.IntRange(0, 2).Draw(t, "items") {
			if fd.Message() == nil {
				m.Mutable(fd).List().Append(specScalar(t, fd))
			} else if level < deepest {
				fillSpec(t, m.Mutable(fd).List().AppendMutable().Message(), level+1)
			}
		}
	case fd.Message() != nil:
		if sub := m.Mutable(fd).Message(); level < deepest {
			fillSpec(t, sub, level+1)
		}
	default:
		m.Set(fd, specScalar(t, fd))
	}
}

func specScalar(t *rapid.T, fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.SampledFrom(specTexts).Draw(t, "text"))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool"))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(rapid.SampledFrom([]int32{-1 << 31, -1, 0, 1, 300}).Draw(t, "number"))
	}
	t.Fatalf("a field of kind %s", fd.Kind())
	return protoreflect.Value{}
}

// changeSpec sets a field at random, or clears it, at the top or below.
func changeSpec(t *rapid.T, m protoreflect.Message) {
	for level := 0; ; level++ {
		all := m.Descriptor().Fields()
		if all.Len() == 0 {
			return
		}
		fd := all.Get(rapid.IntRange(0, all.Len()-1).Draw(t, "field"))
		below := fd.Message() != nil && !fd.IsMap() && m.Has(fd) && rapid.IntRange(0, 3).Draw(t, "below") > 0
		switch {
		case below && fd.IsList():
			m = m.Mutable(fd).List().Get(rapid.IntRange(0, m.Get(fd).List().Len()-1).Draw(t, "item")).Message()
		case below:
			m = m.Mutable(fd).Message()
		default:
			if rapid.Bool().Draw(t, "clear") {
				m.Clear(fd)
			}
			if rapid.Bool().Draw(t, "fill") {
				fillSpecField(t, m, fd, level)
			}
			return
		}
	}
}
