package resource

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// Document is one decoded document: the object exactly as it was written (no defaults),
// and where it was written.
type Document struct {
	Object Object
	Source string // file name, "" for a request body
	Index  int    // position in the set, from 0
	Line   int    // first line of the document, from 1

	lines *lines // nil: made without a text
}

// lines are where the fields of a document stand. Where it was not needed to read the
// document, the tree is made when it is first asked for: mostly it never is.
type lines struct {
	tree lineTree
	once sync.Once
	// text is what the tree is still to be made of, with reg; nil: it is made. A document that
	// has one has no empty lists or mappings.
	text []byte
	reg  *Registry
}

func (l *lines) whole() *lineTree {
	l.once.Do(func() {
		if l.text == nil {
			return
		}
		d := &decoder{reg: l.reg, nameOptional: true}
		if d.documents(l.text) == nil && len(d.docs) == 1 {
			l.tree = d.docs[0].lines.tree
		}
		l.text = nil
	})
	return &l.tree
}

// written are the lines of a document that may have empty lists or mappings; nil: it has none.
func (d Document) written() *lineTree {
	if d.lines == nil || d.lines.reg != nil {
		return nil
	}
	return d.lines.whole()
}

// Locate returns the line of the field at path (spec.rules[0].path) or, when the document
// does not have it, of the nearest field around it. Errors that are found after decoding
// (validation, checks across documents) get their line this way.
func (d Document) Locate(path string) int {
	if d.lines == nil {
		return d.Line
	}
	return d.lines.whole().locate(path)
}

// Place fills in where the errors' fields stand, and returns the errors.
func (d Document) Place(errs FieldErrors) FieldErrors {
	for _, e := range errs {
		e.Source, e.Document = d.Source, d.Index
		if e.Line == 0 {
			e.Line = d.Locate(e.Path)
		}
	}
	return errs
}

// DecodeDocuments reads all documents of a file or body: YAML with `---` between
// documents, JSON, or a `kind: List` of objects in either. Blank documents are skipped.
//
// It is strict: unknown and duplicate fields, wrong types (also a number where text is
// wanted), wrong apiVersion or kind and a missing name are errors. status and
// metadata set by the server are decoded and checked like the rest, so that what `get -o
// yaml` prints can be read again; whoever applies the document ignores them.
//
// The text must not be changed as long as a document is in use.
//
// The error is FieldErrors over all documents, at most MaxFieldErrors. A null value is a
// field that was not written. YAML merge keys are refused, aliases are bounded.
func DecodeDocuments(reg *Registry, source string, data []byte) ([]Document, error) {
	if doc, ok := plainDocument(reg, source, data); ok {
		return []Document{doc}, nil
	}
	d := &decoder{reg: reg, source: source}
	if err := d.documents(data); err != nil {
		return nil, err
	}
	return d.docs, nil
}

// DecodeDocument is DecodeDocuments for a text that must have exactly one document.
func DecodeDocument(reg *Registry, source string, data []byte) (Document, error) {
	if doc, ok := plainDocument(reg, source, data); ok {
		return doc, nil
	}
	docs, err := DecodeDocuments(reg, source, data)
	if err != nil {
		return Document{}, err
	}
	if len(docs) > 1 { // none is an error of the decoder
		return Document{}, FieldErrors{sourceError(source, docs[1].Line, ReasonSyntax, "%d documents; allowed is one", len(docs))}
	}
	return docs[0], nil
}

// plainDocument is plainObject with where it was written.
func plainDocument(reg *Registry, source string, data []byte) (Document, bool) {
	obj, ok := plainObject(reg, data)
	if !ok {
		return Document{}, false
	}
	return Document{Object: obj, Source: source, Line: 1, lines: &lines{text: data, reg: reg}}, true
}

// DecodeEach is DecodeDocuments for a caller who goes on without the documents that are
// wrong: their errors are in wrong, by their Index. total counts both. The error is about
// text that is no YAML, or too much of it.
func DecodeEach(reg *Registry, source string, data []byte) (docs []Document, wrong map[int]FieldErrors, total int, err error) {
	d := &decoder{reg: reg, source: source, wrong: map[int]FieldErrors{}}
	if err := d.documents(data); err != nil {
		return nil, nil, 0, err
	}
	return d.docs, d.wrong, d.index, nil
}

