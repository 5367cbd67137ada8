package resource

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource/direct"
)

// Kind is everything that the platform knows of one kind. All but the functions come
// from the proto's (kind) option.
type Kind struct {
	Name          string // App
	Plural        string // apps
	ShortNames    []string
	Namespaced    bool
	Columns       []*v1alpha1.PrinterColumn
	Immutable     []string // JSON paths of fields that cannot change once set
	ImmutableSpec bool
	Categories    []string // e.g. all
	System        bool     // only the daemon creates and changes objects
	ApplyOrder    int      // creation order within a set; deletion is the reverse

	// Default fills unset fields in place; nil: nothing to do. It sees the object alone.
	Default func(Object)
	// Validate returns the field errors of an object after defaulting; it sees the object
	// alone and does no I/O. Check runs it together with the rules that every kind has.
	Validate func(Object) FieldErrors
	// Relate returns the field errors of an object among others: it sees them as they are
	// going to be after the write. What does not exist (yet) is no error. nil: nothing.
	Relate func(Object, View) FieldErrors
	// Claims returns what one document of a set takes for itself; nil: nothing.
	Claims func(Object) []Claim

	typ       protoreflect.MessageType
	direct    bool                           // its messages can be read in their Go structs
	spec      direct.Field                   // when they can
	hasSpec   bool                           // likewise
	rules     *program                       // of the annotations
	shape     []shapeField                   // of all but metadata and status
	sensitive map[protoreflect.FullName]bool // messages that hold sensitive fields; nil: none
}

// View reads objects inside the transaction of a write, including those that the same
// write already made. Objects are shared and must not be changed.
type View interface {
	// Get returns the object, or false when there is none.
	Get(Key) (Object, bool)
	// List returns the objects of a kind in a namespace, or in all when it is empty.
	List(kind, namespace string) []Object
	// Writing tells whether the same write also makes or changes the object; its own
	// errors are then reported there.
	Writing(Key) bool
}

// Claim is a value that two documents of one set must not both have, for example a host
// name. Among live objects nothing is claimed at admission: there the older one wins, and
// the controllers say so in a condition.
type Claim struct {
	Path  string // of the field
	Space string // what the value is unique among: "host name"
	Value string
}

// New returns an empty object of the kind with apiVersion and kind set.
func (k *Kind) New() Object {
	m := k.typ.New()
	fields := m.Descriptor().Fields()
	m.Set(fields.ByName("api_version"), protoreflect.ValueOfString(APIVersion))
	m.Set(fields.ByName("kind"), protoreflect.ValueOfString(k.Name))
	m.Set(fields.ByName("metadata"), protoreflect.ValueOfMessage((&v1alpha1.ObjectMeta{}).ProtoReflect()))
	return m.Interface().(Object)
}

// Descriptor returns the message descriptor of the kind.
func (k *Kind) Descriptor() protoreflect.MessageDescriptor { return k.typ.Descriptor() }

// HasField tells whether the kind has a field of that path ("status.phase") that is not
// inside a list or map.
func (k *Kind) HasField(path string) bool {
	md := k.Descriptor()
	for step := range strings.SplitSeq(path, ".") {
		if md == nil {
			return false
		}
		fd := md.Fields().ByJSONName(step)
		if fd == nil || fd.IsList() || fd.IsMap() {
			return false
		}
		md = fd.Message()
	}
	return true
}

// Registry is an immutable list of kinds. It is passed explicitly; there is no global one.
type Registry struct {
	kinds   []*Kind
	byName  map[string]*Kind // lower-case name, plural, short names
	byExact map[string]*Kind // name
}

// Definition registers one kind: a message and, if it has any, its functions.
type Definition struct {
	Message  Object
	Default  func(Object)
	Validate func(Object) FieldErrors
	Relate   func(Object, View) FieldErrors
	Claims   func(Object) []Claim
}

// NewRegistry builds a registry; it returns an error for a message without the (kind)
// option or without the fields every kind has, with fields of a type that the codec does
// not know, and for names used twice.
func NewRegistry(defs ...Definition) (*Registry, error) {
	r := &Registry{byName: map[string]*Kind{}, byExact: map[string]*Kind{}}
	annotations := compiler{}
	for _, d := range defs {
		k, err := kindOf(d, annotations)
		if err != nil {
			return nil, err
		}
		r.kinds = append(r.kinds, k)
		r.byExact[k.Name] = k
		for _, n := range append([]string{k.Name, k.Plural}, k.ShortNames...) {
			n = strings.ToLower(n)
			if other := r.byName[n]; other != nil && other != k {
				return nil, fmt.Errorf("kinds %s and %s both use the name %q", other.Name, k.Name, n)
			}
			r.byName[n] = k
		}
	}
	slices.SortStableFunc(r.kinds, func(a, b *Kind) int { return a.ApplyOrder - b.ApplyOrder })
	return r, nil
}

