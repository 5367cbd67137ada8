package git

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
	"github.com/proximity-pve/proximity/pkg/gitops/gittest"
)

// pin puts a submodule at a commit into the working tree of a repository.
func pin(t *testing.T, repo *gittest.Repo, path, commit string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(repo.Work, path), 0o755); err != nil {
		t.Fatal(err)
	}
	repo.Git("update-index", "--add", "--cacheinfo", "160000,"+commit+","+path)
}

func modulesText(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, "[submodule %q]\n\tpath = %s\n\turl = %s\n", pairs[i], pairs[i], pairs[i+1])
	}
	return b.String()
}

// TestSubmodules: they are followed where that is wanted, from the server of the repository
// alone, with its credentials, and cost nothing when nothing is new.
func TestSubmodules(t *testing.T) {
	w := newWorld(t)
	lib, foreign := w.server.Repo(t, "lib"), gittest.NewHTTP(t, false)
	lib.Write("lib.yaml", "kind: App # one\n")
	one := lib.Push("one")
	lib.Write("lib.yaml", "kind: App # two\n")
	two := lib.Push("two") // so that nothing names the first one any more
	other := foreign.Repo(t, "other")
	other.Write("other.yaml", "kind: App\n")
	elsewhere := other.Push("first")

	w.server.Basic("ada", "s3cret")
	w.remote.Auth = Auth{Username: "ada", Password: "s3cret"}
	w.repo.Write(".gitmodules", modulesText("apps/lib", "../lib.git", "vendor", foreign.At(other)))
	pin(t, w.repo, "apps/lib", one)
	pin(t, w.repo, "vendor", elsewhere)
	first := w.repo.Push("with submodules")

	w.mustFetch(Ref{})
	_, err := w.files(first, "apps")
	wantReason(t, err, ReasonRefused, "apps/lib", "spec.submodules")

	w.remote.Submodules = true
	if got := w.mustFetch(Ref{}); !got.Transferred {
		t.Error("the submodules were not fetched")
	}
	got, err := w.files(first, "apps")
	if err != nil || len(got) != 3 || got["apps/lib/lib.yaml"] != "kind: App # one\n" {
		t.Fatalf("files %v, %v", got, err)
	}
	if got, err = w.files(first, "apps/lib"); err != nil || len(got) != 1 {
		t.Errorf("below the submodule: %v, %v", got, err)
	}
	_, err = w.files(first, "")
	wantReason(t, err, ReasonRefused, "vendor", "on the server of the repository")
	if foreign.Refs.Load() != 0 {
		t.Error("another server was asked")
	}
	w.server.Refs.Store(0)
	w.server.Packs.Store(0)
	if again := w.mustFetch(Ref{}); again.Transferred || w.server.Refs.Load() != 1 || w.server.Packs.Load() != 0 {
		t.Errorf("an unchanged head: %+v, %d and %d requests", again, w.server.Refs.Load(), w.server.Packs.Load())
	}

	pin(t, w.repo, "apps/lib", two)
	second := w.repo.Push("newer")
	w.mustFetch(Ref{})
	if got, err = w.files(second, "apps"); err != nil || got["apps/lib/lib.yaml"] != "kind: App # two\n" {
		t.Errorf("files %v, %v", got, err)
	}

	// A submodule that cannot be had changes nothing, and is named.
	pin(t, w.repo, "apps/lib", strings.Repeat("a", 40))
	w.repo.Push("nowhere")
	_, err = w.fetch(Ref{})
	wantReason(t, err, ReasonRefNotFound, "the submodule apps/lib", "lib.git")
	if got, err = w.files(second, "apps"); err != nil || len(got) != 3 {
		t.Errorf("the commit before: %v, %v", got, err)
	}
	pin(t, w.repo, "apps/lib", two)
	w.repo.Write(".gitmodules", modulesText("apps/lib", "../missing.git"))
	pin(t, w.repo, "apps/lib", one)
	if err := w.cache.Drop("repo"); err != nil {
		t.Fatal(err)
	}
	w.repo.Push("no such repository")
	_, err = w.fetch(Ref{})
	wantReason(t, err, ReasonNotFound, "the submodule apps/lib")
}

