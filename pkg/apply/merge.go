package apply

import (
	"fmt"
	"strings"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// sameContent tells whether two versions of an object are equal outside metadata and status.
func sameContent(a, b resource.Object) bool {
	am, bm := a.ProtoReflect(), b.ProtoReflect()
	fields := am.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch name := fd.JSONName(); {
		case name == "metadata" || name == "status":
		case fd.Message() != nil && !fd.IsList() && !fd.IsMap():
			if !resource.EqualField(a, b, name) {
				return false
			}
		case !am.Get(fd).Equal(bm.Get(fd)):
			return false
		}
	}
	return true
}

// checkImmutable compares the fields that the kind declares immutable. One that is not set
// yet may be set.
func checkImmutable(kind *resource.Kind, cur, next resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	if kind.ImmutableSpec && !resource.EqualField(cur, next, "spec") {
		errs = append(errs, resource.Forbidden("spec", "",
			fmt.Sprintf("an object of kind %s cannot change once it is created; create another one", kind.Name)))
	}
	for i, was := range immutables(kind, cur) {
		path := kind.Immutable[i]
		is, ok := text(next, path)
		if was == nil || ok && is == *was {
			continue
		}
		if !ok {
			is = "(unset)"
		}
		errs = append(errs, resource.Forbidden(path, is,
			fmt.Sprintf("allowed is %q: the field cannot change once it is set; delete the %s and create it again", *was, kind.Name)))
	}
	return errs
}

// fixedTexts are the values of an object's immutable fields, nil where one is not set.
type fixedTexts []*string

func immutables(kind *resource.Kind, obj resource.Object) fixedTexts {
	if len(kind.Immutable) == 0 {
		return nil
	}
	values := make(fixedTexts, len(kind.Immutable))
	for i, path := range kind.Immutable {
		if value, ok := text(obj, path); ok {
			values[i] = &value
		}
	}
	return values
}

// keptBy tells whether the object has the values that there are.
func (f fixedTexts) keptBy(kind *resource.Kind, obj resource.Object) bool {
	for i, was := range f {
		if was == nil {
			continue
		}
		if is, ok := text(obj, kind.Immutable[i]); !ok || is != *was {
			return false
		}
	}
	return true
}

// text returns the value of a scalar field as text, and whether it is set.
func text(obj resource.Object, path string) (string, bool) {
	m := obj.ProtoReflect()
	steps := strings.Split(path, ".")
	for i, step := range steps {
		fd := m.Descriptor().Fields().ByJSONName(step)
		if fd == nil || !m.Has(fd) {
			return "", false
		}
		if i == len(steps)-1 {
			return m.Get(fd).String(), true
		}
		m = m.Get(fd).Message()
	}
	return "", false
}
