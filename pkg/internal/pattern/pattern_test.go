package pattern

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestAsTheExpressionWithABound: the same texts match as with the bound in the expression.
func TestAsTheExpressionWithABound(t *testing.T) {
	for _, tt := range []struct {
		bounded Bounded
		as      string
	}{
		{New(`\A[!-~]+\z`, 1, 9), `\A[!-~]{1,9}\z`},
		{New(`\A[ -z|~]*\z`, 0, 9), `\A[ -z|~]{0,9}\z`},
		{New(`\A/[A-Za-z0-9/._~-]*\z`, 1, 10), `\A/[A-Za-z0-9/._~-]{0,9}\z`},
		{New(`\A[A-Za-z0-9][A-Za-z0-9._-]*\z`, 1, 10), `\A[A-Za-z0-9][A-Za-z0-9._-]{0,9}\z`},
	} {
		as := regexp.MustCompile(tt.as)
		same := func(t interface{ Errorf(string, ...any) }, s string) {
			if got, want := tt.bounded.MatchString(s), as.MatchString(s); got != want {
				t.Errorf("%q matches: %v, by %s %v", s, got, tt.as, want)
			}
		}
		for n := range 13 {
			same(t, strings.Repeat("a", n))
			same(t, "/"+strings.Repeat("a", n))
			same(t, strings.Repeat("a", n)+"\n")
			same(t, strings.Repeat("é", n))
		}
		rapid.Check(t, func(t *rapid.T) { same(t, rapid.StringMatching(`[/a-c0. {é\n]{0,12}`).Draw(t, "text")) })
	}
}