func kindOf(d Definition, annotations compiler) (*Kind, error) {
	md := d.Message.ProtoReflect().Descriptor()
	opts, _ := proto.GetExtension(md.Options(), v1alpha1.E_Kind).(*v1alpha1.KindOptions)
	if opts == nil || opts.GetPlural() == "" {
		return nil, fmt.Errorf("message %s has no (kind) option with a plural", md.FullName())
	}
	for _, f := range []protoreflect.Name{"api_version", "kind", "metadata"} {
		if md.Fields().ByName(f) == nil {
			return nil, fmt.Errorf("message %s has no field %s", md.FullName(), f)
		}
	}
	if err := checkFieldTypes(md, map[protoreflect.FullName]bool{}); err != nil {
		return nil, err
	}
	sensitive, err := sensitiveMessages(md, opts.GetImmutable())
	if err != nil {
		return nil, err
	}
	rules, err := annotations.message(md)
	if err != nil {
		return nil, err
	}
	shape := slices.DeleteFunc(shapeFields(md), func(f shapeField) bool { return f.fd.Name() == "metadata" || f.fd.Name() == "status" })
	var spec direct.Field
	var hasSpec bool
	if fd := md.Fields().ByName("spec"); fd != nil {
		spec, hasSpec = direct.FieldOf(fd)
	}
	return &Kind{
		direct: direct.Knows(md), spec: spec, hasSpec: hasSpec, rules: rules, shape: shape,
		Name: string(md.Name()), Plural: opts.GetPlural(), ShortNames: opts.GetShortNames(),
		Namespaced: opts.GetNamespaced(), Columns: opts.GetColumns(), Immutable: opts.GetImmutable(),
		ImmutableSpec: opts.GetImmutableSpec(), Categories: opts.GetCategories(), System: opts.GetSystem(),
		ApplyOrder: int(opts.GetApplyOrder()), Default: d.Default, Validate: d.Validate,
		Relate: d.Relate, Claims: d.Claims,
		typ: d.Message.ProtoReflect().Type(), sensitive: sensitive,
	}, nil
}

// checkFieldTypes refuses fields that have no exact counterpart in JSON and YAML as every
// reader understands them: 64-bit numbers, floats, bytes, enums, maps of messages.
func checkFieldTypes(md protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) error {
	if seen[md.FullName()] {
		return nil
	}
	seen[md.FullName()] = true
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		value := fd
		if err := checkRules(fd); err != nil {
			return err
		}
		keys, _ := proto.GetExtension(fd.Options(), v1alpha1.E_ListKeys).(string)
		for key := range strings.SplitSeq(keys, ",") {
			if keys != "" && (!fd.IsList() || fd.Message() == nil || fd.Message().Fields().ByJSONName(key) == nil) {
				return fmt.Errorf("field %s: (list_keys) %q names no field of its items", fd.FullName(), key)
			}
		}
		if fd.IsMap() {
			value = fd.MapValue()
			if fd.MapKey().Kind() != protoreflect.StringKind || value.Message() != nil {
				return fmt.Errorf("field %s: maps are of text to a scalar", fd.FullName())
			}
		}
		switch value.Kind() {
		case protoreflect.StringKind, protoreflect.BoolKind, protoreflect.Int32Kind:
		case protoreflect.MessageKind:
			if err := checkFieldTypes(value.Message(), seen); err != nil {
				return err
			}
		default:
			return fmt.Errorf("field %s: type %s is not supported; use string, bool or int32", fd.FullName(), fd.Kind())
		}
	}
	return nil
}

// ErrUnknownKind: no kind has that name.
var ErrUnknownKind = errors.New("unknown kind")

// Lookup finds a kind by name, plural or short name, in any case.
func (r *Registry) Lookup(name string) (*Kind, error) {
	if k := r.byName[strings.ToLower(name)]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("%w %q, known are: %s", ErrUnknownKind, name, strings.Join(r.Plurals(), ", "))
}

// Get finds a kind by its exact name.
func (r *Registry) Get(name string) (*Kind, bool) {
	k, ok := r.byExact[name]
	return k, ok
}

// ByPlural finds a kind by its exact plural, as REST paths name it.
func (r *Registry) ByPlural(plural string) (*Kind, bool) {
	k := r.byName[plural]
	return k, k != nil && k.Plural == plural
}

// Kinds returns the kinds in apply order. The slice must not be changed.
func (r *Registry) Kinds() []*Kind { return r.kinds }

// Plurals returns the plurals in apply order.
func (r *Registry) Plurals() []string {
	names := make([]string, len(r.kinds))
	for i, k := range r.kinds {
		names[i] = k.Plural
	}
	return names
}
