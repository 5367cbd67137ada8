// Package direct reads and writes fields of generated messages in their Go structs. It is for
// what every write goes through: protobuf's own reflection makes an object of each text and
// each list that it returns, and takes several times as long.
//
// It knows the messages that kinds are made of: text, bool, int32, messages, lists of these
// and maps of text to text, in structs with exported fields. Of others FieldOf says so, and
// their users have protobuf's reflection.
package direct

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Struct is a message. The zero Struct is none.
type Struct struct{ v reflect.Value }

// Of returns a message of the Go type that its descriptor is of; false for any other, as
// those are that are made from a descriptor.
func Of(m proto.Message, md protoreflect.MessageDescriptor) (Struct, bool) {
	v := reflect.ValueOf(m)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Type() != typeOf(md).goType {
		return Struct{}, false
	}
	return Struct{v.Elem()}, true
}

// Reflect returns the message for protobuf's reflection.
func (s Struct) Reflect() protoreflect.Message {
	m, _ := s.v.Addr().Interface().(proto.Message)
	return m.ProtoReflect()
}

// Field is a field of a message type.
type Field struct {
	index int // in the struct
	value protoreflect.Kind
	// pointer: it is a scalar that can be unset.
	pointer bool
}

// messageType is what is known of a type; goType is nil when nothing is.
type messageType struct {
	goType reflect.Type
	fields map[protoreflect.FieldNumber]Field
}

// types has the messageType of each message that was asked for: as many as the protos have.
var types sync.Map

func typeOf(md protoreflect.MessageDescriptor) *messageType {
	if known, ok := types.Load(md); ok {
		return known.(*messageType)
	}
	t := newType(md)
	types.Store(md, t)
	return t
}

func newType(md protoreflect.MessageDescriptor) *messageType {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName())
	if err != nil || mt.Descriptor() != md {
		return &messageType{}
	}
	goType := reflect.TypeOf(mt.Zero().Interface())
	if goType.Kind() != reflect.Pointer || goType.Elem().Kind() != reflect.Struct {
		return &messageType{}
	}
	t := &messageType{goType: goType, fields: map[protoreflect.FieldNumber]Field{}}
	for i := range goType.Elem().NumField() {
		sf := goType.Elem().Field(i)
		if fd := fieldOfTag(md, sf.Tag.Get("protobuf")); fd != nil && sf.IsExported() {
			if f, ok := newField(fd, sf.Type); ok {
				f.index = i
				t.fields[fd.Number()] = f
			}
		}
	}
	return t
}

// fieldOfTag finds the field that a struct's tag is of: bytes,1,opt,name=...
func fieldOfTag(md protoreflect.MessageDescriptor, tag string) protoreflect.FieldDescriptor {
	parts := strings.Split(tag, ",")
	if len(parts) < 2 {
		return nil
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		return nil
	}
	return md.Fields().ByNumber(protoreflect.FieldNumber(n))
}

var goKinds = map[protoreflect.Kind]reflect.Kind{
	protoreflect.StringKind: reflect.String, protoreflect.BoolKind: reflect.Bool, protoreflect.Int32Kind: reflect.Int32,
}

func newField(fd protoreflect.FieldDescriptor, typ reflect.Type) (Field, bool) {
	f := Field{value: fd.Kind()}
	switch {
	case fd.ContainingOneof() != nil && !fd.ContainingOneof().IsSynthetic():
		return f, false
	case fd.IsMap():
		return f, typ == reflect.TypeFor[map[string]string]()
	case fd.IsList():
		if typ.Kind() != reflect.Slice {
			return f, false
		}
		typ = typ.Elem()
	}
	if fd.Message() != nil {
		return f, typ.Kind() == reflect.Pointer && typ.Elem().Kind() == reflect.Struct
	}
	want, ok := goKinds[fd.Kind()]
	if f.pointer = typ.Kind() == reflect.Pointer; f.pointer {
		typ = typ.Elem()
	}
	return f, ok && typ.Kind() == want && f.pointer == (fd.HasPresence() && !fd.IsList())
}

// FieldOf finds a field of a known type.
func FieldOf(fd protoreflect.FieldDescriptor) (Field, bool) {
	f, ok := typeOf(fd.ContainingMessage()).fields[fd.Number()]
	return f, ok
}

// known has the answers of Knows, likewise.
var known sync.Map

