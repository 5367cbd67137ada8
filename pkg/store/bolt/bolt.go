package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/internal/engine"
)

const (
	// lockTimeout is how long Open waits for another process to let go of the file: a
	// restarted daemon may overlap with the end of its predecessor.
	lockTimeout = time.Second
	// fileMode: objects may hold what is nobody else's business.
	fileMode = 0o600
	// mapSize is how much of the address space the file gets at first. It costs no memory;
	// a growing file would otherwise be mapped anew, which waits for all readers.
	mapSize = 256 << 20
)

// Options of a store; zero values mean the defaults.
type Options struct {
	// The log keeps LogMinEvents of the newest events (default 10,000) and older ones up to
	// LogMaxAge (default 1 h), all as long as they take no more than LogMaxBytes (default
	// 256 MiB). How far back a watch can start depends on it.
	LogMinEvents uint64
	LogMaxAge    time.Duration
	LogMaxBytes  uint64
	// MaxWatchLag is the number of events that may be published without a watcher taking
	// one before it is cut off (default 32,768).
	MaxWatchLag uint64
	// Logger gets what the store does by itself; default: nobody.
	Logger *slog.Logger

	seams seams
}

// seams are where this package's tests make a commit fail.
type seams struct {
	openFile     func(name string, flag int, mode os.FileMode) (*os.File, error)
	beforeCommit func() error // in the transaction, all changes made
	afterCommit  func() error // after the sync, as if it had failed
}

func (o Options) withDefaults() Options {
	if o.LogMinEvents == 0 {
		o.LogMinEvents = 10_000
	}
	if o.LogMaxAge == 0 {
		o.LogMaxAge = time.Hour
	}
	if o.LogMaxBytes == 0 {
		o.LogMaxBytes = 256 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	nothing := func() error { return nil }
	if o.seams.beforeCommit == nil {
		o.seams.beforeCommit = nothing
	}
	if o.seams.afterCommit == nil {
		o.seams.afterCommit = nothing
	}
	return o
}

// The events that are kept in memory: what watchers that keep up need. Those further
// behind read the log in the file.
const (
	ringEvents = 4096
	ringBytes  = 16 << 20
)

// Store is a store.Store in a file.
type Store struct {
	*engine.Engine
	db *database
}

// Open opens the database file, or makes it (readable by its owner only); the directory
// must exist. Errors: store.ErrLocked when another process has it open, ErrSchema when a
// newer version wrote it, ErrDamaged, and those of the file system.
func Open(path string, reg *resource.Registry, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	db, contents, err := openDatabase(path, reg, opts)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return &Store{db: db, Engine: engine.New(reg, db, contents, engine.Options{
		RingEvents: ringEvents, RingBytes: ringBytes, MaxWatchLag: opts.MaxWatchLag, Logger: opts.Logger,
	})}, nil
}

// ID is the random id that was made with the file. A copy of the file has the same.
func (s *Store) ID() string { return s.db.id }

func openDatabase(path string, reg *resource.Registry, opts Options) (_ *database, contents engine.Contents, err error) {
	// bbolt maps the file; a page that lies about its size faults. Here, where the whole
	// file is read for the first time, that becomes an error.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	d := &database{reg: reg, opts: opts}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
		if err != nil && d.db != nil {
			_ = d.db.Close() // nothing was written that is not durable
		}
	}()
	if d.db, err = openFile(path, opts); err != nil {
		return nil, engine.Contents{}, err
	}
	var complete bool
	contents, complete, err = d.read()
	if errors.Is(err, errEmpty) {
		if err = d.db.Update(create); err != nil {
			return nil, engine.Contents{}, err
		}
		contents, complete, err = d.read()
	}
	if err == nil && !complete {
		err = d.db.Update(func(tx *bbolt.Tx) error { return addKinds(tx, reg) })
	}
	return d, contents, err
}

func openFile(path string, opts Options) (*bbolt.DB, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeFile(path, opts); err != nil {
			return nil, err
		}
	}
	db, err := openBbolt(path, opts)
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w%s", store.ErrLocked, holderText(path))
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	case err != nil:
		return nil, err
	}
	if err := os.Chmod(path, fileMode); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func openBbolt(path string, opts Options) (*bbolt.DB, error) {
	return bbolt.Open(path, fileMode, &bbolt.Options{
		Timeout:         lockTimeout,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: mapSize,
		OpenFile:        opts.seams.openFile,
	})
}

// makeFile makes a database without objects. It is made under another name and gets its
// own when it is whole and synced: a power failure leaves a database or none, never a
// part that no later start could open. What it may leave is a small file path.new-*.
func makeFile(path string, opts Options) error {
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if err := temp.Close(); err != nil {
		return err
	}
	db, err := openBbolt(temp.Name(), opts)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Update(create), db.Close()); err != nil {
		return err
	}
	// A link, because a rename would replace what another process has made meanwhile.
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDirectory(filepath.Dir(path)) // else a power failure may lose the file itself
}

func holderText(path string) string {
	if pid := lockHolder(path); pid > 0 {
		return " (pid " + strconv.Itoa(pid) + ")"
	}
	return ""
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
