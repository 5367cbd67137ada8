package resource

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// CheckRules returns the field errors by the buf.validate annotations of the proto. A field
// that is not set breaks no rule but `required`; a spec that is not there is an empty one.
func (k *Kind) CheckRules(obj Object) FieldErrors {
	var errs FieldErrors
	broken := k.rules.run(nil, obj.ProtoReflect(), "")
	if spec := k.Descriptor().Fields().ByName("spec"); spec != nil && !obj.ProtoReflect().Has(spec) {
		empty := k.New()
		empty.ProtoReflect().Mutable(spec)
		broken = append(broken, k.rules.run(nil, empty.ProtoReflect(), "")...)
	}
	for _, v := range broken {
		errs = append(errs, v.fieldError())
	}
	return errs
}

// fieldError says what was found and what is allowed.
func (v violation) fieldError() *FieldError {
	if v.rule == "required" {
		return Required(v.path, cmp.Or(ruleOption(v.fd), wordsOf(v.of), "a value"))
	}
	text := ruleOption(v.fd)
	if derived := wordsOf(v.of); derived != "" && (text == "" || !slices.Contains(wordless, v.rule)) {
		text = derived
	}
	return Invalid(v.path, v.foundText(), text)
}

// wordless are the rules that only the proto's (rule) can put into words.
var wordless = []string{"string.pattern", "string.not_contains"}

// foundText is what was found: the number of items of lists, the size of what is too long,
// else the value. Check hides sensitive ones.
func (v violation) foundText() string {
	switch {
	case v.fd.IsList() && !v.item:
		return fmt.Sprint(v.value.List().Len())
	case v.fd.IsMap() && !v.item:
		return fmt.Sprint(v.value.Map().Len())
	case strings.HasSuffix(v.rule, "_bytes"):
		return fmt.Sprintf("%d bytes", len(v.value.String()))
	case strings.HasSuffix(v.rule, "_len"):
		return fmt.Sprintf("%d characters", utf8.RuneCountInString(v.value.String()))
	}
	return fmt.Sprint(v.value.Interface())
}

func annotationsOf(fd protoreflect.FieldDescriptor) *validate.FieldRules {
	r, _ := proto.GetExtension(fd.Options(), validate.E_Field).(*validate.FieldRules)
	return r
}

func ruleOption(fd protoreflect.FieldDescriptor) string {
	text, _ := proto.GetExtension(fd.Options(), v1alpha1.E_Rule).(string)
	return text
}

// Bounds are the bounds of a field, of the items of a list or of the entries of a map. nil:
// there is none.
type Bounds struct {
	Min, Max       *int32  // of a number
	MinLen, MaxLen *uint64 // of text, in characters
	MinBytes       *uint64 // of text, in bytes
	MaxBytes       *uint64
	Pattern        string  // of text
	MinItems       *uint64 // of a list or map
	MaxItems       *uint64
	Items          *Bounds // of the items of a list, or the values of a map
	Required       bool
}

// BoundsOf returns what the annotations of a field say.
func BoundsOf(fd protoreflect.FieldDescriptor) Bounds { return boundsOf(annotationsOf(fd)) }

func boundsOf(r *validate.FieldRules) Bounds {
	b := Bounds{Required: r.GetRequired()}
	if n := r.GetInt32(); n != nil {
		if g, ok := n.GetGreaterThan().(*validate.Int32Rules_Gte); ok {
			b.Min = &g.Gte
		}
		if l, ok := n.GetLessThan().(*validate.Int32Rules_Lte); ok {
			b.Max = &l.Lte
		}
	}
	if s := r.GetString(); s != nil {
		b.MinLen, b.MaxLen, b.MinBytes, b.MaxBytes, b.Pattern = s.MinLen, s.MaxLen, s.MinBytes, s.MaxBytes, s.GetPattern()
	}
	if l := r.GetRepeated(); l != nil {
		b.MinItems, b.MaxItems = l.MinItems, l.MaxItems
		if l.GetItems() != nil {
			items := boundsOf(l.GetItems())
			b.Items = &items
		}
	}
	if m := r.GetMap(); m != nil {
		b.MinItems, b.MaxItems = m.MinPairs, m.MaxPairs
		if m.GetValues() != nil {
			values := boundsOf(m.GetValues())
			b.Items = &values
		}
	}
	return b
}

// wordsOf are the bounds in words; "" when there are none that go without a (rule).
func wordsOf(r *validate.FieldRules) string {
	b := boundsOf(r)
	switch {
	case b.Min != nil && b.Max != nil:
		return fmt.Sprintf("a number from %d to %d", *b.Min, *b.Max)
	case b.Min != nil:
		return fmt.Sprintf("a number of at least %d", *b.Min)
	case b.Max != nil:
		return fmt.Sprintf("a number of at most %d", *b.Max)
	case r.GetMap() != nil:
		return between(b.MinItems, b.MaxItems, "entry", "entries")
	case r.GetRepeated() != nil:
		return between(b.MinItems, b.MaxItems, "item", "items")
	case b.MinBytes != nil || b.MaxBytes != nil:
		return between(b.MinBytes, b.MaxBytes, "byte", "bytes")
	}
	return between(b.MinLen, b.MaxLen, "character", "characters")
}

func between(low, high *uint64, one, what string) string {
	if n := cmp.Or(high, low); n != nil && *n == 1 {
		what = one
	}
	switch {
	case low != nil && high != nil:
		return fmt.Sprintf("%d to %d %s", *low, *high, what)
	case low != nil:
		return fmt.Sprintf("at least %d %s", *low, what)
	case high != nil:
		return fmt.Sprintf("at most %d %s", *high, what)
	}
	return ""
}

// RuleText is what a field may hold, in words, by its annotations; "" when everything of its
// type is allowed.
func RuleText(fd protoreflect.FieldDescriptor) string {
	r := annotationsOf(fd)
	text, bounds := ruleOption(fd), wordsOf(r)
	if items := boundsOf(r).Items; items != nil && text == "" {
		inner := r.GetRepeated().GetItems()
		if fd.IsMap() {
			inner = r.GetMap().GetValues()
		}
		if words := wordsOf(inner); words != "" {
			text = "each " + words
		}
	}
	switch {
	case text != "" && bounds != "":
		return text + "; " + bounds
	case text != "" || bounds != "":
		return text + bounds
	}
	return ""
}

// checkRules refuses annotations that could not be told to people: patterns without words.
func checkRules(fd protoreflect.FieldDescriptor) error {
	b := BoundsOf(fd)
	if (b.Pattern != "" || b.Items != nil && b.Items.Pattern != "") && ruleOption(fd) == "" {
		return fmt.Errorf("field %s: a pattern needs a (rule) that says in words what is allowed", fd.FullName())
	}
	return nil
}
