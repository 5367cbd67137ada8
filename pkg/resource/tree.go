package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// YAML tags of scalars, as yaml.Node.ShortTag resolves them.
const (
	tagString = "!!str"
	tagInt    = "!!int"
	tagFloat  = "!!float"
	tagBool   = "!!bool"
	tagNull   = "!!null"
	tagMerge  = "!!merge"
	tagTime   = "!!timestamp"
)

// sourceError is a FieldError about a whole source.
func sourceError(source string, line int, reason, format string, args ...any) *FieldError {
	return &FieldError{Source: source, Line: line, Reason: reason, Allowed: fmt.Sprintf(format, args...)}
}

// checkText refuses what no parser should see: too much, binary, other encodings.
func checkText(source string, data []byte) *FieldError {
	if len(data) > MaxSourceBytes {
		return sourceError(source, 0, ReasonTooLong, "").withFound(
			fmt.Sprintf("%d bytes", len(data)),
			fmt.Sprintf("at most %d bytes (%d MiB) of text in one file: split it", MaxSourceBytes, MaxSourceBytes>>20))
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return sourceError(source, lineAt(data, i), ReasonSyntax,
			"binary data (a NUL byte at offset %d); allowed is YAML or JSON text", i)
	}
	if i := invalidUTF8(data); i >= 0 {
		return sourceError(source, lineAt(data, i), ReasonSyntax,
			"not UTF-8 text (byte 0x%02x at offset %d); allowed is YAML or JSON in UTF-8", data[i], i)
	}
	return nil
}

func (e *FieldError) withFound(found, allowed string) *FieldError {
	e.Found, e.Allowed = found, allowed
	return e
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		if data[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

func lineAt(data []byte, offset int) int { return 1 + bytes.Count(data[:offset], []byte{'\n'}) }

// treeReader yields the documents of a source one after the other, io.EOF at the end.
// Both YAML and JSON become yaml.Nodes, so that everything after works on one shape.
type treeReader interface {
	next() (*yaml.Node, error)
}

// newTreeReader picks the parser. JSON is YAML too, but for \u surrogate pairs; so what is
// valid JSON goes to the JSON parser.
func newTreeReader(data []byte) treeReader {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if looksLikeJSON(data) && json.Valid(data) {
		if nodes, ok := plainJSON(data); ok {
			return &nodeReader{nodes}
		}
		return newJSONTree(data)
	}
	return &yamlTree{data: data, dec: yaml.NewDecoder(bytes.NewReader(data))}
}

func looksLikeJSON(data []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte{'{'})
}

type yamlTree struct {
	data []byte
	dec  *yaml.Decoder
}

func (t *yamlTree) next() (node *yaml.Node, err error) {
	// The parser is someone else's and its input is anyone's: a panic in it is a syntax
	// error of this source, not the end of the process.
	defer func() {
		if r := recover(); r != nil {
			node, err = nil, &syntaxError{message: fmt.Sprintf("the YAML parser gave up: %v", r)}
		}
	}()
	var doc yaml.Node
	if err := t.dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, yamlSyntaxError(t.data, err)
	}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		return doc.Content[0], nil
	}
	return &doc, nil
}

// syntaxError is a document that is no YAML or JSON at all. Line 0 is unknown.
type syntaxError struct {
	line    int
	message string
}

func (e *syntaxError) Error() string { return e.message }

var yamlErrorLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// maxRefineBytes bounds the input whose syntax error is searched for its exact line: the
// search parses the input up to log2(lines) times.
const maxRefineBytes = 256 << 10

