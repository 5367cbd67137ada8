package resource

import (
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// secretKind is the name of the one kind that is referred to by SecretKeyRef.
const secretKind = "Secret"

// SecretReference is a SecretKeyRef in an object.
type SecretReference struct {
	Path   string // spec.env[0].valueFrom.secretKeyRef
	Secret Key
	Ref    *v1alpha1.SecretKeyRef
}

// SecretOf returns the key of the Secret that an object's reference names, its namespace
// filled in.
func SecretOf(obj Object, ref *v1alpha1.SecretKeyRef) Key {
	key := Key{Kind: secretKind, Namespace: ref.GetNamespace(), Name: ref.GetName()}
	if key.Namespace == "" {
		key.Namespace = KeyOf(obj).EventNamespace()
	}
	return key
}

// MayUseSecret tells whether an object may refer to a Secret: one of its own namespace or,
// when it is cluster-scoped, any.
func MayUseSecret(obj Object, secret Key) bool {
	ns := obj.GetMetadata().GetNamespace()
	return ns == "" || ns == secret.Namespace
}

// SecretReferences returns all SecretKeyRefs in the spec of an object, of any kind.
func SecretReferences(obj Object) []SecretReference {
	spec, ok := Field(obj, "spec")
	if !ok || !refersToSecret(spec) {
		return nil
	}
	var found []SecretReference
	walkMessages(spec, "spec", func(m protoreflect.Message, path string) {
		if ref, ok := m.Interface().(*v1alpha1.SecretKeyRef); ok {
			found = append(found, SecretReference{Path: path, Secret: SecretOf(obj, ref), Ref: ref})
		}
	})
	return found
}

// refersToSecret tells whether there is a SecretKeyRef in a message. It writes no paths, and
// looks only where there can be one.
func refersToSecret(m protoreflect.Message) bool {
	for _, fd := range waysToSecret(m.Descriptor()) {
		if !m.Has(fd) {
			continue
		}
		is := fd.Message() == secretKeyRef
		if !fd.IsList() {
			if is || refersToSecret(m.Get(fd).Message()) {
				return true
			}
			continue
		}
		list := m.Get(fd).List()
		for i := range list.Len() {
			if is || refersToSecret(list.Get(i).Message()) {
				return true
			}
		}
	}
	return false
}

var (
	secretKeyRef = (&v1alpha1.SecretKeyRef{}).ProtoReflect().Descriptor()
	// secretWays has the fields of a message that are or may hold a SecretKeyRef, by its
	// descriptor: as many as the protos have.
	secretWays sync.Map
)

func waysToSecret(md protoreflect.MessageDescriptor) []protoreflect.FieldDescriptor {
	if known, ok := secretWays.Load(md); ok {
		return known.([]protoreflect.FieldDescriptor)
	}
	var ways []protoreflect.FieldDescriptor
	for i := range md.Fields().Len() {
		if fd := md.Fields().Get(i); fd.Message() != nil && !fd.IsMap() && mayHold(fd.Message(), secretKeyRef, map[protoreflect.FullName]bool{}) {
			ways = append(ways, fd)
		}
	}
	secretWays.Store(md, ways)
	return ways
}

// mayHold tells whether a message is of a type or can have one in it.
func mayHold(md, wanted protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if md == wanted {
		return true
	}
	if seen[md.FullName()] {
		return false
	}
	seen[md.FullName()] = true
	for i := range md.Fields().Len() {
		if fd := md.Fields().Get(i); fd.Message() != nil && !fd.IsMap() && mayHold(fd.Message(), wanted, seen) {
			return true
		}
	}
	return false
}

// walkMessages calls visit for a message and all messages in it.
func walkMessages(m protoreflect.Message, path string, visit func(protoreflect.Message, string)) {
	visit(m, path)
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.Message() == nil || fd.IsMap() || !m.Has(fd) { // maps are of text to scalars
			continue
		}
		at := JoinPath(path, fd.JSONName())
		if !fd.IsList() {
			walkMessages(m.Get(fd).Message(), at, visit)
			continue
		}
		for j := range m.Get(fd).List().Len() {
			walkMessages(m.Get(fd).List().Get(j).Message(), IndexPath(at, j), visit)
		}
	}
}
