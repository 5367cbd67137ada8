package ssh

import (
	"errors"
	"strings"
)

// maxCommandLine bounds a quoted command: the kernel takes 128 KiB for one argument, and
// sshd hands the whole line to the login shell as one.
const maxCommandLine = 128<<10 - 1

var errCommandLine = errors.New("command line is empty, too long or has a NUL byte")

// commandLine quotes each argument for a POSIX shell and joins them.
func commandLine(argv []string) (string, error) {
	words := make([]string, len(argv))
	for i, a := range argv {
		words[i] = quote(a)
	}
	line := strings.Join(words, " ")
	if line == "" || len(line) > maxCommandLine || strings.ContainsRune(line, 0) {
		return "", errCommandLine
	}
	return line, nil
}

// quote makes a POSIX shell see s as one word, unchanged. Within single quotes nothing is
// special but the single quote itself.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, unsafeInShell) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// unsafeInShell is true for all but characters that no shell gives a meaning to, anywhere
// in a word. The equals sign is not among them: it would make a first word an assignment.
func unsafeInShell(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:,@+", r))
}
