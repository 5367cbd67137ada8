package guest

import "strings"

// ShellQuote makes a POSIX shell see s as one word, unchanged. Within single quotes nothing is
// special but the single quote itself.
func ShellQuote(s string) string {
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
