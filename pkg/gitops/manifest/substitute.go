package manifest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// reference is ${NAME}, ${NAME:=default}, or $${ which stands for ${ itself.
var reference = regexp.MustCompile(`\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(:=([^{}]*))?\}|\$\{[^}]*\}?`)

const (
	// maxSubstituted bounds one value after its references were replaced.
	maxSubstituted = 1 << 20
	maxDepth       = 128
)

// wholeReference tells whether a value is one reference and nothing else.
func wholeReference(s string) bool {
	m := reference.FindStringSubmatch(s)
	return m != nil && m[0] == s && m[1] != "" && m[2] == ""
}

// substitute replaces references in the values of documents.
func substitute(file string, nodes []*yaml.Node, values map[string]string) error {
	s := substituter{file: file, values: values}
	each(nodes, func(doc *yaml.Node) {
		if doc.Kind != yaml.MappingNode {
			s.node(doc, 0)
			return
		}
		for i := 0; i+1 < len(doc.Content); i += 2 {
			if key := doc.Content[i].Value; key != "kind" && key != "apiVersion" {
				s.node(doc.Content[i+1], 0)
			}
		}
		s.document++
	})
	return s.errs.Bounded().OrNil()
}

type substituter struct {
	file     string
	values   map[string]string
	document int
	errs     resource.FieldErrors
}

// node replaces in a tree. What an alias stands for is replaced where it is written.
func (s *substituter) node(n *yaml.Node, depth int) {
	switch {
	case depth > maxDepth: // the decoder refuses it
	case n.Kind == yaml.ScalarNode:
		s.scalar(n)
	case n.Kind == yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			s.node(n.Content[i], depth+1)
		}
	case n.Kind == yaml.SequenceNode:
		for _, c := range n.Content {
			s.node(c, depth+1)
		}
	}
}

func (s *substituter) scalar(n *yaml.Node) {
	if !strings.Contains(n.Value, "${") || n.ShortTag() != "!!str" {
		return
	}
	unknown := ""
	text := reference.ReplaceAllStringFunc(n.Value, func(found string) string {
		m := reference.FindStringSubmatch(found)
		switch value, ok := s.values[m[1]]; {
		case found == "$${":
			return "${"
		case m[1] == "":
			unknown = found
		case ok:
			return value
		case m[2] != "":
			return m[3]
		default:
			unknown = m[1]
		}
		return ""
	})
	switch {
	case unknown != "":
		s.fail(n, fmt.Sprintf("there is no value for %q; there are: %s. A dollar sign that is meant is written twice: $${", unknown, strings.Join(s.names(), ", ")))
	case len(text) > maxSubstituted:
		s.fail(n, fmt.Sprintf("with its values it has more than %d bytes", maxSubstituted))
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0:
		n.Value, n.Tag = text, "" // read again: it may be a number now
	default:
		n.Value = text
	}
}

func (s *substituter) names() []string {
	var names []string
	for name := range s.values {
		names = append(names, name)
	}
	slices.Sort(names)
	const most = 20
	if len(names) > most {
		names = append(names[:most], "...")
	}
	return names
}

func (s *substituter) fail(n *yaml.Node, text string) {
	s.errs = append(s.errs, &resource.FieldError{Source: s.file, Line: n.Line, Document: s.document, Reason: resource.ReasonForbidden, Allowed: text})
}