// ParseNodes reads the documents of a text as trees, for a caller who changes them before
// they are decoded (DecodeNodes). Blank documents are left out, and a text without any is no
// error. The bounds and errors are those of DecodeDocuments.
func ParseNodes(source string, data []byte) ([]*yaml.Node, error) {
	if err := checkText(source, data); err != nil {
		return nil, FieldErrors{err}
	}
	var nodes []*yaml.Node
	for tree := newTreeReader(data); ; {
		node, err := tree.next()
		if errors.Is(err, io.EOF) {
			return nodes, nil
		}
		if err != nil {
			d := &decoder{source: source, index: len(nodes)}
			d.syntax(err)
			return nil, d.errs
		}
		if isNull(node) {
			continue
		}
		if nodes = append(nodes, node); len(nodes) > MaxDocuments {
			return nil, FieldErrors{sourceError(source, node.Line, ReasonTooLong, "").withFound(
				fmt.Sprintf("more than %d documents", MaxDocuments), "a smaller set: split the file")}
		}
	}
}

// DecodeNodes decodes trees as DecodeDocuments decodes a text.
func DecodeNodes(reg *Registry, source string, nodes []*yaml.Node) ([]Document, error) {
	d := &decoder{reg: reg, source: source}
	for _, node := range nodes {
		if d.document(node); len(d.errs) > MaxFieldErrors {
			break
		}
	}
	if len(d.errs) > 0 {
		return nil, d.errs.Bounded()
	}
	return d.docs, nil
}

// documents decodes all documents of a text.
func (d *decoder) documents(data []byte) error {
	if err := checkText(d.source, data); err != nil {
		return FieldErrors{err}
	}
	tree := newTreeReader(data)
	for len(d.errs) <= MaxFieldErrors {
		node, err := tree.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			d.syntax(err)
			break
		}
		if !isNull(node) {
			d.document(node)
		}
		if d.index > MaxDocuments {
			d.errs = append(d.errs, sourceError(d.source, node.Line, ReasonTooLong, "").withFound(
				fmt.Sprintf("more than %d documents", MaxDocuments), "a smaller set: split the file"))
			break
		}
	}
	if len(d.errs) > 0 {
		return d.errs.Bounded()
	}
	if d.index == 0 {
		return FieldErrors{noDocuments(d.source, data)}
	}
	return nil
}

// DecodeJSON reads one object from JSON (or YAML), as strict as DecodeDocuments except
// that the name may be missing: a request can carry it elsewhere.
func DecodeJSON(reg *Registry, data []byte) (Object, error) {
	if obj, ok := plainObject(reg, data); ok {
		return obj, nil
	}
	if err := checkText("", data); err != nil {
		return nil, FieldErrors{err}
	}
	d := &decoder{reg: reg, nameOptional: true}
	tree := newTreeReader(data)
	node, err := tree.next()
	if errors.Is(err, io.EOF) || err == nil && isNull(node) {
		return nil, FieldErrors{noDocuments("", data)}
	}
	if err != nil {
		d.syntax(err)
		return nil, d.errs
	}
	d.document(node)
	if _, err := tree.next(); !errors.Is(err, io.EOF) {
		d.errs = append(d.errs, sourceError("", 0, ReasonSyntax, "more than one document; allowed is one object"))
	}
	if len(d.errs) > 0 {
		return nil, d.errs.Bounded()
	}
	if len(d.docs) != 1 {
		return nil, FieldErrors{sourceError("", 0, ReasonSyntax, "a list of %d objects; allowed is one object", len(d.docs))}
	}
	return d.docs[0].Object, nil
}

func noDocuments(source string, data []byte) *FieldError {
	what := "nothing but blank lines and comments"
	if len(data) == 0 {
		what = "it is empty"
	}
	name := source
	if name == "" {
		name = "the input"
	}
	return sourceError(source, 0, ReasonSyntax,
		"no documents in %s: %s; allowed are documents with apiVersion, kind and metadata.name", name, what)
}

func isNull(n *yaml.Node) bool {
	return n.Kind == 0 || n.Kind == yaml.ScalarNode && n.ShortTag() == tagNull
}