// Knows tells whether all fields of a message are known, and those of all messages in it.
func Knows(md protoreflect.MessageDescriptor) bool {
	if answer, ok := known.Load(md); ok {
		return answer.(bool)
	}
	answer := knows(md, map[protoreflect.FullName]bool{})
	known.Store(md, answer)
	return answer
}

func knows(md protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if seen[md.FullName()] {
		return true
	}
	seen[md.FullName()] = true
	t := typeOf(md)
	if t.goType == nil || len(t.fields) != md.Fields().Len() {
		return false
	}
	for i := range md.Fields().Len() {
		if fd := md.Fields().Get(i); fd.Message() != nil && !fd.IsMap() && !knows(fd.Message(), seen) {
			return false
		}
	}
	return true
}

// Has is protobuf's Has.
func (f Field) Has(s Struct) bool {
	switch v := s.v.Field(f.index); v.Kind() {
	case reflect.Pointer:
		return !v.IsNil()
	case reflect.Slice, reflect.Map:
		return v.Len() > 0
	default:
		return !v.IsZero()
	}
}

// scalar returns what the field has, which must be a scalar and set if it can be unset.
func (f Field) scalar(s Struct) reflect.Value {
	v := s.v.Field(f.index)
	if f.pointer {
		v = v.Elem()
	}
	return v
}

// Text of a text that is set.
func (f Field) Text(s Struct) string { return f.scalar(s).String() }

// Value of a scalar that is set, for those who have a use for protobuf's values.
func (f Field) Value(s Struct) protoreflect.Value { return valueOf(f.scalar(s)) }

func valueOf(v reflect.Value) protoreflect.Value {
	switch v.Kind() {
	case reflect.String:
		return protoreflect.ValueOfString(v.String())
	case reflect.Bool:
		return protoreflect.ValueOfBool(v.Bool())
	default:
		return protoreflect.ValueOfInt32(int32(v.Int()))
	}
}

// Message that is set.
func (f Field) Message(s Struct) Struct { return structOf(s.v.Field(f.index)) }

// structOf follows a pointer; a list may have one that points to nothing, an empty message.
func structOf(v reflect.Value) Struct {
	if v.IsNil() {
		v = reflect.New(v.Type().Elem())
	}
	return Struct{v.Elem()}
}

// Len is the length of a list or a map.
func (f Field) Len(s Struct) int { return s.v.Field(f.index).Len() }

// ItemText, ItemValue and ItemMessage return an item of a list.
func (f Field) ItemText(s Struct, i int) string { return s.v.Field(f.index).Index(i).String() }

// ItemValue: see ItemText.
func (f Field) ItemValue(s Struct, i int) protoreflect.Value {
	return valueOf(s.v.Field(f.index).Index(i))
}

// ItemMessage: see ItemText.
func (f Field) ItemMessage(s Struct, i int) Struct {
	return structOf(s.v.Field(f.index).Index(i))
}

// Map returns the map itself.
func (f Field) Map(s Struct) map[string]string {
	m, _ := s.v.Field(f.index).Interface().(map[string]string)
	return m
}

// IsText tells whether the field is a text, or a list of texts.
func (f Field) IsText() bool { return f.value == protoreflect.StringKind }

// EqualScalars tells whether two fields of one type have the same scalar, or the same list of
// scalars, or none.
func (f Field) EqualScalars(a, b Struct) bool {
	x, y := a.v.Field(f.index), b.v.Field(f.index)
	switch x.Kind() {
	case reflect.Pointer:
		if x.IsNil() || y.IsNil() {
			return x.IsNil() == y.IsNil()
		}
		return equal(x.Elem(), y.Elem())
	case reflect.Slice:
		if x.Len() != y.Len() {
			return false
		}
		if texts, ok := x.Interface().([]string); ok {
			others, _ := y.Interface().([]string)
			return slices.Equal(texts, others)
		}
		for i := range x.Len() {
			if !equal(x.Index(i), y.Index(i)) {
				return false
			}
		}
		return true
	default:
		return equal(x, y)
	}
}

func equal(x, y reflect.Value) bool {
	switch x.Kind() {
	case reflect.String:
		return x.String() == y.String()
	case reflect.Bool:
		return x.Bool() == y.Bool()
	default:
		return x.Int() == y.Int()
	}
}
