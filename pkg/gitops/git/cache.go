package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
)

const (
	// objectMemory bounds the unpacked objects that are held while a commit is read.
	objectMemory = 8 << 20
	// maxFiles bounds the files of a repository, to which fetches add, before it is begun anew.
	maxFiles = 4096
	// maxHeads bounds the commits that are remembered as complete.
	maxHeads = 256

	headsFile = "complete"   // the commits that were fetched whole, oldest first
	subsFile  = "submodules" // those of them whose submodules were fetched, too
	urlFile   = "url"
	gitDir    = "git"
	nextDir   = "next" // a repository that is being fetched anew
)

// Cache keeps what was fetched of repositories, each by an id of the caller's. It is safe
// for concurrent use.
type Cache struct {
	dir string

	mu    sync.Mutex
	repos map[string]*repository
}

// repository is one that is cached. It is used by one at a time.
type repository struct {
	sync.Mutex
	// storage keeps the indexes of packs, which take longer to read than what is read through
	// them; nil: not open. Between uses it has no file open and no object in memory.
	storage *filesystem.Storage
	objects cache.Object
	// suspect: adding to it failed, which may be its fault; the next fetch begins anew.
	suspect bool
}

// open returns the storage in a directory.
func (r *repository) open(dir string) *filesystem.Storage {
	if r.storage == nil {
		r.objects = cache.NewObjectLRU(objectMemory)
		r.storage = filesystem.NewStorageWithOptions(osfs.New(dir, osfs.WithBoundOS()), r.objects, filesystem.Options{KeepDescriptors: true, ExclusiveAccess: true})
	}
	return r.storage
}

// rest closes files and forgets objects.
func (r *repository) rest() error {
	if r.storage == nil {
		return nil
	}
	r.objects.Clear()
	return r.storage.Close()
}

// close forgets the storage, whose files are going to be others.
func (r *repository) close() {
	_ = r.rest()
	r.storage = nil
}

// NewCache returns the cache in a directory, which is made when it is needed.
func NewCache(dir string) *Cache { return &Cache{dir: dir, repos: map[string]*repository{}} }

