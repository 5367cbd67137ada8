package vhosts

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func text(version string, lines ...string) []byte {
	all := append([]string{fmt.Sprintf(`{"entries":%d,"version":%q,"check":"check.invalid"}`, len(lines), version)}, lines...)
	return []byte(strings.Join(all, "\n") + "\n")
}

func read(t testing.TB, data []byte, old *table) *table {
	t.Helper()
	if old == nil {
		old = &table{}
	}
	got, _, err := parse(data, old)
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

// TestFollowedLikeReadAnew: from whatever table before, the outcome is that of reading the file
// alone, lines that stay keep their entry, and nothing is both kept and let go.
func TestFollowedLikeReadAnew(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	old := &table{}
	for step := range 3000 {
		var lines []string
		for range random.IntN(7) {
			switch n := random.IntN(8); n {
			case 0:
				lines = append(lines, "bad")
			default: // some share hosts
				lines = append(lines, fmt.Sprintf(`{"id":"v%d","hosts":["h%d","h%d"]}`, n, n, random.IntN(9)))
			}
		}
		data := text(fmt.Sprint(step), lines...)
		got, c, err := parse(data, old)
		if err != nil {
			t.Fatal(err)
		}
		want := read(t, data, nil)
		owners := func(t *table) map[string]string {
			all := map[string]string{}
			for host, e := range t.hosts {
				all[host] = e.raw
			}
			return all
		}
		if !maps.Equal(owners(got), owners(want)) || !slices.Equal(got.problems, want.problems) || len(got.entries) != len(want.entries) {
			t.Fatalf("%s\nafter %d lines: %v %q, want %v %q", data, len(old.entries), owners(got), got.problems, owners(want), want.problems)
		}
		for _, e := range old.entries {
			if slices.Contains(got.entries, e) == slices.Contains(c.gone, e) {
				t.Fatalf("%s: kept and gone, or neither", e.id)
			}
			if slices.Contains(lines, e.raw) && slices.Contains(c.gone, e) && !slices.ContainsFunc(got.entries, func(o *entry) bool { return o.raw == e.raw && slices.Contains(old.entries, o) }) {
				t.Fatalf("%s did not stay", e.id)
			}
		}
		old = got
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
		if got, _, err := parse([]byte(data), &table{}); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
	if _, _, err := parse([]byte("{\"entries\":2}\n{}\n"), &table{}); !errors.Is(err, errNotWhole) {
		t.Errorf("got %v", err)
	}
}

// FuzzTable: nothing that stands in a file does harm, and what is found belongs there.
func FuzzTable(f *testing.F) {
	f.Add(text("1", `{"id":"a","hosts":["a","*.b"],"http":[{}]}`))
	f.Add([]byte("{\"entries\":0}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, _, err := parse(data, &table{})
		if err != nil {
			return
		}
		for host, e := range first.hosts {
			if host != strings.ToLower(host) || e.id == "" {
				t.Errorf("%q leads to %+v", host, e)
			}
		}
		second, c, err := parse(data, first)
		if err != nil || len(c.fresh)+len(c.gone) != 0 || len(second.entries) != len(first.entries) {
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

// BenchmarkOneMore reads a table of 10,000 lines with one more than before, in the middle.
func BenchmarkOneMore(b *testing.B) {
	var lines []string
	for i := range 10_001 {
		lines = append(lines, leads(fmt.Sprintf("default/v%05d", i), fmt.Sprintf("v%05d.example", i), "10.20.0.50:8080"))
	}
	one := lines[5000]
	more := text("2", lines...)
	old := read(b, text("1", slices.Delete(lines, 5000, 5001)...), nil)
	b.SetBytes(int64(len(more)))
	for b.Loop() {
		got, c, err := parse(more, old)
		if err != nil || len(c.fresh) != 1 || got.lookup("v05000.example").raw != one {
			b.Fatal(err)
		}
	}
}
