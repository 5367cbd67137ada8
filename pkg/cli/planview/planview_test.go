package planview

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// brush marks what it paints.
type brush struct{}

func (brush) Paint(c term.Colour, text string) string { return "{" + string(c) + ":" + text + "}" }

func sample() []client.Planned {
	key := func(kind, namespace, name string) resource.Key {
		return resource.Key{Kind: kind, Namespace: namespace, Name: name}
	}
	return []client.Planned{
		{Key: key("App", "team", "web"), Result: "configured", Observation: "observed", Age: 90 * time.Second, ObservedAt: time.Unix(1700000000, 0),
			Changes: []client.FieldChange{{Path: "spec.files[path=/a|b].content", Old: `"x"`, New: `"` + strings.Repeat("y", 100) + "\\u001b[2J`|" + `"`}, {Path: "spec.new", New: "1"}, {Path: "spec.old", Old: "{}"}},
			Steps: []client.PlanStep{
				{Action: "Update", Text: "set *memory* of guest 100", Effect: "in place"},
				{Action: "Shutdown", Text: "shut it down\x1b[31m", Effect: "restart", By: "Appliance a", If: "if it runs"},
			}},
		{Key: key("Bridge", "", "lan"), Result: "unchanged", Observation: "never"},
		{Key: key("App", "team", "gone"), Result: "deleted", Observation: "observed", Changes: []client.FieldChange{{Path: "spec.x", Old: "1"}},
			Steps: []client.PlanStep{{Action: "Destroy", Text: "destroy it", Effect: "data loss"}}},
		{Key: key("Vhost", "team", "v"), Result: "affected", Observation: "observed", Blocked: &client.PlanBlock{Reason: "Taken", Message: "it is\ntaken"}},
	}
}

func TestText(t *testing.T) {
	var out bytes.Buffer
	if err := Write(&out, brush{}, Text, sample()); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	for _, want := range []string{
		"{33:~ app/web in team: to change}\n", "{32:spec.new: 1}\n", "{31:spec.old: {} (removed)}\n",
		"   1. set *memory* of guest 100  [in place]\n",
		"   2. shut it down [31m (by Appliance a), if it runs  {33:[restart]}\n",
		"{2:from what was seen 1m30s ago}\n", "{2:= bridge/lan: unchanged}\n", "never looked at",
		"{31:- app/gone in team: to delete}\n   1. destroy it  {31:[data loss]}\n", "{31:blocked:} it is taken\n",
		"Plan: 1 to delete, 0 to create, 1 to change, 1 unchanged, 1 others affected, 1 blocked; worst effect: data loss\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "\x1b") {
		t.Error("something steers the terminal")
	}
	for line := range strings.Lines(got) {
		if strings.Contains(line, "content") && len(line) > 200 {
			t.Errorf("a value is not cut: %s", line)
		}
	}
}

func TestMarkdownIsNotBroken(t *testing.T) {
	var out bytes.Buffer
	if err := Write(&out, brush{}, Markdown, sample()); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	for _, want := range []string{"| 1 | set \\*memory\\* of guest 100 | in place |", "**restart**", "Unchanged: `bridge/lan`", "**Blocked:** it is taken"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for line := range strings.Lines(got) {
		if bars := strings.Count(line, "|") - strings.Count(line, `\|`); strings.HasPrefix(line, "|") && bars != 4 {
			t.Errorf("%d bars: %s", bars, line)
		}
	}
}

func TestProgramsGetEverything(t *testing.T) {
	for _, format := range []string{JSON, YAML} {
		var out bytes.Buffer
		if err := Write(&out, brush{}, format, sample()); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), "{33:") {
			t.Errorf("%s is painted", format)
		}
		if format == YAML {
			if !strings.HasPrefix(out.String(), "apiVersion: proximity/v1alpha1\n") {
				t.Errorf("got %s", out.String())
			}
			continue
		}
		var doc document
		dec := json.NewDecoder(&out)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&doc); err != nil {
			t.Fatal(err)
		}
		if len(doc.Items) != 4 || doc.Summary != (Summary{Change: 1, Delete: 1, Unchanged: 1, Affected: 1, Steps: 3, Blocked: 1, WorstEffect: "data loss"}) ||
			len(doc.Items[0].Changes) != 3 || *doc.Items[0].Observation.AgeSeconds != 90 || doc.Items[2].Changes[0].Path != "spec.x" {
			t.Errorf("got %+v", doc)
		}
	}
}

func TestSummary(t *testing.T) {
	for name, tc := range map[string]struct {
		planned []client.Planned
		text    string
		any     bool
	}{
		"nothing":        {nil, "0 to create, 0 to change, 0 unchanged; no steps outside", false},
		"unknown effect": {[]client.Planned{{Result: "unchanged", Steps: []client.PlanStep{{Effect: "data loss"}, {Effect: "worse"}}}}, "0 to create, 0 to change, 1 unchanged; worst effect: worse", true},
		"steps only":     {[]client.Planned{{Result: "unchanged", Steps: []client.PlanStep{{Effect: "in place"}}}}, "0 to create, 0 to change, 1 unchanged; worst effect: in place", true},
	} {
		if s := Summarize(tc.planned); s.String() != tc.text || s.Anything() != tc.any {
			t.Errorf("%s: %s, %v", name, s, s.Anything())
		}
	}
}
