package resource_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/internal/kindtest"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// TestRulesAreProtovalidates compares what is found broken in random objects of every kind
// with what the library of the annotations finds.
func TestRulesAreProtovalidates(t *testing.T) {
	real, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	found, whole := map[string]int{}, 0
	for _, k := range kindtest.Registry().Kinds() {
		t.Run(k.Name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				obj := k.New()
				fillRandomly(t, obj.ProtoReflect(), 0)
				want, got := brokenByLibrary(t, real, obj), k.BrokenRules(obj)
				slices.Sort(want)
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Fatalf("%s\nfound here: %q\nby the library: %q", obj, got, want)
				}
				if len(want) == 0 {
					whole++
				}
				for _, w := range want {
					found[w[strings.LastIndexByte(w, ' ')+1:]]++
				}
			})
		})
	}
	// A run that broke only some of the rules would mean little.
	for _, rule := range []string{"required", "int32.gte", "int32.gte_lte", "string.pattern", "string.max_bytes", "string.min_len",
		"string.max_len", "string.not_contains", "repeated.max_items", "map.max_pairs"} {
		if found[rule] == 0 {
			t.Errorf("%s was never broken: %v", rule, found)
		}
	}
	if whole == 0 {
		t.Error("no object was whole")
	}
}

func brokenByLibrary(t *rapid.T, real protovalidate.Validator, obj resource.Object) []string {
	err := real.Validate(obj)
	var broken *protovalidate.ValidationError
	if err != nil && !errors.As(err, &broken) {
		t.Fatalf("the library: %v", err)
	}
	var out []string
	if broken != nil {
		for _, v := range broken.Violations {
			out = append(out, libraryPath(obj.ProtoReflect().Descriptor(), v.Proto.GetField())+" "+v.Proto.GetRuleId())
		}
	}
	return out
}

func libraryPath(md protoreflect.MessageDescriptor, field *validate.FieldPath) string {
	path := ""
	for _, e := range field.GetElements() {
		fd := md.Fields().ByNumber(protoreflect.FieldNumber(e.GetFieldNumber()))
		path, md = resource.JoinPath(path, fd.JSONName()), fd.Message()
		switch s := e.GetSubscript().(type) {
		case *validate.FieldPathElement_Index:
			path = resource.IndexPath(path, int(s.Index))
		case *validate.FieldPathElement_StringKey:
			path = resource.KeyPath(path, s.StringKey)
		}
	}
	return path
}

// fillRandomly sets fields to values on both sides of their rules.
func fillRandomly(t *rapid.T, m protoreflect.Message, depth int) {
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if depth > 5 || rapid.IntRange(0, 3).Draw(t, "set") == 0 {
			continue
		}
		b := resource.BoundsOf(fd)
		switch {
		case fd.IsMap():
			for i := range count(t, b.MaxItems) {
				key := strconv.Itoa(i) + rapid.StringMatching(`[a-z]{0,4}`).Draw(t, "key") // no two are the same
				m.Mutable(fd).Map().Set(protoreflect.ValueOfString(key).MapKey(), protoreflect.ValueOfString(text(t, itemsOf(b))))
			}
		case fd.IsList():
			list := m.Mutable(fd).List()
			for range count(t, b.MaxItems) {
				switch {
				case fd.Message() != nil:
					fillRandomly(t, list.AppendMutable().Message(), depth+1)
				case fd.Kind() == protoreflect.Int32Kind:
					list.Append(protoreflect.ValueOfInt32(number(t, itemsOf(b))))
				default:
					list.Append(protoreflect.ValueOfString(text(t, itemsOf(b))))
				}
			}
		case fd.Message() != nil:
			fillRandomly(t, m.Mutable(fd).Message(), depth+1)
		case fd.Kind() == protoreflect.Int32Kind:
			m.Set(fd, protoreflect.ValueOfInt32(number(t, b)))
		case fd.Kind() == protoreflect.BoolKind:
			m.Set(fd, protoreflect.ValueOfBool(true))
		default:
			m.Set(fd, protoreflect.ValueOfString(text(t, b)))
		}
	}
}

func itemsOf(b resource.Bounds) resource.Bounds {
	if b.Items == nil {
		return resource.Bounds{}
	}
	return *b.Items
}

// count is how many items a list gets: a few, or, rarely, about as many as are allowed.
func count(t *rapid.T, most *uint64) int {
	if most != nil && (*most < 10 || rapid.IntRange(0, 4).Draw(t, "crowd") == 0) {
		return int(*most) + rapid.IntRange(-1, 1).Draw(t, "around")
	}
	return rapid.IntRange(0, 2).Draw(t, "items")
}

func number(t *rapid.T, b resource.Bounds) int32 {
	choices := []int32{0, -1, 5}
	for _, p := range []*int32{b.Min, b.Max} {
		if p != nil {
			choices = append(choices, *p-1, *p, *p+1)
		}
	}
	return rapid.SampledFrom(choices).Draw(t, "number")
}