// TestNestedSubmodules: a submodule's own submodules are not fetched, and refused by name.
func TestNestedSubmodules(t *testing.T) {
	w := newWorld(t)
	w.remote.Submodules = true
	inner, outer := w.server.Repo(t, "inner"), w.server.Repo(t, "outer")
	inner.Write("inner.yaml", "x")
	outer.Write(".gitmodules", modulesText("deep", "../inner.git"))
	pin(t, outer, "deep", inner.Push("first"))
	w.repo.Write(".gitmodules", modulesText("sub", "../outer.git"))
	pin(t, w.repo, "sub", outer.Push("first"))
	commit := w.repo.Push("nested")
	w.mustFetch(Ref{})
	_, err := w.files(commit, "")
	wantReason(t, err, ReasonRefused, "sub/deep", "a submodule of a submodule")
}

func TestTooManySubmodules(t *testing.T) {
	w := newWorld(t)
	w.remote.Submodules = true
	var pairs []string
	for i := range maxSubmodules + 1 {
		path := fmt.Sprintf("sub-%d", i)
		pairs = append(pairs, path, "../lib.git")
		pin(t, w.repo, path, w.repo.Head())
	}
	w.repo.Write(".gitmodules", modulesText(pairs...))
	w.repo.Push("many")
	_, err := w.fetch(Ref{})
	wantReason(t, err, ReasonTooLarge, "33 submodules")
	w.repo.Write(".gitmodules", strings.Repeat("#", maxModulesBytes+1))
	w.repo.Push("a long list")
	_, err = w.fetch(Ref{})
	wantReason(t, err, ReasonTooLarge)
}

// TestSubmoduleURL: whatever a repository says, its submodules are on its own server.
func TestSubmoduleURL(t *testing.T) {
	for _, c := range []struct{ parent, raw, want string }{
		{"https://git.example.org/ops/infra.git", "../lib.git", "https://git.example.org/ops/lib.git"},
		{"https://git.example.org/ops/infra.git", "./lib", "https://git.example.org/ops/infra.git/lib"},
		{"https://git.example.org/ops/infra.git", "../../../../lib", "https://git.example.org/lib"},
		{"https://git.example.org/ops/infra.git", "https://GIT.example.org/lib", "https://git.example.org/lib"},
		{"ssh://git@git.example.org/ops/infra.git", "git@git.example.org:/ops/lib.git", "ssh://git@git.example.org/ops/lib.git"},
		{"git@git.example.org:ops/infra.git", "../lib.git", "ssh://git@git.example.org/~/ops/lib.git"},
		{"https://git.example.org/ops/infra.git", "https://evil.example.org/lib", ""},
		{"https://git.example.org/ops/infra.git", "https://git.example.org:8443/lib", ""},
		{"https://git.example.org/ops/infra.git", "http://git.example.org/lib", ""},
		{"https://git.example.org/ops/infra.git", "https://ada:pw@git.example.org/lib", ""},
		{"https://git.example.org/ops/infra.git", "ssh://git@git.example.org/lib", ""},
		{"https://git.example.org/ops/infra.git", "file:///etc", ""},
		{"https://git.example.org/ops/infra.git", "/etc", ""},
		{"https://git.example.org/ops/infra.git", "-u./x", ""},
		{"https://git.example.org/ops/infra.git", "ext::sh -c x", ""},
		{"https://git.example.org/ops/infra.git", "//evil.example.org/x", ""},
		{"ssh://git@git.example.org/ops/infra.git", "ssh://root@git.example.org/ops/lib.git", ""},
		{"file:///srv/infra.git", "../other.git", ""},
		{"file:///srv/infra.git", "file:///srv/other.git", ""},
	} {
		parent, err := gitspec.ParseURL(c.parent)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := submoduleURL(parent, c.raw)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%s of %s: %q, %v; want %q", c.raw, c.parent, got, ok, c.want)
		}
	}
}

// FuzzSubmoduleURL: no text leads to another server.
func FuzzSubmoduleURL(f *testing.F) {
	for _, raw := range []string{"../x", "https://git.example.org/x", "https://git.example.org@evil.example.org/x", "../..//evil.example.org/x", "./@evil.example.org/x", "..\\x"} {
		f.Add(raw)
	}
	parent, _ := gitspec.ParseURL("https://git.example.org/ops/infra.git")
	f.Fuzz(func(t *testing.T, raw string) {
		got, ok := submoduleURL(parent, raw)
		if !ok {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.Scheme != "https" || u.Host != "git.example.org" || u.User != nil {
			t.Fatalf("%q became %q", raw, got)
		}
	})
}
