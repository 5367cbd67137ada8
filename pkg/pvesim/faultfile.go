package pvesim

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// faultLine is one fault of a file.
type faultLine struct {
	Method string `yaml:"method"`
	Path   string `yaml:"path"`
	Nth    int    `yaml:"nth"`
	After  bool   `yaml:"after"`
	Delay  string `yaml:"delay"`
	Action Action `yaml:"action"`
	Status int    `yaml:"status"`
	Text   string `yaml:"text"`
	Node   string `yaml:"node"`
}

// actions are the values of the field action.
var actions = []Action{
	ActTimeout, ActReset, ActUnauthorized, ActForbidden, ActError, ActStatus, ActTruncate, ActHTML, ActDrip,
	ActTaskDies, ActTaskVanishes, ActTaskWarns, ActTaskFails, ActOffline, ActOnline, ActQuorumLost, ActQuorumBack,
}

// maxFaultFile bounds a file of faults.
const maxFaultFile = 1 << 20

// ParseFaults reads a fault script: YAML or JSON with a list "faults". Errors name the
// line, the field and what is allowed; file is the name that they begin with.
func ParseFaults(file string, r io.Reader) ([]Fault, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxFaultFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", file, err)
	case len(raw) > maxFaultFile:
		return nil, fmt.Errorf("%s: larger than %d bytes", file, maxFaultFile)
	}
	var doc struct {
		Faults []yaml.Node `yaml:"faults"`
	}
	dec := yaml.NewDecoder(strings.NewReader(string(raw)))
	dec.KnownFields(true)
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(doc.Faults) > maxFaults {
		return nil, fmt.Errorf("%s: %d faults, at most %d are allowed", file, len(doc.Faults), maxFaults)
	}
	out := make([]Fault, 0, len(doc.Faults))
	for i := range doc.Faults {
		f, err := parseFault(&doc.Faults[i])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, doc.Faults[i].Line, err)
		}
		out = append(out, f)
	}
	return out, nil
}

var faultFields = []string{"method", "path", "nth", "after", "delay", "action", "status", "text", "node"}

func parseFault(n *yaml.Node) (Fault, error) {
	if n.Kind != yaml.MappingNode {
		return Fault{}, errors.New("a fault is a mapping of " + strings.Join(faultFields, ", "))
	}
	for i := 0; i < len(n.Content); i += 2 {
		if key := n.Content[i].Value; !slices.Contains(faultFields, key) {
			return Fault{}, fmt.Errorf("field %q is not one of %s", key, strings.Join(faultFields, ", "))
		}
	}
	var l faultLine
	if err := n.Decode(&l); err != nil {
		return Fault{}, err
	}
	f := Fault{Method: l.Method, Path: l.Path, Nth: l.Nth, After: l.After, Action: l.Action, Status: l.Status, Text: l.Text, Node: l.Node}
	if l.Delay != "" {
		d, err := time.ParseDuration(l.Delay)
		if err != nil || d < 0 {
			return Fault{}, fmt.Errorf("delay is %q, want a duration like 500ms or 3s", l.Delay)
		}
		f.Delay = d
	}
	return f, checkFault(f)
}

func checkFault(f Fault) error {
	if _, err := path.Match(f.Path, ""); err != nil {
		return fmt.Errorf("path is %q, want the beginning of a path or a pattern with *", f.Path)
	}
	switch {
	case f.Method != "" && !slices.Contains([]string{"GET", "POST", "PUT", "DELETE"}, f.Method):
		return fmt.Errorf("method is %q, want GET, POST, PUT or DELETE", f.Method)
	case f.Nth < 0:
		return fmt.Errorf("nth is %d, want 0 (every request) or more", f.Nth)
	case f.Action != "" && !slices.Contains(actions, f.Action):
		return fmt.Errorf("action is %q, want one of %s", f.Action, joinActions())
	case (f.Action == ActStatus || f.Status != 0) && (f.Status < 400 || f.Status > 599):
		return fmt.Errorf("status is %d, want 400 to 599", f.Status)
	case f.Action == "" && f.Status == 0 && f.Delay == 0:
		return errors.New("neither action, status nor delay: nothing would happen")
	}
	return nil
}

func joinActions() string {
	list := make([]string, len(actions))
	for i, a := range actions {
		list[i] = string(a)
	}
	return strings.Join(list, ", ")
}
