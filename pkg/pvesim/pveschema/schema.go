// Package pveschema validates requests of the Proxmox VE API against the API's own
// schema (types, named formats, property strings, limits) and words every refusal as
// the real server does (PVE::JSONSchema).
//
// The schema of each method that the simulator serves is embedded (methods/<area>.json,
// made by gen from a dump of the API viewer), so serving another method costs one line
// in served/<area>.txt and a handler.
package pveschema

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// Param is the schema of one parameter, or of one key of a property string.
type Param struct {
	Type       string           `json:"type"`
	Optional   flag             `json:"optional"`
	Format     string           `json:"format"`
	Properties map[string]Param `json:"properties"` // of a property string
	DefaultKey flag             `json:"default_key"`
	Enum       []string         `json:"enum"`
	Pattern    string           `json:"pattern"`
	Minimum    *float64         `json:"minimum"`
	Maximum    *float64         `json:"maximum"`
	MinLength  *int             `json:"minLength"`
	MaxLength  *int             `json:"maxLength"`
	Requires   string           `json:"requires"`
	Items      *Param           `json:"items"` // of an array

	re *regexp.Regexp
}

// flag is a boolean that the schema writes as 1.
type flag bool

func (f *flag) UnmarshalJSON(b []byte) error {
	*f = string(b) == "1" || string(b) == "true"
	return nil
}

// Permissions says who may call a method.
type Permissions struct {
	// User is "world" (no authentication), "all" (any user; the handler checks) or "".
	User string `json:"user"`
	// Check is an expression like ["perm", "/nodes/{node}", ["Sys.Modify"], "any", 1].
	Check []any `json:"check"`
}

// Method is the schema of one method of one path.
type Method struct {
	Method      string           `json:"method"`
	Path        string           `json:"path"` // template, /nodes/{node}/lxc
	Parameters  map[string]Param `json:"parameters"`
	Permissions *Permissions     `json:"permissions"` // nil: root@pam with a ticket only
	NeedsTicket bool             `json:"needsTicket"` // API tokens are refused, whatever their rights

	indexed map[string]Param // base name of net[n], mp[n]...
}

//go:embed methods/*.json
var methodsJSON embed.FS

// Load returns the embedded methods, keyed by "METHOD /path". They are read once; nobody may
// change them.
func Load() (map[string]*Method, error) { return loaded() }

var loaded = sync.OnceValues(readMethods)

func readMethods() (map[string]*Method, error) {
	files, err := methodsJSON.ReadDir("methods")
	if err != nil {
		return nil, err
	}
	var list []*Method
	for _, f := range files {
		var area []*Method
		raw, err := methodsJSON.ReadFile("methods/" + f.Name())
		if err = errors.Join(err, json.Unmarshal(raw, &area)); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		list = append(list, area...)
	}
	out := make(map[string]*Method, len(list))
	for _, m := range list {
		m.indexed = map[string]Param{}
		if err := compile(m.Parameters); err != nil {
			return nil, fmt.Errorf("%s %s: %w", m.Method, m.Path, err)
		}
		for name, p := range m.Parameters {
			if base, ok := strings.CutSuffix(name, "[n]"); ok {
				m.indexed[base] = p
				delete(m.Parameters, name)
			}
		}
		out[m.Method+" "+m.Path] = m
	}
	return out, nil
}

// perlToGo rewrites what Go's regexp cannot read: (?^:...) is how Perl prints a group
// with default flags, and Go counts repetitions to 1000 only.
var perlToGo = strings.NewReplacer("(?^:", "(?:", "(?^i:", "(?i:", "{0,4096}", "*")

func compile(params map[string]Param) error {
	for name, p := range params {
		if p.Pattern != "" {
			re, err := regexp.Compile(`\A(?:` + perlToGo.Replace(p.Pattern) + `)\n?\z`)
			if err != nil {
				return fmt.Errorf("pattern of %s: %w", name, err)
			}
			p.re = re
		}
		if err := compile(p.Properties); err != nil {
			return err
		}
		if p.Items != nil {
			item := map[string]Param{name: *p.Items}
			if err := compile(item); err != nil {
				return err
			}
			compiled := item[name]
			p.Items = &compiled
		}
		params[name] = p
	}
	return nil
}

// Routes reports whether a path element may be the parameter: one with a pattern that
// the element does not match makes the whole path unknown, other values are refused by
// Check.
func (m *Method) Routes(name, value string) bool {
	p := m.Parameters[name]
	return p.re == nil || p.re.MatchString(value)
}

// maxIndex is the highest number of each indexed parameter (net0 to net31).
var maxIndex = map[string]int{"net": 31, "mp": 255, "dev": 255, "unused": 255}

// Lookup finds the schema of a parameter by its name in a request; net3 finds net[n].
func (m *Method) Lookup(name string) (Param, bool) {
	if p, ok := m.Parameters[name]; ok {
		return p, true
	}
	base, _, ok := SplitIndex(name)
	if !ok {
		return Param{}, false
	}
	p, ok := m.indexed[base]
	return p, ok
}

// SplitIndex splits net3 into net and 3, for the indexed options within their bounds.
func SplitIndex(name string) (base string, n int, ok bool) {
	i := len(name)
	for i > 0 && name[i-1] >= '0' && name[i-1] <= '9' {
		i--
	}
	digits := name[i:]
	if digits == "" || len(digits) > 3 || len(digits) > 1 && digits[0] == '0' {
		return "", 0, false
	}
	for _, c := range digits {
		n = n*10 + int(c-'0')
	}
	limit, known := maxIndex[name[:i]]
	return name[:i], n, known && n <= limit
}
