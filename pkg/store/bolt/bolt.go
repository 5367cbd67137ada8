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
	// CheckpointBytes is how much of the log a start may have to read (default 64 MiB, and
	// at most a quarter of LogMaxBytes): when more has come, objects are written to their
	// place. A store that is closed in order leaves nothing to read.
	CheckpointBytes uint64
	// Of the audit records the newest AuditMaxRecords (default 200,000) are kept, for
	// AuditMaxAge (default 400 days), all as long as they take no more than AuditMaxBytes
	// (default 128 MiB).
	AuditMaxRecords uint64
	AuditMaxAge     time.Duration
	AuditMaxBytes   uint64
	// RoomBytes is how much of the file is filled with zeros at a time, for small commits to
	// write over (default 256 KiB); less than 0: nothing.
	RoomBytes int64
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
	rewriting    func(stage string) error
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
	if o.CheckpointBytes == 0 {
		o.CheckpointBytes = 64 << 20
	}
	o.CheckpointBytes = min(o.CheckpointBytes, o.LogMaxBytes/4)
	if o.AuditMaxRecords == 0 {
		o.AuditMaxRecords = 200_000
	}
	if o.AuditMaxAge == 0 {
		o.AuditMaxAge = 400 * 24 * time.Hour
	}
	if o.AuditMaxBytes == 0 {
		o.AuditMaxBytes = 128 << 20
	}
	if o.RoomBytes == 0 {
		o.RoomBytes = defaultRoom
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.seams.openFile == nil {
		o.seams.openFile = os.OpenFile
	}
	nothing := func() error { return nil }
	if o.seams.beforeCommit == nil {
		o.seams.beforeCommit = nothing
	}
	if o.seams.afterCommit == nil {
		o.seams.afterCommit = nothing
	}
	if o.seams.rewriting == nil {
		o.seams.rewriting = func(string) error { return nil }
	}
	return o
}

// The events that are kept in memory: what watchers that keep up need. Those further
// behind read the log in the file.
const (
	ringEvents = 2048
	ringBytes  = 8 << 20
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
	db, contents, err := openDatabase(path, reg, opts, true)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return &Store{db: db, Engine: engine.New(reg, db, contents, engine.Options{
		RingEvents: ringEvents, RingBytes: ringBytes, MaxWatchLag: opts.MaxWatchLag, Logger: opts.Logger,
	})}, nil
}

// ID is the random id that was made with the file. A copy of the file has the same.
func (s *Store) ID() string { return s.db.id }

// openDatabase opens a file and brings it up to this version's schema. With keep the file
// of an older schema stays beside it.
func openDatabase(path string, reg *resource.Registry, opts Options, keep bool) (_ *database, _ *engine.Contents, err error) {
	// bbolt maps the file; a page that lies about its size faults. Here, where the whole
	// file is read for the first time, that becomes an error.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var db *openDB
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
		if err != nil && db != nil {
			_ = db.Close() // nothing was written that is not durable
		}
	}()
	if db, err = openFile(path, opts); err != nil {
		return nil, nil, err
	}
	removeLeftovers(path)
	if db, err = upgrade(path, db, reg, opts, keep); err != nil {
		return nil, nil, err
	}
	f, err := read(db.DB, reg)
	if errors.Is(err, errEmpty) {
		if err = db.Update(create); err != nil {
			return nil, nil, err
		}
		f, err = read(db.DB, reg)
	}
	if err == nil && !f.complete {
		err = db.Update(func(tx *bbolt.Tx) error { return addKinds(tx, reg) })
	}
	if err != nil {
		return nil, nil, err
	}
	d := &database{path: path, reg: reg, opts: opts, id: f.id, backlog: f.backlog}
	d.db.Store(db)
	d.settle(f.counters)
	d.audits = f.audits
	letGo(db.DB) // all of it was read, and is in the index now
	return d, f.contents, nil
}

func openFile(path string, opts Options) (*openDB, error) {
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

// openBbolt opens and locks a file. Whoever had the lock before may have put another file
// in its place; that one is meant then.
func openBbolt(path string, opts Options) (*openDB, error) {
	for range maxReplaced {
		db, err := lockAndMap(path, opts)
		if err != nil {
			return nil, err
		}
		if isAt(db.file, path) {
			return db, nil
		}
		if err := db.Close(); err != nil {
			return nil, err
		}
	}
	return nil, bbolterrors.ErrTimeout // somebody is at work on it
}

// lockAndMap opens a file as it is. bbolt panics or faults on some damaged files; that is
// ErrDamaged.
func lockAndMap(path string, opts Options) (_ *openDB, err error) {
	var file *os.File
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(fmt.Errorf("%w: %v", ErrDamaged, p), file.Close()) // gives the lock back
		}
	}()
	db, err := bbolt.Open(path, fileMode, &bbolt.Options{
		Timeout:         lockTimeout,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: mapSize,
		OpenFile: func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
			file, err = opts.seams.openFile(name, flag, mode)
			return file, err
		},
	})
	if err != nil {
		return nil, err
	}
	return &openDB{db, file}, nil
}

// maxReplaced is how often in a row a file may be replaced while it is being opened.
const maxReplaced = 5

// isAt tells whether an open file is the one of that name.
func isAt(file *os.File, path string) bool {
	mine, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
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
