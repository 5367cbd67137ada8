package resource

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource/sealed"
)

// Sensitive fields, by the proto's (sensitive) option, hold text that is never shown. They
// are stored sealed (package seal) and shown as marks (package sealed). What is here knows
// where they are; nothing else of the platform needs to.

// SensitiveValue is the value of a sensitive field of one object.
type SensitiveValue struct {
	// Path is the field's path as errors have it: spec.stringData[password].
	Path string
	// ID names the field for good: unlike Path it is never shortened, and items of lists are
	// named by their keys, so that it stays the same when the list is sorted anew.
	ID   string
	Text string
	set  func(string)
}

// Set replaces the value in the object.
func (v SensitiveValue) Set(text string) { v.set(text) }

// IsSensitive tells whether the field has the (sensitive) option.
func IsSensitive(fd protoreflect.FieldDescriptor) bool { return rulesOf(fd).sensitive }

// HasSensitive tells whether the kind has sensitive fields.
func (k *Kind) HasSensitive() bool { return len(k.sensitive) > 0 }

// SensitiveValues returns the values of an object's sensitive fields that are set, in the
// order of the proto and of the keys. Set changes the object itself.
func (k *Kind) SensitiveValues(obj Object) []SensitiveValue {
	if !k.HasSensitive() {
		return nil
	}
	w := sensitiveWalk{inside: k.sensitive}
	w.message(obj.ProtoReflect(), "", "")
	return w.found
}

// Shown returns the object as it may be shown: sealed values are replaced by their marks.
// An object without any is returned as it is, else a copy.
func (k *Kind) Shown(obj Object) Object {
	if !k.HasSensitive() || obj == nil {
		return obj
	}
	obj = Clone(obj)
	for _, v := range k.SensitiveValues(obj) {
		v.Set(sealed.MarkOf(v.Text))
	}
	return obj
}

// CheckSealed refuses an object with a sensitive value that is not sealed. The store calls
// it: a plain value must not get there by any way.
func (k *Kind) CheckSealed(obj Object) error {
	for _, v := range k.SensitiveValues(obj) {
		if !sealed.IsSealed(v.Text) {
			return fmt.Errorf("%s is not sealed: sensitive values are written through admission only", v.Path)
		}
	}
	return nil
}

// hiddenValue stands for a sensitive value in errors.
const hiddenValue = "(hidden)"

// Hide takes the values of sensitive fields out of field errors, in place.
func (k *Kind) Hide(errs FieldErrors) FieldErrors {
	if !k.HasSensitive() {
		return errs
	}
	for _, e := range errs {
		if !isSensitivePath(k.Descriptor(), e.Path) {
			continue
		}
		if e.Found != "" || e.Reason == ReasonInvalid {
			e.Found = hiddenValue
		}
		if e.Reason == ReasonType {
			e.Allowed = "text: put it in quotes"
		}
	}
	return errs
}

// isSensitivePath tells whether a path leads to a sensitive field of a message, or into one.
func isSensitivePath(md protoreflect.MessageDescriptor, path string) bool {
	for _, step := range splitPath(path) {
		if strings.HasPrefix(step, "[") {
			continue
		}
		if md == nil {
			return false
		}
		fd := md.Fields().ByJSONName(step)
		if fd == nil {
			return false
		}
		if IsSensitive(fd) {
			return true
		}
		md = fd.Message()
	}
	return false
}

// sensitiveWalk collects sensitive values; inside are the messages that have some.
type sensitiveWalk struct {
	inside map[protoreflect.FullName]bool
	found  []SensitiveValue
}

func (w *sensitiveWalk) message(m protoreflect.Message, path, id string) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) {
			continue
		}
		at, atID := JoinPath(path, fd.JSONName()), JoinPath(id, fd.JSONName())
		switch {
		case IsSensitive(fd) && fd.IsMap():
			w.entries(m.Get(fd).Map(), at, atID)
		case IsSensitive(fd):
			w.found = append(w.found, SensitiveValue{Path: at, ID: atID, Text: m.Get(fd).String(),
				set: func(s string) { m.Set(fd, protoreflect.ValueOfString(s)) }})
		case fd.Message() == nil || fd.IsMap() || !w.inside[fd.Message().FullName()]:
		case fd.IsList():
			w.items(fd, m.Get(fd).List(), at, atID)
		default:
			w.message(m.Get(fd).Message(), at, atID)
		}
	}
}

