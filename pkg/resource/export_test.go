package resource

import (
	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
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

// IsFine is the short way of CheckShape and CheckRules.
func (k *Kind) IsFine(obj Object) bool { return k.isFine(obj) }

// IsFineMetadata is the short way of CheckMetadata, which LongCheckMetadata leaves out.
func (k *Kind) IsFineMetadata(m *v1alpha1.ObjectMeta) bool { return k.isFineMetadata(m) }

func (k *Kind) LongCheckMetadata(m *v1alpha1.ObjectMeta) FieldErrors { return k.checkMetadata(m) }

// Allowed are the values that the options of a field allow; nil: any.
func Allowed(fd protoreflect.FieldDescriptor) []string { return rulesOf(fd).allowed }

// ManyKeys are the lists of an object that the short way leaves to the long one.
func (k *Kind) ManyKeys(obj Object) (paths []string) {
	walkMessages(obj.ProtoReflect(), "", func(m protoreflect.Message, path string) {
		for i := range m.Descriptor().Fields().Len() {
			fd := m.Descriptor().Fields().Get(i)
			if keys := rulesOf(fd).listKeys; m.Has(fd) && (len(keys) > 1 || keys != nil && m.Get(fd).List().Len() > fewItems) {
				paths = append(paths, path)
			}
		}
	})
	return paths
}

// PlainDocument is the short way of DecodeDocuments, which DecodeLongWay leaves out.
func PlainDocument(reg *Registry, source string, data []byte) (Document, bool) {
	return plainDocument(reg, source, data)
}

func DecodeLongWay(reg *Registry, source string, data []byte) ([]Document, error) {
	d := &decoder{reg: reg, source: source}
	if err := d.documents(data); err != nil {
		return nil, err
	}
	return d.docs, nil
}
