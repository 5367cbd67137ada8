package resource

import (
	"fmt"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// message decodes a mapping into a message and returns the lines of its fields.
func (d *decoder) message(m protoreflect.Message, n *yaml.Node, path string, depth int) lineTree {
	fields := m.Descriptor().Fields()
	tree := lineTree{line: n.Line}
	d.entries(n, path, depth, func(key, value *yaml.Node) {
		at := JoinPath(path, key.Value)
		fd := fields.ByJSONName(key.Value)
		if fd == nil {
			e := &FieldError{Path: JoinPath(path, shorten(key.Value)), Reason: ReasonUnknown, Found: shorten(key.Value)}
			e.Allowed = didYouMean(key.Value, jsonNames(fields))
			d.fail(key, e)
			return
		}
		if isNull(value) {
			return // as if it were not written
		}
		kids := d.field(m, fd, value, at, depth+1)
		tree.kids = append(tree.kids, lineTree{step: fd.JSONName(), line: key.Line, kids: kids})
	})
	return tree
}

// field decodes a value into a field and returns the lines inside the value.
func (d *decoder) field(m protoreflect.Message, fd protoreflect.FieldDescriptor, n *yaml.Node, path string, depth int) []lineTree {
	n, done := d.resolve(n, path)
	defer done()
	switch {
	case n == nil:
		return nil
	case fd.IsMap():
		return d.mapField(m.Mutable(fd).Map(), fd.MapValue(), n, path, depth)
	case fd.IsList():
		return d.listField(m.Mutable(fd).List(), fd, n, path, depth)
	case fd.Message() != nil:
		if n.Kind != yaml.MappingNode {
			d.fail(n, wrongType(path, n, "a mapping"))
			return nil
		}
		return d.message(m.Mutable(fd).Message(), n, path, depth).kids
	case isFieldsV1(fd) && n.Kind == yaml.MappingNode:
		m.Set(fd, protoreflect.ValueOfString(d.fieldsObject(n, path, depth)))
		return nil
	}
	if v, ok := d.scalar(fd, n, path); ok {
		m.Set(fd, v)
	}
	return nil
}

func (d *decoder) listField(list protoreflect.List, fd protoreflect.FieldDescriptor, n *yaml.Node, path string, depth int) []lineTree {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, wrongType(path, n, "a list"))
		return nil
	}
	lines := make([]lineTree, 0, len(n.Content))
	for i, item := range n.Content {
		at := IndexPath(path, i)
		lines = append(lines, d.listItem(list, fd, item, at, depth))
		lines[i].step = "[" + strconv.Itoa(i) + "]"
	}
	return lines
}

func (d *decoder) listItem(list protoreflect.List, fd protoreflect.FieldDescriptor, item *yaml.Node, path string, depth int) lineTree {
	line := item.Line
	item, done := d.resolve(item, path)
	defer done()
	switch {
	case item == nil:
	case fd.Message() != nil && item.Kind != yaml.MappingNode:
		d.fail(item, wrongType(path, item, "a mapping"))
	case fd.Message() != nil:
		tree := d.message(list.AppendMutable().Message(), item, path, depth+1)
		tree.line = line
		return tree
	default:
		if v, ok := d.scalar(fd, item, path); ok {
			list.Append(v)
		}
	}
	return lineTree{line: line}
}

// mapField decodes a map of text to scalars. A number as key is taken as its text: keys
// are never anything else.
func (d *decoder) mapField(m protoreflect.Map, fd protoreflect.FieldDescriptor, n *yaml.Node, path string, depth int) []lineTree {
	if n.Kind != yaml.MappingNode {
		d.fail(n, wrongType(path, n, "a mapping"))
		return nil
	}
	var lines []lineTree
	d.entries(n, path, depth, func(key, value *yaml.Node) {
		at := KeyPath(path, key.Value)
		value, done := d.resolve(value, at)
		defer done()
		if value == nil {
			return
		}
		if v, ok := d.scalar(fd, value, at); ok {
			m.Set(protoreflect.ValueOfString(key.Value).MapKey(), v)
		}
		lines = append(lines, lineTree{step: "[" + shorten(key.Value) + "]", line: key.Line})
	})
	return lines
}

