package planview

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
)

// maxValueColumns bounds a value in a line of text; `proxctl diff` shows it whole.
const maxValueColumns = 60

// signs and verbs of results.
var (
	signs = map[string]string{"created": "+", "configured": "~", "deleted": "-", "unchanged": "=", "affected": "*"}
	verbs = map[string]string{"created": "to create", "configured": "to change", "deleted": "to delete", "unchanged": "unchanged", "affected": "affected"}
	hues  = map[string]term.Colour{"created": term.Green, "configured": term.Yellow, "deleted": term.Red, "unchanged": term.Faint, "affected": term.Yellow}
	// effectHues: what an effect is painted in; in place is not.
	effectHues = map[string]term.Colour{"restart": term.Yellow, "recreate": term.Red, "data loss": term.Red}
)

func writeText(w io.Writer, t Painter, planned []client.Planned) error {
	out := bufio.NewWriter(w)
	for _, p := range planned {
		head := fmt.Sprintf("%s %s: %s", or(signs[p.Result], "?"), name(p), or(verbs[p.Result], term.Clean(p.Result)))
		fmt.Fprintln(out, t.Paint(hues[p.Result], head))
		for _, c := range shownChanges(p) {
			fmt.Fprintln(out, "    "+changeLine(t, c))
		}
		for i, s := range p.Steps {
			fmt.Fprintf(out, "  %2d. %s\n", i+1, stepLine(t, s))
		}
		if p.Blocked != nil {
			fmt.Fprintf(out, "    %s %s\n", t.Paint(term.Red, "blocked:"), term.Clean(p.Blocked.Message))
		}
		for _, n := range p.Notes {
			fmt.Fprintf(out, "    note: %s\n", term.Clean(n))
		}
		if text := seen(p); text != "" {
			fmt.Fprintln(out, "    "+t.Paint(term.Faint, text))
		}
	}
	if len(planned) > 0 {
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "Plan: %s\n", Summarize(planned))
	return out.Flush()
}

// shownChanges leaves out what goes without saying: that a deletion removes every field.
func shownChanges(p client.Planned) []client.FieldChange {
	if p.Result == "deleted" {
		return nil
	}
	return p.Changes
}

func or(text, def string) string {
	if text == "" {
		return def
	}
	return text
}

// name is kind/name, with the namespace where there is one.
func name(p client.Planned) string {
	if p.Key.Namespace == "" {
		return term.Clean(p.Key.Short())
	}
	return term.Clean(p.Key.Short() + " in " + p.Key.Namespace)
}

func changeLine(t Painter, c client.FieldChange) string {
	path := term.Clean(c.Path)
	before, after := shorten(c.Old), shorten(c.New)
	switch {
	case c.Old == "":
		return t.Paint(term.Green, path+": "+after)
	case c.New == "":
		return t.Paint(term.Red, path+": "+before+" (removed)")
	}
	return t.Paint(term.Yellow, path+": "+before+" -> "+after)
}

func shorten(json string) string { return term.Cut(term.Clean(json), maxValueColumns) }

// stepLine names who takes a step when it is another object, what it depends on, and its effect.
func stepLine(t Painter, s client.PlanStep) string {
	text := term.Clean(stepText(s))
	effect := "[" + term.Clean(s.Effect) + "]"
	if hue, marked := effectHues[s.Effect]; marked {
		effect = t.Paint(hue, effect)
	}
	return text + "  " + effect
}

// seen says what the steps start from.
func seen(p client.Planned) string {
	switch p.Observation {
	case "observed":
		return "from what was seen " + age(p.Age) + " ago"
	case "never":
		return "never looked at: the steps start from nothing there"
	}
	return ""
}

func age(d time.Duration) string {
	if d < time.Second {
		return "less than 1s"
	}
	return d.Round(time.Second).String()
}
