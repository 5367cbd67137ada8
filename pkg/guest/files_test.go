package guest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/guest"
	"pgregory.net/rapid"
)

// meddler stands between WriteFiles and a guest and spoils one of its runs.
type meddler struct {
	guest.Runner
	runs int
	// spoil may change the command of run n (from 0), or fail it.
	spoil func(n int, c *guest.Command) error
}

func (m *meddler) Run(ctx context.Context, t guest.Target, c guest.Command) (guest.Result, error) {
	n := m.runs
	m.runs++
	if m.spoil != nil {
		if err := m.spoil(n, &c); err != nil {
			return guest.Result{}, err
		}
	}
	return m.Runner.Run(ctx, t, c)
}

// tree lists all files and directories below dir with modes and contents.
func tree(t interface{ Fatal(...any) }, dir string) map[string]string {
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data := ""
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data = string(b)
		}
		out[strings.TrimPrefix(path, dir)] = fmt.Sprint(info.Mode(), " ", data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func isRoot() bool { return os.Geteuid() == 0 }

func needRoot(t testing.TB) {
	if !isRoot() {
		t.Skip("files are given to root, so this needs root")
	}
}

func TestWriteFiles(t *testing.T) {
	needRoot(t)
	for _, mode := range []guest.Mode{guest.ModePct, guest.ModeAttach} {
		t.Run(string(mode), func(t *testing.T) {
			dir := t.TempDir()
			r := &meddler{Runner: newOnNode(t, mode)}
			if err := os.WriteFile(dir+"/old", []byte("old content, longer than the new"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/etc/passwd", dir+"/link"); err != nil {
				t.Fatal(err)
			}
			err := guest.WriteFilesBelow(t.Context(), r, target, []guest.File{
				{Path: dir + "/old", Data: []byte("new")},
				{Path: dir + "/link", Data: []byte("not a link any more")},
				{Path: dir + "/made/for/it/a file $(id) 'x'", Data: []byte{0, 1, 2, '\n', 255}, Mode: 0o755},
				{Path: dir + "/owned", Mode: 0o640, Owner: "root:daemon"},
			}, dir+"/stage-root")
			if err != nil {
				t.Fatal(err)
			}
			if r.runs != 2 {
				t.Errorf("%d runs, want 2", r.runs)
			}
			want := map[string]string{
				"/old":                          "-rw-r--r-- new",
				"/link":                         "-rw-r--r-- not a link any more",
				"/made":                         "drwxr-xr-x ",
				"/made/for":                     "drwxr-xr-x ",
				"/made/for/it":                  "drwxr-xr-x ",
				"/made/for/it/a file $(id) 'x'": "-rwxr-xr-x \x00\x01\x02\n\xff",
				"/owned":                        "-rw-r----- ",
				"/stage-root":                   "drwxr-xr-x ",
			}
			got := tree(t, dir)
			delete(got, "")
			for path, state := range want {
				if got[path] != state {
					t.Errorf("%s: %q, want %q", path, got[path], state)
				}
				delete(got, path)
			}
			if len(got) != 0 {
				t.Errorf("left behind: %v", got)
			}
		})
	}
}

func TestWriteFilesFailureChangesNothing(t *testing.T) {
	needRoot(t)
	unreachable := fmt.Errorf("cut: %w", guest.ErrUnreachable)
	for _, tc := range []struct {
		name  string
		file  string
		spoil func(n int, c *guest.Command) error
		want  error
	}{
		{name: "not unpacked", spoil: func(n int, _ *guest.Command) error { return when(n == 0, unreachable) }, want: guest.ErrUnreachable},
		{name: "not installed", spoil: func(n int, _ *guest.Command) error { return when(n == 1, unreachable) }, want: guest.ErrUnreachable},
		{name: "archive cut short", spoil: func(n int, c *guest.Command) error {
			if n == 0 {
				c.Stdin = io.LimitReader(c.Stdin, 1500)
			}
			return nil
		}},
		{name: "a byte flipped", spoil: func(n int, c *guest.Command) error {
			if n == 0 {
				b, _ := io.ReadAll(c.Stdin)
				c.Stdin = bytes.NewReader(bytes.Replace(b, []byte("new b"), []byte("neW b"), 1))
			}
			return nil
		}},
		{name: "target is a directory", file: "/dir"},
		{name: "target is a directory, and the connection breaks then", file: "/dir",
			spoil: func(n int, _ *guest.Command) error { return when(n == 2, unreachable) }},
		{name: "directory is a file", file: "/a/x"},
		{name: "no such owner"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			r := &meddler{Runner: newOnNode(t, guest.ModePct), spoil: tc.spoil}
			for name, data := range map[string]string{"/a": "old a", "/b": "old b"} {
				if err := os.WriteFile(dir+name, []byte(data), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.MkdirAll(dir+"/dir/kept", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(dir+"/stage-root", 0o755); err != nil {
				t.Fatal(err)
			}
			before := tree(t, dir)
			files := []guest.File{{Path: dir + "/a", Data: []byte("new a")}, {Path: dir + "/b", Data: []byte("new b")}}
			if tc.file != "" {
				files = append(files, guest.File{Path: dir + tc.file, Data: []byte("x")})
			}
			if tc.name == "no such owner" {
				files[1].Owner = "nobody-of-that-name"
			}
			err := guest.WriteFilesBelow(t.Context(), r, target, files, dir+"/stage-root")
			if err == nil {
				t.Fatal("no error")
			}
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
			if after := tree(t, dir); !mapsEqual(before, after) {
				t.Errorf("changed or left behind:\n%v\n%v\n(%v)", before, after, err)
			}
		})
	}
}

func when(cond bool, err error) error {
	if cond {
		return err
	}
	return nil
}

func mapsEqual(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// A guest without a shell takes more runs, with the same result.
func TestWriteFilesWithoutShell(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	r := &meddler{Runner: newOnNode(t, guest.ModePct), spoil: func(_ int, c *guest.Command) error {
		if c.Argv[0] == "/bin/sh" {
			c.Argv = []string{"/no/shell"}
		}
		return nil
	}}
	files := []guest.File{{Path: dir + "/a", Data: []byte("A"), Mode: 0o600}, {Path: dir + "/new dir/b", Data: []byte("B")}}
	if err := guest.WriteFilesBelow(t.Context(), r, target, files, dir+"/stage-root"); err != nil {
		t.Fatal(err)
	}
	got := tree(t, dir)
	if got["/a"] != "-rw------- A" || got["/new dir/b"] != "-rw-r--r-- B" || len(got) != 5 {
		t.Errorf("%v", got)
	}
}

func TestWriteFilesChecksItsInput(t *testing.T) {
	r := &meddler{}
	many := make([]guest.File, guest.MaxFiles+1)
	for i := range many {
		many[i].Path = fmt.Sprint("/f", i)
	}
	for name, files := range map[string][]guest.File{
		"relative":         {{Path: "etc/x"}},
		"not clean":        {{Path: "/etc/../x"}},
		"the root":         {{Path: "/"}},
		"a newline":        {{Path: "/etc/x\n0 0 0 /etc/shadow"}},
		"a trailing blank": {{Path: "/etc/x "}},
		"twice":            {{Path: "/x"}, {Path: "/x"}},
		"setuid":           {{Path: "/x", Mode: 0o755 | fs.ModeSetuid}},
		"odd owner":        {{Path: "/x", Owner: "root; id"}},
		"option as owner":  {{Path: "/x", Owner: "--reference=/etc/shadow"}},
		"too many":         many,
		"too large":        {{Path: "/x", Data: make([]byte, guest.MaxFileBytes+1)}},
	} {
		if err := guest.WriteFiles(t.Context(), r, target, files); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := guest.WriteFiles(t.Context(), r, target, nil); err != nil {
		t.Errorf("nothing to write: %v", err)
	}
	if r.runs != 0 {
		t.Errorf("%d runs", r.runs)
	}
}

// Whatever the path's name, the file ends up there and nothing else changes.
func TestWriteFilesAnyName(t *testing.T) {
	needRoot(t)
	o := newOnNode(t, guest.ModeAttach)
	base := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		if runs++; runs > 25 { // each costs two processes
			return
		}
		dir := fmt.Sprint(base, "/", runs)
		name := rapid.StringOfN(rapid.RuneFrom([]rune("ab-=$`'\"\\ ;|&*?[]{}()<>#!~%é\u2028")), 1, 12, -1).Draw(t, "name")
		name = "/d/" + strings.TrimSpace("x"+name+"x")
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		err := guest.WriteFilesBelow(t.Context(), o, target, []guest.File{{Path: dir + name, Data: data}}, dir+"/s")
		if err != nil {
			t.Fatal(err)
		}
		got := tree(t, dir)
		if got[name] != "-rw-r--r-- "+string(data) || len(got) != 4 {
			t.Fatalf("%q: %q", name, got)
		}
	})
}

func TestReadAndRemoveFiles(t *testing.T) {
	o := newOnNode(t, guest.ModePct)
	dir := t.TempDir()
	content := bytes.Repeat([]byte{0, 'a', '\n'}, 1000)
	if err := os.WriteFile(dir+"/f", content, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := guest.ReadFile(t.Context(), o, target, dir+"/f", 0); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := guest.ReadFile(t.Context(), o, target, dir+"/f", len(content)-1); !errors.Is(err, guest.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := guest.ReadFile(t.Context(), o, target, dir+"/none", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	var exit *guest.ExitError
	if _, err := guest.ReadFile(t.Context(), o, target, dir, 0); !errors.As(err, &exit) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory: %v", err)
	}
	if err := guest.RemoveFiles(t.Context(), o, target, dir+"/f", dir+"/none"); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("%v is left", entries)
	}
	if err := guest.RemoveFiles(t.Context(), o, target, "../x"); err == nil {
		t.Error("relative path removed")
	}
}
