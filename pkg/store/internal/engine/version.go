package engine

import (
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// codec is what the engine knows of the kinds, and the decoded objects.
type codec struct {
	layouts map[string]*layout // by kind
	recent  recent
}

// layout is how the objects of a kind are encoded.
type layout struct {
	kind     *resource.Kind
	codec    *codec
	typ      protoreflect.MessageType
	metadata protoreflect.FieldDescriptor
	status   protoreflect.FieldDescriptor   // nil: the kind has none
	others   []protoreflect.FieldDescriptor // the rest
	names    []protowire.Number             // of apiVersion and kind
	spec     protoreflect.MessageType       // nil: the kind has none
	observed protoreflect.MessageType       // of the status
	teller   *audit.Teller                  // of changes of the spec; nil: there is none
	task     protoreflect.FieldDescriptor   // of the status: the UPID of a task; nil: there is none
	scans    scans
}

func newCodec(reg *resource.Registry) *codec {
	c := &codec{layouts: map[string]*layout{}}
	for _, kind := range reg.Kinds() {
		l := &layout{kind: kind, codec: c, typ: kind.New().ProtoReflect().Type()}
		all := kind.Descriptor().Fields()
		for i := range all.Len() {
			switch fd := all.Get(i); fd.Name() {
			case "metadata":
				l.metadata = fd
			case "status":
				l.status, l.observed, l.task = fd, l.message(fd), audit.TaskOf(fd)
			case "spec":
				l.spec, l.teller = l.message(fd), audit.NewTeller(fd.Message())
				l.others = append(l.others, fd)
			case "api_version", "kind":
				l.names = append(l.names, fd.Number())
				l.others = append(l.others, fd)
			default:
				l.others = append(l.others, fd)
			}
		}
		c.layouts[kind.Name] = l
	}
	return c
}

// message is the type of a field that is a message.
func (l *layout) message(fd protoreflect.FieldDescriptor) protoreflect.MessageType {
	return l.typ.New().NewField(fd).Message().Type()
}

// layout of a kind, or the error that a caller gets for one that there is not.
func (c *codec) layout(kind string) (*layout, error) {
	if l, ok := c.layouts[kind]; ok {
		return l, nil
	}
	return nil, fmt.Errorf("%w: %w %q", store.ErrInvalid, resource.ErrUnknownKind, kind)
}

// version is a version of an object: its bytes and what is asked for most. It is immutable
// but for what it remembers of its decoded form.
type version struct {
	layout   *layout
	key      string // treeKey
	encoded  []byte
	revision uint64

	decoded atomic.Pointer[resource.Object]
}

var _ store.Version = (*version)(nil)

// Encoded implements store.Version.
func (v *version) Encoded() []byte { return v.encoded }

// Revision implements store.Version.
func (v *version) Revision() uint64 { return v.revision }

// Object implements store.Version: it decodes when that has not been done.
func (v *version) Object() (resource.Object, error) {
	if o := v.decoded.Load(); o != nil {
		return *o, nil
	}
	o, err := v.decode()
	if err != nil {
		return nil, err
	}
	v.layout.codec.recent.add(v)
	return v.keep(o), nil
}

// keep remembers the decoded object, or returns the one that somebody else has just made.
func (v *version) keep(o resource.Object) resource.Object {
	if !v.decoded.CompareAndSwap(nil, &o) {
		if other := v.decoded.Load(); other != nil {
			return *other
		}
	}
	return o
}

func (v *version) decode() (resource.Object, error) {
	m := v.layout.typ.New().Interface()
	if err := proto.Unmarshal(v.encoded, m); err != nil {
		return nil, fmt.Errorf("%s: what is stored cannot be decoded: %w", v.name(), err)
	}
	return m.(resource.Object), nil
}

// bare decodes everything but spec and status, and the like of them.
func (v *version) bare() (resource.Object, error) {
	if o := v.decoded.Load(); o != nil {
		return *o, nil
	}
	var room [24]field
	all, err := fields(room[:0]).split(v.encoded)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.name(), err)
	}
	l := v.layout
	var some []byte
	for _, f := range all {
		if f.num == l.metadata.Number() || slices.Contains(l.names, f.num) {
			some = append(some, f.bytes...)
		}
	}
	m, err := part(l.typ, some)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.name(), err)
	}
	return m.Interface().(resource.Object), nil
}

// name is the version's key.
func (v *version) name() resource.Key { return splitTreeKey(v.layout.kind.Name, v.key) }

// meta returns the fields of its metadata, in room.
func (v *version) meta(room fields) (fields, error) {
	return room.split(contents(v.field(v.layout.metadata)))
}

// field returns the records of a field, or nil.
func (v *version) field(fd protoreflect.FieldDescriptor) []byte {
	for b := v.encoded; len(b) > 0; {
		num, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return nil
		}
		if num == fd.Number() {
			return b[:n]
		}
		b = b[n:]
	}
	return nil
}

// read makes a version of what a log holds, after a look at its form: it is of the kind, and
// its metadata name the key. It does not decode it: a start with many objects would consist
// of little else.
func (l *layout) read(key resource.Key, encoded []byte) (*version, error) {
	v := &version{layout: l, key: treeKey(key.Namespace, key.Name), encoded: encoded}
	var room [16]field
	top, err := fields(room[:0]).split(encoded)
	if err != nil {
		return nil, err
	}
	var metaRoom [16]field
	meta, err := fields(metaRoom[:0]).split(contents(top.get(l.metadata.Number())))
	if err != nil {
		return nil, err
	}
	is := resource.Key{
		Kind:      string(content(top.get(l.kind.Descriptor().Fields().ByName("kind").Number()))),
		Namespace: string(content(meta.get(metaNamespace))), Name: string(content(meta.get(metaName))),
	}
	if is != key {
		return nil, fmt.Errorf("%w: it is %s", errWire, is)
	}
	if v.revision, err = strconv.ParseUint(string(content(meta.get(metaVersion))), 10, 64); err != nil {
		return nil, fmt.Errorf("%w: its resourceVersion is %q", errWire, content(meta.get(metaVersion)))
	}
	return v, nil
}
