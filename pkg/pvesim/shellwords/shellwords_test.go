package shellwords

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
		err  error
	}{
		{"", nil, nil},
		{"  a\t b ", []string{"a", "b"}, nil},
		{`'' ""`, []string{"", ""}, nil},
		{`'a b'c"d e"\ f`, []string{"a bcd e f"}, nil},
		{`'it'\''s'`, []string{"it's"}, nil},
		{`"a\"b\\c\d"`, []string{`a"b\c\d`}, nil},
		{"'$HOME' '`x`' 'a;b'", []string{"$HOME", "`x`", "a;b"}, nil},
		{"a#b", []string{"a#b"}, nil},
		{"#a", nil, ErrOperator},
		{"a; b", nil, ErrOperator},
		{`"$HOME"`, nil, ErrOperator},
		{"a\nb", nil, ErrOperator},
		{"'a", nil, ErrUnterminated},
		{`"a`, nil, ErrUnterminated},
		{`a\`, nil, ErrUnterminated},
	} {
		got, err := Split(c.in)
		if !errors.Is(err, c.err) || c.err == nil && !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, %v; want %q, %v", c.in, got, err, c.want, c.err)
		}
	}
}

func TestQuoteRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.String()).Draw(t, "words")
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = Quote(w)
		}
		got, err := Split(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(got, words) {
			t.Fatalf("%q became %q, %v", words, got, err)
		}
	})
}

func FuzzSplit(f *testing.F) {
	f.Add(`pct exec 100 --keep-env 0 -- tee '/etc/a b'`)
	f.Add(`"\`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Split(line)
		if err != nil {
			return
		}
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, Quote(w))
		}
		again, err := Split(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(again, words) {
			t.Fatalf("%q: %q, then %q, %v", line, words, again, err)
		}
	})
}
