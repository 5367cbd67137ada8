package proxmox

import (
	"regexp"
	"slices"
	"strings"
)

var tagPattern = regexp.MustCompile(`^[a-z0-9_][a-z0-9_.+-]*$`)

// ValidTag reports whether tag is one, in the lower case that Proxmox VE stores.
func ValidTag(tag string) bool { return tagPattern.MatchString(tag) }

// SplitTags splits a tag list at commas, semicolons and white space, as Proxmox VE
// does, and normalises it.
func SplitTags(s string) []string {
	return NormaliseTags(strings.FieldsFunc(s, func(r rune) bool {
		return r == ',' || r == ';' || r == 0 || r == ' ' || r == '\t' || r == '\n' || r == '\r'
	}))
}

// NormaliseTags returns the tags as Proxmox VE gives them back by default: lower
// case, sorted, each once. The input is left alone.
func NormaliseTags(tags []string) []string {
	out := make([]string, 0, len(tags))
	for _, t := range tags {
		if t != "" {
			out = append(out, strings.ToLower(t))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// JoinTags is the inverse of SplitTags, in the form that Proxmox VE stores.
func JoinTags(tags []string) string { return strings.Join(NormaliseTags(tags), ";") }

// TrimDescription removes the newline that Proxmox VE adds to a description each
// time it stores one. Compare descriptions after it.
func TrimDescription(s string) string { return strings.TrimRight(s, "\n") }
