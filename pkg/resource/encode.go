package resource

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// EncodeJSON returns an object as one line of Kubernetes-shaped JSON. It is canonical: the
// same object gives the same bytes, with fields in the order of the proto, map entries
// sorted, no white space, nothing escaped that JSON does not demand. Unset fields are
// left out, fields set to a zero value are kept.
//
// The only error is text that is not UTF-8, which no decoder lets in.
func EncodeJSON(obj Object) ([]byte, error) {
	e := jsonEncoder{}
	e.message(obj.ProtoReflect())
	if e.err != nil {
		return nil, fmt.Errorf("encode %s: %w", KeyOf(obj), e.err)
	}
	return e.buf, nil
}

type jsonEncoder struct {
	buf []byte
	err error
}

func (e *jsonEncoder) message(m protoreflect.Message) {
	e.buf = append(e.buf, '{')
	first := true
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) {
			continue
		}
		if !first {
			e.buf = append(e.buf, ',')
		}
		first = false
		e.string(fd.JSONName())
		e.buf = append(e.buf, ':')
		e.field(fd, m.Get(fd))
	}
	e.buf = append(e.buf, '}')
}

func (e *jsonEncoder) field(fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case fd.IsList():
		e.buf = append(e.buf, '[')
		list := v.List()
		for i := range list.Len() {
			if i > 0 {
				e.buf = append(e.buf, ',')
			}
			e.value(fd, list.Get(i))
		}
		e.buf = append(e.buf, ']')
	case fd.IsMap():
		e.buf = append(e.buf, '{')
		for i, key := range sortedKeys(v.Map()) {
			if i > 0 {
				e.buf = append(e.buf, ',')
			}
			e.string(key)
			e.buf = append(e.buf, ':')
			e.value(fd.MapValue(), v.Map().Get(protoreflect.ValueOfString(key).MapKey()))
		}
		e.buf = append(e.buf, '}')
	default:
		e.value(fd, v)
	}
}

func (e *jsonEncoder) value(fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		e.message(v.Message())
	case protoreflect.StringKind:
		if isFieldsV1(fd) && isObject(v.String()) {
			e.buf = append(e.buf, v.String()...)
			return
		}
		e.string(v.String())
	case protoreflect.BoolKind:
		e.buf = strconv.AppendBool(e.buf, v.Bool())
	case protoreflect.Int32Kind:
		e.buf = strconv.AppendInt(e.buf, v.Int(), 10)
	default: // NewRegistry refuses kinds with other fields
		e.err = fmt.Errorf("field %s has the unsupported type %s", fd.FullName(), fd.Kind())
	}
}

const hexDigits = "0123456789abcdef"

func (e *jsonEncoder) string(s string) {
	if !utf8.ValidString(s) {
		e.err = fmt.Errorf("text %q is not UTF-8", shorten(s))
	}
	e.buf = append(e.buf, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		e.buf = append(e.buf, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			e.buf = append(e.buf, '\\', c)
		case '\n':
			e.buf = append(e.buf, '\\', 'n')
		case '\t':
			e.buf = append(e.buf, '\\', 't')
		case '\r':
			e.buf = append(e.buf, '\\', 'r')
		default:
			e.buf = append(e.buf, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
		}
	}
	e.buf = append(append(e.buf, s[start:]...), '"')
}

// sortedKeys returns the keys of a map of text.
func sortedKeys(m protoreflect.Map) []string {
	keys := make([]string, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	return keys
}

// EncodeYAML returns an object as one YAML document without `---`, with the same fields
// in the same order as EncodeJSON. Text that some reader of YAML takes for something else
// is quoted; text of several lines is a literal block.
func EncodeYAML(obj Object) ([]byte, error) {
	if _, err := EncodeJSON(obj); err != nil { // the YAML encoder would write !!binary
		return nil, err
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(messageNode(obj.ProtoReflect())); err != nil {
		return nil, fmt.Errorf("encode %s: %w", KeyOf(obj), err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("encode %s: %w", KeyOf(obj), err)
	}
	return out.Bytes(), nil
}

func messageNode(m protoreflect.Message) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if fd := fields.Get(i); m.Has(fd) {
			node.Content = append(node.Content, textNode(fd.JSONName()), fieldNode(fd, m.Get(fd)))
		}
	}
	return node
}

func fieldNode(fd protoreflect.FieldDescriptor, v protoreflect.Value) *yaml.Node {
	switch {
	case fd.IsList():
		node := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.List().Len() {
			node.Content = append(node.Content, valueNode(fd, v.List().Get(i)))
		}
		return node
	case fd.IsMap():
		node := &yaml.Node{Kind: yaml.MappingNode}
		for _, key := range sortedKeys(v.Map()) {
			value := v.Map().Get(protoreflect.ValueOfString(key).MapKey())
			node.Content = append(node.Content, textNode(key), valueNode(fd.MapValue(), value))
		}
		return node
	}
	return valueNode(fd, v)
}

func valueNode(fd protoreflect.FieldDescriptor, v protoreflect.Value) *yaml.Node {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return messageNode(v.Message())
	case protoreflect.BoolKind:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tagBool, Value: strconv.FormatBool(v.Bool())}
	case protoreflect.Int32Kind:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tagInt, Value: strconv.FormatInt(v.Int(), 10)}
	}
	if isFieldsV1(fd) {
		return fieldsNode(v.String())
	}
	return textNode(v.String())
}

func textNode(s string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: tagString, Value: s}
	switch {
	case strings.Contains(s, "\n"):
		node.Style = yaml.DoubleQuotedStyle
		if plainBlock(s) {
			node.Style = yaml.LiteralStyle
		}
	case strings.HasPrefix(s, "<<") || oldYAMLWord(s):
		node.Style = yaml.DoubleQuotedStyle
	}
	return node
}

// plainBlock tells whether text can stand in a literal block and come back the same
// from every reader: printable, no trailing blanks, no leading blank that would be taken
// for indentation.
func plainBlock(s string) bool {
	if s[0] == ' ' || s[0] == '\n' || s[0] == '\t' || strings.HasSuffix(s, "\n\n") {
		return false
	}
	for line := range strings.SplitSeq(s, "\n") {
		if line != strings.TrimRight(line, " \t") {
			return false
		}
		for _, r := range line {
			if r != '\t' && (r < ' ' || r == 0x7f || r >= 0x80 && !strconv.IsPrint(r)) {
				return false
			}
		}
	}
	return true
}

// oldYAMLWord tells whether readers of YAML 1.1 take a word, which is text today, for a
// boolean or for a number to base 60.
func oldYAMLWord(s string) bool {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off":
		return true
	}
	return strings.Contains(s, ":") && strings.Trim(s, "+-0123456789:._") == ""
}