// entries calls each for the entries of a mapping, after refusing what no mapping may
// have: merge keys, keys that are no text, keys given twice, too much nesting.
func (d *decoder) entries(n *yaml.Node, path string, depth int, each func(key, value *yaml.Node)) {
	if depth > MaxDepth {
		d.fail(n, sourceError("", 0, ReasonSyntax, "nested deeper than %d levels", MaxDepth))
		return
	}
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.fail(key, wrongType(path, key, "a plain name as key"))
			continue
		}
		if key.ShortTag() == tagMerge {
			d.fail(key, Forbidden(JoinPath(path, "<<"), "", "YAML merge keys are not supported; write the fields out"))
			continue
		}
		if line, dup := first[key.Value]; dup {
			d.fail(key, &FieldError{
				Path: JoinPath(path, shorten(key.Value)), Reason: ReasonDuplicate, Found: shorten(key.Value),
				Allowed: fmt.Sprintf("each field once; the first is in line %d", line),
			})
			continue
		}
		first[key.Value] = key.Line
		each(key, value)
	}
}

// resolve follows an alias, within bounds, and counts what is inside one. It returns nil
// after recording an error; done must be called when the node has been decoded.
func (d *decoder) resolve(n *yaml.Node, path string) (_ *yaml.Node, done func()) {
	done = func() {}
	if n.Kind == yaml.AliasNode {
		d.inAlias++
		done = func() { d.inAlias-- }
		alias := n
		n = n.Alias
		if d.inAlias > MaxDepth || n == nil {
			d.fail(alias, Forbidden(path, "*"+alias.Value, "an alias must not contain itself"))
			return nil, done
		}
	}
	if d.inAlias > 0 {
		d.aliasCost += aliasNodeCost + len(n.Value)
		if d.aliasCost > maxAliasCost {
			if d.aliasCost-aliasNodeCost-len(n.Value) <= maxAliasCost { // say it once
				d.fail(n, Forbidden(path, "", fmt.Sprintf("the aliases of this file expand to more than %d KiB; write the values out", maxAliasCost>>10)))
			}
			return nil, done
		}
	}
	return n, done
}

// decimal is how a number is written: no octal, no hexadecimal, no digit separators,
// which readers of YAML disagree about.
var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

func (d *decoder) scalar(fd protoreflect.FieldDescriptor, n *yaml.Node, path string) (protoreflect.Value, bool) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, wrongType(path, n, scalarRule(fd)))
		return protoreflect.Value{}, false
	}
	tag := n.ShortTag()
	switch fd.Kind() {
	case protoreflect.StringKind:
		if tag == tagString || tag == tagTime {
			return protoreflect.ValueOfString(n.Value), true
		}
		e := wrongType(path, n, "text")
		if n.Value != "" && tag != tagNull {
			e.Allowed = fmt.Sprintf("text: put it in quotes, %q", shorten(n.Value))
		}
		d.fail(n, e)
	case protoreflect.BoolKind:
		if tag == tagBool {
			return protoreflect.ValueOfBool(n.Value[0]|0x20 == 't'), true
		}
		d.fail(n, wrongType(path, n, scalarRule(fd)))
	case protoreflect.Int32Kind:
		if tag == tagInt && decimal.MatchString(n.Value) {
			if v, err := strconv.ParseInt(n.Value, 10, 32); err == nil {
				return protoreflect.ValueOfInt32(int32(v)), true
			}
		}
		d.fail(n, wrongType(path, n, scalarRule(fd)))
	default: // NewRegistry refuses kinds with other fields
		d.fail(n, Forbidden(path, "", "fields of this type cannot be written"))
	}
	return protoreflect.Value{}, false
}

func scalarRule(fd protoreflect.FieldDescriptor) string {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return "true or false, without quotes"
	case protoreflect.Int32Kind:
		return "a whole decimal number of at most 32 bits, without quotes"
	}
	return "text"
}

// wrongType is a FieldError for a node of another type than the field's.
func wrongType(path string, n *yaml.Node, allowed string) *FieldError {
	return &FieldError{Path: path, Reason: ReasonType, Found: describe(n), Allowed: allowed}
}

// describe names a node for people.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "the alias *" + shorten(n.Value)
	}
	value := shorten(n.Value)
	switch n.ShortTag() {
	case tagInt, tagFloat:
		return "the number " + value
	case tagBool:
		return "the boolean " + value
	case tagNull:
		return "null"
	case tagString, tagTime:
		return fmt.Sprintf("the text %q", value)
	}
	return fmt.Sprintf("%q with the tag %s", value, shorten(n.ShortTag()))
}

// jsonNames lists the fields of a message.
func jsonNames(fields protoreflect.FieldDescriptors) []string {
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = fields.Get(i).JSONName()
	}
	return names
}
