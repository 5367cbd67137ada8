package pveschema

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ParseProperties splits a property string (k=v,k=v) into its keys. A first part
// without = is the value of defaultKey. Values are taken as they are; a key may
// appear once.
func ParseProperties(s, defaultKey string) (map[string]string, error) {
	out := map[string]string{}
	for _, part := range strings.Split(s, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			if defaultKey == "" {
				return nil, errors.New("value without key, but schema does not define a default key")
			}
			key, value = defaultKey, part
		}
		if key == "" {
			return nil, fmt.Errorf("missing key in comma-separated list property")
		}
		if _, dup := out[key]; dup {
			return nil, fmt.Errorf("duplicate key in comma-separated list property: %s", key)
		}
		out[key] = value
	}
	return out, nil
}

// FormatProperties writes a property string in Proxmox' canonical order: the default
// key first and without its name, then required keys, then the others, each group
// sorted. Keys that the schema does not know come last.
func FormatProperties(values map[string]string, schema map[string]Param) string {
	rank := func(key string) int {
		p, known := schema[key]
		switch {
		case !known:
			return 3
		case bool(p.DefaultKey):
			return 0
		case !bool(p.Optional):
			return 1
		default:
			return 2
		}
	}
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, 0, len(keys))
	for _, key := range keys {
		value := values[key]
		p := schema[key]
		if p.Type == "boolean" {
			if b, ok := parseBoolean(value); ok {
				value = b
			}
		}
		if p.DefaultKey {
			parts = append(parts, value)
		} else {
			parts = append(parts, key+"="+value)
		}
	}
	return strings.Join(parts, ",")
}

// Canonical parses and rewrites a property string by its schema.
func (p Param) Canonical(s string) (string, error) {
	values, err := ParseProperties(s, p.defaultKey())
	if err != nil {
		return "", err
	}
	return FormatProperties(values, p.Properties), nil
}

// parseBoolean reads the spellings that property strings allow.
func parseBoolean(s string) (string, bool) {
	switch strings.ToLower(s) {
	case "1", "on", "yes", "true":
		return "1", true
	case "0", "off", "no", "false":
		return "0", true
	}
	return "", false
}