// yamlSyntaxError takes the line out of the parser's message. For structural mistakes the
// parser names the line where the unfinished mapping or list begins, which in a long
// document is far away: there the line is searched.
func yamlSyntaxError(data []byte, err error) *syntaxError {
	text, language := err.Error(), "YAML"
	if looksLikeJSON(data) {
		language = "JSON"
	}
	m := yamlErrorLine.FindStringSubmatch(text)
	if m == nil {
		return &syntaxError{message: fmt.Sprintf("not valid %s: %s", language, text)}
	}
	text = strings.TrimPrefix(text, m[0])
	line, _ := strconv.Atoi(m[1])
	switch {
	case strings.HasPrefix(text, "did not find expected") && len(data) <= maxRefineBytes:
		line = firstBadLine(data, text)
	case line == 0 && strings.HasPrefix(text, "unknown anchor"): // it carries no line
	case line == 0:
		line = 1
	}
	return &syntaxError{line: line, message: fmt.Sprintf("not valid %s: %s", language, text)}
}

// firstBadLine returns the line with which the input begins to fail in that way. Structural
// mistakes stay mistakes whatever follows, so a binary search finds it.
func firstBadLine(data []byte, text string) int {
	lines := bytes.SplitAfter(data, []byte{'\n'})
	ends := make([]int, len(lines))
	for i, end := 0, 0; i < len(lines); i++ {
		end += len(lines[i])
		ends[i] = end
	}
	at := sort.Search(len(lines), func(i int) bool {
		dec := yaml.NewDecoder(bytes.NewReader(data[:ends[i]]))
		for {
			var doc yaml.Node
			if err := dec.Decode(&doc); err != nil {
				return !errors.Is(err, io.EOF) && strings.HasSuffix(err.Error(), text)
			}
		}
	})
	return min(at+1, len(lines))
}

// jsonTree reads JSON values into the same nodes that the YAML parser makes.
type jsonTree struct {
	data   []byte
	dec    *json.Decoder
	line   int // of offset
	offset int
}

func newJSONTree(data []byte) *jsonTree {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return &jsonTree{data: data, dec: dec, line: 1}
}

func (t *jsonTree) next() (*yaml.Node, error) {
	node, err := t.value(0)
	if err != nil && !errors.Is(err, io.EOF) {
		line := t.here()
		var bad *json.SyntaxError
		if errors.As(err, &bad) {
			line = lineAt(t.data, min(int(bad.Offset), len(t.data)))
		}
		return nil, &syntaxError{line: line, message: "not valid JSON: " + err.Error()}
	}
	return node, err
}

// here is the line of the token read last; no token spans lines.
func (t *jsonTree) here() int {
	end := min(int(t.dec.InputOffset()), len(t.data))
	if end > t.offset {
		t.line += bytes.Count(t.data[t.offset:end], []byte{'\n'})
		t.offset = end
	}
	return t.line
}

func (t *jsonTree) value(depth int) (*yaml.Node, error) {
	token, err := t.dec.Token()
	if err != nil {
		return nil, err
	}
	line := t.here()
	scalar := func(tag, value string, style yaml.Style) (*yaml.Node, error) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value, Style: style, Line: line}, nil
	}
	switch v := token.(type) {
	case string:
		return scalar(tagString, v, yaml.DoubleQuotedStyle)
	case bool:
		return scalar(tagBool, strconv.FormatBool(v), 0)
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return scalar(tagFloat, v.String(), 0)
		}
		return scalar(tagInt, v.String(), 0)
	case json.Delim:
		return t.collection(v, line, depth)
	}
	return scalar(tagNull, "null", 0)
}

func (t *jsonTree) collection(open json.Delim, line, depth int) (*yaml.Node, error) {
	if depth >= MaxDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", MaxDepth)
	}
	node := &yaml.Node{Kind: yaml.SequenceNode, Line: line}
	if open == '{' {
		node.Kind = yaml.MappingNode
	}
	for t.dec.More() {
		// In an object, keys and values alternate: both are read as values, as the decoder
		// itself refuses a key that is no string.
		item, err := t.value(depth + 1)
		if err != nil {
			return nil, unexpectedEnd(err)
		}
		node.Content = append(node.Content, item)
	}
	_, err := t.dec.Token() // the closing bracket
	return node, unexpectedEnd(err)
}

// unexpectedEnd makes the end of input inside a value an error of its own: io.EOF means
// the end between values.
func unexpectedEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
