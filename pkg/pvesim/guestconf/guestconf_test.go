package guestconf

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestFormat(t *testing.T) {
	c := New()
	c.SetDescription("two\nlines ü: 100%")
	c.Values["cores"] = "2"
	c.Values["arch"] = "amd64"
	c.Values["net0"] = "name=eth0,bridge=vmbr0"
	c.Pending["nameserver"] = "1.1.1.1"
	c.Deleted = []string{"features"}
	want := "#two\n#lines %C3%BC%3A 100%25\narch: amd64\ncores: 2\nnet0: name=eth0,bridge=vmbr0\n\n[pve:pending]\ndelete: features\nnameserver: 1.1.1.1\n"
	got, err := c.Format()
	if err != nil || got != want {
		t.Fatalf("got %q, %v\nwant %q", got, err, want)
	}
	back := Parse(got)
	if !reflect.DeepEqual(back, c) {
		t.Fatalf("read back %+v, want %+v", back, c)
	}
	if d := back.Values["description"]; d != "two\nlines ü: 100%\n" {
		t.Fatalf("description %q", d)
	}
	if len(Digest(got)) != 40 {
		t.Fatal("digest is not a SHA-1")
	}
}

func TestFormatRefusesLineBreaks(t *testing.T) {
	c := New()
	c.Values["hostname"] = "a\nlock: backup"
	if text, err := c.Format(); err == nil {
		t.Fatalf("wrote %q", text)
	}
}

func TestEffective(t *testing.T) {
	c := Parse("cores: 1\nfeatures: nesting=1\n\n[pve:pending]\ndelete: features\ncores: 4\n")
	if got := c.Effective(); got["cores"] != "4" || got["features"] != "" {
		t.Fatalf("%v", got)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := New()
		key := rapid.StringMatching(`[a-z][a-z0-9_-]{0,10}`).Filter(func(s string) bool { return s != "description" && s != "delete" })
		value := rapid.StringMatching(`[!-~]([ -~]{0,20}[!-~])?`)
		c.Values = rapid.MapOf(key, value).Draw(t, "values")
		c.Pending = rapid.MapOf(key, value).Draw(t, "pending")
		c.SetDescription(rapid.String().Draw(t, "description"))
		if rapid.Bool().Draw(t, "with a snapshot") {
			snap := New()
			snap.Values = rapid.MapOf(key, value).Draw(t, "snapshot")
			snap.SetDescription("taken\nby hand")
			c.SetSnapshot("s1", snap)
		}
		text, err := c.Format()
		if err != nil {
			t.Fatal(err)
		}
		if back := Parse(text); !reflect.DeepEqual(back, c) {
			t.Fatalf("%q\nread back %+v\nwant %+v", text, back, c)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("#a%3A\ncores: 1\n\n[pve:pending]\ndelete: x\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := Parse(text)
		out, err := c.Format()
		if err != nil {
			if strings.Contains(text, "\r") {
				return
			}
			t.Fatalf("%q was read but cannot be written: %v", text, err)
		}
		again, err := Parse(out).Format()
		if err != nil || again != out {
			t.Fatalf("not stable: %q, %q, %v", out, again, err)
		}
	})
}

func TestSnapshotsAreSections(t *testing.T) {
	text := "arch: amd64\nparent: b\n\n[pve:pending]\ncores: 4\n\n[a]\n#first\ncores: 1\nsnaptime: 5\nlxc.idmap: u 0 1 2\n\n[b]\ncores: 2\nparent: a\n"
	c := Parse(text)
	if len(c.Snapshots) != 2 || c.Snapshots["a"].Values["description"] != "first\n" || len(c.Snapshots["a"].Raw) != 1 ||
		c.Snapshots["b"].Values["parent"] != "a" || c.Values["description"] != "" || c.Pending["cores"] != "4" {
		t.Fatalf("%+v", c)
	}
	if got, err := c.Format(); err != nil || got != text {
		t.Fatalf("%v\n%s", err, got)
	}
	clone := c.Clone()
	clone.Snapshots["a"].Values["cores"] = "9"
	if c.Snapshots["a"].Values["cores"] != "1" {
		t.Fatal("a clone shares its snapshots")
	}
}
