package proxmox

import (
	"fmt"
	"slices"
	"strings"
)

// Property is one part of a property string. A part without a key ("default key"
// in the API schema, e.g. the volume of rootfs) has Key "".
type Property struct {
	Key, Value string
}

// PropertyString is a comma separated list of key=value parts, the format of net[n],
// rootfs, mp[n], features and startup. It keeps order and keys it knows nothing of,
// so that reading, changing one key and writing back loses nothing.
//
// The server writes them back in its own order: compare with Equal, never as text.
type PropertyString []Property

// ParsePropertyString reads a property string. Empty parts are dropped, duplicate
// keys are errors, as on the server. A value that begins with a double quote ends at
// the matching one, with backslash escapes.
func ParsePropertyString(s string) (PropertyString, error) {
	var out PropertyString
	for rest := s; rest != ""; {
		key, value, tail, err := nextProperty(rest)
		if err != nil {
			return nil, fmt.Errorf("property string %.80q: %w", s, err)
		}
		rest = tail
		if key == "" && value == "" {
			continue
		}
		if out.index(key) >= 0 {
			return nil, fmt.Errorf("property string %.80q: duplicate key %q", s, key)
		}
		out = append(out, Property{key, value})
	}
	return out, nil
}

// nextProperty takes one part off the front of s, with the comma behind it.
func nextProperty(s string) (key, value, rest string, err error) {
	part, tail, _ := strings.Cut(s, ",")
	k, v, hasKey := strings.Cut(part, "=")
	if hasKey = hasKey && !strings.HasPrefix(s, `"`); !hasKey {
		k, v = "", part
	} else if k == "" {
		return "", "", "", fmt.Errorf("no key before %.20q", part)
	}
	if !strings.HasPrefix(v, `"`) {
		if !hasKey {
			v = strings.TrimSpace(v)
		} else if v == "" {
			return "", "", "", fmt.Errorf("no value for key %q", k)
		}
		return k, v, tail, nil
	}
	quoted := s[len(part)-len(v):]
	v, n, err := unquote(quoted)
	if err != nil {
		return "", "", "", err
	}
	after := quoted[n:]
	if after != "" && after[0] != ',' {
		return "", "", "", fmt.Errorf("text after the closing quote: %.20q", after)
	}
	return k, v, strings.TrimPrefix(after, ","), nil
}

// unquote reads a double-quoted string at the start of s and returns its content and
// how many bytes it took.
func unquote(s string) (string, int, error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			if b.Len() == 0 {
				return "", 0, fmt.Errorf("empty quoted value")
			}
			return b.String(), i + 1, nil
		case '\\':
			i++
			if i == len(s) {
				return "", 0, fmt.Errorf("unfinished escape")
			}
		}
		b.WriteByte(s[i])
	}
	return "", 0, fmt.Errorf("unfinished quote")
}

// String writes the property string. A value that could not be read back otherwise is
// quoted.
func (p PropertyString) String() string {
	var b strings.Builder
	for i, part := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		if part.Key != "" {
			b.WriteString(part.Key)
			b.WriteByte('=')
		}
		if needsQuotes(part) {
			b.WriteByte('"')
			b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(part.Value))
			b.WriteByte('"')
		} else {
			b.WriteString(part.Value)
		}
	}
	return b.String()
}

func needsQuotes(p Property) bool {
	if strings.HasPrefix(p.Value, `"`) || strings.Contains(p.Value, ",") {
		return true
	}
	// Without a key, an equals sign would make one, and outer blanks would go.
	return p.Key == "" && (strings.Contains(p.Value, "=") || strings.TrimSpace(p.Value) != p.Value)
}

// Get returns the value of key.
func (p PropertyString) Get(key string) (string, bool) {
	if i := p.index(key); i >= 0 {
		return p[i].Value, true
	}
	return "", false
}

// Value returns the value of key, or "".
func (p PropertyString) Value(key string) string {
	v, _ := p.Get(key)
	return v
}

// Bool returns the boolean value of key; absent or unreadable is false.
func (p PropertyString) Bool(key string) bool {
	v, _ := ParseBool(p.Value(key))
	return v
}

// With returns a copy in which key has that value, in its old place or at the end.
// An empty value removes the key.
func (p PropertyString) With(key, value string) PropertyString {
	out := slices.Clone(p)
	i := out.index(key)
	switch {
	case value == "" && i >= 0:
		return slices.Delete(out, i, i+1)
	case value == "":
		return out
	case i >= 0:
		out[i].Value = value
		return out
	}
	return append(out, Property{key, value})
}

// Without returns a copy that lacks the keys.
func (p PropertyString) Without(keys ...string) PropertyString {
	out := slices.Clone(p)
	return slices.DeleteFunc(out, func(q Property) bool { return slices.Contains(keys, q.Key) })
}

// Equal reports whether both have the same keys with the same values, in any order.
func (p PropertyString) Equal(q PropertyString) bool {
	if len(p) != len(q) {
		return false
	}
	for _, part := range p {
		if v, ok := q.Get(part.Key); !ok || v != part.Value {
			return false
		}
	}
	return true
}

func (p PropertyString) index(key string) int {
	return slices.IndexFunc(p, func(q Property) bool { return q.Key == key })
}
