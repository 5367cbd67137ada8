package appliance

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestAlphabetsAndLengths holds what is told by an expression and a length against one
// expression that says both.
func TestAlphabetsAndLengths(t *testing.T) {
	for _, tt := range []struct {
		name    string
		matches func(string) bool
		as      string
		most    int
	}{
		{"header", headerValueRE.MatchString, `\A[ -z|~]{0,999}\z`, 999},
		{"identifier", identRE.MatchString, `\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\z`, 128},
		{"path", pathRE.MatchString, `\A/[A-Za-z0-9/._~+,:;=@&-]{0,999}\z`, 1000},
		{"path of a probe", probePathRE.MatchString, `\A/[A-Za-z0-9/._~+,:;=@&?-]{0,999}\z`, 1000},
		{"key of a probe", probeKeyRE.MatchString, `\A[A-Za-z0-9][A-Za-z0-9./_:-]{0,254}\z`, 255},
		{"URL", urlRE.MatchString, `\A[A-Za-z0-9/._~:-]{1,512}\z`, 512},
		{"word", wordRE.MatchString, `\A[!-~]{1,255}\z`, 255},
		{"redirect", isRedirect, `\A(https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?)?(/[A-Za-z0-9/._~+,:;=@&?%-]{0,999})?\z`, 1000},
		{"key of the DNS challenge", isTSIGKey, `\A[A-Za-z0-9+/]{8,512}={0,2}\z`, 512},
	} {
		t.Run(tt.name, func(t *testing.T) {
			as := regexp.MustCompile(tt.as)
			same := func(t interface{ Errorf(string, ...any) }, s string) {
				if got, want := tt.matches(s), as.MatchString(s); got != want {
					t.Errorf("%.60q (%d bytes) matches: %v, by one expression %v", s, len(s), got, want)
				}
			}
			for _, begin := range []string{"", "/", "a", "http://a.example", "https://a.example:443/", "http://a.example:123456/", "é", "a\n"} {
				for _, n := range []int{0, 1, 7, 8, tt.most - 2, tt.most - 1, tt.most, tt.most + 1, 2 * tt.most} {
					for _, end := range []string{"", "=", "==", "===", "\n", " ", "{", "é", "\x00"} {
						same(t, begin+strings.Repeat("a", n)+end)
					}
				}
			}
			rapid.Check(t, func(t *rapid.T) {
				same(t, rapid.OneOf(rapid.StringMatching(`(https?://)?[a-c0:./?%= {}\n-]{0,24}`), rapid.String()).Draw(t, "text"))
			})
		})
	}
}
