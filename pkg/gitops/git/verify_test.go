package git

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/proximity-pve/proximity/pkg/gitops/gittest"
)

// head reads the newest commit of the repository.
func (w *world) head() *Commit {
	w.t.Helper()
	got := w.mustFetch(Ref{})
	s, err := w.cache.Open("repo", w.remote.URL, got.Commit, w.remote.Submodules)
	if err != nil {
		w.t.Fatal(err)
	}
	defer s.Close()
	c, err := s.Commit(got.Commit)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func TestCommitIsRead(t *testing.T) {
	w := newWorld(t)
	w.repo.Push("  A subject with spaces\n\nAnd a body.")
	c := w.head()
	if c.Subject != "A subject with spaces" || c.Author != "Ada" || len(c.Parents) != 1 || c.Time.IsZero() {
		t.Errorf("read %+v", c)
	}
}

func TestSSHSignatures(t *testing.T) {
	gittest.Need(t, "ssh-keygen", "signing with ssh")
	w := newWorld(t)
	private, signer := gittest.NewKey(t)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, private, 0o600); err != nil {
		t.Fatal(err)
	}
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	keys, err := ParseKeys("# who may\n" + public + " ada@example.org\n")
	if err != nil {
		t.Fatal(err)
	}
	_, err = keys.Verify(w.head())
	wantReason(t, err, ReasonUnverified, "not signed")

	w.repo.Git("config", "gpg.format", "ssh")
	w.repo.Git("config", "user.signingKey", file)
	w.repo.Git("config", "commit.gpgSign", "true")
	w.repo.Write("apps/web.yaml", "signed\n")
	w.repo.Push("signed")
	c := w.head()
	if who, err := keys.Verify(c); err != nil || who != "ada@example.org" {
		t.Fatalf("%q, %v", who, err)
	}
	allowed, err := ParseKeys("ada@example.org " + public)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := allowed.Verify(c); err != nil || who != "ada@example.org" {
		t.Fatalf("allowed_signers: %q, %v", who, err)
	}
	// Another key is not trusted, and the signature of one commit is none of another.
	_, other := gittest.NewKey(t)
	others, err := ParseKeys(string(ssh.MarshalAuthorizedKey(other.PublicKey())))
	if err != nil {
		t.Fatal(err)
	}
	_, err = others.Verify(c)
	wantReason(t, err, ReasonUnverified, "not trusted")
	forged := *c
	forged.payload = append([]byte{}, c.payload...)
	forged.payload[len(forged.payload)-2] ^= 1
	_, err = keys.Verify(&forged)
	wantReason(t, err, ReasonUnverified, "does not fit")
	cut := *c
	cut.Signature = cut.Signature[:len(cut.Signature)/2]
	_, err = keys.Verify(&cut)
	wantReason(t, err, ReasonUnverified)
}

func TestOpenPGPSignatures(t *testing.T) {
	gittest.Need(t, "gpg", "signing with OpenPGP")
	w := newWorld(t)
	home, err := os.MkdirTemp("", "gpg") // its sockets want a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all")
		cmd.Env = append(os.Environ(), "GNUPGHOME="+home)
		_ = cmd.Run()
		_ = os.RemoveAll(home)
	})
	gpg := func(args ...string) string {
		cmd := exec.Command("gpg", append([]string{"--batch", "--quiet", "--homedir", home}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("gpg %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	gpg("--passphrase", "", "--quick-generate-key", "Ada <ada@example.org>", "ed25519", "sign", "never")
	keys, err := ParseKeys(gpg("--armor", "--export", "ada@example.org"))
	if err != nil {
		t.Fatal(err)
	}
	w.repo.Env = append(w.repo.Env, "GNUPGHOME="+home)
	w.repo.Write("apps/web.yaml", "signed\n")
	w.repo.Git("config", "user.signingKey", "ada@example.org")
	w.repo.Git("config", "commit.gpgSign", "true")
	w.repo.Push("signed")
	c := w.head()
	if who, err := keys.Verify(c); err != nil || !strings.Contains(who, "Ada") {
		t.Fatalf("%q, %v", who, err)
	}
	forged := *c
	forged.payload = append(append([]byte{}, c.payload...), "more"...)
	_, err = keys.Verify(&forged)
	wantReason(t, err, ReasonUnverified)
	sshOnly, err := ParseKeys("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKqP3Cr632C2dNhhgKVcon4ldUSAeKiku2yP9O9/bDtY")
	if err != nil {
		t.Fatal(err)
	}
	_, err = sshOnly.Verify(c)
	wantReason(t, err, ReasonUnverified, "no such key")
}

func TestParseKeysRefuses(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "hello\n", pgpBegin + "\n", pgpBegin + "\nAAAA\n" + pgpEnd} {
		if _, err := ParseKeys(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
