package gitspec

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	maxName = 255
	maxPath = 1024
)

// JoinPath joins a directory inside a repository ("" is its root) and the name of an entry.
// It refuses a name that could lead out of the directory or be mistaken for another one, on
// any system: ., .., separators, control characters, .git in all its spellings.
func JoinPath(dir, name string) (string, error) {
	if why := badName(name); why != "" {
		return "", fmt.Errorf("the name %q in directory %q: %s", shorten(name), dir, why)
	}
	joined := name
	if dir != "" {
		joined = dir + "/" + name
	}
	if len(joined) > maxPath {
		return "", fmt.Errorf("the path %q has more than %d bytes", shorten(joined), maxPath)
	}
	return joined, nil
}

// CleanPath checks the path of a directory inside a repository and returns it without what
// means nothing; "" is the root.
func CleanPath(p string) (string, error) {
	p = strings.TrimPrefix(p, "/") // of the repository's root, as other tools have it
	if p == "" || p == "." || p == "./" {
		return "", nil
	}
	clean := ""
	for name := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(p, "./"), "/"), "/") {
		next, err := JoinPath(clean, name)
		if err != nil {
			return "", err
		}
		clean = next
	}
	return clean, nil
}

// badName says what is wrong with the name of an entry, "" when nothing is.
func badName(name string) string {
	switch {
	case name == "":
		return "an empty name"
	case name == "." || name == "..":
		return "it leads to another directory"
	case strings.ContainsAny(name, `/\`):
		return "it has a separator of paths"
	case len(name) > maxName:
		return fmt.Sprintf("it has more than %d bytes", maxName)
	case !utf8.ValidString(name):
		return "it is not UTF-8"
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "it has control characters"
	case isGitDir(name):
		return "a repository inside a repository is not read"
	}
	return ""
}

// isGitDir tells whether some file system takes the name for .git: case, characters that
// HFS+ ignores, dots and spaces that NTFS ignores at the end, its short name, its streams.
func isGitDir(name string) bool {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
			return -1
		}
		return r
	}, name)
	name, _, _ = strings.Cut(name, ":")
	name = strings.ToLower(strings.TrimRight(name, ". "))
	return name == ".git" || name == "git~1"
}

// Folded is equal for names that are one file where case does not matter, nor whether a letter
// with an accent is one character or two.
func Folded(name string) string {
	return norm.NFC.String(strings.ToLower(strings.ToUpper(norm.NFD.String(name))))
}

// Clash says why two names are one, whose Folded is the same: it goes on after both of them.
func Clash(a, b string) string {
	switch {
	case a == b:
		return "have the same name"
	case norm.NFC.String(a) == norm.NFC.String(b):
		return fmt.Sprintf("differ in the normalisation of Unicode only (%+q, %+q)", a, b)
	}
	return "differ in case only"
}

// Excluded tells whether a path matches one of the patterns: as path.Match has them, of the
// whole path or of a directory above it.
func Excluded(p string, patterns []string) bool {
	for at := p; at != "." && at != "/" && at != ""; at = path.Dir(at) {
		for _, pattern := range patterns {
			if ok, _ := path.Match(strings.Trim(pattern, "/"), at); ok {
				return true
			}
		}
	}
	return false
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
