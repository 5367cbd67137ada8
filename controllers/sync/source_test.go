package sync_test

import (
	"fmt"
	"os"
	"path/filepath"
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
