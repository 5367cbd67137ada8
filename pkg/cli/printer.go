package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/client-go/util/jsonpath"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Formats of -o.
const (
	formatTable = ""
	formatWide  = "wide"
	formatYAML  = "yaml"
	formatJSON  = "json"
	formatName  = "name"
	// The last two take an argument after an equals sign.
	formatJSONPath = "jsonpath"
	formatColumns  = "custom-columns"
)

// printer writes objects in the form that the user wants.
type printer struct {
	w      io.Writer
	format string
	opts   getOptions

	template *jsonpath.JSONPath // of formatJSONPath
	columns  []customColumn     // of formatColumns
}

func newPrinter(w io.Writer, o getOptions) (*printer, error) {
	switch o.output {
	case formatTable, formatWide, formatYAML, formatJSON, formatName:
		return &printer{w: w, format: o.output, opts: o}, nil
	}
	format, argument, _ := strings.Cut(o.output, "=")
	p := &printer{w: w, format: format, opts: o}
	var err error
	switch {
	case format == formatJSONPath && argument != "":
		p.template, err = newTemplate("-o jsonpath", argument)
	case format == formatColumns && argument != "":
		p.columns, err = customColumns(argument)
	default:
		err = usagef("-o %q: allowed are wide, yaml, json, name, jsonpath=TEMPLATE and custom-columns=HEADING:PATH,...", o.output)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// objects writes a snapshot. single means that exactly one object was asked for: it is
// written as it is, not as a List.
func (p *printer) objects(kinds *kindTable, objs []resource.Object, single bool, now time.Time) error {
	switch p.format {
	case formatName:
		for _, o := range objs {
			if _, err := fmt.Fprintln(p.w, resource.KeyOf(o).Short()); err != nil {
				return err
			}
		}
		return nil
	case formatJSON:
		return p.json(objs, single)
	case formatYAML:
		return p.yaml(objs, single)
	case formatJSONPath:
		return p.jsonPath(objs, single)
	case formatColumns:
		return p.customTable(objs)
	}
	return p.tables(kinds, objs, now)
}

// tables writes one table for each kind. With several kinds, names are kind/name.
func (p *printer) tables(kinds *kindTable, objs []resource.Object, now time.Time) error {
	for first := true; len(objs) > 0; first = false {
		name := objs[0].GetKind()
		n := 1
		for n < len(objs) && objs[n].GetKind() == name {
			n++
		}
		several := !first || n < len(objs)
		k := kinds.byName(name)
		if k == nil {
			return fmt.Errorf("the daemon answered with an object of the kind %q that it did not list", name)
		}
		if !first {
			if _, err := fmt.Fprintln(p.w); err != nil {
				return err
			}
		}
		l := p.layout(k, several)
		headings := l.headings()
		if p.opts.noHeaders {
			headings = nil
		}
		var rows [][]string
		for _, o := range objs[:n] {
			rows = append(rows, l.row(o, now))
		}
		if err := writeTable(p.w, headings, rows); err != nil {
			return err
		}
		objs = objs[n:]
	}
	return nil
}

func (p *printer) layout(k *kind, prefix bool) layout {
	return layout{kind: k, wide: p.format == formatWide, namespace: p.opts.all && k.Namespaced, prefix: prefix, labels: p.opts.showLabels, keys: p.opts.columns}
}

// shown is the object without what is of no use to people.
func (p *printer) shown(obj resource.Object) resource.Object {
	if p.opts.managed || len(obj.GetMetadata().GetManagedFields()) == 0 {
		return obj
	}
	obj = resource.Clone(obj)
	obj.GetMetadata().ManagedFields = nil
	return obj
}

// rawJSON is one line: the object, or a List.
func (p *printer) rawJSON(objs []resource.Object, single bool) ([]byte, error) {
	var raw bytes.Buffer
	if !single {
		raw.WriteString(`{"apiVersion":"v1","kind":"List","metadata":{},"items":[`)
	}
	for i, o := range objs {
		if i > 0 {
			raw.WriteByte(',')
		}
		data, err := resource.EncodeJSON(p.shown(o))
		if err != nil {
			return nil, err
		}
		raw.Write(data)
	}
	if !single {
		raw.WriteString("]}")
	}
	return raw.Bytes(), nil
}

func (p *printer) json(objs []resource.Object, single bool) error {
	raw, err := p.rawJSON(objs, single)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return fmt.Errorf("indent: %w", err)
	}
	out.WriteByte('\n')
	_, err = p.w.Write(out.Bytes())
	return err
}

// jsonPath executes the template on what -o json would write. As the template says, there
// is no line break at the end.
func (p *printer) jsonPath(objs []resource.Object, single bool) error {
	raw, err := p.rawJSON(objs, single)
	if err != nil {
		return err
	}
	data, err := jsonValue(raw)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := p.template.Execute(&out, data); err != nil {
		return usagef("-o jsonpath: %v", err)
	}
	_, err = p.w.Write(out.Bytes())
	return err
}

// jsonLine writes a change of a watch as one line.
func (p *printer) jsonLine(typ string, obj resource.Object) error {
	data, err := resource.EncodeJSON(p.shown(obj))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.w, `{"type":%q,"object":%s}`+"\n", typ, data)
	return err
}

func (p *printer) yaml(objs []resource.Object, single bool) error {
	var out bytes.Buffer
	if !single {
		out.WriteString("apiVersion: v1\nkind: List\nmetadata: {}\nitems:")
		if len(objs) == 0 {
			out.WriteString(" []")
		}
		out.WriteByte('\n')
	}
	for _, o := range objs {
		data, err := resource.EncodeYAML(p.shown(o))
		if err != nil {
			return err
		}
		if single {
			out.Write(data)
			continue
		}
		out.WriteString(indent(string(data), "- ", "  "))
	}
	_, err := p.w.Write(out.Bytes())
	return err
}

// indent puts first before the first line and rest before the others that are not empty.
func indent(text, first, rest string) string {
	var out strings.Builder
	prefix := first
	for line := range strings.Lines(text) {
		if line != "\n" {
			out.WriteString(prefix)
		}
		out.WriteString(line)
		prefix = rest
	}
	return out.String()
}
