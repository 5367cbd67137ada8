package ownership

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// schemaBuilder makes the schema of structured-merge-diff from the descriptors of kinds.
type schemaBuilder struct {
	types []schema.TypeDef
	seen  map[string]bool
}

// schemaOf returns the schema of the wishes of all kinds. A kind's type has the full name
// of its message.
func schemaOf(reg *resource.Registry) *schema.Schema {
	b := &schemaBuilder{seen: map[string]bool{}}
	for _, kind := range reg.Kinds() {
		b.message(kind.Descriptor(), func(name string) bool { return resource.IsWish(name, false) })
	}
	return &schema.Schema{Types: b.types}
}

var metadataName = (&v1alpha1.ObjectMeta{}).ProtoReflect().Descriptor().FullName()

// message defines a message as a type whose fields are owned one by one.
func (b *schemaBuilder) message(md protoreflect.MessageDescriptor, keep func(string) bool) schema.TypeRef {
	name := string(md.FullName())
	ref := schema.TypeRef{NamedType: &name}
	if b.seen[name] {
		return ref
	}
	b.seen[name] = true
	var fields []schema.StructField
	for i := range md.Fields().Len() {
		if fd := md.Fields().Get(i); keep(fd.JSONName()) {
			fields = append(fields, schema.StructField{Name: fd.JSONName(), Type: b.field(fd)})
		}
	}
	b.types = append(b.types, schema.TypeDef{Name: name, Atom: schema.Atom{Map: &schema.Map{
		Fields: fields, ElementRelationship: schema.Separable,
	}}})
	return ref
}

func (b *schemaBuilder) field(fd protoreflect.FieldDescriptor) schema.TypeRef {
	switch {
	case fd.IsMap():
		return schema.TypeRef{Inlined: schema.Atom{Map: &schema.Map{
			ElementType: b.value(fd.MapValue()), ElementRelationship: schema.Separable,
		}}}
	case fd.IsList():
		return schema.TypeRef{Inlined: schema.Atom{List: b.list(fd)}}
	}
	return b.value(fd)
}

// list is merged by its keys, or item by item where it is a set (finalizers, which several
// controllers add to), or else owned as a whole.
func (b *schemaBuilder) list(fd protoreflect.FieldDescriptor) *schema.List {
	list := &schema.List{ElementType: b.value(fd), ElementRelationship: schema.Atomic}
	if keys := resource.ListKeys(fd); keys != nil {
		list.ElementRelationship, list.Keys = schema.Associative, keys
	}
	if fd.ContainingMessage().FullName() == metadataName && fd.JSONName() == "finalizers" {
		list.ElementRelationship = schema.Associative
	}
	return list
}

func (b *schemaBuilder) value(fd protoreflect.FieldDescriptor) schema.TypeRef {
	scalar := schema.String
	switch fd.Kind() {
	case protoreflect.MessageKind:
		isMetadata := fd.Message().FullName() == metadataName
		return b.message(fd.Message(), func(name string) bool { return !isMetadata || resource.IsWish(name, true) })
	case protoreflect.BoolKind:
		scalar = schema.Boolean
	case protoreflect.Int32Kind:
		scalar = schema.Numeric
	}
	return schema.TypeRef{Inlined: schema.Atom{Scalar: &scalar}}
}

// typed makes a wish of a kind comparable. Wishes come from decoded objects, which the
// codec has checked against the very descriptors that the schema is made of.
func (t *Tracker) typed(kind *resource.Kind, wish resource.Wish) *typed.TypedValue {
	name := string(kind.Descriptor().FullName())
	//lint:ignore SA1019 the codec has validated it; validating again would double the cost of an apply
	return typed.AsTypedUnvalidated(value.NewValueInterface(map[string]any(wish)), t.schema, schema.TypeRef{NamedType: &name})
}
