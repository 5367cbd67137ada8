package git

import (
	"context"
	"errors"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
)

// Submodules are in the same cache as the repository that has them: objects are named by what
// they are, so a commit that a directory names is read wherever it was fetched from. A submodule
// is fetched from the very server that the repository is on and from no other: whoever may push
// must not choose whom the daemon talks to, nor who gets its credentials.

const (
	modulesFile     = ".gitmodules"
	maxModulesBytes = 64 << 10
	maxSubmodules   = 32
)

// module is a submodule of a commit.
type module struct{ path, url, commit string }

// addSubmodules fetches the submodules of a commit that can be had, and notes that. The
// repository is locked.
func (c *Cache) addSubmodules(ctx context.Context, repo *repository, id string, r Remote, commit string, l Limits) (err error) {
	st := repo.open(c.path(id, gitDir))
	defer func() {
		if cerr := repo.rest(); err == nil && cerr != nil {
			err = because(ReasonCacheUnavailable, cerr, "the cache of repositories")
		}
		switch ReasonOf(err) {
		case ReasonTransfer, ReasonCorrupt, ReasonTooLarge: // it may have added half of something, or be full
			repo.close()
			repo.suspect = true
		}
	}()
	modules, err := (&Snapshot{st: st, commit: commit}).modules(r.URL)
	if err != nil {
		return err
	}
	for _, m := range modules {
		if present(st, m.commit) == nil {
			continue
		}
		if c.full(id, l) {
			return failf(ReasonTooLarge, "the repository and its submodules have more than %d bytes", l.CacheBytes)
		}
		if err := c.addSubmodule(ctx, st, id, Remote{URL: m.url, Auth: r.Auth}, m, l); err != nil {
			return submoduleError(m, err)
		}
	}
	return remember(c.path(id, subsFile), append(c.listed(id, subsFile), commit))
}

func submoduleError(m module, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return &Error{Reason: e.Reason, Text: "the submodule " + m.path + " (" + m.url + "): " + e.Text, Err: e}
	}
	return because(ReasonTransfer, err, "the submodule %s (%s)", m.path, m.url)
}

func (c *Cache) addSubmodule(ctx context.Context, st *filesystem.Storage, id string, r Remote, m module, l Limits) error {
	s, adv, err := r.advertised(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	w, err := wishFor(adv, m.commit, defaultBranch(adv))
	if err != nil {
		return err
	}
	if err := download(ctx, s, adv, w, st, c.path(id), l); err != nil {
		return err
	}
	return present(st, m.commit)
}

// modules lists the submodules of the commit that are on the server of the repository: what
// .gitmodules names, and the directories have.
func (s *Snapshot) modules(repository string) ([]module, error) {
	parent, err := gitspec.ParseURL(repository)
	if err != nil {
		return nil, failf(ReasonInvalidSpec, "the URL %s: allowed is %s", repository, err)
	}
	c, err := s.Commit(s.commit)
	if err != nil {
		return nil, err
	}
	entries, err := s.tree(c.Tree)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(entries, func(e entry) bool { return e.name == modulesFile && (e.mode == modeFile || e.mode == modeExec) })
	if i < 0 {
		return nil, nil
	}
	data, err := s.read(entries[i].hash, plumbing.BlobObject, maxModulesBytes)
	if err != nil {
		return nil, wrap(ReasonRefused, err, modulesFile)
	}
	named, err := parseModules(data)
	if err != nil {
		return nil, because(ReasonRefused, err, modulesFile)
	}
	var list []module
	for _, m := range named {
		u, ok := submoduleURL(parent, m.URL)
		at, err := gitspec.CleanPath(m.Path)
		if !ok || err != nil || at == "" {
			continue
		}
		commit, err := s.gitlink(c.Tree, at)
		if err != nil {
			return nil, err
		}
		if commit != "" {
			list = append(list, module{at, u, commit})
		}
	}
	if len(list) > maxSubmodules {
		return nil, failf(ReasonTooLarge, "the commit has %d submodules; allowed are %d", len(list), maxSubmodules)
	}
	slices.SortFunc(list, func(a, b module) int { return strings.Compare(a.path, b.path) })
	return list, nil
}

// parseModules reads a .gitmodules file; the library's panics are errors.
func parseModules(data []byte) (named map[string]*config.Submodule, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = errors.New("it cannot be read")
		}
	}()
	m := config.NewModules()
	err = m.Unmarshal(data)
	return m.Submodules, err
}

// submoduleURL is where a submodule is; false when that is not the server of its repository.
func submoduleURL(parent *url.URL, raw string) (string, bool) {
	if parent.Scheme == "file" {
		return "", false // any directory of the daemon's machine
	}
	if strings.HasPrefix(raw, "./") || strings.HasPrefix(raw, "../") {
		at := *parent
		at.Path, at.RawPath = path.Join("/", parent.Path, raw), ""
		raw = at.String()
	}
	u, err := gitspec.ParseURL(raw)
	if err != nil || u.Scheme != parent.Scheme || !strings.EqualFold(u.Host, parent.Host) {
		return "", false
	}
	if u.Scheme == "ssh" && u.User.Username() != "" && u.User.Username() != parent.User.Username() {
		return "", false
	}
	u.Host, u.User = parent.Host, parent.User
	return u.String(), true
}

// gitlink is the commit that a submodule is at; "" when there is none at the path.
func (s *Snapshot) gitlink(tree, at string) (string, error) {
	names := strings.Split(at, "/")
	for n, name := range names {
		entries, err := s.tree(tree)
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(entries, func(e entry) bool { return e.name == name })
		switch {
		case i < 0:
			return "", nil
		case n == len(names)-1 && entries[i].mode == modeSubmodule:
			return entries[i].hash, nil
		case entries[i].mode != modeDir:
			return "", nil
		}
		tree = entries[i].hash
	}
	return "", nil
}

// submodule is the directory that a submodule is.
func (s *Snapshot) submodule(at, commit string) (string, error) {
	if !s.submodules {
		return "", failf(ReasonRefused, "%s is a submodule, which is not fetched; name it in spec.exclude, follow its repository by a Sync of its own, or set spec.submodules of the GitRepository", at)
	}
	c, err := s.Commit(commit)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return "", failf(ReasonRefused, "%s is a submodule that is not fetched: followed are those that %s names on the server of the repository, by the same protocol; name it in spec.exclude", at, modulesFile)
	}
	if err != nil {
		return "", err
	}
	return c.Tree, nil
}
