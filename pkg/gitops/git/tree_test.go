package git

import (
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
)

// TestMaliciousTrees: trees that git itself would not make. What leads out of a directory
// must be refused by its name, wherever it would lead.
func TestMaliciousTrees(t *testing.T) {
	w := newWorld(t)
	sub := w.repo.Git("rev-parse", "HEAD:apps")
	for _, c := range []struct {
		name    string
		entries [][3]string
		reason  string
		words   []string
	}{
		{"two dots", [][3]string{{"40000", "..", sub}}, ReasonRefused, []string{`".."`, "another directory"}},
		{"one dot", [][3]string{{"40000", ".", sub}}, ReasonRefused, []string{`"."`}},
		{"a way up", [][3]string{{"100644", "../../etc/cron.d/x.yaml", "kind: App"}}, ReasonRefused, []string{"separator"}},
		{"a way down", [][3]string{{"100644", "a/b.yaml", "kind: App"}}, ReasonRefused, []string{"separator"}},
		{"another system's way up", [][3]string{{"100644", `..\..\x.yaml`, "kind: App"}}, ReasonRefused, []string{"separator"}},
		{"absolute", [][3]string{{"100644", "/etc/x.yaml", "kind: App"}}, ReasonRefused, []string{"separator"}},
		{"a repository inside", [][3]string{{"40000", ".git", sub}}, ReasonRefused, []string{"repository inside"}},
		{"in capitals", [][3]string{{"40000", ".GIT", sub}}, ReasonRefused, []string{"repository inside"}},
		{"for NTFS", [][3]string{{"40000", "git~1", sub}}, ReasonRefused, []string{"repository inside"}},
		{"for NTFS too", [][3]string{{"40000", ".git. .", sub}}, ReasonRefused, []string{"repository inside"}},
		{"its stream", [][3]string{{"40000", ".git::$INDEX_ALLOCATION", sub}}, ReasonRefused, []string{"repository inside"}},
		{"for HFS+", [][3]string{{"40000", ".g\u200cit", sub}}, ReasonRefused, []string{"repository inside"}},
		{"a line break", [][3]string{{"100644", "a\nb.yaml", "kind: App"}}, ReasonRefused, []string{"control characters"}},
		{"no text", [][3]string{{"100644", "a\xff.yaml", "kind: App"}}, ReasonRefused, []string{"UTF-8"}},
		{"a link", [][3]string{{"120000", "secrets.yaml", "/etc/shadow"}}, ReasonRefused, []string{"secrets.yaml", "symbolic link"}},
		{"a link to a directory", [][3]string{{"120000", "apps", "../../.."}}, ReasonRefused, []string{"apps", "symbolic link"}},
		{"a submodule", [][3]string{{"160000", "vendor", strings.Repeat("1", 40)}}, ReasonRefused, []string{"vendor", "submodule"}},
		{"case", [][3]string{{"100644", "A.yaml", "x"}, {"100644", "a.yaml", "y"}}, ReasonRefused, []string{"A.yaml", "a.yaml", "case"}},
		{"accents", [][3]string{{"100644", "caf\u00e9.yaml", "x"}, {"100644", "cafe\u0301.yaml", "y"}}, ReasonRefused, []string{"normalisation", `"caf\u00e9.yaml"`, `"cafe\u0301.yaml"`}},
		{"accents of directories", [][3]string{{"40000", "a\u030angstro\u0308m", sub}, {"40000", "\u00e5ngstr\u00f6m", sub}}, ReasonRefused, []string{"normalisation"}},
		{"accents and case", [][3]string{{"100644", "CAF\u00c9.yaml", "x"}, {"100644", "cafe\u0301.yaml", "y"}}, ReasonRefused, []string{"case"}},
		{"the same twice", [][3]string{{"100644", "a.yaml", "x"}, {"100644", "a.yaml", "y"}}, ReasonRefused, []string{"a.yaml"}},
		{"large file", [][3]string{{"100644", "a.yaml", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"}}, ReasonRefused, []string{"a.yaml", "LFS"}},
		{"a device", [][3]string{{"20666", "null.yaml", "x"}}, ReasonRefused, []string{"mode 20666"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			commit := w.repo.RawTree(c.name, c.entries...)
			got, err := w.fetch(Ref{})
			if err != nil {
				t.Fatal(err)
			}
			if got.Commit != commit {
				t.Fatalf("fetched %+v", got)
			}
			_, err = w.files(commit, "")
			wantReason(t, err, c.reason, c.words...)
		})
	}
}

// TestLeftOut: what is no manifest, is hidden or excluded costs nothing and is no error.
func TestLeftOut(t *testing.T) {
	w := newWorld(t)
	w.repo.Write(".github/workflows/ci.yaml", "x")
	w.repo.Write("apps/.hidden.yaml", "x")
	w.repo.Write("docs/broken.yaml", "x")
	w.repo.Git("update-index", "--add", "--cacheinfo", "120000,"+w.repo.Object("blob", []byte("README.md"))+",docs/link")
	w.repo.Git("add", "--all", ":!docs/link")
	w.repo.Git("commit", "--quiet", "-m", "more")
	w.repo.Git("push", "--quiet", "origin", "HEAD")
	got := w.mustFetch(Ref{})
	_, err := w.files(got.Commit, "")
	wantReason(t, err, ReasonRefused, "docs/link")
	s, err := w.cache.Open("repo", w.remote.URL, got.Commit, w.remote.Submodules)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tree, err := s.Walk(t.Context(), "", []string{"docs"}, isManifest, Limits{})
	if err != nil || len(tree.Files) != 2 {
		t.Fatalf("%+v, %v", tree, err)
	}
}

// TestTreeID: it changes with what is below the path and with nothing else.
func TestTreeID(t *testing.T) {
	w := newWorld(t)
	id := func(path string) string {
		got := w.mustFetch(Ref{})
		s, err := w.cache.Open("repo", w.remote.URL, got.Commit, w.remote.Submodules)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		id, err := s.TreeID(path)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	before := id("apps")
	w.repo.Write("README.md", "more\n")
	w.repo.Push("docs")
	if id("apps") != before {
		t.Error("it changed with a file beside the path")
	}
	w.repo.Write("apps/deep/db.yml", "more\n")
	w.repo.Push("db")
	if id("apps") == before {
		t.Error("it did not change with a file below the path")
	}
	got := w.mustFetch(Ref{})
	_, err := w.files(got.Commit, "nowhere")
	wantReason(t, err, ReasonPathNotFound, "nowhere")
	_, err = w.files(got.Commit, "README.md")
	wantReason(t, err, ReasonPathNotFound, "no directory")
}

func TestCleanPath(t *testing.T) {
	for in, want := range map[string]string{
		"": "", ".": "", "./": "", "/": "", "apps": "apps", "./apps/": "apps", "/apps/prod": "apps/prod",
	} {
		if got, err := gitspec.CleanPath(in); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"..", "../x", "apps/..", "apps/../../x", "a//b", "a/.git/b", `a\b`, "a/./b", strings.Repeat("a/", 600)} {
		if got, err := gitspec.CleanPath(in); err == nil {
			t.Errorf("%q: taken as %q", in, got)
		}
	}
}

// TestJoinPathStaysInside: whatever the name, a joined path is below its directory, one
// level down.
func TestJoinPathStaysInside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"..", ".", "/", `\`, "a", ".git", "\x00", "a/../..", "~"}))
		name := strings.Join(rapid.SliceOfN(piece, 0, 4).Draw(t, "name"), "")
		got, err := gitspec.JoinPath("dir/sub", name)
		if err != nil {
			return
		}
		rest, below := strings.CutPrefix(got, "dir/sub/")
		if !below || rest != name || strings.ContainsAny(rest, "/\\\x00") || rest == "." || rest == ".." {
			t.Fatalf("%q became %q", name, got)
		}
	})
}

// FuzzTree: a directory of any bytes is refused or has names that JoinPath judges.
func FuzzTree(f *testing.F) {
	f.Add([]byte("100644 a.yaml\x00aaaaaaaaaaaaaaaaaaaa"))
	f.Add([]byte("40000 ..\x00aaaaaaaaaaaaaaaaaaaa100644 a/b\x00bbbbbbbbbbbbbbbbbbbb"))
	f.Add([]byte("120000 .git\x00aaaaaaaaaaaaaaaaaaaa"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseTree(data)
		if err != nil {
			return
		}
		for _, e := range entries {
			if len(e.hash) != 40 {
				t.Fatalf("entry %+v", e)
			}
			at, err := gitspec.JoinPath("root", e.name)
			if err != nil {
				continue
			}
			clean, err := gitspec.CleanPath(at)
			if err != nil || clean != at || !strings.HasPrefix(at, "root/") || strings.Count(at, "/") != 1 {
				t.Fatalf("the name %q became %q (%q, %v)", e.name, at, clean, err)
			}
		}
	})
}

// FuzzCommit: a commit of any bytes is refused or names a tree.
func FuzzCommit(f *testing.F) {
	f.Add([]byte("tree " + strings.Repeat("a", 40) + "\nauthor A <a@b> 1 +0000\ngpgsig -----BEGIN\n more\n\nsubject\n\nbody"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := parseCommit(data); err == nil && !gitspec.IsCommit(c.Tree) {
			t.Fatalf("tree %q", c.Tree)
		}
	})
}

// FuzzPack: the examination of a pack ends and allocates little.
func FuzzPack(f *testing.F) {
	f.Add([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01\x30x\x9c\x03\x00\x00\x00\x00\x01"))
	f.Add([]byte("PACK\x00\x00\x00\x02\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = checkPack(strings.NewReader(string(data)), Limits{UnpackedBytes: 1 << 20}.WithDefaults())
	})
}

// TestManyFiles: a directory of more files than are looked at.
func TestManyFiles(t *testing.T) {
	w := newWorld(t)
	commit := w.repo.ManyFiles("many", 100_001, "kind: App\n")
	w.mustFetch(Ref{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := w.files(commit, "")
	runtime.ReadMemStats(&after)
	wantReason(t, err, ReasonTooLarge, "more than 100000 files")
	if used := after.TotalAlloc - before.TotalAlloc; used > 128<<20 {
		t.Errorf("refusing them took %d MiB of memory", used>>20)
	}
}
