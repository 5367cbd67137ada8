package resource

import "strings"

const (
	// MaxNameLength bounds names of objects. With a namespace and a few characters around
	// them they are names of files, which have at most 255.
	MaxNameLength = 128
	// MaxAnnotationsBytes bounds all annotations of an object together, as Kubernetes does.
	MaxAnnotationsBytes = 256 << 10

	maxPrefixLength = 253 // a DNS name
	// MaxLabels bounds the labels of an object.
	MaxLabels = 256
	// MaxFinalizers bounds the finalizers and the owners of an object.
	MaxFinalizers = 32

	nameRule       = "a DNS name of at most 128 characters: labels of a-z, 0-9 and -, joined by dots"
	labelRule      = "a DNS label: 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit"
	labelKeyRule   = "an optional DNS name and /, then 1 to 63 of letters, digits, -, _ and ., beginning and ending with a letter or digit"
	labelValueRule = "empty, or 1 to 63 of letters, digits, -, _ and ., beginning and ending with a letter or digit"
)

// NameRule says in words what IsName takes.
const NameRule = nameRule

// IsName tells whether s can be the name of an object: a DNS name of at most MaxNameLength
// characters. Names of namespaces, which stand before others, are single labels.
func IsName(s string) bool { return len(s) <= MaxNameLength && IsDNSName(s) }

// Names are asked about with every write, so they are read by hand; a test compares with the
// regular expressions that say the same.

// maxLabelLength is the length of a label of a DNS name, and of the name in a label's key.
const maxLabelLength = 63

// IsDNSLabel tells whether s is one lower-case label of a DNS name.
func IsDNSLabel(s string) bool {
	if s == "" || len(s) > maxLabelLength || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' {
			return false
		}
	}
	return true
}

// IsDNSName tells whether s is one or more lower-case labels joined by dots, at most 253
// characters, without a dot at the end.
func IsDNSName(s string) bool {
	if len(s) > maxPrefixLength {
		return false
	}
	for {
		label, rest, more := strings.Cut(s, ".")
		if !IsDNSLabel(label) {
			return false
		}
		if !more {
			return true
		}
		s = rest
	}
}

// IsLabelKey tells whether s can be the key of a label or annotation, or a finalizer:
// name or dns.name/name.
func IsLabelKey(s string) bool {
	if prefix, name, has := strings.Cut(s, "/"); has {
		return IsDNSName(prefix) && name != "" && IsLabelValue(name)
	}
	return s != "" && IsLabelValue(s)
}

// IsLabelValue tells whether s can be the value of a label.
func IsLabelValue(s string) bool {
	if s == "" {
		return true
	}
	if len(s) > maxLabelLength || !isLetterOrDigit(s[0]) || !isLetterOrDigit(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isLetterOrDigit(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func isLetterOrDigit(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