// decoder turns the nodes of one source into documents and errors.
type decoder struct {
	reg          *Registry
	source       string
	nameOptional bool
	docs         []Document
	errs         FieldErrors
	index        int                 // of the document being read
	aliasCost    int                 // spent so far, see maxAliasCost
	inAlias      int                 // depth of aliases being expanded
	wrong        map[int]FieldErrors // when set, the errors of documents go here, not to errs
	wrongErrors  int                 // all of them
}

// done ends a document, whose errors are those from the given one on.
func (d *decoder) done(before int) {
	if errs := d.errs[before:]; d.wrong != nil && len(errs) > 0 {
		if errs = slices.Clone(errs).Bounded(); d.wrongErrors > maxCollected {
			errs = errs[:1] // of so many, the first of each must do
		}
		d.wrong[d.index] = errs
		d.wrongErrors += len(errs)
		d.errs = d.errs[:before]
	}
	d.index++
}

func (d *decoder) syntax(err error) {
	e := sourceError(d.source, 0, ReasonSyntax, "%s", err.Error())
	var bad *syntaxError
	if errors.As(err, &bad) {
		e.Line = bad.line
	}
	e.Document = d.index
	d.errs = append(d.errs, e)
}

// maxCollected bounds the errors that are collected of a single document, where each of
// half a million lines can be wrong; more than MaxFieldErrors are counted only.
const maxCollected = 10 * MaxFieldErrors

// fail records an error at a node of the document being read.
func (d *decoder) fail(n *yaml.Node, e *FieldError) {
	if len(d.errs) >= maxCollected {
		return
	}
	e.Source, e.Line, e.Document = d.source, n.Line, d.index
	d.errs = append(d.errs, e)
}

// document decodes one document, or each item of a List.
func (d *decoder) document(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		before := len(d.errs)
		d.fail(n, wrongType("", n, "a mapping with apiVersion, kind and metadata"))
		d.done(before)
		return
	}
	if items := listItems(n); items != nil {
		for _, item := range items.Content {
			d.object(item)
		}
		return
	}
	d.object(n)
}

// listItems returns the items node when n is a List of objects.
func listItems(n *yaml.Node) *yaml.Node {
	if kind := child(n, "kind"); kind == nil || !strings.HasSuffix(kind.Value, "List") {
		return nil
	}
	if items := child(n, "items"); items != nil && items.Kind == yaml.SequenceNode {
		return items
	}
	return nil
}

// child returns the value of a key of a mapping, or nil.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// object decodes one object and adds it to the documents when nothing is wrong with it.
func (d *decoder) object(n *yaml.Node) {
	before := len(d.errs)
	defer d.done(before)
	n, done := d.resolve(n, "")
	defer done()
	if n == nil {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, wrongType("", n, "a mapping with apiVersion, kind and metadata"))
		return
	}
	kind := d.kindOf(n)
	if kind == nil {
		return
	}
	obj := kind.New()
	tree := d.message(obj.ProtoReflect(), n, "", 0)
	kind.Hide(d.errs[before:])
	tree.line = n.Line
	if obj.GetMetadata().GetName() == "" && !d.nameOptional {
		d.fail(&yaml.Node{Line: tree.locate("metadata.name")}, Required("metadata.name", nameRule))
	}
	if len(d.errs) > before {
		return
	}
	d.docs = append(d.docs, Document{Object: obj, Source: d.source, Index: d.index, Line: n.Line, lines: &lines{tree: tree}})
}

// kindOf finds the kind that a document names, or records why it cannot.
func (d *decoder) kindOf(n *yaml.Node) *Kind {
	names := make([]string, len(d.reg.kinds))
	for i, k := range d.reg.kinds {
		names[i] = k.Name
	}
	version, kind := child(n, "apiVersion"), child(n, "kind")
	switch {
	case version == nil || isNull(version):
		d.fail(n, Required("apiVersion", APIVersion))
	case version.Value != APIVersion:
		d.fail(version, NotSupported("apiVersion", version.Value, []string{APIVersion}))
	}
	if kind == nil || isNull(kind) {
		d.fail(n, Required("kind", "one of "+strings.Join(names, ", ")))
		return nil
	}
	k, ok := d.reg.Get(kind.Value)
	if !ok {
		e := NotSupported("kind", kind.Value, names)
		if best := closest(kind.Value, names); best != "" {
			e.Allowed += fmt.Sprintf(" (did you mean %s?)", best)
		}
		d.fail(kind, e)
		return nil
	}
	return k
}
