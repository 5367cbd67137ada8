package pveschema

import (
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Errors maps a parameter to the text of its refusal: the "errors" object of a 400.
type Errors map[string]string

// Value is one parameter as it arrived: usually one string, several when the key was
// repeated or a JSON body had a list, which the server makes an array.
type Value struct {
	Text   string
	Array  bool
	Object bool     // a JSON object, which no parameter takes
	Items  []string // of an array
}

// Normalize makes scalars of array parameters lists and joins lists of those that are
// text with a -list format, as PVE::RESTHandler does before it validates.
func (m *Method) Normalize(params map[string]Value) map[string]Value {
	out := make(map[string]Value, len(params))
	for name, v := range params {
		p, ok := m.Lookup(name)
		switch {
		case !ok || v.Object:
		case p.Type == "array" && !v.Array:
			v = Value{Text: v.Text, Array: true, Items: []string{v.Text}}
		case p.Type == "array":
			v.Text = strings.Join(v.Items, ",")
		case v.Array && p.Type == "string" && strings.HasSuffix(p.Format, "-list"):
			v = Value{Text: strings.Join(v.Items, ",")}
		}
		out[name] = v
	}
	return out
}

// Texts of PVE::JSONSchema.
const (
	errUndefined = "property is not defined in schema and the schema does not allow additional properties"
	errMissing   = "property is missing and it is not optional"
	errPattern   = "value does not match the regex pattern"
)

// Check validates the parameters of a request (path, query and body together) and
// returns what is wrong with them, nil if nothing is.
func (m *Method) Check(params map[string]Value) Errors {
	errs := Errors{}
	for name, p := range m.Parameters {
		v, given := params[name]
		if !given {
			if !p.Optional {
				errs[name] = errMissing
			}
			continue
		}
		if p.Requires != "" {
			if _, ok := params[p.Requires]; !ok {
				errs[p.Requires] = fmt.Sprintf("missing property required by '%s'", name)
			}
		}
		checkValue(errs, name, p, v)
	}
	for name, v := range params {
		if _, ok := m.Parameters[name]; ok {
			continue
		}
		p, ok := m.Lookup(name)
		if !ok {
			errs[name] = errUndefined
			continue
		}
		checkValue(errs, name, p, v)
	}
	if len(errs) == 0 {
		return nil
	}
	return errs
}

func checkValue(errs Errors, name string, p Param, v Value) {
	switch {
	case v.Object:
		errs[name] = fmt.Sprintf("type check ('%s') failed - got HASH", p.Type)
		if p.Type == "array" {
			errs[name] = "type check ('array') failed"
		}
	case v.Array && p.Type != "array":
		errs[name] = fmt.Sprintf("type check ('%s') failed - got ARRAY", p.Type)
	case v.Array:
		for i, item := range v.Items {
			if p.Items == nil {
				break
			}
			at := fmt.Sprintf("%s[%d]", name, i)
			if msg := p.Items.check(at, item); msg != "" {
				errs[at] = msg
			}
		}
	default:
		if msg := p.check(name, v.Text); msg != "" {
			errs[name] = msg
		}
	}
}

var (
	integerRE = regexp.MustCompile(`^[+-]?\d+$`)
	numberRE  = regexp.MustCompile(`^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$`)
)

// check returns the refusal of one scalar, or "". The order of the checks is the real
// server's: type, format, pattern, lengths, limits, enumeration.
func (p Param) check(name, s string) string {
	bad := false
	switch p.Type {
	case "integer":
		bad = !integerRE.MatchString(s)
	case "number":
		bad = !numberRE.MatchString(s)
	case "boolean":
		bad = s != "0" && s != "1"
	}
	if bad {
		return fmt.Sprintf("type check ('%s') failed - got '%s'", p.Type, s)
	}
	if p.Properties != nil {
		if msg := p.checkProperties(name, s); msg != "" {
			return "invalid format - " + msg + "\n"
		}
	}
	if p.Format != "" {
		if msg := CheckFormat(p.Format, s); msg != "" {
			return "invalid format - " + msg + "\n"
		}
	}
	if p.re != nil && !p.re.MatchString(s) {
		return errPattern
	}
	length := utf8.RuneCountInString(s)
	switch {
	case p.MaxLength != nil && length > *p.MaxLength:
		return fmt.Sprintf("value may only be %d characters long", *p.MaxLength)
	case p.MinLength != nil && length < *p.MinLength:
		return fmt.Sprintf("value must be at least %d characters long", *p.MinLength)
	}
	if msg := p.checkLimits(s); msg != "" {
		return msg
	}
	return p.checkEnum(s)
}

// checkLimits compares whatever looks like a number, whatever its type, the upper limit
// first.
func (p Param) checkLimits(s string) string {
	if p.Minimum == nil && p.Maximum == nil || !numberRE.MatchString(s) {
		return ""
	}
	n, err := strconv.ParseFloat(s, 64)
	switch {
	case p.Maximum != nil && (n > *p.Maximum || err != nil): // out of the range of a float is above every maximum
		return "value must have a maximum value of " + formatNumber(p.Maximum)
	case p.Minimum != nil && n < *p.Minimum:
		return "value must have a minimum value of " + formatNumber(p.Minimum)
	}
	return ""
}

func formatNumber(n *float64) string {
	if n == nil {
		return "0"
	}
	return strconv.FormatFloat(*n, 'f', -1, 64)
}

func (p Param) checkEnum(s string) string {
	if len(p.Enum) == 0 {
		return ""
	}
	for _, e := range p.Enum {
		if e == s {
			return ""
		}
	}
	return fmt.Sprintf("value '%s' does not have a value in the enumeration '%s'", s, strings.Join(p.Enum, ", "))
}

// checkProperties validates a property string; the text lists each wrong key with its
// dotted name, a line each.
func (p Param) checkProperties(name, s string) string {
	values, err := ParseProperties(s, p.defaultKey())
	if err != nil {
		return err.Error()
	}
	errs := Errors{}
	for key, schema := range p.Properties {
		v, ok := values[key]
		switch {
		case !ok && !bool(schema.Optional):
			errs[key] = errMissing
		case ok && schema.Type == "boolean":
			if _, ok := parseBoolean(v); !ok {
				errs[key] = fmt.Sprintf("type check ('boolean') failed - got '%s'", v)
			}
		case ok:
			if msg := schema.check(name+"."+key, v); msg != "" {
				errs[key] = msg
			}
		}
	}
	for key := range values {
		if _, ok := p.Properties[key]; !ok {
			errs[key] = errUndefined
		}
	}
	if len(errs) == 0 {
		return ""
	}
	keys := make([]string, 0, len(errs))
	for key := range errs {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	var b strings.Builder
	b.WriteString("format error")
	for _, key := range keys {
		fmt.Fprintf(&b, "\n%s.%s: %s", name, key, errs[key])
	}
	return b.String()
}

func (p Param) defaultKey() string {
	for key, schema := range p.Properties {
		if schema.DefaultKey {
			return key
		}
	}
	return ""
}
