package progress

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/cli/term"
)

// maxSummary bounds the lines of a summary: the slowest are told.
const maxSummary = 30

// Summary writes how long each item took, and in which stages the time went.
func Summary(w io.Writer, b *Board, now time.Time, goal string) {
	items := slowest(b.Items())
	fmt.Fprintf(w, "%s after %s:\n", goal, seconds(b.Elapsed(now)))
	if extra := len(items) - maxSummary; extra > 0 {
		fmt.Fprintf(w, "  %d took less than these:\n", extra)
		items = items[extra:]
	}
	names := 0
	for _, i := range items {
		names = max(names, len(i.Name))
	}
	for _, i := range items {
		var steps []string
		for _, s := range i.Steps {
			steps = append(steps, fmt.Sprintf("%s %s", s.Condition, seconds(s.Took)))
		}
		line := fmt.Sprintf("  %s %6s  %s", term.Pad(i.Name, names), seconds(i.Elapsed), strings.Join(steps, ", "))
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}