func text(t *rapid.T, b resource.Bounds) string {
	for _, p := range []*uint64{b.MaxBytes, b.MaxLen, b.MinLen} {
		if p != nil && rapid.Bool().Draw(t, "long") {
			return strings.Repeat(rapid.SampledFrom([]string{"x", "ä"}).Draw(t, "letter"), int(*p)+rapid.IntRange(-1, 1).Draw(t, "around"))
		}
	}
	if b.Pattern != "" && rapid.IntRange(0, 2).Draw(t, "fits") > 0 {
		return rapid.StringMatching(b.Pattern).Draw(t, "text") + rapid.SampledFrom([]string{"", "", "..", "!"}).Draw(t, "tail")
	}
	return rapid.SampledFrom([]string{"", "a", "A1", "two words", "local:vztmpl/x..y", "\n", "0644"}).Draw(t, "text")
}

func TestRuleErrors(t *testing.T) {
	reg := kindtest.Registry()
	k, _ := reg.Get("Gadget")
	for _, tt := range []struct{ spec, want string }{
		{"{color: red, serial: AB-1234, size: 500, words: [a, b], settings: {ab: c}}", ""},
		{"{}", "spec.color: missing; allowed is red, green or blue"},
		{"{color: pink}", `spec.color: found "pink"; allowed is one of red, green, blue`},
		{"{color: red, serial: ab}", `spec.serial: found "ab"; allowed is two capitals, a hyphen and four digits, e.g. AB-1234`},
		{"{color: red, size: 0}", `spec.size: found "0"; allowed is a number from 1 to 500`},
		{"{color: red, note: " + strings.Repeat("x", 41) + "}", `spec.note: found "41 bytes"; allowed is at most 40 bytes`},
		{"{color: red, parts: [{name: a}, {name: b, count: 0}]}", `spec.parts[1].count: found "0"; allowed is a number of at least 1`},
		{"{color: red, parts: [{name: a}, {name: b}, {name: c}, {name: d}, {name: e}]}", `spec.parts: found "5"; allowed is at most 4 items`},
		{"{color: red, words: [a, b, C]}", `spec.words[2]: found "C"; allowed is words of small letters`},
		{"{color: red, words: [a, b, c, d, e, f]}", `spec.words: found "6"; allowed is at most 5 items`},
		{"{color: red, settings: {a: b}}", `spec.settings[a]: found "1 characters"; allowed is at least 2 characters`},
		{"{color: red, settings: {ab: ääääääääää}}", `spec.settings[ab]: found "10 characters"; allowed is 1 to 8 characters`},
		{"{color: red, settings: {aa: b, bb: c, cc: d, dd: e}}", `spec.settings: found "4"; allowed is at most 3 entries`},
		{"{color: red, pin: \"1\"}", `spec.pin: found "(hidden)"; allowed is 4 to 8 characters`},
	} {
		obj, err := resource.DecodeJSON(reg, []byte("{apiVersion: proximity/v1alpha1, kind: Gadget, metadata: {name: a, namespace: default}, spec: "+tt.spec+"}"))
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Check(obj).Error(); got != tt.want {
			t.Errorf("%s\ngot  %s\nwant %s", tt.spec, got, tt.want)
		}
	}
}

// TestNoSpec: what a spec must have is missing too when there is none at all.
func TestNoSpec(t *testing.T) {
	k, _ := kindtest.Registry().Get("Gadget")
	g := kindtest.New("a")
	g.Spec = nil
	if got := k.Check(g).Error(); got != "spec.color: missing; allowed is red, green or blue" {
		t.Errorf("got %s", got)
	}
}

// TestRuleText is what `proxctl explain` and the OpenAPI document say.
func TestRuleText(t *testing.T) {
	k, _ := kindtest.Registry().Get("Gadget")
	spec := k.Descriptor().Fields().ByName("spec").Message()
	for field, want := range map[protoreflect.Name]string{
		"serial": "two capitals, a hyphen and four digits, e.g. AB-1234",
		"size":   "a number from 1 to 500", "note": "at most 40 bytes", "parts": "at most 4 items",
		"settings": "each 1 to 8 characters; at most 3 entries", "words": "words of small letters; at most 5 items",
	} {
		if got := resource.RuleText(spec.Fields().ByName(field)); got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
}

// TestUnsupportedRules: a rule that is not evaluated is refused, not passed over.
func TestUnsupportedRules(t *testing.T) {
	if err := resource.Supported(kindtest.New("a")); err != nil {
		t.Error(err)
	}
	spec := (&kindtest.GadgetSpec{}).ProtoReflect().Descriptor()
	for _, tt := range []struct {
		field protoreflect.Name
		rules *validate.FieldRules
		want  string
	}{
		{"note", &validate.FieldRules{Type: &validate.FieldRules_String_{String_: &validate.StringRules{Prefix: proto.String("x")}}}, "StringRules.prefix is not supported"},
		{"size", &validate.FieldRules{Type: &validate.FieldRules_Int32{Int32: &validate.Int32Rules{In: []int32{1}}}}, "Int32Rules.in is not supported"},
		{"words", &validate.FieldRules{Type: &validate.FieldRules_Repeated{Repeated: &validate.RepeatedRules{Unique: proto.Bool(true)}}}, "RepeatedRules.unique is not supported"},
		{"size", &validate.FieldRules{CelExpression: []string{"this > 1"}}, "cel_expression is not supported"},
	} {
		if err := resource.SupportedRules(spec.Fields().ByName(tt.field), tt.rules); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.field, err)
		}
	}
}
