package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store/snapshot"
)

// restoreGap is how far a restored store's revision is ahead of the snapshot's. Revisions
// that were given out after the snapshot are lost; who holds one must be told to list
// again, not be given another history's changes. No store makes that many changes between
// two backups.
const restoreGap = 1_000_000_000

// ErrExists: there is a database already.
var ErrExists = errors.New("there is a database already")

// Restore makes the database file at path from a snapshot. The new database has the
// objects of the snapshot and no log: every watch begins with a list. With force a
// database that is there is replaced, in one step, and kept under another name; without,
// it is ErrExists. Errors besides: snapshot.ErrDamaged, ErrSchema, ErrDamaged, and
// store.ErrLocked when a process has the database open. After an error what was there is
// there still.
func Restore(path string, from *os.File, reg *resource.Registry, force bool) (Restored, error) {
	info, err := restore(path, from, reg, force)
	if err != nil {
		return info, fmt.Errorf("restore database %s: %w", path, err)
	}
	return info, nil
}

// Restored says what Restore did.
type Restored struct {
	snapshot.Info
	Kept string // path of the database that was there before; empty: there was none
}

func restore(path string, from *os.File, reg *resource.Registry, force bool) (info Restored, err error) {
	there := false
	switch _, err := os.Lstat(path); {
	case err == nil && !force:
		return info, ErrExists
	case err == nil:
		release, err := hold(path)
		if err != nil {
			return info, err
		}
		defer release()
		there = true
	case !errors.Is(err, fs.ErrNotExist):
		return info, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".restore-*") // for its owner only
	if err != nil {
		return info, err
	}
	defer os.Remove(tmp.Name())
	info.Info, err = snapshot.CopyDatabase(tmp, from)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return info, err
	}
	if err := moveOn(tmp.Name(), reg, info.Info); err != nil {
		return info, err
	}
	if there {
		if info.Kept, err = keep(path); err != nil {
			return info, err
		}
	}
	if force {
		err = os.Rename(tmp.Name(), path)
	} else if err = os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) { // a link replaces nothing
		err = ErrExists
	}
	if err != nil {
		return info, err
	}
	return info, syncDirectory(filepath.Dir(path))
}

// keep gives the database a second name that says when.
func keep(path string) (string, error) {
	name := path + ".replaced-" + time.Now().UTC().Format("20060102T150405.000Z")
	return name, os.Link(path, name)
}

// hold keeps others from opening a database until it is released. One that is too damaged
// to be opened cannot be in use.
func hold(path string) (release func(), err error) {
	db, err := openFile(path, Options{}.withDefaults())
	switch {
	case errors.Is(err, ErrDamaged):
		return func() {}, nil
	case err != nil:
		return nil, err
	}
	return func() { _ = db.Close() }, nil // nothing was written
}

// moveOn checks that the copy is the database that the trailer speaks of, that this
// version can open it, and gives it a revision that was never given out.
func moveOn(path string, reg *resource.Registry, info snapshot.Info) error {
	d, contents, err := openDatabase(path, reg, Options{}.withDefaults(), false)
	if err != nil {
		return err
	}
	if err := d.catchUp(); err != nil { // the log goes
		return errors.Join(err, d.Close())
	}
	err = d.db.Load().Update(func(tx *bbolt.Tx) error {
		if contents.Revision != info.Revision || d.id != info.StoreID {
			return fmt.Errorf("%w: it holds revision %d of store %s, its trailer speaks of %d of %s",
				snapshot.ErrDamaged, contents.Revision, d.id, info.Revision, info.StoreID)
		}
		if err := tx.DeleteBucket(logBucket); err != nil {
			return err
		}
		if _, err := tx.CreateBucket(logBucket); err != nil {
			return err
		}
		next := info.Revision + restoreGap
		return counters{revision: next, compacted: next, checkpoint: next}.write(tx)
	})
	return errors.Join(err, d.Close())
}
