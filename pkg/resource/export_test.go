package resource

import (
	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// BrokenRules are the paths and names of the rules of the annotations that an object breaks.
func (k *Kind) BrokenRules(obj Object) []string {
	var out []string
	for _, v := range k.rules.run(nil, obj.ProtoReflect(), "") {
		out = append(out, v.path+" "+v.rule)
	}
	return out
}

// Supported tells why a message has rules that are not evaluated here.
func Supported(obj Object) error {
	_, err := compiler{}.message(obj.ProtoReflect().Descriptor())
	return err
}

// SupportedRules tells why a field could not have these rules.
func SupportedRules(fd protoreflect.FieldDescriptor, r *validate.FieldRules) error {
	_, err := stepOf(fd, r)
	return err
}
