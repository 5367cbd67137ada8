// Package shellwords splits a command line into words as a POSIX shell does, and does
// nothing else: no expansion, no operators. The simulated node's ssh server uses it,
// because an ssh client sends one string that the remote shell would split.
package shellwords

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of Split.
var (
	ErrUnterminated = errors.New("unterminated quoted string")
	ErrOperator     = errors.New("shell operators and expansions are not supported")
)

// special characters end a plain command outside quotes; a real shell would do
// something with them, so a line that has one unquoted is refused instead of misread.
const special = "|&;<>()$`*?[#~!{}\n"

// Split returns the words of the line. Single quotes keep everything; double quotes
// keep everything but \ before one of $ ` " \ and newline; a backslash outside quotes
// keeps the next character. $ and ` inside double quotes are refused.
func Split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	open := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == ' ' || c == '\t':
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
		case c == '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return nil, ErrUnterminated
			}
			word.WriteString(line[i+1 : i+1+end])
			i += end + 1
			open = true
		case c == '"':
			n, err := doubleQuoted(&word, line[i+1:])
			if err != nil {
				return nil, err
			}
			i += n
			open = true
		case c == '\\':
			if i++; i >= len(line) {
				return nil, ErrUnterminated
			}
			if line[i] != '\n' { // an escaped newline joins lines
				word.WriteByte(line[i])
				open = true
			}
		case strings.IndexByte(special, c) >= 0 && !(open && strings.IndexByte("#~!{}", c) >= 0):
			return nil, fmt.Errorf("%q: %w", c, ErrOperator)
		default:
			word.WriteByte(c)
			open = true
		}
	}
	if open {
		words = append(words, word.String())
	}
	return words, nil
}

// doubleQuoted reads up to the closing quote and returns how many bytes it took,
// the quote included.
func doubleQuoted(word *strings.Builder, rest string) (int, error) {
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; c {
		case '"':
			return i + 1, nil
		case '$', '`':
			return 0, fmt.Errorf("%q: %w", c, ErrOperator)
		case '\\':
			if i+1 < len(rest) && strings.IndexByte("$`\"\\\n", rest[i+1]) >= 0 {
				i++
				if rest[i] != '\n' {
					word.WriteByte(rest[i])
				}
				continue
			}
			word.WriteByte(c)
		default:
			word.WriteByte(c)
		}
	}
	return 0, ErrUnterminated
}

// Quote makes a word that Split (and any POSIX shell) reads back as s.
func Quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
