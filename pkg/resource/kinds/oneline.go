package kinds

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/direct"
)

// withCommonRules adds the rules about text in one line and about references to Secrets to a
// kind's own checks.
func withCommonRules(validate func(resource.Object) resource.FieldErrors) func(resource.Object) resource.FieldErrors {
	return func(o resource.Object) resource.FieldErrors {
		var p problems
		if spec, ok := resource.Field(o, "spec"); ok && !isOneLine(spec) {
			oneLineMessage(&p, spec, "spec")
		}
		validateSecretRefs(o, &p)
		if validate == nil {
			return p.errs
		}
		return append(p.errs, validate(o)...)
	}
}

// isOneLine tells, without writing paths, whether oneLineMessage finds nothing. It answers
// false for a message that cannot be read in its Go struct.
func isOneLine(m protoreflect.Message) bool {
	md := m.Descriptor()
	s, ok := direct.Of(m.Interface(), md)
	return ok && direct.Knows(md) && areLines(textsIn(md), s)
}

// areLines tells whether all texts of a message are.
func areLines(fields *textFields, s direct.Struct) bool {
	for i := range fields.all {
		f := &fields.all[i]
		if !f.direct.Has(s) {
			continue
		}
		switch {
		case f.list:
			for j := range f.direct.Len(s) {
				if f.text && !isLine(f.direct.ItemText(s, j), f.multi) || f.message && !areLines(f.below(), f.direct.ItemMessage(s, j)) {
					return false
				}
			}
		case f.isMap:
			for key, value := range f.direct.Map(s) {
				if !isLine(key, false) || f.text && !isLine(value, f.multi) {
					return false
				}
			}
		case f.text && !isLine(f.direct.Text(s), f.multi), f.message && !areLines(f.below(), f.direct.Message(s)):
			return false
		}
	}
	return true
}

// textField is a field that is text or has text in it.
type textField struct {
	fd            protoreflect.FieldDescriptor
	text, message bool // what its values, items or entries are; neither: the keys of the map are text
	multi         bool
	direct        direct.Field // when the message is known to it
	list, isMap   bool
	next          atomic.Pointer[textFields] // of its messages, when they were asked for
}

// below returns the fields of the field's messages.
func (f *textField) below() *textFields {
	if known := f.next.Load(); known != nil {
		return known
	}
	known := textsIn(f.fd.Message())
	f.next.Store(known)
	return known
}

type textFields struct{ all []textField }

// texts has the textFields of each message that was asked for: as many as the protos have.
var texts sync.Map

func textsIn(md protoreflect.MessageDescriptor) *textFields {
	if known, ok := texts.Load(md); ok {
		return known.(*textFields)
	}
	fields := &textFields{}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		value := fd
		if fd.IsMap() {
			value = fd.MapValue()
		}
		text, message := value.Kind() == protoreflect.StringKind, value.Message() != nil
		if text || message || fd.IsMap() {
			in, _ := direct.FieldOf(fd)
			fields.all = append(fields.all, textField{
				fd: fd, text: text, message: message, multi: resource.Multiline(fd), direct: in, list: fd.IsList(), isMap: fd.IsMap(),
			})
		}
	}
	texts.Store(md, fields)
	return fields
}

func oneLineMessage(p *problems, m protoreflect.Message, path string) {
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if !m.Has(fd) {
			continue
		}
		at, v := resource.JoinPath(path, fd.JSONName()), m.Get(fd)
		multi := resource.Multiline(fd)
		switch {
		case fd.IsList():
			for i := range v.List().Len() {
				oneLineValue(p, v.List().Get(i), multi, resource.IndexPath(at, i))
			}
		case fd.IsMap():
			oneLineMap(p, v.Map(), multi, at)
		default:
			oneLineValue(p, v, multi, at)
		}
	}
}

func oneLineMap(p *problems, m protoreflect.Map, multi bool, path string) {
	var keys []string
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	for _, key := range keys {
		at := resource.KeyPath(path, key)
		checkLine(p, key, false, at)
		oneLineValue(p, m.Get(protoreflect.ValueOfString(key).MapKey()), multi, at)
	}
}

func oneLineValue(p *problems, v protoreflect.Value, multi bool, path string) {
	switch v := v.Interface().(type) {
	case protoreflect.Message:
		oneLineMessage(p, v, path)
	case string:
		checkLine(p, v, multi, path)
	}
}

// checkLine: fields with the option (multiline) may hold several lines, but still no NUL.
func checkLine(p *problems, s string, multi bool, path string) {
	switch {
	case isLine(s, multi):
	case multi:
		p.invalid(path, s, "text without NUL characters")
	default:
		p.invalid(path, s, "one line without control characters")
	}
}

func isLine(s string, multi bool) bool {
	if multi {
		return strings.IndexByte(s, 0) < 0
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' { // not plainly one
			return !strings.ContainsFunc(s[i:], endsLine)
		}
	}
	return true
}

// endsLine tells whether some reader of files takes the character for the end of a line or
// for a command to the terminal.
func endsLine(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
