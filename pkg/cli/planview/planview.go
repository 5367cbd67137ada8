// Package planview shows plans: as text for terminals, as Markdown for reviews, as JSON
// and YAML for programs. Text from the outside cannot steer the terminal.
package planview

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
)

// Formats of a plan.
const (
	Text     = "text"
	Markdown = "markdown"
	JSON     = "json"
	YAML     = "yaml"
)

// Formats lists them.
var Formats = []string{Text, Markdown, JSON, YAML}

// effects from harmless to destructive.
var effects = []string{"in place", "restart", "recreate", "data loss"}

// Summary counts a plan.
type Summary struct {
	Create    int `json:"create"`
	Change    int `json:"change"`
	Delete    int `json:"delete"`
	Unchanged int `json:"unchanged"`
	// Affected objects are others, for which something is done because of the changes.
	Affected int `json:"affected"`
	// Steps outside, of all objects.
	Steps int `json:"steps"`
	// Blocked objects.
	Blocked int `json:"blocked"`
	// WorstEffect of all steps, "" when there are none.
	WorstEffect string `json:"worstEffect,omitempty"`
}

// Summarize counts what a plan would do.
func Summarize(planned []client.Planned) Summary {
	var s Summary
	for _, p := range planned {
		switch p.Result {
		case "created":
			s.Create++
		case "configured":
			s.Change++
		case "deleted":
			s.Delete++
		case "affected":
			s.Affected++
		default:
			s.Unchanged++
		}
		if p.Blocked != nil {
			s.Blocked++
		}
		for _, st := range p.Steps {
			s.Steps++
			// An effect that this version does not know is worse than those it knows.
			if worse(st.Effect, s.WorstEffect) {
				s.WorstEffect = st.Effect
			}
		}
	}
	return s
}

func worse(a, b string) bool {
	if b == "" {
		return true
	}
	return rank(a) > rank(b)
}

func rank(effect string) int {
	if i := slices.Index(effects, effect); i >= 0 {
		return i
	}
	return len(effects)
}

// Anything tells whether there is anything to do.
func (s Summary) Anything() bool { return s.Create+s.Change+s.Delete+s.Steps+s.Blocked > 0 }

// String is the summary's line.
func (s Summary) String() string {
	text := fmt.Sprintf("%d to create, %d to change, %d unchanged", s.Create, s.Change, s.Unchanged)
	if s.Delete > 0 {
		text = fmt.Sprintf("%d to delete", s.Delete)
		if s.Create+s.Change+s.Unchanged > 0 {
			text += fmt.Sprintf(", %d to create, %d to change, %d unchanged", s.Create, s.Change, s.Unchanged)
		}
	}
	if s.Affected > 0 {
		text += fmt.Sprintf(", %d others affected", s.Affected)
	}
	if s.Blocked > 0 {
		text += fmt.Sprintf(", %d blocked", s.Blocked)
	}
	if s.WorstEffect == "" {
		return text + "; no steps outside"
	}
	return text + "; worst effect: " + s.WorstEffect
}

// Painter colours a text where colours are wanted; a *term.Terminal is one.
type Painter interface {
	Paint(c term.Colour, text string) string
}

// Write writes a plan in one of Formats.
func Write(w io.Writer, t Painter, format string, planned []client.Planned) error {
	switch format {
	case JSON:
		data, err := encode(planned)
		if err != nil {
			return err
		}
		_, err = w.Write(append(data, '\n'))
		return err
	case YAML:
		data, err := encode(planned)
		if err != nil {
			return err
		}
		if data, err = yaml.JSONToYAML(data); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	case Markdown:
		return writeMarkdown(w, planned)
	}
	return writeText(w, t, planned)
}

// document is the form for programs; it is that of the REST API, with a summary and
// without the whole objects.
type document struct {
	APIVersion string  `json:"apiVersion"`
	Kind       string  `json:"kind"`
	Summary    Summary `json:"summary"`
	Items      []item  `json:"items"`
}

type item struct {
	Kind        string      `json:"kind"`
	Namespace   string      `json:"namespace,omitempty"`
	Name        string      `json:"name"`
	Result      string      `json:"result"`
	Changes     []change    `json:"changes"`
	Steps       []step      `json:"steps"`
	Blocked     *block      `json:"blocked,omitempty"`
	Notes       []string    `json:"notes,omitempty"`
	Observation observation `json:"observation"`
}

type change struct {
	Path string          `json:"path"`
	Old  json.RawMessage `json:"old,omitempty"`
	New  json.RawMessage `json:"new,omitempty"`
}

type step struct {
	Action string `json:"action"`
	Text   string `json:"text"`
	Effect string `json:"effect"`
	By     string `json:"by,omitempty"`
	If     string `json:"if,omitempty"`
}

type block struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

type observation struct {
	State      string `json:"state"`
	At         string `json:"at,omitempty"`
	AgeSeconds *int   `json:"ageSeconds,omitempty"`
}

func encode(planned []client.Planned) ([]byte, error) {
	doc := document{APIVersion: "proximity/v1alpha1", Kind: "PlanResultList", Summary: Summarize(planned), Items: make([]item, len(planned))}
	for i, p := range planned {
		it := item{
			Kind: p.Key.Kind, Namespace: p.Key.Namespace, Name: p.Key.Name, Result: p.Result, Notes: p.Notes,
			Changes: make([]change, len(p.Changes)), Steps: make([]step, len(p.Steps)), Observation: observation{State: p.Observation},
		}
		for j, c := range p.Changes {
			it.Changes[j] = change{c.Path, json.RawMessage(c.Old), json.RawMessage(c.New)}
		}
		for j, s := range p.Steps {
			it.Steps[j] = step(s)
		}
		if p.Blocked != nil {
			b := block(*p.Blocked)
			it.Blocked = &b
		}
		if !p.ObservedAt.IsZero() {
			age := int(p.Age / time.Second)
			it.Observation.At, it.Observation.AgeSeconds = p.ObservedAt.UTC().Format(time.RFC3339), &age
		}
		doc.Items[i] = it
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return nil, fmt.Errorf("encode the plan: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
