package resource

import (
	"encoding/json"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// metadata.managedFields[].fieldsV1 is JSON in a text field of the proto, and an object in
// JSON and YAML, as Kubernetes has it: {"f:spec":{"f:mtu":{}}}.

var fieldsV1 = (&v1alpha1.ManagedFieldsEntry{}).ProtoReflect().Descriptor().Fields().ByName("fields_v1")

// isFieldsV1 tells whether a field is that one. Names are compared first: it is asked of
// every text that is encoded.
func isFieldsV1(fd protoreflect.FieldDescriptor) bool {
	return fd.Name() == "fields_v1" && fd.FullName() == fieldsV1.FullName()
}

// fieldsObject decodes such an object. Its mappings have nothing but mappings in them.
func (d *decoder) fieldsObject(n *yaml.Node, path string, depth int) string {
	return string(d.appendFields(nil, n, path, depth))
}

func (d *decoder) appendFields(buf []byte, n *yaml.Node, path string, depth int) []byte {
	n, done := d.resolve(n, path)
	defer done()
	if n == nil {
		return buf
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, wrongType(path, n, "a mapping"))
		return buf
	}
	buf = append(buf, '{')
	first := true
	d.entries(n, path, depth, func(key, value *yaml.Node) {
		if !first {
			buf = append(buf, ',')
		}
		first = false
		e := jsonEncoder{buf: buf}
		e.string(key.Value)
		buf = d.appendFields(append(e.buf, ':'), value, KeyPath(path, key.Value), depth+1)
	})
	return append(buf, '}')
}

// fieldsNode is such an object as YAML, or as text when it is no JSON object.
func fieldsNode(text string) *yaml.Node {
	var doc yaml.Node
	if !isObject(text) || yaml.Unmarshal([]byte(text), &doc) != nil || len(doc.Content) != 1 {
		return textNode(text)
	}
	return blockStyle(doc.Content[0])
}

// blockStyle rids a node of the style of JSON.
func blockStyle(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.ScalarNode {
		return textNode(n.Value)
	}
	if len(n.Content) > 0 { // an empty mapping can be written as {} only
		n.Style = 0
	}
	for i := range n.Content {
		n.Content[i] = blockStyle(n.Content[i])
	}
	return n
}

func isObject(text string) bool { return len(text) > 0 && text[0] == '{' && json.Valid([]byte(text)) }
