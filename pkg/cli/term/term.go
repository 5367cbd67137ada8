// Package term is what the command line needs to know of the terminal it writes to:
// whether it is one, its size, whether to colour, and how to keep text from the outside
// from steering it.
package term

import (
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// Size of a terminal that does not tell its own.
const (
	defaultWidth  = 80
	defaultHeight = 24
)

// Terminal is an output. Everything is false or the default for what is no terminal.
type Terminal struct {
	fd     int
	is     bool
	colour bool
	utf8   bool
}

// Of looks at an output. getenv gives the environment: NO_COLOR and TERM=dumb switch
// colours (and, the latter, cursor movement) off, the locale decides about symbols
// outside ASCII.
func Of(w io.Writer, getenv func(string) string) *Terminal {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || getenv("TERM") == "dumb" {
		return &Terminal{}
	}
	t := &Terminal{fd: int(f.Fd()), is: true, colour: getenv("NO_COLOR") == ""}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToUpper(getenv(name)); v != "" {
			t.utf8 = strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
			break
		}
	}
	return t
}

// Is tells whether the output is a terminal that can move its cursor.
func (t *Terminal) Is() bool { return t.is }

// UTF8 tells whether symbols outside ASCII can be shown.
func (t *Terminal) UTF8() bool { return t.utf8 }

// Size returns columns and rows now.
func (t *Terminal) Size() (width, height int) {
	if t.is {
		if w, h, err := term.GetSize(t.fd); err == nil && w > 0 && h > 0 {
			return w, h
		}
	}
	return defaultWidth, defaultHeight
}

// Colour is an SGR parameter.
type Colour string

// Colours.
const (
	Red    Colour = "31"
	Green  Colour = "32"
	Yellow Colour = "33"
	Faint  Colour = "2"
)

// Paint colours a text where colours are wanted.
func (t *Terminal) Paint(c Colour, text string) string {
	if !t.colour || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// Clean returns a text as one line without anything that a terminal would obey: control
// characters and what is not UTF-8 become blanks. Messages come from guests and from
// Proxmox.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, s)
}

// CleanLog is Clean for a line of a log: tabs stay.
func CleanLog(s string) string {
	lines := strings.Split(s, "\t")
	for i := range lines {
		lines[i] = Clean(lines[i])
	}
	return strings.Join(lines, "\t")
}

// Cut shortens a clean text to at most width columns, with an ellipsis. Each character
// counts as one column.
func Cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	if width <= 3 {
		return strings.Repeat(".", max(0, width))
	}
	runes := []rune(s)
	return string(runes[:width-3]) + "..."
}

// Pad fills a text with blanks to at least width characters.
func Pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}
