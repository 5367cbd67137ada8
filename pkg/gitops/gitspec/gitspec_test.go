package gitspec

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://git.example.org/a/b.git":    "https://git.example.org/a/b.git",
		"http://127.0.0.1:3000/a":            "http://127.0.0.1:3000/a",
		"ssh://git@git.example.org:2222/a/b": "ssh://git@git.example.org:2222/a/b",
		"git@git.example.org:ops/infra.git":  "ssh://git@git.example.org/~/ops/infra.git",
		"git.example.org:/srv/infra.git":     "ssh://git.example.org/srv/infra.git",
		"file:///srv/infra.git":              "file:///srv/infra.git",
	} {
		u, err := ParseURL(raw)
		if err != nil || u.String() != want {
			t.Errorf("%s: %v, %v; want %s", raw, u, err, want)
		}
	}
	for _, raw := range []string{
		"", "infra", "/srv/infra.git", "https://", "https:///x", "https://host", "https://host/", "ftp://host/x", "git://host/x",
		"https://user@host/x", "https://user:pw@host/x", "ssh://user:pw@host/x", "https://host/x?y=z", "https://host/x#y",
		"ssh://-oProxyCommand=x/y", "-oProxyCommand=x:y", "file://other/x", "file:x", "https:host/x", "https://host/a b", "https://host/a\nb", "ext::sh -c x",
	} {
		if u, err := ParseURL(raw); err == nil {
			t.Errorf("%q was taken as %s", raw, u)
		}
	}
}

// TestByHand: what is read by hand is what a pattern says.
func TestByHand(t *testing.T) {
	commit, variable := regexp.MustCompile(`^[0-9a-f]{40}$`), regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[0-9a-f]{38,42}`), rapid.StringMatching(`[A-Za-z0-9_]{0,130}`), rapid.StringMatching(`[@\[{}~^/:.-]`)).Draw(t, "s")
		if IsCommit(s) != (commit.MatchString(s) && strings.Trim(s, "0") != "") {
			t.Fatalf("commit %q", s)
		}
		if IsVariable(s) != variable.MatchString(s) {
			t.Fatalf("variable %q", s)
		}
	})
}

func TestSemver(t *testing.T) {
	for text, ok := range map[string]bool{"1.x": true, ">=1.2 <2": true, "^1": true, "new": false, "": false} {
		if (CheckSemver(text) == nil) != ok {
			t.Errorf("%q: %v", text, CheckSemver(text))
		}
	}
}
