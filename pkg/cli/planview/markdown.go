package planview

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
)

// writeMarkdown writes a plan for a review: the summary first, a section for each object
// that anything happens to, the others in one line.
func writeMarkdown(w io.Writer, planned []client.Planned) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "**Plan:** %s\n", Summarize(planned))
	var quiet []string
	for _, p := range planned {
		if p.Result == "unchanged" && len(p.Steps) == 0 && p.Blocked == nil && len(p.Notes) == 0 {
			quiet = append(quiet, code(name(p)))
			continue
		}
		fmt.Fprintf(out, "\n### %s: %s\n", code(name(p)), or(verbs[p.Result], term.Clean(p.Result)))
		changes := shownChanges(p)
		if len(changes) > 0 {
			fmt.Fprint(out, "\n| field | before | after |\n|---|---|---|\n")
		}
		for _, c := range changes {
			fmt.Fprintf(out, "| %s | %s | %s |\n", code(c.Path), code(shorten(c.Old)), code(shorten(c.New)))
		}
		if len(p.Steps) > 0 {
			fmt.Fprint(out, "\n| | step | effect |\n|---|---|---|\n")
		}
		for i, s := range p.Steps {
			fmt.Fprintf(out, "| %d | %s | %s |\n", i+1, plain(stepText(s)), effectMark(s.Effect))
		}
		fmt.Fprintln(out)
		if p.Blocked != nil {
			fmt.Fprintf(out, "**Blocked:** %s\n\n", plain(p.Blocked.Message))
		}
		for _, n := range p.Notes {
			fmt.Fprintf(out, "Note: %s\n\n", plain(n))
		}
		if text := seen(p); text != "" {
			fmt.Fprintf(out, "_%s_\n", plain(text))
		}
	}
	if len(quiet) > 0 {
		fmt.Fprintf(out, "\nUnchanged: %s\n", strings.Join(quiet, ", "))
	}
	return out.Flush()
}

func stepText(s client.PlanStep) string {
	text := s.Text
	if s.By != "" {
		text += " (by " + s.By + ")"
	}
	if s.If != "" {
		text += ", " + s.If
	}
	return text
}

// effectMark makes what is more than in place stand out.
func effectMark(effect string) string {
	if effect == effects[0] {
		return effect
	}
	return "**" + plain(effect) + "**"
}

// code is a text as a span of code: no backtick can end it and no bar a cell.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.NewReplacer("`", "'", "|", "\\|").Replace(term.Clean(text)) + "`"
}

// plain keeps a text from being read as Markdown.
func plain(text string) string {
	return strings.NewReplacer("\\", "\\\\", "|", "\\|", "*", "\\*", "_", "\\_", "`", "\\`", "<", "&lt;", "[", "\\[", "#", "\\#").Replace(term.Clean(text))
}
