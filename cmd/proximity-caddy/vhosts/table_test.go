package vhosts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func text(version string, lines ...string) []byte {
	all := append([]string{fmt.Sprintf(`{"entries":%d,"version":%q,"check":"check.invalid"}`, len(lines), version)}, lines...)
	return []byte(strings.Join(all, "\n") + "\n")
}

func read(t testing.TB, data []byte, old *table) *table {
	t.Helper()
	got, err := parse(data, old, newEntry)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestLookup(t *testing.T) {
	got := read(t, text("1",
		`{"id":"a","hosts":["Web.Example","*.apps.example"],"tls":true}`,
		`{"id":"b","hosts":["own.apps.example"]}`,
	), nil)
	for host, want := range map[string]string{
		"web.example": "a", "x.apps.example": "a", "own.apps.example": "b",
		"apps.example": "", "a.b.apps.example": "", "example": "", "": "", ".apps.example": "a", "*.apps.example": "a",
	} {
		id := ""
		if e := got.lookup(host); e != nil {
			id = e.id
		}
		if id != want {
			t.Errorf("%q is %q's, want %q", host, id, want)
		}
	}
}

// TestLinesThatStay keep their entry, whatever happens around them.
func TestLinesThatStay(t *testing.T) {
	a, b, c := `{"id":"a","hosts":["a"]}`, `{"id":"b","hosts":["b"]}`, `{"id":"c","hosts":["c"]}`
	first := read(t, text("1", a, b), nil)
	second := read(t, text("2", c, b), first)
	if second.lookup("b") != first.lookup("b") || second.lookup("a") != nil || second.lookup("c") == nil {
		t.Errorf("%+v", second)
	}
}

func TestOneBadLine(t *testing.T) {
	got := read(t, text("1", `{"id":"a","hosts":["a"]}`, `{"id":"b","hosts":`, `{"id":"","hosts":["x"]}`, `{"id":"d","hosts":["a b"]}`, `{"id":"e\nf","hosts":["f"]}`, `{"id":"e","hosts":["a","e"]}`), nil)
	if got.lookup("a").id != "a" || got.lookup("e").id != "e" || len(got.entries) != 2 {
		t.Errorf("%+v", got)
	}
	if len(got.problems) != 5 || !strings.Contains(got.problems[0], "line 3") || !strings.Contains(got.problems[4], "the host a is a's") ||
		strings.Contains(strings.Join(got.problems, ""), "\n") {
		t.Errorf("%q", got.problems)
	}
}

func TestNotATable(t *testing.T) {
	for name, data := range map[string]string{
		"empty":        "",
		"no header":    "nonsense\n",
		"half a line":  "{\"entries\":1}\n{\"id\":\"a\"",
		"too few":      "{\"entries\":2}\n{\"id\":\"a\",\"hosts\":[\"a\"]}\n",
		"too many":     "{\"entries\":0}\n{\"id\":\"a\",\"hosts\":[\"a\"]}\n",
		"a huge count": "{\"entries\":1000000}\n",
		"negative":     "{\"entries\":-1}\n",
	} {
		if got, err := parse([]byte(data), nil, newEntry); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
	if _, err := parse([]byte("{\"entries\":2}\n{}\n"), nil, newEntry); !errors.Is(err, errNotWhole) {
		t.Errorf("got %v", err)
	}
}

// FuzzTable: nothing that stands in a file does harm, and what is found belongs there.
func FuzzTable(f *testing.F) {
	f.Add(text("1", `{"id":"a","hosts":["a","*.b"],"http":[{}]}`))
	f.Add([]byte("{\"entries\":0}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := parse(data, nil, newEntry)
		if err != nil {
			return
		}
		for host, e := range first.hosts {
			if host != strings.ToLower(host) || e.id == "" {
				t.Errorf("%q leads to %+v", host, e)
			}
		}
		second, err := parse(data, first, func(string, line) *entry { t.Fatal("an entry was made anew"); return nil })
		if err != nil || len(second.entries) != len(first.entries) {
			t.Errorf("read again: %v", err)
		}
	})
}

func TestHostOf(t *testing.T) {
	for header, want := range map[string]string{
		"Web.Example": "web.example", "web.example:8443": "web.example", "web.example.": "web.example", "[::1]:80": "::1", "": "", "a:b:c": "a:b:c",
	} {
		if got := hostOf(header); got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "table")
	for _, c := range []struct{ data, out, err string }{
		{string(text("1", `{"id":"a","hosts":["a"]}`)), "", ""},
		{string(text("1", `{"id":"a","hosts":["a"]}`, `{"id":"b","hosts":["a"]}`)), "b: the host a is a's\n", ""},
		{"{\"entries\":1}\n", "", "not whole"},
	} {
		if err := os.WriteFile(file, []byte(c.data), 0o600); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		err := check(file, &out)
		if out.String() != c.out || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %q, %v", c.data, out.String(), err)
		}
	}
}
