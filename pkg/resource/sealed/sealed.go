// Package sealed is the textual form of sealed values, without the cryptography: what is
// stored in a sensitive field, and what is shown of it.
//
//	sealed:v1:<version>:<key id>:<box>   stored
//	sealed:v1:<version>                  shown: the mark
//
// The version is 16 random bytes in hexadecimal, new with every new value and kept when the
// value is sealed again with another key. So a mark tells that a value has changed, and
// nothing of the value. The key id is 6 bytes in hexadecimal, the box is base64 (unpadded,
// for URLs) of what package seal makes.
package sealed

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
)

const (
	prefix = "sealed:v1:"
	// VersionBytes and KeyIDBytes are the sizes before they are written in hexadecimal.
	VersionBytes = 16
	KeyIDBytes   = 6
	// MaxBytes bounds the text of a sealed value; an object is smaller.
	MaxBytes = 1 << 20
)

// ErrFormat: the text is neither a sealed value nor the mark of one. It never quotes the text.
var ErrFormat = errors.New("not a sealed value")

// Value is a sealed value, or a mark: then KeyID and Box are empty.
type Value struct {
	Version string
	KeyID   string
	Box     []byte
}

// Parse reads a sealed value or a mark.
func Parse(text string) (Value, error) {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok || len(text) > MaxBytes {
		return Value{}, ErrFormat
	}
	parts := strings.Split(rest, ":")
	v := Value{Version: parts[0]}
	if !isHex(v.Version, VersionBytes) {
		return Value{}, ErrFormat
	}
	switch len(parts) {
	case 1:
		return v, nil
	case 3:
	default:
		return Value{}, ErrFormat
	}
	var err error
	v.KeyID = parts[1]
	if v.Box, err = base64.RawURLEncoding.Strict().DecodeString(parts[2]); err != nil || len(v.Box) == 0 ||
		!isHex(v.KeyID, KeyIDBytes) || strings.ContainsAny(parts[2], "\r\n") {
		return Value{}, ErrFormat
	}
	return v, nil
}

// isHex tells whether s is n bytes in lower-case hexadecimal.
func isHex(s string, n int) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == n && strings.ToLower(s) == s
}

// IsMark tells whether the value is a mark.
func (v Value) IsMark() bool { return len(v.Box) == 0 }

// Mark is what may be shown.
func (v Value) Mark() string { return prefix + v.Version }

// String is the text that Parse reads.
func (v Value) String() string {
	if v.IsMark() {
		return v.Mark()
	}
	return v.Mark() + ":" + v.KeyID + ":" + base64.RawURLEncoding.EncodeToString(v.Box)
}

// IsSealed tells whether text is a sealed value, and no mark.
func IsSealed(text string) bool {
	v, err := Parse(text)
	return err == nil && !v.IsMark()
}

// MarkOf returns what may be shown of a stored text: the mark or, when the text is no
// sealed value, nothing of it.
func MarkOf(text string) string {
	v, err := Parse(text)
	if err != nil {
		return "sealed:unreadable"
	}
	return v.Mark()
}
