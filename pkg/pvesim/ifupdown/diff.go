package ifupdown

import (
	"fmt"
	"strings"
	"time"
)

// diffContext is how many unchanged lines surround a change.
const diffContext = 3

// Diff returns the changes from one text to another as a unified diff, "" if there are
// none: the "changes" of GET /nodes/{node}/network.
func Diff(oldName, newName string, oldTime, newTime time.Time, oldText, newText string) string {
	if oldText == newText {
		return ""
	}
	a, b := lines(oldText), lines(newText)
	ops := edits(a, b)
	const stamp = "2006-01-02 15:04:05.000000000 -0700"
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\t%s\n+++ %s\t%s\n", oldName, oldTime.UTC().Format(stamp), newName, newTime.UTC().Format(stamp))
	for start := 0; start < len(ops); {
		if ops[start].kind == ' ' {
			start++
			continue
		}
		end := hunkEnd(ops, start)
		from := max(0, start-diffContext)
		writeHunk(&out, ops[from:end])
		start = end
	}
	return out.String()
}

// hunkEnd finds where the hunk with the change at start ends, trailing context included.
func hunkEnd(ops []edit, start int) int {
	last := start
	for i := start; i < len(ops) && i-last <= 2*diffContext; i++ {
		if ops[i].kind != ' ' {
			last = i
		}
	}
	return min(len(ops), last+1+diffContext)
}

type edit struct {
	kind byte // ' ', '-' or '+'
	text string
	a, b int // line numbers before this edit, from 0
}

func writeHunk(out *strings.Builder, ops []edit) {
	na, nb := 0, 0
	for _, o := range ops {
		if o.kind != '+' {
			na++
		}
		if o.kind != '-' {
			nb++
		}
	}
	fmt.Fprintf(out, "@@ -%s +%s @@\n", span(ops[0].a, na), span(ops[0].b, nb))
	for _, o := range ops {
		fmt.Fprintf(out, "%c%s\n", o.kind, o.text)
	}
}

func span(start, n int) string {
	switch n {
	case 0:
		return fmt.Sprintf("%d,0", start)
	case 1:
		return fmt.Sprint(start + 1)
	default:
		return fmt.Sprintf("%d,%d", start+1, n)
	}
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// edits is the longest common subsequence by dynamic programming: interfaces files
// have a few hundred lines at most.
func edits(a, b []string) []edit {
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []edit
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, edit{' ', a[i], i, j})
			i++
			j++
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			out = append(out, edit{'-', a[i], i, j})
			i++
		default:
			out = append(out, edit{'+', b[j], i, j})
			j++
		}
	}
	return out
}
