package audit

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/sealed"
)

const (
	// MaxValueBytes bounds each text of a value, MaxValuesBytes all of a record with their
	// paths: values that come after it are left out.
	MaxValueBytes  = 256
	MaxValuesBytes = 4 << 10
	// around is how much of a long text is told before where the other one begins to differ.
	around = 32
)

// NewValue returns the value of a field, cut as it has to be.
func NewValue(path string, before, after *string) Value {
	before, after = cut(before, after)
	return Value{path, before, after}
}

// value keeps what a field was and is, as long as there is room.
func (d *differ) value(path string, before, after *string) {
	if len(d.values) == MaxFields {
		return
	}
	v := NewValue(path, before, after)
	size := len(path)
	for _, text := range []*string{v.Before, v.After} {
		if text != nil {
			size += len(*text)
		}
	}
	if d.bytes+size > MaxValuesBytes {
		return
	}
	d.bytes += size
	d.values = append(d.values, v)
}

// given is a text that is set unless it is empty.
func given(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// cut shortens two texts to the part in which they begin to differ.
func cut(before, after *string) (*string, *string) {
	var a, b string
	if before != nil {
		a = *before
	}
	if after != nil {
		b = *after
	}
	if len(a) <= MaxValueBytes && len(b) <= MaxValueBytes {
		return before, after
	}
	from := 0
	for from < min(len(a), len(b)) && a[from] == b[from] {
		from++
	}
	if from = max(0, from-around); from > 0 && before != nil && after != nil {
		for !utf8.RuneStart(a[from]) { // both are the same up to here
			from++
		}
	}
	return window(before, from), window(after, from)
}

// window is what is told of a text from there on.
func window(s *string, from int) *string {
	if s == nil {
		return nil
	}
	text, prefix := *s, ""
	if from > 0 {
		text, prefix = text[from:], more
	}
	if room := MaxValueBytes - len(prefix); len(text) > room {
		end := room - len(more)
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end] + more
	}
	text = prefix + text
	return &text
}

// text is what is told of a field that is no map; nil: it is not set. Text is told as it
// is, everything else as JSON.
func (d *differ) text(fd protoreflect.FieldDescriptor, m protoreflect.Message) *string {
	if !m.Has(fd) {
		return nil
	}
	v := m.Get(fd)
	var s string
	switch {
	case fd.Kind() == protoreflect.StringKind && !fd.IsList():
		if s = v.String(); resource.IsSensitive(fd) {
			s = sealed.MarkOf(s)
		}
	default:
		s = string(appendField(make([]byte, 0, MaxValueBytes), fd, v))
	}
	return &s
}

// appendField appends the JSON of a field. Marks stand for sensitive text.
func appendField(b []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	switch {
	case fd.IsMap():
		var keys []string
		v.Map().Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
			keys = append(keys, k.String())
			return true
		})
		slices.Sort(keys)
		entries := plain(v.Map())
		b = append(b, '{')
		for i, k := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendQuoted(b, k, false), ':')
			b = appendQuoted(b, entries[k], resource.IsSensitive(fd))
		}
		return append(b, '}')
	case fd.IsList():
		b = append(b, '[')
		for i := range v.List().Len() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendScalar(b, fd, v.List().Get(i))
		}
		return append(b, ']')
	}
	return appendScalar(b, fd, v)
}

// appendScalar appends the JSON of one value, or message.
func appendScalar(b []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	switch {
	case fd.Message() != nil:
		fields := fd.Message().Fields()
		b = append(b, '{')
		first := true
		for i := range fields.Len() {
			sub := fields.Get(i)
			if !v.Message().Has(sub) {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(appendQuoted(b, sub.JSONName(), false), ':')
			b = appendField(b, sub, v.Message().Get(sub))
		}
		return append(b, '}')
	case fd.Kind() == protoreflect.StringKind:
		return appendQuoted(b, v.String(), resource.IsSensitive(fd))
	case fd.Kind() == protoreflect.BoolKind:
		return strconv.AppendBool(b, v.Bool())
	case fd.Kind() == protoreflect.Int32Kind:
		return strconv.AppendInt(b, v.Int(), 10)
	}
	return appendQuoted(b, v.String(), resource.IsSensitive(fd))
}

func appendQuoted(b []byte, s string, sensitive bool) []byte {
	if sensitive {
		s = sealed.MarkOf(s)
	}
	if isPlain(s) {
		return append(append(append(b, '"'), s...), '"')
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // text can always be encoded
	return append(b, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
}

// isPlain tells whether JSON has the text as it is, as it has nearly all.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
