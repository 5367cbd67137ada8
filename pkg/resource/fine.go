package resource

import (
	"slices"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource/direct"
)

// Nearly all objects that are checked are right. Whether one is, takes a small part of the
// time of finding out what is wrong and where: no path is written. So this is asked first; a
// test compares the two on random objects.

// isFine tells whether CheckShape and CheckRules find nothing. It answers false for what it
// leaves to them: messages that cannot be read in their Go structs, and a few rare ones.
func (k *Kind) isFine(obj Object) bool {
	s, ok := direct.Of(obj, k.Descriptor())
	if !ok || !k.direct {
		return false
	}
	if k.hasSpec && !k.spec.Has(s) {
		return false // the rules of an empty one hold: left to CheckRules
	}
	for i := range k.shape {
		if f := &k.shape[i]; f.direct.Has(s) && !f.isFine(s) {
			return false
		}
	}
	return k.rules.isFine(s)
}

// isFineMetadata tells whether CheckMetadata finds nothing.
func (k *Kind) isFineMetadata(m *v1alpha1.ObjectMeta) bool {
	if !IsName(m.GetName()) || k.Namespaced != (m.GetNamespace() != "") || k.Namespaced && !IsDNSLabel(m.GetNamespace()) {
		return false
	}
	if len(m.GetLabels()) > MaxLabels || len(m.GetFinalizers()) > MaxFinalizers || len(m.GetOwnerReferences()) > 0 {
		return false // owners are rare
	}
	for key, value := range m.GetLabels() {
		if !IsLabelKey(key) || !IsLabelValue(value) {
			return false
		}
	}
	size := 0
	for key, value := range m.GetAnnotations() {
		if size += len(key) + len(value); !IsLabelKey(key) {
			return false
		}
	}
	return size <= MaxAnnotationsBytes && !slices.ContainsFunc(m.GetFinalizers(), func(f string) bool { return !IsLabelKey(f) })
}

func (c check) isFine(v protoreflect.Value) bool { return c == nil || c(v) == nil }

func (p *program) isFine(s direct.Struct) bool {
	for i := range p.steps {
		st := &p.steps[i]
		has := st.direct.Has(s)
		switch {
		case !has && st.required:
			return false
		case !has && st.presence:
		case !st.isFine(s):
			return false
		}
	}
	return true
}

func (st *step) isFine(s direct.Struct) bool {
	f := st.direct
	switch {
	case st.isMap:
		if sized(uint64(f.Len(s)), st.low, st.high, "few", "many") != nil {
			return false
		}
		if st.keys == nil && st.items == nil {
			return true
		}
		for key, value := range f.Map(s) {
			if !st.keys.isFine(protoreflect.ValueOfString(key)) || !st.items.isFine(protoreflect.ValueOfString(value)) {
				return false
			}
		}
		return true
	case st.isList:
		n := f.Len(s)
		if sized(uint64(n), st.low, st.high, "few", "many") != nil {
			return false
		}
		for i := 0; i < n && (st.items != nil || st.below != nil); i++ {
			if st.items != nil && !st.items.isFine(f.ItemValue(s, i)) || st.below != nil && !st.below.isFine(f.ItemMessage(s, i)) {
				return false
			}
		}
		return true
	case st.below != nil:
		return st.below.isFine(f.Message(s))
	}
	return st.whole == nil || st.whole.isFine(f.Value(s))
}

// shapeField is a field with an option that CheckShape looks at, or with such fields in it.
type shapeField struct {
	fd      protoreflect.FieldDescriptor
	direct  direct.Field // when the kind is direct
	allowed []string
	keys    []protoreflect.FieldDescriptor
	// key is the only one of keys, when it is a text: oneText.
	key     direct.Field
	oneText bool
	list    bool
	below   *shape
}

// shape has the shapeFields of a message, which may be in itself: it is made when it is
// first needed.
type shape struct {
	md     protoreflect.MessageDescriptor
	once   sync.Once
	fields []shapeField
}

// shapes has the shape of every message that was asked for: as many as the protos have.
var shapes sync.Map

func shapeOf(md protoreflect.MessageDescriptor) *shape {
	known, _ := shapes.LoadOrStore(md, &shape{md: md})
	return known.(*shape)
}

func (s *shape) get() []shapeField {
	s.once.Do(func() {
		if hasShape(s.md, map[protoreflect.FullName]bool{}) {
			s.fields = shapeFields(s.md)
		}
	})
	return s.fields
}

func shapeFields(md protoreflect.MessageDescriptor) []shapeField {
	var fields []shapeField
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if fd.IsMap() || !hasShapeField(fd, map[protoreflect.FullName]bool{}) {
			continue
		}
		f := shapeField{fd: fd, list: fd.IsList(), allowed: rulesOf(fd).allowed}
		f.direct, _ = direct.FieldOf(fd)
		for _, key := range rulesOf(fd).listKeys {
			f.keys = append(f.keys, fd.Message().Fields().ByJSONName(key))
		}
		if len(f.keys) == 1 {
			f.key, f.oneText = direct.FieldOf(f.keys[0])
			f.oneText = f.oneText && f.key.IsText() && !f.keys[0].IsList()
		}
		if fd.Message() != nil {
			f.below = shapeOf(fd.Message())
		}
		fields = append(fields, f)
	}
	return fields
}

// hasShape tells whether CheckShape has anything to do in messages of a type.
func hasShape(md protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if seen[md.FullName()] {
		return false
	}
	seen[md.FullName()] = true
	for i := range md.Fields().Len() {
		if fd := md.Fields().Get(i); !fd.IsMap() && hasShapeField(fd, seen) {
			return true
		}
	}
	return false
}

func hasShapeField(fd protoreflect.FieldDescriptor, seen map[protoreflect.FullName]bool) bool {
	r := rulesOf(fd)
	return r.allowed != nil || r.listKeys != nil || fd.Message() != nil && hasShape(fd.Message(), seen)
}

func (f *shapeField) isFine(s direct.Struct) bool {
	if !f.list {
		if f.below != nil {
			return f.below.isFine(f.direct.Message(s))
		}
		return f.allowed == nil || slices.Contains(f.allowed, f.direct.Value(s).String())
	}
	for i := range f.direct.Len(s) {
		switch {
		case f.below != nil && !f.below.isFine(f.direct.ItemMessage(s, i)):
			return false
		case f.below == nil && f.allowed != nil && !slices.Contains(f.allowed, f.direct.ItemValue(s, i).String()):
			return false
		}
	}
	switch {
	case f.keys == nil:
		return true
	case f.oneText:
		return f.areTold(s)
	}
	return f.direct.Len(s) == 0 // other keys are left to checkListKeys
}

func (sh *shape) isFine(s direct.Struct) bool {
	fields := sh.get()
	for i := range fields {
		if f := &fields[i]; f.direct.Has(s) && !f.isFine(s) {
			return false
		}
	}
	return true
}

// fewItems is up to how many items each is compared with the ones before it.
const fewItems = 32

// areTold tells whether the items of a list are told apart by one text. More than a few are
// left to checkListKeys.
func (f *shapeField) areTold(s direct.Struct) bool {
	var room [fewItems]string
	n := f.direct.Len(s)
	if n > fewItems {
		return false
	}
	for i := range n {
		item := f.direct.ItemMessage(s, i)
		if !f.key.Has(item) {
			return false
		}
		id := f.key.Text(item)
		if id == "" || slices.Contains(room[:i], id) {
			return false
		}
		room[i] = id
	}
	return true
}
