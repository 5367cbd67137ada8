package sync_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/gitops/gittest"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// source waits until the repository says something in a condition.
func (w *world) source(condition, reason string, words ...string) {
	w.Helper()
	w.until(condition+" "+reason, func() bool {
		c := resource.FindCondition(w.get(repoKey), condition)
		for _, word := range words {
			if !strings.Contains(c.GetMessage(), word) {
				return false
			}
		}
		return c.GetStatus() == "False" && c.GetReason() == reason
	})
}

// TestSourceFails: whatever becomes of the server, a condition says it, the last good commit
// stays applied and readable, and everything goes on when the server is good again.
func TestSourceFails(t *testing.T) {
	w := newWorld(t)
	w.repo.Write("a.yaml", project("team-a", "first"))
	first := w.repo.Push("first")
	w.follow()
	w.start()
	w.applied(first)
	stays := func() {
		t.Helper()
		if !strings.HasSuffix(w.revision(), first) || w.description("team-a") != "first" {
			t.Errorf("the artifact is %s, team-a %q", w.revision(), w.description("team-a"))
		}
		if _, err := w.look(syncKey); err != nil || !resource.IsReady(w.syncOf(syncKey)) {
			t.Errorf("the Sync: %v, %v", err, w.syncOf(syncKey).GetStatus().GetConditions())
		}
	}
	w.server.Down(true)
	w.poke()
	w.source("Fetched", "Unreachable", "cannot be reached")
	stays()
	w.server.Down(false)
	w.server.Basic("ada", "secret")
	w.poke()
	w.source("Fetched", "AuthFailed", "spec.auth")
	stays()
	w.server.Basic("", "")
	w.must(fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: GitRepository\nmetadata: {name: main}\nspec: {url: %q, interval: 5s, ref: {branch: gone}}\n", w.server.At(w.repo)))
	w.source("Fetched", "RefNotFound", `"gone"`, `"main"`)
	stays()
	w.must(fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: GitRepository\nmetadata: {name: main}\nspec: {url: %q, interval: 5s}\n", w.server.At(w.repo)))
	w.repo.Write("a.yaml", project("team-a", "second"))
	w.server.Cut(50)
	w.push("second")
	w.until("half a pack", func() bool { return resource.FindCondition(w.get(repoKey), "Fetched").GetStatus() == "False" })
	stays()
	w.server.Cut(0)
	w.poke()
	w.applied(w.repo.Head())

	// The cache is lost; it is fetched again.
	w.stop()
	if err := os.RemoveAll(filepath.Join(w.cacheDir, w.get(repoKey).GetMetadata().GetUid())); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.repo.Write("a.yaml", project("team-a", "third"))
	w.applied(w.push("third"))
}

// TestSourceChangesItsMind: what owners of a repository do to its history is followed, and what
// makes it too large to follow changes nothing.
func TestSourceChangesItsMind(t *testing.T) {
	w := newWorld(t)
	w.repo.Write("a.yaml", project("team-a", "first"))
	first := w.repo.Push("first")
	w.follow()
	w.start()
	w.applied(first)

	w.repo.Git("checkout", "--quiet", "--orphan", "other")
	w.repo.Write("a.yaml", project("team-a", "another history"))
	w.repo.Commit("another history")
	w.repo.Git("branch", "--force", "main")
	w.repo.Git("checkout", "--quiet", "main")
	forced := w.push("forced")
	w.applied(forced)
	if w.description("team-a") != "another history" {
		t.Errorf("after a forced push team-a is %q", w.description("team-a"))
	}

	w.repo.Git("branch", "--move", "trunk")
	w.repo.Write("a.yaml", project("team-a", "on trunk"))
	trunk := w.repo.Push("on trunk")
	w.repo.Git("--git-dir", w.repo.Bare, "symbolic-ref", "HEAD", "refs/heads/trunk")
	w.repo.Git("push", "--quiet", "origin", ":main")
	w.poke()
	w.applied(trunk)
	if !strings.HasPrefix(w.revision(), "trunk@") || w.description("team-a") != "on trunk" {
		t.Errorf("after the default branch was renamed: %s, team-a is %q", w.revision(), w.description("team-a"))
	}
	w.repo.Git("branch", "--move", "main")
	w.repo.Git("push", "--quiet", "origin", "main")
	w.repo.Git("--git-dir", w.repo.Bare, "symbolic-ref", "HEAD", "refs/heads/main")
	w.repo.Git("push", "--quiet", "origin", ":trunk")

	// More than spec.maxSize on its way.
	noise := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	w.must(fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: GitRepository\nmetadata: {name: main}\nspec: {url: %q, interval: 5s, maxSize: 2Mi}\n", w.url))
	w.repo.Write("a.yaml", project("team-a", "with an image"))
	w.repo.Write("disk.img", string(noise))
	w.push("a disk image")
	w.source("Fetched", "RepositoryTooLarge", "more than 2097152 bytes")
	if !strings.HasSuffix(w.revision(), trunk) || w.description("team-a") != "on trunk" {
		t.Errorf("a large file: %s, team-a is %q", w.revision(), w.description("team-a"))
	}
	w.repo.Git("reset", "--quiet", "--hard", trunk)

	many := w.repo.ManyFiles("many", 100_001, project("team-b", "x"))
	w.poke()
	w.refused(many, "RepositoryTooLarge", "more than 100000 files", trunk)
	if w.description("team-a") != "on trunk" || w.description("team-b") != "-" {
		t.Errorf("too many files: team-a is %q, team-b %q", w.description("team-a"), w.description("team-b"))
	}
	w.repo.Git("reset", "--quiet", "--hard", trunk)
	w.repo.Write("a.yaml", project("team-a", "small again"))
	w.applied(w.push("small again"))
}

// TestHostKeyChanges: a server that shows another key is asked for nothing, and told.
func TestHostKeyChanges(t *testing.T) {
	w := newWorld(t)
	server := gittest.NewSSH(t, w.server.Root)
	w.must(fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: Secret\nmetadata: {name: deploy}\nspec: {stringData: {key: %q}}\n", server.PrivateKey))
	over := func() {
		w.must(fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: GitRepository\nmetadata: {name: main}\nspec:\n  url: %q\n  interval: 5s\n  knownHosts: %q\n  auth: {privateKeyRef: {name: deploy, key: key}}\n",
			server.At(w.repo), server.KnownHosts()))
	}
	w.repo.Write("a.yaml", project("team-a", "first"))
	first := w.repo.Push("first")
	over()
	w.sync("main")
	w.start()
	w.applied(first)
	server.ChangeHostKey(t)
	w.repo.Write("a.yaml", project("team-a", "second"))
	second := w.push("second")
	w.source("Fetched", "HostKeyChanged", "another key than spec.knownHosts has")
	if _, err := w.look(syncKey); err != nil || !strings.HasSuffix(w.revision(), first) || w.description("team-a") != "first" {
		t.Errorf("%v; the artifact is %s, team-a %q", err, w.revision(), w.description("team-a"))
	}
	over()
	w.applied(second)
}

// TestSignedCommits: what is not signed by somebody who is trusted is not applied.
func TestSignedCommits(t *testing.T) {
	gittest.Need(t, "ssh-keygen", "signing with ssh")
	w := newWorld(t)
	private, signer := gittest.NewKey(t)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, private, 0o600); err != nil {
		t.Fatal(err)
	}
	w.repo.Git("config", "gpg.format", "ssh")
	w.repo.Git("config", "user.signingKey", file)
	w.repo.Git("config", "commit.gpgSign", "true")
	w.repo.Write("a.yaml", project("team-a", "signed"))
	signed := w.repo.Push("signed")
	w.must(fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: GitRepository\nmetadata: {name: main}\nspec:\n  url: %q\n  interval: 5s\n  verify: {keys: %q}\n",
		w.server.At(w.repo), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))+" ada@example.org"))
	w.sync("main")
	w.start()
	w.applied(signed)
	if by := w.get(repoKey).(*v1alpha1.GitRepository).GetStatus().GetArtifact().GetSignedBy(); by != "ada@example.org" {
		t.Errorf("signed by %q", by)
	}
	w.repo.Git("config", "commit.gpgSign", "false")
	w.repo.Write("a.yaml", project("team-a", "forged"))
	w.push("forged")
	w.source("Verified", "SignatureInvalid", "not signed")
	if w.description("team-a") != "signed" || !strings.HasSuffix(w.revision(), signed) {
		t.Errorf("team-a is %q at %s", w.description("team-a"), w.revision())
	}
	// Nor by going back to it.
	w.sync("main", "revision: "+w.repo.Head())
	w.refused("", "SignatureInvalid", "not signed")
}