// isCacheID tells whether an id can be the name of a directory: letters, digits and -.
func isCacheID(id string) bool {
	if id == "" || len(id) > 128 || id[0] == '-' {
		return false
	}
	for _, c := range []byte(id) {
		if c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// lock gives the caller a repository for himself.
func (c *Cache) lock(id string) *repository {
	c.mu.Lock()
	r := c.repos[id]
	if r == nil {
		r = &repository{}
		c.repos[id] = r
	}
	c.mu.Unlock()
	r.Lock()
	return r
}

func (c *Cache) path(id string, below ...string) string {
	return filepath.Join(append([]string{c.dir, id}, below...)...)
}

// Fetched is what a fetch came to.
type Fetched struct {
	Head
	// Transferred: objects were asked for; false: the commit was there.
	Transferred bool
}

// Fetch finds what the reference means on the server and fetches the commit unless it is
// there. It takes one exchange to find that nothing is to be done.
func (c *Cache) Fetch(ctx context.Context, id string, r Remote, ref Ref) (Fetched, error) {
	return c.fetch(ctx, id, r, func(adv *packp.AdvRefs) (Head, error) { return pick(adv, ref) }, ref.Branch)
}

// Ensure makes a commit readable that was fetched before, or is in the history of a branch:
// from the cache, by its name, or with the whole history of the repository.
func (c *Cache) Ensure(ctx context.Context, id string, r Remote, commit, branch string) error {
	if !gitspec.IsCommit(commit) {
		return failf(ReasonInvalidSpec, "the commit %q: allowed are 40 hexadecimal digits", commit)
	}
	if c.Has(id, r.URL, commit, r.Submodules) {
		return nil
	}
	_, err := c.fetch(ctx, id, r, func(*packp.AdvRefs) (Head, error) { return Head{Commit: commit}, nil }, branch)
	return err
}

// Has tells whether a commit of a repository was fetched, with its submodules if they are
// wanted, and is still there.
func (c *Cache) Has(id, url, commit string, submodules bool) bool {
	defer c.lock(id).Unlock()
	return c.has(id, url, commit, submodules)
}

// has is Has of a repository that is locked.
func (c *Cache) has(id, url, commit string, submodules bool) bool {
	return c.ours(id, url) && slices.Contains(c.heads(id), commit) && (!submodules || slices.Contains(c.listed(id, subsFile), commit))
}

func (c *Cache) fetch(ctx context.Context, id string, r Remote, choose func(*packp.AdvRefs) (Head, error), branch string) (Fetched, error) {
	if !isCacheID(id) {
		return Fetched{}, failf(ReasonInvalidSpec, "the cache id %q", id)
	}
	limits := r.Limits.WithDefaults()
	ctx, cancel := context.WithTimeout(ctx, limits.Timeout)
	defer cancel()
	s, adv, err := r.advertised(ctx)
	if err != nil {
		return Fetched{}, err
	}
	defer s.close()
	head, err := choose(adv)
	if err != nil {
		return Fetched{}, err
	}
	if c.Has(id, r.URL, head.Commit, r.Submodules) {
		return Fetched{Head: head}, nil
	}
	repo := c.lock(id)
	defer repo.Unlock()
	if repo.suspect || !c.has(id, r.URL, head.Commit, false) {
		if err := c.add(ctx, s, adv, repo, id, r.URL, head, branch, limits); err != nil {
			return Fetched{}, err
		}
	}
	if r.Submodules {
		if err := c.addSubmodules(ctx, repo, id, r, head.Commit, limits); err != nil {
			return Fetched{}, err
		}
	}
	return Fetched{Head: head, Transferred: true}, nil
}

// add brings a commit into the repository, or into a new one that takes its place. The
// repository is locked.
func (c *Cache) add(ctx context.Context, s session, adv *packp.AdvRefs, repo *repository, id, url string, head Head, branch string, l Limits) error {
	heads := c.heads(id)
	w, err := wishFor(adv, head.Commit, branch)
	if err != nil {
		return err
	}
	anew := !c.ours(id, url) || len(heads) == 0 || w.history || repo.suspect || c.full(id, l)
	if anew {
		err := c.begin(ctx, s, adv, repo, id, url, head, w, l)
		if err == nil {
			repo.suspect = false
		}
		return err
	}
	w.have = heads[len(heads)-1]
	st := repo.open(c.path(id, gitDir))
	err = download(ctx, s, adv, w, st, c.path(id), l)
	if err == nil {
		err = present(st, head.Commit)
	}
	if cerr := repo.rest(); err == nil && cerr != nil {
		err = because(ReasonCacheUnavailable, cerr, "the cache of repositories")
	}
	if err != nil {
		repo.close()
		repo.suspect = true
		return err
	}
	return remember(c.path(id, headsFile), append(heads, head.Commit))
}

// begin fetches into a new repository and puts it in the place of the old one.
func (c *Cache) begin(ctx context.Context, s session, adv *packp.AdvRefs, repo *repository, id, url string, head Head, w wish, l Limits) error {
	next := c.path(id) + "." + nextDir
	if err := os.RemoveAll(next); err != nil {
		return because(ReasonCacheUnavailable, err, "the cache of repositories")
	}
	defer os.RemoveAll(next)
	if err := os.MkdirAll(filepath.Join(next, gitDir), 0o700); err != nil {
		return because(ReasonCacheUnavailable, err, "the cache of repositories")
	}
	var anew repository
	st := anew.open(filepath.Join(next, gitDir))
	err := download(ctx, s, adv, w, st, next, l)
	if err == nil {
		err = present(st, head.Commit)
	}
	if cerr := anew.rest(); err == nil && cerr != nil {
		err = because(ReasonCacheUnavailable, cerr, "the cache of repositories")
	}
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(next, urlFile), []byte(url), 0o600); err != nil {
		return because(ReasonCacheUnavailable, err, "the cache of repositories")
	}
	if err := remember(filepath.Join(next, headsFile), []string{head.Commit}); err != nil {
		return err
	}
	repo.close()
	if err := os.RemoveAll(c.path(id)); err != nil {
		return because(ReasonCacheUnavailable, err, "the cache of repositories")
	}
	if err := os.Rename(next, c.path(id)); err != nil {
		return because(ReasonCacheUnavailable, err, "the cache of repositories")
	}
	return nil
}

// present checks that a commit and its first directory came.
func present(st *filesystem.Storage, commit string) error {
	s := &Snapshot{st: st}
	c, err := s.Commit(commit)
	if err != nil {
		return failf(ReasonRefNotFound, "the server did not send the commit %s", commit)
	}
	_, err = s.tree(c.Tree)
	return err
}

// remember writes which commits are complete, by rename: after a crash a commit that is
// not in the file is fetched again.
func remember(path string, heads []string) error {
	if len(heads) > maxHeads {
		heads = heads[len(heads)-maxHeads:]
	}
	err := os.WriteFile(path+".new", []byte(strings.Join(heads, "\n")+"\n"), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return because(ReasonCacheUnavailable, err, "the cache of repositories")
	}
	return nil
}

// ours tells whether the repository is the one of that URL.
func (c *Cache) ours(id, url string) bool {
	data, err := os.ReadFile(c.path(id, urlFile))
	return err == nil && string(data) == url
}

func (c *Cache) heads(id string) []string { return c.listed(id, headsFile) }

// listed reads a list that remember has written.
func (c *Cache) listed(id, file string) []string {
	data, err := os.ReadFile(c.path(id, file))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(strings.Fields(string(data)), func(s string) bool { return !gitspec.IsCommit(s) })
}

// full tells whether a repository has to be begun anew.
func (c *Cache) full(id string, l Limits) bool {
	var bytes int64
	files := 0
	_ = filepath.WalkDir(c.path(id), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			bytes += info.Size()
		}
		files++
		return nil
	})
	return bytes > l.CacheBytes || files > maxFiles
}

// Drop forgets a repository.
func (c *Cache) Drop(id string) error {
	if !isCacheID(id) {
		return nil
	}
	repo := c.lock(id)
	defer repo.Unlock()
	repo.close()
	return errors.Join(os.RemoveAll(c.path(id)), os.RemoveAll(c.path(id)+"."+nextDir))
}

// Keep forgets all repositories but those.
func (c *Cache) Keep(ids map[string]bool) error {
	entries, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the cache of repositories: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if id := strings.TrimSuffix(e.Name(), "."+nextDir); !ids[id] {
			errs = append(errs, c.Drop(id))
		}
	}
	return errors.Join(errs...)
}

// Open gives a commit that was fetched to read, with its submodules if they are wanted. Close
// it soon: who else wants the repository waits.
func (c *Cache) Open(id, url, commit string, submodules bool) (*Snapshot, error) {
	repo := c.lock(id)
	if !c.has(id, url, commit, submodules) {
		repo.Unlock()
		return nil, failf(ReasonCacheUnavailable, "the commit %s is not in the cache; it is fetched again", commit)
	}
	return &Snapshot{st: repo.open(c.path(id, gitDir)), commit: commit, submodules: submodules, end: sync.OnceValue(func() error {
		defer repo.Unlock()
		return repo.rest()
	})}, nil
}
