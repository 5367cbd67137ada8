package proxmox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Int is a whole number as Proxmox VE sends it: 1, "1" or 1.0. null and "" are 0. A
// fraction is cut off: averages have some, and one of them must not hide a whole list.
type Int int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *Int) UnmarshalJSON(b []byte) error {
	s, err := scalarText(b)
	if err != nil || s == "" {
		*n = 0
		return err
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		*n = Int(i)
		return nil
	}
	// Perl prints large integers as 1e+15, and booleans may stand for 1 and 0.
	switch s {
	case "true":
		*n = 1
		return nil
	case "false":
		*n = 0
		return nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) >= 1<<63 {
		return fmt.Errorf("not a whole number: %.40q", s)
	}
	*n = Int(f)
	return nil
}

// Float is a number as Proxmox VE sends it: 0.5, "0.5" or 1. null and "" are 0.
type Float float64

// UnmarshalJSON implements json.Unmarshaler.
func (n *Float) UnmarshalJSON(b []byte) error {
	s, err := scalarText(b)
	if err != nil || s == "" {
		*n = 0
		return err
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("not a number: %.40q", s)
	}
	*n = Float(f)
	return nil
}

// Bool is a truth value as Proxmox VE sends it: 1, "1", true, "on", "yes". Absent,
// null and "" are false.
type Bool bool

// UnmarshalJSON implements json.Unmarshaler.
func (v *Bool) UnmarshalJSON(b []byte) error {
	s, err := scalarText(b)
	if err != nil {
		return err
	}
	p, ok := ParseBool(s)
	if !ok && s != "" {
		return fmt.Errorf("not a boolean: %.40q", s)
	}
	*v = Bool(p)
	return nil
}

// ParseBool reads a boolean in the spellings that property strings may use:
// 1|on|yes|true and 0|off|no|false, in any case.
func ParseBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "1", "on", "yes", "true":
		return true, true
	case "0", "off", "no", "false":
		return false, true
	}
	return false, false
}

// formatBool is the only spelling that request parameters may use.
func formatBool(v bool) string {
	if v {
		return "1"
	}
	return "0"
}

// Text is a string that Proxmox VE may send as a number. null is "".
type Text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(b []byte) error {
	s, err := scalarText(b)
	*t = Text(s)
	return err
}

// scalarText returns a JSON scalar as text: a string's content, or a number or
// boolean as written. null is "". Arrays and objects are errors.
func scalarText(b []byte) (string, error) {
	b = bytes.TrimSpace(b)
	if len(b) == 0 || string(b) == "null" {
		return "", nil
	}
	switch b[0] {
	case '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return "", err
		}
		return s, nil
	case '{', '[':
		return "", fmt.Errorf("scalar expected, got %.20s", b)
	}
	return string(b), nil
}
