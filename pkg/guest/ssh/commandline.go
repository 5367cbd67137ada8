package ssh

import (
	"errors"
	"strings"

	"github.com/proximity-pve/proximity/pkg/guest"
)

// maxCommandLine bounds a quoted command: the kernel takes 128 KiB for one argument, and
// sshd hands the whole line to the login shell as one.
const maxCommandLine = 128<<10 - 1

var errCommandLine = errors.New("command line is empty, too long or has a NUL byte")

// commandLine quotes each argument for a POSIX shell and joins them.
func commandLine(argv []string) (string, error) {
	words := make([]string, len(argv))
	for i, a := range argv {
		words[i] = guest.ShellQuote(a)
	}
	line := strings.Join(words, " ")
	if line == "" || len(line) > maxCommandLine || strings.ContainsRune(line, 0) {
		return "", errCommandLine
	}
	return line, nil
}
