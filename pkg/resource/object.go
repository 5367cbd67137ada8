package resource

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

const (
	// Group is the API group of all kinds.
	Group = "proximity"
	// Version is the API version of all kinds.
	Version = "v1alpha1"
	// APIVersion is the apiVersion of every object.
	APIVersion = Group + "/" + Version

	// DefaultNamespace is where namespaced objects go that name no namespace.
	DefaultNamespace = "default"
	// SystemNamespace holds the events and operations of cluster-scoped objects.
	SystemNamespace = "proximity-system"
)

// Object is what protoc generates for the message of a kind.
//
// Objects that come out of a store are shared and must not be changed; Clone first.
type Object interface {
	proto.Message
	GetApiVersion() string
	GetKind() string
	GetMetadata() *v1alpha1.ObjectMeta
}

// Key names one object. Namespace is empty for cluster-scoped kinds.
type Key struct {
	Kind      string
	Namespace string
	Name      string
}

// KeyOf returns the key that an object's own kind and metadata name.
func KeyOf(o Object) Key {
	m := o.GetMetadata()
	return Key{Kind: o.GetKind(), Namespace: m.GetNamespace(), Name: m.GetName()}
}

// String is the form of log lines and messages: App default/nginx-01.
func (k Key) String() string {
	if k.Namespace == "" {
		return fmt.Sprintf("%s %s", k.Kind, k.Name)
	}
	return fmt.Sprintf("%s %s/%s", k.Kind, k.Namespace, k.Name)
}

// Short is the form of the command line: app/nginx-01.
func (k Key) Short() string { return strings.ToLower(k.Kind) + "/" + k.Name }

// EventNamespace is the namespace that events and operations about the object live in.
func (k Key) EventNamespace() string {
	if k.Namespace == "" {
		return SystemNamespace
	}
	return k.Namespace
}

// Clone returns a deep copy.
func Clone[T Object](o T) T { return proto.Clone(o).(T) }

// DecodeWithoutStatus decodes what a store has of an object, but for its status. The object
// is the caller's own.
func (k *Kind) DecodeWithoutStatus(encoded []byte) (Object, error) {
	if fd := k.Descriptor().Fields().ByName("status"); fd != nil {
		encoded = without(encoded, fd.Number())
	}
	obj := k.typ.New().Interface().(Object)
	if err := proto.Unmarshal(encoded, obj); err != nil {
		return nil, fmt.Errorf("decode an object of kind %s: %w", k.Name, err)
	}
	return obj, nil
}

// without returns an encoded message without the records of a field. It copies only when
// others come after them. What is damaged it leaves as it is.
func without(encoded []byte, number protowire.Number) []byte {
	kept, copied := encoded, false
	for at := 0; at < len(encoded); {
		num, _, n := protowire.ConsumeField(encoded[at:])
		switch {
		case n < 0:
			return encoded
		case num == number && !copied:
			kept, copied = encoded[:at:at], true
		case num != number && copied:
			kept = append(kept, encoded[at:at+n]...)
		}
		at += n
	}
	return kept
}

// Field returns the sub-message of that JSON name ("spec", "status") and whether it is
// set. Kinds without the field (Event has no spec) answer false.
func Field(o Object, name string) (protoreflect.Message, bool) {
	m := o.ProtoReflect()
	fd := m.Descriptor().Fields().ByJSONName(name)
	if fd == nil || fd.Message() == nil || fd.IsList() || fd.IsMap() || !m.Has(fd) {
		return nil, false
	}
	return m.Get(fd).Message(), true
}

// EqualField tells whether two objects of one kind have an equal sub-message of that
// JSON name; unset and empty count as equal.
func EqualField(a, b Object, name string) bool {
	am, aok := Field(a, name)
	bm, bok := Field(b, name)
	switch {
	case aok && bok:
		return proto.Equal(am.Interface(), bm.Interface())
	case aok:
		return proto.Size(am.Interface()) == 0
	case bok:
		return proto.Size(bm.Interface()) == 0
	}
	return true
}

// CopyField sets dst's sub-message of that JSON name to a copy of src's, or clears it.
func CopyField(dst, src Object, name string) {
	d := dst.ProtoReflect()
	fd := d.Descriptor().Fields().ByJSONName(name)
	if fd == nil {
		return
	}
	sm, ok := Field(src, name)
	if !ok {
		d.Clear(fd)
		return
	}
	d.Set(fd, protoreflect.ValueOfMessage(proto.Clone(sm.Interface()).ProtoReflect()))
}

// Deleting tells whether deletion was asked for.
func Deleting(o Object) bool { return o.GetMetadata().GetDeletionTimestamp() != "" }

// Conditions returns the status.conditions of an object, nil for kinds without them.
func Conditions(o Object) []*v1alpha1.Condition {
	if c, ok := statusOf(o).(interface {
		GetConditions() []*v1alpha1.Condition
	}); ok {
		return c.GetConditions()
	}
	return nil
}

// FindCondition returns the condition of that type, or nil.
func FindCondition(o Object, typ string) *v1alpha1.Condition {
	for _, c := range Conditions(o) {
		if c.GetType() == typ {
			return c
		}
	}
	return nil
}

// IsReady tells whether the object's Ready condition is True for its current generation.
func IsReady(o Object) bool {
	c := FindCondition(o, "Ready")
	return c != nil && c.GetStatus() == "True" && c.GetObservedGeneration() == o.GetMetadata().GetGeneration()
}

func statusOf(o Object) any {
	m, ok := Field(o, "status")
	if !ok {
		return nil
	}
	return m.Interface()
}
