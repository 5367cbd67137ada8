package server

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store"
)

// pack wraps an object as gRPC carries it. A nil object stays nil.
func pack(obj resource.Object) (*anypb.Any, error) {
	if obj == nil {
		return nil, nil
	}
	packed, err := anypb.New(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", resource.KeyOf(obj), err)
	}
	return packed, nil
}

// packEvent is pack for an event: the bytes are those that the store has encoded, for all
// watchers the same.
func packEvent(ev store.Event) (*anypb.Any, error) {
	if ev.Object == nil || ev.Encoded == nil {
		return pack(ev.Object)
	}
	return &anypb.Any{TypeUrl: typePrefix + string(ev.Object.ProtoReflect().Descriptor().FullName()), Value: ev.Encoded}, nil
}

// packResult is pack for the object of a result.
func (c *core) packResult(r apply.Result) (*anypb.Any, error) {
	if r.Encoded == nil {
		return pack(r.Object)
	}
	kind, err := c.kind(r.Key.Kind)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: typePrefix + string(kind.Descriptor().FullName()), Value: r.Encoded}, nil
}

// typePrefix is what anypb.New puts before the name of a message.
const typePrefix = "type.googleapis.com/"

// typeURL is that of a kind's packed objects.
func typeURL(k *resource.Kind) string { return typePrefix + string(k.Descriptor().FullName()) }

// unpack returns the object in an Any. Only registered kinds are decoded, never any
// message that happens to be linked into the program. Like the JSON codec it is strict:
// a field that this version does not know would be lost silently.
func (c *core) unpack(packed *anypb.Any) (resource.Object, error) {
	if packed == nil {
		return nil, apistatus.New(apistatus.BadRequest, "the request has no object")
	}
	for _, k := range c.registry.Kinds() {
		if packed.MessageName() != k.Descriptor().FullName() {
			continue
		}
		obj := k.New()
		if err := proto.Unmarshal(packed.GetValue(), obj); err != nil {
			return nil, apistatus.New(apistatus.BadRequest, "%s: %v", k.Name, err)
		}
		return obj, checkDecoded(k, obj)
	}
	return nil, fmt.Errorf("%w: message %.80q", resource.ErrUnknownKind, packed.MessageName())
}

// checkDecoded checks what the JSON codec checks while it reads.
func checkDecoded(k *resource.Kind, obj resource.Object) error {
	var errs resource.FieldErrors
	if obj.GetApiVersion() != resource.APIVersion {
		errs = append(errs, resource.NotSupported("apiVersion", obj.GetApiVersion(), []string{resource.APIVersion}))
	}
	if obj.GetKind() != k.Name {
		errs = append(errs, resource.NotSupported("kind", obj.GetKind(), []string{k.Name}))
	}
	if path := unknownField(obj.ProtoReflect(), ""); path != "" {
		errs = append(errs, &resource.FieldError{Path: path, Reason: resource.ReasonUnknown,
			Allowed: "fields of this server's version only"})
	}
	return errs.OrNil()
}

// unknownField returns the path of the first message that has a field the schema does
// not know, or "". Protobuf's own decoder bounds the depth of messages.
func unknownField(m protoreflect.Message, path string) string {
	if len(m.GetUnknown()) > 0 {
		return path + "?"
	}
	found := ""
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Message() == nil {
			return true
		}
		at := path + fd.JSONName()
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() == nil {
				return true
			}
			v.Map().Range(func(k protoreflect.MapKey, item protoreflect.Value) bool {
				found = unknownField(item.Message(), fmt.Sprintf("%s[%s].", at, k))
				return found == ""
			})
		case fd.IsList():
			for i := 0; i < v.List().Len() && found == ""; i++ {
				found = unknownField(v.List().Get(i).Message(), fmt.Sprintf("%s[%d].", at, i))
			}
		default:
			found = unknownField(v.Message(), at+".")
		}
		return found == ""
	})
	return found
}
