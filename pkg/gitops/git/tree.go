package git

import (
	"bytes"
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
)

// File is one manifest of a commit.
type File struct {
	Path string // from the root of the repository
	Blob string // hash of its content
}

// Tree is what a commit has below a path.
type Tree struct {
	// ID is equal for equal content; it changes with anything below the path, and with
	// nothing else.
	ID    string
	Files []File // sorted by path
}

// TreeID returns the ID of the directory at a path. It reads the directories above only.
func (s *Snapshot) TreeID(dir string) (string, error) {
	c, err := s.Commit(s.commit)
	if err != nil {
		return "", err
	}
	id := c.Tree
	if dir == "" {
		return id, nil
	}
	for name := range strings.SplitSeq(dir, "/") {
		entries, err := s.tree(id)
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(entries, func(e entry) bool { return e.name == name })
		switch {
		case i < 0:
			return "", failf(ReasonPathNotFound, "the commit has no directory %s", dir)
		case entries[i].mode == modeLink:
			return "", failf(ReasonRefused, "%s goes through the symbolic link %s, which is not followed", dir, name)
		case entries[i].mode == modeSubmodule:
			if id, err = s.submodule(name, entries[i].hash); err != nil {
				return "", err
			}
			continue
		case entries[i].mode != modeDir:
			return "", failf(ReasonPathNotFound, "%s: %s is no directory", dir, name)
		}
		id = entries[i].hash
	}
	return id, nil
}

// Walk lists the manifests below a directory: files whose name wanted takes. Directories
// whose name begins with a dot are left out, and what the patterns exclude.
//
// Refused, with the path: symbolic links and submodules that were not fetched (excluded ones are left out),
// names that JoinPath refuses, names that are one file on some systems (case, normalisation of
// Unicode), and more than the limits.
func (s *Snapshot) Walk(ctx context.Context, dir string, exclude []string, wanted func(name string) bool, l Limits) (Tree, error) {
	id, err := s.TreeID(dir)
	if err != nil {
		return Tree{}, err
	}
	w := walker{s: s, ctx: ctx, exclude: exclude, wanted: wanted, limits: l.WithDefaults()}
	if err := w.dir(dir, id, 0, false); err != nil {
		return Tree{}, err
	}
	slices.SortFunc(w.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return Tree{ID: id, Files: w.files}, nil
}

type walker struct {
	s       *Snapshot
	ctx     context.Context
	exclude []string
	wanted  func(string) bool
	limits  Limits
	entries int
	files   []File
}

func (w *walker) dir(dir, id string, depth int, inside bool) error {
	if err := w.ctx.Err(); err != nil {
		return because(ReasonTimeout, err, "read the commit")
	}
	if depth > w.limits.Depth {
		return failf(ReasonTooLarge, "%s is nested deeper than %d directories", dir, w.limits.Depth)
	}
	entries, err := w.s.tree(id)
	if err != nil {
		return err
	}
	if w.entries += len(entries); w.entries > w.limits.Entries {
		return failf(ReasonTooLarge, "there are more than %d files and directories below the path", w.limits.Entries)
	}
	names := make(map[string]string, len(entries))
	for _, e := range entries {
		at, err := gitspec.JoinPath(dir, e.name)
		if err != nil {
			return because(ReasonRefused, err, "refused")
		}
		if gitspec.Excluded(at, w.exclude) {
			continue
		}
		if other, clash := names[gitspec.Folded(e.name)]; clash {
			return failf(ReasonRefused, "%s and %s %s: on some systems they are one file", at, other, gitspec.Clash(e.name, path.Base(other)))
		}
		names[gitspec.Folded(e.name)] = at
		if err := w.entry(e, at, depth, inside); err != nil {
			return err
		}
	}
	return nil
}

// entry looks at one name of a directory; inside is whether that is in a submodule.
func (w *walker) entry(e entry, at string, depth int, inside bool) error {
	hidden := strings.HasPrefix(e.name, ".")
	switch e.mode {
	case modeLink:
		if hidden {
			return nil
		}
		return failf(ReasonRefused, "%s is a symbolic link, which is not followed; put the file itself there, or name it in spec.exclude", at)
	case modeSubmodule:
		if inside {
			return failf(ReasonRefused, "%s is a submodule of a submodule, which is not fetched; name it in spec.exclude", at)
		}
		id, err := w.s.submodule(at, e.hash)
		if err != nil {
			return err
		}
		return w.dir(at, id, depth+1, true)
	case modeDir:
		if hidden {
			return nil
		}
		return w.dir(at, e.hash, depth+1, inside)
	case modeFile, modeGroupFile, modeExec:
		if hidden || !w.wanted(e.name) {
			return nil
		}
		if len(w.files) >= w.limits.Files {
			return failf(ReasonTooLarge, "there are more than %d manifests below the path", w.limits.Files)
		}
		w.files = append(w.files, File{at, e.hash})
		return nil
	}
	return failf(ReasonRefused, "%s is of the unknown mode %s", at, e.mode)
}

// lfsPointer is how the placeholder of a file in Git LFS begins.
var lfsPointer = []byte("version https://git-lfs.github.com/spec/")

// Read returns the content of a file.
func (s *Snapshot) Read(f File, l Limits) ([]byte, error) {
	data, err := s.read(f.Blob, plumbing.BlobObject, l.WithDefaults().FileBytes)
	var e *Error
	if errors.As(err, &e) {
		return nil, &Error{Reason: e.Reason, Text: f.Path + ": " + e.Text, Err: e}
	}
	if bytes.HasPrefix(data, lfsPointer) {
		return nil, failf(ReasonRefused, "%s is a pointer of Git LFS, whose files are not fetched; commit the file itself", f.Path)
	}
	return data, err
}
