package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/gitops/gittest"
)

// world is a repository with one commit that is served over http, and an empty cache.
type world struct {
	t      *testing.T
	server *gittest.HTTP
	repo   *gittest.Repo
	cache  *Cache
	remote Remote
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, server: gittest.NewHTTP(t, false), cache: NewCache(t.TempDir())}
	w.repo = w.server.Repo(t, "infra")
	w.repo.Write("apps/web.yaml", "kind: App\n")
	w.repo.Write("apps/deep/db.yml", "kind: App\n")
	w.repo.Write("README.md", "hello\n")
	w.repo.Push("first")
	w.remote = Remote{URL: w.server.At(w.repo)}
	return w
}

func (w *world) fetch(ref Ref) (Fetched, error) {
	return w.cache.Fetch(context.Background(), "repo", w.remote, ref)
}

func (w *world) mustFetch(ref Ref) Fetched {
	w.t.Helper()
	got, err := w.fetch(ref)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

func isManifest(name string) bool {
	return strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")
}

// files reads all manifests below a path of a commit, by path.
func (w *world) files(commit, path string) (map[string]string, error) {
	s, err := w.cache.Open("repo", w.remote.URL, commit, w.remote.Submodules)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	tree, err := s.Walk(context.Background(), path, nil, isManifest, w.remote.Limits)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, f := range tree.Files {
		data, err := s.Read(f, w.remote.Limits)
		if err != nil {
			return nil, err
		}
		all[f.Path] = string(data)
	}
	return all, nil
}

func wantReason(t *testing.T, err error, reason string, words ...string) {
	t.Helper()
	if ReasonOf(err) != reason {
		t.Fatalf("error is %v (%s); want the reason %s", err, ReasonOf(err), reason)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}

func TestFetchFollowsABranch(t *testing.T) {
	w := newWorld(t)
	first := w.mustFetch(Ref{Branch: "main"})
	if !first.Transferred || first.Commit != w.repo.Head() || first.Revision() != "main@sha1:"+w.repo.Head() {
		t.Fatalf("fetched %+v", first)
	}
	got, err := w.files(first.Commit, "apps")
	if err != nil || len(got) != 2 || got["apps/web.yaml"] != "kind: App\n" {
		t.Fatalf("files %v, %v", got, err)
	}

	// Nothing new costs one request, for references.
	w.server.Refs.Store(0)
	w.server.Packs.Store(0)
	if again := w.mustFetch(Ref{Branch: "main"}); again.Transferred {
		t.Error("an unchanged head was transferred")
	}
	if r, p := w.server.Refs.Load(), w.server.Packs.Load(); r != 1 || p != 0 {
		t.Errorf("an unchanged head took %d requests for references and %d for packs; want 1 and 0", r, p)
	}

	// A change adds to the repository, and the commit before stays readable.
	w.repo.Write("apps/web.yaml", "kind: App # changed\n")
	w.repo.Push("second")
	second := w.mustFetch(Ref{Branch: "main"})
	if got, err = w.files(second.Commit, ""); err != nil || got["apps/web.yaml"] != "kind: App # changed\n" || got["apps/deep/db.yml"] == "" {
		t.Fatalf("after a change: %v, %v", got, err)
	}
	if got, err = w.files(first.Commit, ""); err != nil || got["apps/web.yaml"] != "kind: App\n" {
		t.Fatalf("the commit before: %v, %v", got, err)
	}
}

func TestForcePushAndBranches(t *testing.T) {
	w := newWorld(t)
	w.mustFetch(Ref{})
	w.repo.Git("checkout", "--quiet", "--orphan", "other")
	w.repo.Write("apps/web.yaml", "rewritten\n")
	w.repo.Commit("another history")
	w.repo.Git("branch", "--force", "main")
	w.repo.Git("checkout", "--quiet", "main")
	w.repo.Push("on top")
	got := w.mustFetch(Ref{Branch: "main"})
	if files, err := w.files(got.Commit, "apps"); err != nil || files["apps/web.yaml"] != "rewritten\n" {
		t.Fatalf("after a forced push: %v, %v", files, err)
	}

	// The default branch is renamed.
	w.repo.Git("branch", "--move", "trunk")
	w.repo.Git("push", "--quiet", "origin", "trunk")
	w.repo.Git("--git-dir", w.repo.Bare, "symbolic-ref", "HEAD", "refs/heads/trunk")
	w.repo.Git("push", "--quiet", "origin", ":main")
	_, err := w.fetch(Ref{Branch: "main"})
	wantReason(t, err, ReasonRefNotFound, `"main"`, `"trunk"`)
	if got := w.mustFetch(Ref{}); got.Name != "trunk" {
		t.Errorf("the default branch is %q", got.Name)
	}
}

func TestTagsRangesAndCommits(t *testing.T) {
	w := newWorld(t)
	first := w.repo.Head()
	w.repo.Git("tag", "v1.2.0")
	w.repo.Write("apps/web.yaml", "two\n")
	second := w.repo.Commit("second")
	w.repo.Git("tag", "-a", "v1.10.0", "-m", "annotated")
	w.repo.Write("apps/web.yaml", "three\n")
	third := w.repo.Push("third")
	w.repo.Git("tag", "v2.0.0-rc.1")
	w.repo.Git("push", "--quiet", "--tags", "origin")
	for _, c := range []struct {
		ref    Ref
		name   string
		commit string
	}{
		{Ref{Tag: "v1.2.0"}, "v1.2.0", first},
		{Ref{Tag: "v1.10.0"}, "v1.10.0", second},
		{Ref{Semver: "1.x"}, "v1.10.0", second},
		{Ref{Semver: ">=1.0.0 <1.10.0"}, "v1.2.0", first},
		{Ref{Semver: ">=2.0.0-0"}, "v2.0.0-rc.1", third},
		{Ref{Commit: first}, "", first},
		{Ref{Commit: second}, "", second},
	} {
		got, err := w.fetch(c.ref)
		if err != nil || got.Name != c.name || got.Commit != c.commit {
			t.Errorf("%+v: %+v, %v", c.ref, got, err)
		}
		if files, err := w.files(c.commit, "apps"); err != nil || len(files) != 2 {
			t.Errorf("%+v: files %v, %v", c.ref, files, err)
		}
	}
	_, err := w.fetch(Ref{Semver: "3.x"})
	wantReason(t, err, ReasonRefNotFound, "3.x")
	_, err = w.fetch(Ref{Tag: "nope"})
	wantReason(t, err, ReasonRefNotFound, "nope")
	_, err = w.fetch(Ref{Commit: strings.Repeat("a", 40)})
	wantReason(t, err, ReasonRefNotFound, strings.Repeat("a", 40))
}

// TestOldCommit: a commit that is no head any more can be had, whether the server gives
// single commits out or not.
func TestOldCommit(t *testing.T) {
	w := newWorld(t)
	first := w.repo.Head()
	for range 3 {
		w.repo.Write("apps/web.yaml", time.Now().String())
		w.repo.Push("more")
	}
	w.mustFetch(Ref{})
	if err := w.cache.Ensure(context.Background(), "repo", w.remote, first, "main"); err != nil {
		t.Fatal(err)
	}
	if files, err := w.files(first, ""); err != nil || files["apps/web.yaml"] != "kind: App\n" {
		t.Fatalf("files %v, %v", files, err)
	}
	w.repo.Git("--git-dir", w.repo.Bare, "config", "uploadpack.allowAnySHA1InWant", "true")
	if err := w.cache.Drop("repo"); err != nil {
		t.Fatal(err)
	}
	if err := w.cache.Ensure(context.Background(), "repo", w.remote, first, "main"); err != nil {
		t.Fatal(err)
	}
}

func TestAuthentication(t *testing.T) {
	w := newWorld(t)
	w.server.Basic("ada", "s3cret")
	_, err := w.fetch(Ref{})
	wantReason(t, err, ReasonAuthFailed, "spec.auth")
	w.remote.Auth = Auth{Username: "ada", Password: "wrong"}
	_, err = w.fetch(Ref{})
	wantReason(t, err, ReasonAuthFailed, "refused")
	if strings.Contains(err.Error(), "wrong") {
		t.Errorf("the error has the password: %v", err)
	}
	w.remote.Auth.Password = "s3cret"
	w.mustFetch(Ref{})
	w.server.Basic("", "")
	w.server.Bearer("t0ken")
	w.remote.Auth = Auth{Token: "t0ken"}
	w.mustFetch(Ref{})
}

// TestRedirects: credentials stay on the host that they are for.
func TestRedirects(t *testing.T) {
	w := newWorld(t)
	other := gittest.NewHTTP(t, false)
	w.server.Basic("ada", "s3cret")
	w.remote.Auth = Auth{Username: "ada", Password: "s3cret"}
	w.server.Redirect(other.URL)
	_, err := w.fetch(Ref{})
	wantReason(t, err, ReasonUnreachable, "another host", other.URL)
	if other.Refs.Load() != 0 {
		t.Error("the other host was asked")
	}
}

func TestTLS(t *testing.T) {
	server := gittest.NewHTTP(t, true)
	repo := server.Repo(t, "infra")
	repo.Write("a.yaml", "a")
	repo.Push("first")
	cache := NewCache(t.TempDir())
	_, err := cache.Fetch(context.Background(), "r", Remote{URL: server.At(repo)}, Ref{})
	wantReason(t, err, ReasonUnreachable, "certificate")
	if _, err := cache.Fetch(context.Background(), "r", Remote{URL: server.At(repo), Auth: Auth{CA: server.CA()}}, Ref{}); err != nil {
		t.Fatal(err)
	}
}

// sshServer is OpenSSH's or the one of package gittest.
type sshServer interface {
	At(r *gittest.Repo) string
	KnownHosts() []byte
	ChangeHostKey(t testing.TB)
}

func TestSSH(t *testing.T) {
	t.Run("OpenSSH", func(t *testing.T) {
		server := gittest.NewSSHD(t)
		testSSH(t, server, server.Root, server.PrivateKey)
	})
	t.Run("in this process", func(t *testing.T) {
		server := gittest.NewSSH(t, "")
		testSSH(t, server, server.Root, server.PrivateKey)
	})
}

func testSSH(t *testing.T, server sshServer, root string, key []byte) {
	repo := gittest.NewRepo(t, root, "infra")
	repo.Write("a.yaml", "a")
	repo.Push("first")
	cache := NewCache(t.TempDir())
	remote := Remote{URL: server.At(repo), Auth: Auth{PrivateKey: key, KnownHosts: server.KnownHosts()}}
	fetch := func(r Remote) error {
		_, err := cache.Fetch(context.Background(), "r", r, Ref{Branch: "main"})
		return err
	}
	for range 2 { // the second adds to what is there
		if err := fetch(remote); err != nil {
			t.Fatal(err)
		}
		repo.Write("a.yaml", "b")
		repo.Push("next")
	}

	other, _ := gittest.NewKey(t)
	bad := remote
	bad.Auth.PrivateKey = other
	wantReason(t, fetch(bad), ReasonAuthFailed, "refused the key")
	bad.Auth.PrivateKey = []byte("no key")
	wantReason(t, fetch(bad), ReasonAuthFailed, "cannot be read")
	bad = remote
	bad.Auth.KnownHosts = nil
	wantReason(t, fetch(bad), ReasonHostKeyUnknown, "spec.knownHosts")
	bad.Auth.KnownHosts = []byte(strings.Replace(string(remote.Auth.KnownHosts), "127.0.0.1", "127.0.0.2", 1))
	wantReason(t, fetch(bad), ReasonHostKeyUnknown, "does not have")
	bad = remote
	bad.URL = strings.Replace(bad.URL, "infra", "nowhere", 1)
	wantReason(t, fetch(bad), ReasonNotFound)
	server.ChangeHostKey(t)
	wantReason(t, fetch(remote), ReasonHostKeyChanged, "another key")
	remote.Auth.KnownHosts = server.KnownHosts()
	if err := fetch(remote); err != nil {
		t.Fatal(err)
	}
}

// TestLastWordsAreAwaited: why an output ended may be said after its end.
func TestLastWordsAreAwaited(t *testing.T) {
	ended := make(chan struct{})
	in, out := io.Pipe()
	s := &pipeSession{in: out, errs: &tail{}, ended: ended, end: func() {}, saying: func(text string, _ error) error { return errors.New(text) }}
	go func() {
		_, _ = io.ReadAll(in) // until nothing more is wanted
		_, _ = s.errs.Write([]byte("no such repository"))
		close(ended)
	}()
	if err := s.explain(io.EOF); err.Error() != "no such repository" {
		t.Errorf("the explanation is %q", err)
	}
}

func TestFileURL(t *testing.T) {
	repo := gittest.NewRepo(t, t.TempDir(), "infra")
	cache := NewCache(t.TempDir())
	fetch := func(url string) error {
		_, err := cache.Fetch(context.Background(), "r", Remote{URL: url}, Ref{})
		return err
	}
	wantReason(t, fetch("file://"+repo.Bare), ReasonEmpty)
	repo.Write("a.yaml", "a")
	repo.Push("first")
	if err := fetch("file://" + repo.Bare); err != nil {
		t.Fatal(err)
	}
	wantReason(t, fetch("file:///nowhere"), ReasonNotFound)
	wantReason(t, fetch("file://"+t.TempDir()), ReasonNotFound)
}

// TestServerFails: whatever happens to a transfer, what was fetched before stays readable,
// and the next fetch that works makes everything good.
func TestServerFails(t *testing.T) {
	w := newWorld(t)
	first := w.mustFetch(Ref{})
	w.repo.Write("apps/big.yaml", strings.Repeat("# a line that says little\n", 10)+time.Now().String())
	second := w.repo.Push("second")
	check := func() {
		t.Helper()
		if files, err := w.files(first.Commit, "apps"); err != nil || len(files) != 2 {
			t.Fatalf("the commit before: %v, %v", files, err)
		}
	}
	w.server.Down(true)
	_, err := w.fetch(Ref{})
	wantReason(t, err, ReasonUnreachable)
	check()
	w.server.Down(false)
	for _, cut := range []int64{1, 60, 100, 200, 330} {
		w.server.Cut(cut)
		if _, err := w.fetch(Ref{}); ReasonOf(err) != ReasonTransfer && ReasonOf(err) != ReasonUnreachable {
			t.Fatalf("a pack of %d bytes: %v (%s)", cut, err, ReasonOf(err))
		}
		check()
	}
	w.server.Cut(0)
	if got := w.mustFetch(Ref{}); got.Commit != second {
		t.Fatalf("fetched %+v", got)
	}
	if files, err := w.files(second, "apps"); err != nil || len(files) != 3 {
		t.Fatalf("files %v, %v", files, err)
	}
}

// TestDamagedCache: a cache with damage says so, and Drop makes it new.
func TestDamagedCache(t *testing.T) {
	w := newWorld(t)
	got := w.mustFetch(Ref{})
	packs, _ := filepath.Glob(filepath.Join(w.cache.path("repo", gitDir), "objects", "pack", "*.pack"))
	if len(packs) != 1 {
		t.Fatalf("packs %v", packs)
	}
	if err := os.Chmod(packs[0], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(packs[0], []byte("PACK nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := w.files(got.Commit, "")
	wantReason(t, err, ReasonCorrupt)
	if err := w.cache.Drop("repo"); err != nil {
		t.Fatal(err)
	}
	_, err = w.files(got.Commit, "")
	wantReason(t, err, ReasonCacheUnavailable)
	w.mustFetch(Ref{})
	if _, err := w.files(got.Commit, ""); err != nil {
		t.Fatal(err)
	}
}

// TestAnotherURL: the cache of one repository is not taken for another's.
func TestAnotherURL(t *testing.T) {
	w := newWorld(t)
	w.mustFetch(Ref{})
	other := w.server.Repo(t, "other")
	other.Write("only.yaml", "x")
	head := other.Push("first")
	w.remote.URL = w.server.At(other)
	w.mustFetch(Ref{})
	if files, err := w.files(head, ""); err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
}

// TestManyFetches: the repository in the cache does not grow without end.
func TestManyFetches(t *testing.T) {
	w := newWorld(t)
	w.remote.Limits.CacheBytes = 20 << 10
	var sizes []int64
	for i := range 8 {
		w.repo.Write("apps/web.yaml", strings.Repeat(time.Now().String(), 40+i))
		w.repo.Push("more")
		w.mustFetch(Ref{})
		var size int64
		_ = filepath.WalkDir(w.cache.path("repo"), func(p string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				info, _ := d.Info()
				size += info.Size()
			}
			return nil
		})
		sizes = append(sizes, size)
	}
	if last := sizes[len(sizes)-1]; last > 30<<10 {
		t.Errorf("the cache grew to %v", sizes)
	}
}

// TestOnlyWhatIsNewIsTransferred: a change of one of many files brings that file, not all.
func TestOnlyWhatIsNewIsTransferred(t *testing.T) {
	w := newWorld(t)
	for i := range 200 {
		w.repo.Write(fmt.Sprintf("apps/app-%03d.yaml", i), fmt.Sprintf("# %d of many\nkind: App\n", i))
	}
	w.repo.Push("many")
	w.mustFetch(Ref{})
	for i := range 3 {
		w.repo.Write("apps/app-007.yaml", fmt.Sprintf("# changed %d\nkind: App\n", i))
		commit := w.repo.Push("one")
		w.remote.Limits.Objects = 12 // a commit, two directories, a file
		w.mustFetch(Ref{})
		if files, err := w.files(commit, "apps"); err != nil || len(files) != 202 {
			t.Fatalf("%d files, %v", len(files), err)
		}
	}
}

// TestHugeBlob: a file of 1 GiB that compresses to a megabyte is refused without ever
// being in memory.
func TestHugeBlob(t *testing.T) {
	if testing.Short() {
		t.Skip("it makes a file of 1 GiB")
	}
	w := newWorld(t)
	first := w.mustFetch(Ref{})
	huge := filepath.Join(w.repo.Work, "huge.bin")
	f, err := os.Create(huge)
	if err == nil {
		err = errors.Join(f.Truncate(1<<30), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	w.repo.Git("-c", "core.bigFileThreshold=1m", "add", "--all")
	w.repo.Push("a disk image")
	w.repo.Remove("huge.bin")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = w.fetch(Ref{})
	runtime.ReadMemStats(&after)
	wantReason(t, err, ReasonTooLarge, "1073741824 bytes")
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("refusing it took %d MiB of memory", used>>20)
	}
	if _, err := w.files(first.Commit, ""); err != nil {
		t.Errorf("the commit before: %v", err)
	}
}

func TestTooMuch(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		limits Limits
		words  string
	}{
		{Limits{Objects: 3}, "objects"},
		{Limits{PackBytes: 100}, "more than 100 bytes"},
		{Limits{UnpackedBytes: 100}, "unpacked"},
	} {
		w.remote.Limits = c.limits
		_, err := w.fetch(Ref{})
		wantReason(t, err, ReasonTooLarge, c.words)
	}
	w.remote.Limits = Limits{}
	got := w.mustFetch(Ref{})
	for _, c := range []struct {
		limits Limits
		words  string
	}{
		{Limits{Files: 1}, "more than 1 manifests"},
		{Limits{Entries: 2}, "more than 2 files"},
		{Limits{FileBytes: 3}, "allowed are 3"},
	} {
		w.remote.Limits = c.limits
		_, err := w.files(got.Commit, "")
		wantReason(t, err, ReasonTooLarge, c.words)
	}
}

func TestTimeout(t *testing.T) {
	w := newWorld(t)
	w.remote.Limits.Timeout = time.Nanosecond
	_, err := w.fetch(Ref{})
	wantReason(t, err, ReasonTimeout)
}
