package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// columnGap is between two columns.
const columnGap = "   "

// none stands for an empty cell, so that columns can be told apart by programs too.
const none = "<none>"

// writeTable writes rows under headings (nil: none), as wide as their content. The last
// column is not padded.
func writeTable(w io.Writer, headings []string, rows [][]string) error {
	return writeRows(w, headings, rows, widths(headings, rows))
}

func widths(headings []string, rows [][]string) []int {
	var wide []int
	for _, row := range append([][]string{headings}, rows...) {
		for i, cell := range row {
			if i == len(wide) {
				wide = append(wide, 0)
			}
			wide[i] = max(wide[i], len([]rune(cell)))
		}
	}
	return wide
}

func writeRows(w io.Writer, headings []string, rows [][]string, wide []int) error {
	var out strings.Builder
	if headings != nil {
		rows = append([][]string{headings}, rows...)
	}
	for _, row := range rows {
		for i, cell := range row {
			if i == len(row)-1 {
				out.WriteString(cell)
				break
			}
			out.WriteString(term.Pad(cell, wide[i]) + columnGap)
		}
		out.WriteByte('\n')
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// layout says which columns a table of one kind has.
type layout struct {
	kind      *kind
	wide      bool
	namespace bool     // a column for it
	prefix    bool     // names as kind/name
	labels    bool     // a column for them, the last one
	keys      []string // a column for each of these labels, before that
}

func (l layout) headings() []string {
	var h []string
	if l.namespace {
		h = append(h, "NAMESPACE")
	}
	h = append(h, "NAME")
	for _, c := range l.columns() {
		h = append(h, c.GetName())
	}
	h = append(h, "AGE")
	for _, key := range l.keys {
		h = append(h, strings.ToUpper(term.Clean(key[strings.LastIndexByte(key, '/')+1:])))
	}
	if l.labels {
		h = append(h, "LABELS")
	}
	return h
}

// ageColumn is the place of the age in a row.
func (l layout) ageColumn() int {
	if l.labels {
		return len(l.headings()) - 2 - len(l.keys)
	}
	return len(l.headings()) - 1 - len(l.keys)
}

func (l layout) columns() []*columnOption {
	var columns []*columnOption
	for _, c := range l.kind.Columns {
		if l.wide || !c.GetWide() {
			columns = append(columns, c)
		}
	}
	return columns
}

func (l layout) row(obj resource.Object, now time.Time) []string {
	var row []string
	m := obj.GetMetadata()
	if l.namespace {
		row = append(row, cellOr(m.GetNamespace()))
	}
	name := m.GetName()
	if l.prefix {
		name = resource.KeyOf(obj).Short()
	}
	row = append(row, term.Clean(name))
	for _, c := range l.columns() {
		row = append(row, cellOr(columnText(obj, c.GetPath(), now)))
	}
	row = append(row, cellOr(age(m.GetCreationTimestamp(), now)))
	for _, key := range l.keys {
		row = append(row, cellOr(term.Clean(m.GetLabels()[key])))
	}
	if l.labels {
		row = append(row, cellOr(columnText(obj, "metadata.labels", now)))
	}
	return row
}

// columnText is the text of one column. Times are shown as ages.
func columnText(obj resource.Object, path string, now time.Time) string {
	text := resource.Cell(obj, path)
	if strings.HasSuffix(path, "Timestamp") || strings.HasSuffix(path, "Time") {
		return age(text, now)
	}
	if path == "condition:Ready" && resource.Deleting(obj) {
		return "Deleting"
	}
	return term.Clean(text)
}

func cellOr(text string) string {
	if strings.TrimSpace(text) == "" {
		return none
	}
	return text
}

// age is how long ago an RFC 3339 time was: 42s, 5m10s, 3h20m, 4d2h, 90d. What is no time
// has none.
func age(timestamp string, now time.Time) string {
	at, err := time.Parse(time.RFC3339, timestamp)
	if err != nil {
		return ""
	}
	d := max(0, now.Sub(at)).Truncate(time.Second) // clocks differ: the future is now
	day := 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 10*time.Minute:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 3*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 8*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	case d < 2*day:
		return fmt.Sprintf("%dh", int(d.Hours()))
	case d < 8*day:
		return fmt.Sprintf("%dd%dh", int(d/day), int(d.Hours())%24)
	}
	return fmt.Sprintf("%dd", int(d/day))
}
