package resource

import (
	"slices"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// Nearly all objects that are checked are right. Whether one is, takes a small part of the
// time of finding out what is wrong and where: no path is written. So this is asked first; a
// test compares the two on random objects.

// isFine tells whether CheckShape and CheckRules find nothing.
func (k *Kind) isFine(obj Object) bool {
	m := obj.ProtoReflect()
	spec := k.Descriptor().Fields().ByName("spec")
	if spec != nil && !m.Has(spec) {
		return false // the rules of an empty one hold: left to CheckRules
	}
	for i := range k.shape {
		if f := &k.shape[i]; m.Has(f.fd) && !f.isFine(m.Get(f.fd)) {
			return false
		}
	}
	return k.rules.isFine(m)
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

func (p *program) isFine(m protoreflect.Message) bool {
	for i := range p.steps {
		s := &p.steps[i]
		has := m.Has(s.fd)
		switch {
		case !has && s.required:
			return false
		case !has && s.fd.HasPresence():
		case !s.isFine(m.Get(s.fd)):
			return false
		}
	}
	return true
}

func (s *step) isFine(v protoreflect.Value) bool {
	if !s.whole.isFine(v) {
		return false
	}
	fine := true
	switch {
	case s.fd.IsMap():
		if s.keys == nil && s.items == nil {
			return true
		}
		v.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
			fine = s.keys.isFine(key.Value()) && s.items.isFine(value)
			return fine
		})
	case s.fd.IsList() && (s.items != nil || s.below != nil):
		list := v.List()
		for i := 0; fine && i < list.Len(); i++ {
			item := list.Get(i)
			fine = s.items.isFine(item) && (s.below == nil || s.below.isFine(item.Message()))
		}
	case s.below != nil && !s.fd.IsList():
		fine = s.below.isFine(v.Message())
	}
	return fine
}

func (c check) isFine(v protoreflect.Value) bool { return c == nil || c(v) == nil }

// shapeField is a field with an option that CheckShape looks at, or with such fields in it.
type shapeField struct {
	fd      protoreflect.FieldDescriptor
	allowed []string
	keys    []protoreflect.FieldDescriptor
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
		f := shapeField{fd: fd, allowed: rulesOf(fd).allowed}
		for _, key := range rulesOf(fd).listKeys {
			f.keys = append(f.keys, fd.Message().Fields().ByJSONName(key))
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

func (f *shapeField) isFine(v protoreflect.Value) bool {
	if !f.fd.IsList() {
		return f.isFineValue(v)
	}
	list := v.List()
	for i := range list.Len() {
		if !f.isFineValue(list.Get(i)) {
			return false
		}
	}
	return f.keys == nil || f.areTold(list)
}

func (f *shapeField) isFineValue(v protoreflect.Value) bool {
	if f.below == nil {
		return f.allowed == nil || slices.Contains(f.allowed, v.String())
	}
	m := v.Message()
	for i := range f.below.get() {
		if below := &f.below.fields[i]; m.Has(below.fd) && !below.isFine(m.Get(below.fd)) {
			return false
		}
	}
	return true
}

// fewItems is up to how many items each is compared with the ones before it.
const fewItems = 32

// areTold tells whether the items of a list are told apart by a key of one field. More of
// either are left to checkListKeys.
func (f *shapeField) areTold(list protoreflect.List) bool {
	n := list.Len()
	if len(f.keys) != 1 || n > fewItems {
		return n == 0
	}
	for i := range n {
		id := list.Get(i).Message().Get(f.keys[0]).String()
		if id == "" {
			return false
		}
		for j := range i {
			if list.Get(j).Message().Get(f.keys[0]).String() == id {
				return false
			}
		}
	}
	return true
}
