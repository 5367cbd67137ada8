package resource

import "regexp"

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

var (
	dnsLabel   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	labelValue = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`)
	labelKey   = regexp.MustCompile(`^(?:([a-z0-9.-]+)/)?([A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)$`)
	dnsName    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
)

// NameRule says in words what IsName takes.
const NameRule = nameRule

// IsName tells whether s can be the name of an object: a DNS name of at most MaxNameLength
// characters. Names of namespaces, which stand before others, are single labels.
func IsName(s string) bool { return len(s) <= MaxNameLength && IsDNSName(s) }

// IsDNSLabel tells whether s is one lower-case label of a DNS name.
func IsDNSLabel(s string) bool { return dnsLabel.MatchString(s) }

// IsDNSName tells whether s is one or more lower-case labels joined by dots, at most 253
// characters, without a dot at the end.
func IsDNSName(s string) bool { return len(s) <= maxPrefixLength && dnsName.MatchString(s) }

// IsLabelKey tells whether s can be the key of a label or annotation, or a finalizer:
// name or dns.name/name.
func IsLabelKey(s string) bool {
	m := labelKey.FindStringSubmatch(s)
	return m != nil && (m[1] == "" || IsDNSName(m[1]))
}

// IsLabelValue tells whether s can be the value of a label.
func IsLabelValue(s string) bool { return labelValue.MatchString(s) }
