package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/client-go/util/jsonpath"

	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// jsonValue is JSON as a path expression walks it. Numbers are int64, for all of ours are
// whole: as floats, a large VMID would be shown with an exponent.
func jsonValue(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("read back JSON: %w", err)
	}
	return wholeNumbers(v), nil
}

func wholeNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, item := range v {
			v[key] = wholeNumbers(item)
		}
	case []any:
		for i, item := range v {
			v[i] = wholeNumbers(item)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
	}
	return v
}

func objectValue(obj resource.Object) (any, error) {
	data, err := resource.EncodeJSON(obj)
	if err != nil {
		return nil, err
	}
	return jsonValue(data)
}

// newTemplate parses a JSONPath template; what an object does not have is nothing, and no
// error. A template with a range can be executed once only.
func newTemplate(flag, text string) (*jsonpath.JSONPath, error) {
	template := jsonpath.New(flag).AllowMissingKeys(true)
	if err := template.Parse(text); err != nil {
		return nil, usagef("%s %q: %v", flag, text, err)
	}
	return template, nil
}

var relaxedPath = regexp.MustCompile(`^\{\.?([^{}]+)\}$|^\.?([^{}]+)$`)

// newPath parses the path of one value; {.a.b}, .a.b and a.b are the same.
func newPath(flag, text string) (*jsonpath.JSONPath, error) {
	m := relaxedPath.FindStringSubmatch(text)
	if m == nil {
		return nil, usagef("%s %q: allowed is the path of a field, for example .metadata.name", flag, text)
	}
	return newTemplate(flag, "{."+cmp.Or(m[1], m[2])+"}")
}

// find returns the values that a path leads to.
func find(path *jsonpath.JSONPath, in any) ([]any, error) {
	results, err := path.FindResults(in)
	if err != nil {
		return nil, err
	}
	var values []any
	for _, result := range results {
		for _, v := range result {
			if v.IsValid() && v.CanInterface() && v.Interface() != nil {
				values = append(values, v.Interface())
			}
		}
	}
	return values, nil
}

// customColumn is HEADING:PATH.
type customColumn struct {
	heading string
	path    *jsonpath.JSONPath
}

func customColumns(text string) ([]customColumn, error) {
	var columns []customColumn
	for part := range strings.SplitSeq(text, ",") {
		heading, path, ok := strings.Cut(part, ":")
		if !ok || heading == "" || path == "" {
			return nil, usagef("-o custom-columns: %q: allowed is HEADING:PATH,..., for example NAME:.metadata.name,VMID:.status.vmid", part)
		}
		parsed, err := newPath("-o custom-columns", path)
		if err != nil {
			return nil, err
		}
		columns = append(columns, customColumn{heading, parsed})
	}
	return columns, nil
}

func (p *printer) customTable(objs []resource.Object) error {
	headings := p.customHeadings()
	if p.opts.noHeaders {
		headings = nil
	}
	var rows [][]string
	for _, obj := range objs {
		row, err := p.customRow(obj)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	return writeTable(p.w, headings, rows)
}

func (p *printer) customHeadings() []string {
	var headings []string
	for _, c := range p.columns {
		headings = append(headings, c.heading)
	}
	return headings
}

func (p *printer) customRow(obj resource.Object) ([]string, error) {
	data, err := objectValue(p.shown(obj))
	if err != nil {
		return nil, err
	}
	var row []string
	for _, c := range p.columns {
		values, err := find(c.path, data)
		if err != nil {
			return nil, usagef("-o custom-columns: %s: %v", c.heading, err)
		}
		var texts []string
		for _, v := range values {
			texts = append(texts, valueText(v))
		}
		row = append(row, cellOr(term.Clean(strings.Join(texts, ","))))
	}
	return row, nil
}

// valueText is text as it is and everything else as JSON.
func valueText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	data, err := json.Marshal(v)
	if err != nil { // what was JSON can be JSON again
		return fmt.Sprint(v)
	}
	return string(data)
}

// sortBy sorts objects by the value at a path, those of one kind among themselves; those
// without a value come first, equal ones stay as they are. A path that no object has is
// taken for a mistake.
func sortBy(objs []resource.Object, text string) error {
	path, err := newPath("--sort-by", text)
	if err != nil {
		return err
	}
	values := map[resource.Object]any{}
	for _, obj := range objs {
		data, err := objectValue(obj)
		if err != nil {
			return err
		}
		found, err := find(path, data)
		if err != nil {
			return usagef("--sort-by %q: %v", text, err)
		}
		if len(found) > 0 {
			values[obj] = found[0]
		}
	}
	if len(values) == 0 && len(objs) > 0 {
		return usagef("--sort-by %q: nothing that was found has this field", text)
	}
	for rest := objs; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].GetKind() == rest[0].GetKind() {
			n++
		}
		slices.SortStableFunc(rest[:n], func(x, y resource.Object) int { return compareValues(values[x], values[y]) })
		rest = rest[n:]
	}
	return nil
}

// compareValues compares numbers as numbers, quantities (512Mi, 1Gi) by their size and
// everything else as text. nil is less than everything.
func compareValues(x, y any) int {
	switch {
	case x == nil && y == nil:
		return 0
	case x == nil:
		return -1
	case y == nil:
		return 1
	}
	a, aNumber := x.(int64)
	b, bNumber := y.(int64)
	if aNumber && bNumber {
		return cmp.Compare(a, b)
	}
	left, right := valueText(x), valueText(y)
	p, errLeft := resource.ParseQuantity(left)
	q, errRight := resource.ParseQuantity(right)
	if errLeft == nil && errRight == nil {
		return cmp.Compare(p, q)
	}
	return cmp.Compare(left, right)
}
