package resource

import (
	"encoding/json"
	"io"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// plainJSON reads JSON objects into the nodes that jsonTree makes of them, in a small part
// of its time. It takes correct input only: where anything is wrong, or no object, it answers
// false, and jsonTree has to find out what and say it.
func plainJSON(data []byte) ([]*yaml.Node, bool) {
	if !utf8.Valid(data) { // encoding/json puts other text in its place
		return nil, false
	}
	s := jsonScanner{data: data, line: 1}
	var nodes []*yaml.Node
	for {
		switch s.peek() {
		case 0:
			return nodes, s.at == len(data)
		case '{':
			node := s.value(0)
			if node == nil {
				return nil, false
			}
			nodes = append(nodes, node)
		default:
			return nil, false
		}
	}
}

// nodeReader gives back nodes that were read.
type nodeReader struct{ nodes []*yaml.Node }

func (r *nodeReader) next() (*yaml.Node, error) {
	if len(r.nodes) == 0 {
		return nil, io.EOF
	}
	node := r.nodes[0]
	r.nodes = r.nodes[1:]
	return node, nil
}

type jsonScanner struct {
	data []byte
	at   int
	line int // of at
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *jsonScanner) peek() byte {
	for ; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; c {
		case '\n':
			s.line++
		case ' ', '\t', '\r':
		default:
			return c
		}
	}
	return 0
}

// value reads a value; nil: something is wrong with it.
func (s *jsonScanner) value(depth int) *yaml.Node {
	switch c := s.peek(); {
	case c == '{':
		return s.collection(yaml.MappingNode, '}', depth)
	case c == '[':
		return s.collection(yaml.SequenceNode, ']', depth)
	case c == '"':
		return s.text()
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	for _, word := range []struct{ text, tag string }{{"true", tagBool}, {"false", tagBool}, {"null", tagNull}} {
		end := s.at + len(word.text)
		if end <= len(s.data) && string(s.data[s.at:end]) == word.text && (end == len(s.data) || !isWord(s.data[end])) {
			s.at = end
			return s.scalar(word.tag, word.text)
		}
	}
	return nil
}

// isWord tells whether a byte could belong to the word or number before it.
func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80 || c == '.' || c == '+' || c == '-' || c == '_' || c == '"'
}

func (s *jsonScanner) scalar(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value, Line: s.line}
}

func (s *jsonScanner) collection(kind yaml.Kind, end byte, depth int) *yaml.Node {
	if depth >= MaxDepth {
		return nil
	}
	node := &yaml.Node{Kind: kind, Line: s.line}
	s.at++
	if s.peek() == end {
		s.at++
		return node
	}
	for {
		if kind == yaml.MappingNode {
			if s.peek() != '"' {
				return nil
			}
			key := s.text()
			if key == nil || s.peek() != ':' {
				return nil
			}
			s.at++
			node.Content = append(node.Content, key)
		}
		item := s.value(depth + 1)
		if item == nil {
			return nil
		}
		node.Content = append(node.Content, item)
		switch s.peek() {
		case ',':
			s.at++
		case end:
			s.at++
			return node
		default:
			return nil
		}
	}
}

// text reads a string. What is escaped in it is encoding/json's business.
func (s *jsonScanner) text() *yaml.Node {
	begin, escaped := s.at, false
	for s.at++; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; {
		case c < ' ':
			return nil
		case c == '\\':
			escaped = true
			s.at++
		case c == '"':
			s.at++
			node := s.scalar(tagString, "")
			node.Style = yaml.DoubleQuotedStyle
			if !escaped {
				node.Value = string(s.data[begin+1 : s.at-1])
			} else if json.Unmarshal(s.data[begin:s.at], &node.Value) != nil {
				return nil
			}
			return node
		}
	}
	return nil
}

// number reads a whole decimal number; others are rare and left to jsonTree.
func (s *jsonScanner) number() *yaml.Node {
	begin := s.at
	if s.data[s.at] == '-' {
		s.at++
	}
	digits := s.at
	for s.at < len(s.data) && s.data[s.at] >= '0' && s.data[s.at] <= '9' {
		s.at++
	}
	if s.at == digits || s.data[digits] == '0' && s.at > digits+1 || s.at < len(s.data) && isWord(s.data[s.at]) {
		return nil
	}
	return s.scalar(tagInt, string(s.data[begin:s.at]))
}
