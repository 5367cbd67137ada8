package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

// markerOf is the file that is there while a daemon has the database: one that a start
// finds tells of a stop that was none.
func markerOf(path string) string { return path + ".in-use" }

// Database is the open database of a daemon.
type Database struct {
	*bolt.Store
	marker string
}

// OpenDatabase opens the database in a data directory for a daemon. After a stop that was
// not clean the file is first checked in a child process, because a damaged one could end
// this one. Errors say what to do; store.ErrLocked names who has the database.
func OpenDatabase(ctx context.Context, dir string, log *slog.Logger) (*Database, error) {
	path := filepath.Join(dir, DatabaseFile)
	marker := markerOf(path)
	if err := precheck(ctx, path, marker, log); err != nil {
		return nil, err
	}
	st, err := bolt.Open(path, kinds.Registry(), bolt.Options{Logger: log})
	if errors.Is(err, store.ErrLocked) {
		return nil, fmt.Errorf("%w: a daemon runs on %s already; stop it, or choose another --data-dir", err, dir)
	}
	if errors.Is(err, bolt.ErrDamaged) {
		return nil, damaged(dir, err)
	}
	if err != nil {
		return nil, err
	}
	if err := mark(marker); err != nil {
		return nil, errors.Join(fmt.Errorf("mark the database as in use: %w", err), st.Close())
	}
	return &Database{Store: st, marker: marker}, nil
}

// Close closes the database and takes the mark off, unless a write has failed: then the
// next start should look.
func (d *Database) Close() error {
	failed := d.Stats().ReadOnly
	if err := d.Store.Close(); err != nil || failed {
		return err
	}
	if err := os.Remove(d.marker); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func precheck(ctx context.Context, path, marker string, log *slog.Logger) error {
	if _, err := os.Stat(marker); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil // there is nothing to check
	}
	began := time.Now()
	report, err := checkInChild(ctx, path, true)
	switch {
	case errors.Is(err, store.ErrLocked):
		return nil // it is being used, not damaged; opening it tells by whom
	case err != nil:
		return fmt.Errorf("check the database after a stop that was not clean: %w", err)
	case len(report.GetProblems()) > 0:
		return damaged(filepath.Dir(path), fmt.Errorf("database %s: %w: %s", path, bolt.ErrDamaged, report.GetProblems()[0]))
	}
	log.Info("the database was not closed the last time; its pages were checked and are sound", "file", path, "duration", time.Since(began))
	return nil
}

// mark leaves a file that outlives a power failure.
func mark(marker string) error {
	f, err := os.OpenFile(marker, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(marker))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// damaged says what a person can do about a database that cannot be used.
func damaged(dir string, err error) error {
	return fmt.Errorf("%[1]w\n"+
		"nothing was changed. What you can do:\n"+
		"  1. keep a copy of %[2]s\n"+
		"  2. see all that is wrong: proxctl admin check --data-dir %[3]s\n"+
		"  3. go back to a snapshot: proxctl admin snapshot restore FILE --data-dir %[3]s --force\n"+
		"  without a snapshot: move %[2]s away, start with an empty database and apply your manifests again",
		err, filepath.Join(dir, DatabaseFile), dir)
}