// TestSubmodules: manifests of a submodule are applied where that is wanted, and refused by name
// where it is not.
func TestSubmodules(t *testing.T) {
	w := newWorld(t)
	lib := w.server.Repo(t, "lib")
	lib.Write("b.yaml", project("team-b", "one"))
	one := lib.Push("one")
	lib.Write("b.yaml", project("team-b", "two"))
	two := lib.Push("two")
	pin := func(commit string) string {
		w.repo.Git("update-index", "--add", "--cacheinfo", "160000,"+commit+",lib")
		return w.push("pin " + commit)
	}
	source := func(submodules bool) {
		w.must(fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: GitRepository\nmetadata: {name: main}\nspec: {url: %q, interval: 5s, submodules: %t}\n", w.url, submodules))
	}
	w.repo.Write(".gitmodules", "[submodule \"lib\"]\n\tpath = lib\n\turl = ../lib.git\n")
	w.repo.Write("a.yaml", project("team-a", "one"))
	if err := os.Mkdir(filepath.Join(w.repo.Work, "lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	first := pin(one)
	w.follow()
	w.start()
	w.refused(first, "FileRefused", "lib is a submodule", "spec.submodules")
	source(true)
	w.poke()
	w.applied(first)
	if got := w.applies(syncKey); !slices.Equal(got, []string{"Namespace team-a a.yaml", "Namespace team-b lib/b.yaml"}) || w.description("team-b") != "one" {
		t.Errorf("inventory %v, team-b is %q", got, w.description("team-b"))
	}
	second := pin(two)
	w.applied(second)
	if w.description("team-b") != "two" {
		t.Errorf("team-b is %q", w.description("team-b"))
	}
	source(false)
	w.refused(second, "FileRefused", "lib is a submodule")
	if w.description("team-b") != "two" {
		t.Errorf("team-b is %q", w.description("team-b"))
	}
}
