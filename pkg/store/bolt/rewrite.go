package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"go.etcd.io/bbolt"
)

// copyChunk bounds the bytes of one transaction while a database is copied.
const copyChunk = 4 << 20

// rewritePattern is the name of a file that is to take a database's place, CopyPattern
// that of one that is made of an open database to be looked at. They begin with the
// database's name. What a crash leaves of either, the next start removes.
const (
	rewritePattern = ".rewrite-*"
	CopyPattern    = ".copy-*"
)

// errPlaced: the new file has taken the old one's place, but whether a power failure would
// bring the old one back is unknown.
var errPlaced = errors.New("the file was replaced, and that could not be made durable")

// rewrite copies a database into a new file without its unused pages, lets change work on
// the copy, and puts it at the place of the file, which the caller has open for writing,
// writes to no more, and closes afterwards. With kept the file that was also stays, under that name.
//
// At each moment, and after a crash at each moment, the file at path is the one that was or
// the whole new one. After an error that is not errPlaced it is the one that was.
func rewrite(path string, db *bbolt.DB, opts Options, kept string, change func(*bbolt.DB) error) (_ *openDB, err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+rewritePattern) // mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(temp.Name()) // it has another name when all went well
	if err := temp.Close(); err != nil {
		return nil, err
	}
	if err := copyInto(temp.Name(), db, opts, change); err != nil {
		return nil, err
	}
	// It is locked before it has its name: nobody can come between.
	copied, err := openBbolt(temp.Name(), opts)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = copied.Close() // nothing was written that is not durable
		}
	}()
	if kept != "" {
		if err := link(path, kept); err != nil {
			return nil, err
		}
	}
	if err := opts.seams.rewriting("rename"); err != nil {
		return nil, err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return nil, err
	}
	err = opts.seams.rewriting("sync directory")
	if err == nil {
		err = syncDirectory(filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPlaced, err)
	}
	return copied, opts.seams.rewriting("done")
}

// copyInto makes the copy, checks its pages, and makes it durable.
func copyInto(path string, db *bbolt.DB, opts Options, change func(*bbolt.DB) error) error {
	if err := opts.seams.rewriting("copy"); err != nil {
		return err
	}
	// It is synced once, when it is whole.
	to, err := bbolt.Open(path, fileMode, &bbolt.Options{FreelistType: bbolt.FreelistMapType, NoSync: true, Timeout: lockTimeout})
	if err != nil {
		return err
	}
	err = bbolt.Compact(to, db, copyChunk)
	if err == nil {
		err = change(to)
	}
	if err == nil {
		err = to.View(checkPages)
	}
	if err == nil {
		err = opts.seams.rewriting("sync")
	}
	return errors.Join(err, to.Sync(), to.Close())
}

// checkPages runs bbolt's own check.
func checkPages(tx *bbolt.Tx) error {
	var all []error
	for err := range tx.Check() { // it must be read to its end
		if len(all) < maxProblems {
			all = append(all, fmt.Errorf("%w: %w", ErrDamaged, err))
		}
	}
	return errors.Join(all...)
}

// maxProblems bounds the findings of one check.
const maxProblems = 100

// link gives a file a second name, in place of what had it.
func link(path, name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Link(path, name)
}

// removeLeftovers removes what a crash has left. The caller has the database's lock, under
// which all of it is made.
func removeLeftovers(path string) {
	base := filepath.Base(path)
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return // the next start may have more luck
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), base)
		if ok && (strings.HasPrefix(rest, strings.TrimSuffix(rewritePattern, "*")) || strings.HasPrefix(rest, strings.TrimSuffix(CopyPattern, "*"))) {
			_ = os.Remove(filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
}

// DefragInfo says what Defrag did.
type DefragInfo struct {
	Before, After int64 // size of the file in bytes
}

// Defrag rewrites the file without the pages that nothing is in. Reads and watches go on
// meanwhile; writes wait for as long as copying the live pages takes. After an error the
// file is as it was, but for one case in which the store is read-only afterwards.
func (s *Store) Defrag(ctx context.Context) (DefragInfo, error) {
	var info DefragInfo
	err := s.BetweenCommits(ctx, func(fail func(error) error) error {
		var err error
		info, err = s.db.defrag()
		if errors.Is(err, errPlaced) {
			return fail(err)
		}
		return err
	})
	if err != nil {
		return info, fmt.Errorf("defragment database %s: %w", s.db.path, err)
	}
	return info, nil
}

// defrag must not run beside a commit.
func (d *database) defrag() (info DefragInfo, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil { // it happens in the copy, if at all, before anything was replaced
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	info.Before = d.Size()
	old := d.db.Load()
	next, err := rewrite(d.path, old.DB, d.opts, "", func(*bbolt.DB) error { return nil })
	if err != nil {
		d.failed = d.failed || errors.Is(err, errPlaced)
		return info, err
	}
	d.db.Store(next)
	d.written = 0
	d.old.Go(func() { _ = old.Close() }) // waits for its readers; nothing of it is needed any more
	info.After = d.Size()
	return info, nil
}