func (w *sensitiveWalk) entries(m protoreflect.Map, path, id string) {
	for _, key := range sortedKeys(m) {
		mk := protoreflect.ValueOfString(key).MapKey()
		w.found = append(w.found, SensitiveValue{
			Path: KeyPath(path, key), ID: id + "[" + strconv.Quote(key) + "]", Text: m.Get(mk).String(),
			set: func(s string) { m.Set(mk, protoreflect.ValueOfString(s)) },
		})
	}
}

func (w *sensitiveWalk) items(fd protoreflect.FieldDescriptor, list protoreflect.List, path, id string) {
	for i := range list.Len() {
		item := list.Get(i).Message()
		var keys []string
		for _, key := range ListKeys(fd) {
			keys = append(keys, strconv.Quote(item.Get(item.Descriptor().Fields().ByJSONName(key)).String()))
		}
		w.message(item, IndexPath(path, i), id+"["+strings.Join(keys, ",")+"]")
	}
}

// sensitiveMessages returns the messages of a kind that have sensitive fields, themselves or
// further inside, and refuses fields that cannot be sensitive: those that are no text, that
// are in a list whose items have no name, that tell items apart or cannot change (both end up in
// errors and in managedFields), or that are outside the spec.
func sensitiveMessages(md protoreflect.MessageDescriptor, immutable []string) (map[protoreflect.FullName]bool, error) {
	f := sensitiveFinder{inside: map[protoreflect.FullName]bool{}, seen: map[protoreflect.FullName]bool{}}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		has := IsSensitive(fd)
		if !has && fd.Message() != nil && !fd.IsMap() {
			var err error
			if has, err = f.find(fd.Message()); err != nil {
				return nil, err
			}
		}
		if has && (fd.JSONName() != "spec" || fd.IsList()) {
			return nil, fmt.Errorf("field %s: (sensitive) is for fields of a spec", fd.FullName())
		}
		if has {
			f.inside[md.FullName()] = true
		}
	}
	if len(f.inside) == 0 {
		return nil, nil
	}
	for _, path := range immutable {
		if isSensitivePath(md, path) {
			return nil, fmt.Errorf("message %s: %s is sensitive and cannot be immutable", md.FullName(), path)
		}
	}
	return f.inside, nil
}

type sensitiveFinder struct {
	inside, seen map[protoreflect.FullName]bool
}

func (f sensitiveFinder) find(md protoreflect.MessageDescriptor) (bool, error) {
	if f.seen[md.FullName()] {
		return f.inside[md.FullName()], nil
	}
	f.seen[md.FullName()] = true
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if IsSensitive(fd) {
			if err := checkSensitive(fd); err != nil {
				return false, err
			}
			f.inside[md.FullName()] = true
			continue
		}
		if fd.Message() == nil || fd.IsMap() {
			continue
		}
		has, err := f.find(fd.Message())
		if err != nil {
			return false, err
		}
		if !has {
			continue
		}
		keys := ListKeys(fd)
		if fd.IsList() && keys == nil {
			return false, fmt.Errorf("field %s: items with (sensitive) fields need (list_keys)", fd.FullName())
		}
		for _, key := range keys {
			if IsSensitive(fd.Message().Fields().ByJSONName(key)) {
				return false, fmt.Errorf("field %s: the key %s cannot be sensitive", fd.FullName(), key)
			}
		}
		f.inside[md.FullName()] = true
	}
	return f.inside[md.FullName()], nil
}

func checkSensitive(fd protoreflect.FieldDescriptor) error {
	value := fd
	if fd.IsMap() {
		value = fd.MapValue()
	}
	if fd.IsList() || value.Kind() != protoreflect.StringKind {
		return fmt.Errorf("field %s: (sensitive) is for text and maps of text", fd.FullName())
	}
	return nil
}
