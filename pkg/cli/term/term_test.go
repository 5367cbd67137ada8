package term

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                  "plain",
		"two\nlines":             "two lines",
		"\x1b[31mred":            " [31mred",
		"bell\a":                 "bell ",
		"not\xffutf8":            "not utf8",
		"right\u202eto left":     "right to left",
		"Größe ✔":                "Größe ✔",
		"c1 \u009b31m csi":       "c1  31m csi",
		"tab\there":              "tab here",
		"carriage return\rfirst": "carriage return first",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got := CleanLog("a\tb\x1b[2J"); got != "a\tb [2J" {
		t.Errorf("CleanLog keeps tabs only, got %q", got)
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b]0;title\a")
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Errorf("Clean(%q) = %q", s, got)
		}
	})
}

func TestCutAndPad(t *testing.T) {
	for _, tt := range []struct {
		in    string
		width int
		want  string
	}{{"short", 10, "short"}, {"exactly", 7, "exactly"}, {"too long", 7, "too ..."}, {"ÄÖÜäöüß", 5, "ÄÖ..."}, {"abcd", 2, ".."}, {"abcd", -1, ""}} {
		if got := Cut(tt.in, tt.width); got != tt.want {
			t.Errorf("Cut(%q, %d) = %q, want %q", tt.in, tt.width, got, tt.want)
		}
	}
	if got := Pad("ä", 3); got != "ä  " {
		t.Errorf("Pad = %q", got)
	}
}

// What is no terminal gets no colours, and a size to format for.
func TestNoTerminal(t *testing.T) {
	out := Of(&bytes.Buffer{}, func(string) string { return "en_US.UTF-8" })
	if out.Is() || out.UTF8() || out.Paint(Red, "x") != "x" {
		t.Errorf("a buffer is taken for a terminal: %+v", out)
	}
	if w, h := out.Size(); w != defaultWidth || h != defaultHeight {
		t.Errorf("size %dx%d", w, h)
	}
}
