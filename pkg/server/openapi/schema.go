package openapi

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/docs"
)

// object is a JSON object; encoding/json sorts its keys.
type object = map[string]any

// schemas collects the components of a document.
type schemas struct {
	registry *resource.Registry
	byName   object
}

// ref returns a reference to the message's schema and adds the schema when it is new.
func (s *schemas) ref(md protoreflect.MessageDescriptor) object {
	name := string(md.Name())
	if _, known := s.byName[name]; !known {
		s.byName[name] = object{} // ends the recursion of messages that contain themselves
		s.byName[name] = s.message(md)
	}
	return refTo(name)
}

func refTo(name string) object { return object{"$ref": "#/components/schemas/" + name} }

func (s *schemas) message(md protoreflect.MessageDescriptor) object {
	properties := object{}
	var required []string
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		properties[fd.JSONName()] = described(s.field(fd), fd)
		if resource.BoundsOf(fd).Required {
			required = append(required, fd.JSONName())
		}
	}
	schema := object{"type": "object", "properties": properties, "additionalProperties": false}
	if required != nil {
		schema["required"] = required
	}
	if text := docs.Message(md); text != "" {
		schema["description"] = text
	}
	if k, ok := s.registry.Get(string(md.Name())); ok && k.Descriptor().FullName() == md.FullName() {
		properties["apiVersion"].(object)["enum"] = []string{resource.APIVersion}
		properties["kind"].(object)["enum"] = []string{k.Name}
		schema["required"] = []string{"apiVersion", "kind", "metadata"}
		schema["x-kubernetes-group-version-kind"] = []object{{"group": resource.Group, "version": resource.Version, "kind": k.Name}}
	}
	return schema
}

// described adds the comment of a field. Readers ignore what stands beside a $ref: there it
// goes around, unless the schema that is referred to says the same.
func described(schema object, fd protoreflect.FieldDescriptor) object {
	text := docs.Field(fd)
	if text == "" {
		return schema
	}
	if _, refers := schema["$ref"]; refers {
		if text == docs.Message(fd.Message()) {
			return schema
		}
		return object{"allOf": []object{schema}, "description": text}
	}
	schema["description"] = text
	return schema
}

func (s *schemas) field(fd protoreflect.FieldDescriptor) object {
	switch {
	case fd.IsMap():
		b := resource.BoundsOf(fd)
		schema := object{"type": "object", "additionalProperties": bounded(s.value(fd.MapValue()), b.Items)}
		put(schema, "minProperties", b.MinItems)
		put(schema, "maxProperties", b.MaxItems)
		return schema
	case fd.IsList():
		b := resource.BoundsOf(fd)
		list := object{"type": "array", "items": bounded(s.value(fd), b.Items)}
		put(list, "minItems", b.MinItems)
		put(list, "maxItems", b.MaxItems)
		if keys := option[string](fd, v1alpha1.E_ListKeys); keys != "" {
			list["x-kubernetes-list-type"] = "map"
			list["x-kubernetes-list-map-keys"] = strings.Split(keys, ",")
		}
		return list
	}
	b := resource.BoundsOf(fd)
	return bounded(s.value(fd), &b)
}

// bounded adds the rules of a value. A length in bytes bounds that in characters too.
func bounded(schema object, b *resource.Bounds) object {
	if b == nil {
		return schema
	}
	put(schema, "minimum", b.Min)
	put(schema, "maximum", b.Max)
	put(schema, "minLength", b.MinLen)
	put(schema, "maxLength", b.MaxBytes)
	put(schema, "maxLength", b.MaxLen)
	if b.Pattern != "" {
		schema["pattern"] = b.Pattern
	}
	return schema
}

// put sets a value that there is.
func put[T any](schema object, key string, value *T) {
	if value != nil {
		schema[key] = *value
	}
}

func (s *schemas) value(fd protoreflect.FieldDescriptor) object {
	schema := object{}
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return s.ref(fd.Message())
	case protoreflect.BoolKind:
		schema["type"] = "boolean"
	case protoreflect.Int32Kind:
		schema["type"], schema["format"] = "integer", "int32"
	default:
		schema["type"] = "string"
	}
	if allowed := option[string](fd, v1alpha1.E_Allowed); allowed != "" {
		schema["enum"] = strings.Split(allowed, ",")
	}
	if option[bool](fd, v1alpha1.E_Sensitive) {
		schema["writeOnly"] = true
	}
	return schema
}

// option reads one of our field options, its zero value when it is not set.
func option[T any](fd protoreflect.FieldDescriptor, ext protoreflect.ExtensionType) T {
	v, _ := proto.GetExtension(fd.Options(), ext).(T)
	return v
}
