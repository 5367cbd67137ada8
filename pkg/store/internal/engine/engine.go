package engine

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// InitialRevision is the revision of a new, empty store. It is not 0, so that a watch
// from the revision of an empty list is told from a watch that begins with a snapshot.
const InitialRevision = 1

// Log makes changes durable and remembers them. Commit and Compact are called from one
// goroutine, the others from any.
type Log interface {
	// Commit makes the changes, and those audit records that they have, durable, all or
	// none. After nil a crash cannot take them back; after an error it is not called again.
	Commit(events []Event) error
	// Events returns up to limit events with after < revision <= upTo, in order, or
	// store.ErrCompacted when the first of them is gone. Their objects are encoded only.
	Events(after, upTo uint64, limit int) ([]Event, error)
	// Audit gives the page the records of commits, batch by batch, as long as it wants more.
	Audit(page *AuditPage) error
	// Compact removes the events up to that revision.
	Compact(upTo uint64) error
	// Compacted is the oldest revision that Events can start from.
	Compacted() uint64
	// Size is the size of the database file in bytes.
	Size() int64
	Close() error
}

// Options of an engine; zero values mean the defaults.
type Options struct {
	// RingEvents and RingBytes (of encoded objects) bound the events in memory. Without a
	// Log they bound how far back a watch can start. Default 32,768 and 64 MiB.
	RingEvents int
	RingBytes  int64
	// MaxWatchLag is the number of events that may be published without a watcher taking
	// one before it is cut off. Default 32,768: more than the largest commit has.
	MaxWatchLag uint64
	// MaxWatchers bounds the watches that are open at a time. Default 4,096.
	MaxWatchers int
	// Logger gets the one line that matters: the store has become read-only.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	setDefault(&o.RingEvents, 32<<10)
	setDefault(&o.RingBytes, 64<<20)
	setDefault(&o.MaxWatchLag, 32<<10)
	setDefault(&o.MaxWatchers, 4<<10)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Engine is a store.Store.
type Engine struct {
	reg   *resource.Registry
	codec *codec
	log   Log // nil: in memory only
	opts  Options

	instance uint64               // random: tokens of paged lists are of this one alone
	current  atomic.Pointer[view] // what readers see
	ring     *ring
	pins     pins          // what paged lists see
	memory   memoryRecords // without a log

	answered sync.Pool // of requests, to be used again

	queue   chan *request // to the executor
	pending *batch        // the executor's own
	alone   bool          // the last batch had one transaction; likewise
	lone    *batch        // empty, for commitAlone; likewise
	ready   chan struct{} // from the committer: it can take a batch; has room for that
	batches chan *batch   // to the committer; has room for the one that it was ready for
	spare   chan *batch   // back from it, empty
	tasks   chan func()   // other work for the committer
	// committing has room for one: who commits, or a task.
	committing chan struct{}

	closing chan struct{}
	stopped chan struct{} // the committer has ended, and the executor before it
	once    sync.Once

	watchMu  sync.Mutex
	watchers map[*watcher]struct{}
	watching sync.WaitGroup

	failure atomic.Pointer[string] // why the store is read-only
	commits atomic.Uint64
	changes atomic.Uint64
	noOps   atomic.Uint64
}

var (
	_ store.Store    = (*Engine)(nil)
	_ store.AuditLog = (*Engine)(nil)
	_ store.Reader   = (*Engine)(nil)
	_ store.Copier   = (*Engine)(nil)
)

// New starts an engine on what a log holds; a nil log makes a store in memory. It starts
// two goroutines and one per watch; all end with Close.
func New(reg *resource.Registry, log Log, contents *Contents, opts Options) *Engine {
	opts = opts.withDefaults()
	start := contents.view()
	e := &Engine{
		reg: reg, codec: contents.draft.codec, log: log, opts: opts, instance: rand.Uint64(),
		ring:       newRing(start.revision, opts.RingEvents, opts.RingBytes),
		queue:      make(chan *request, queueLength),
		ready:      make(chan struct{}, 1),
		batches:    make(chan *batch, 1),
		spare:      make(chan *batch, 2),
		tasks:      make(chan func()),
		closing:    make(chan struct{}),
		committing: make(chan struct{}, 1),
		stopped:    make(chan struct{}),
		watchers:   map[*watcher]struct{}{},
	}
	e.current.Store(start)
	e.codec.watchScans(e.current.Load)
	e.pending = &batch{draft: newDraft(e.codec, start)}
	go e.execute()
	go e.commitAll()
	return e
}

// Get implements store.Store.
func (e *Engine) Get(ctx context.Context, key resource.Key) (resource.Object, error) {
	return object(e.find(ctx, key))
}

// Lookup implements store.Reader.
func (e *Engine) Lookup(ctx context.Context, key resource.Key) (store.Version, error) {
	return versionOf(e.find(ctx, key))
}

// Copy implements store.Copier: what is not decoded is decoded once, for the caller alone.
func (e *Engine) Copy(ctx context.Context, key resource.Key) (resource.Object, error) {
	v, err := e.find(ctx, key)
	if err != nil {
		return nil, err
	}
	if o := v.decoded.Load(); o != nil {
		return resource.Clone(*o), nil
	}
	return v.decode()
}

func (e *Engine) find(ctx context.Context, key resource.Key) (*version, error) {
	if err := e.readable(ctx, key.Kind); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if v := e.current.Load().get(key); v != nil {
		return v, nil
	}
	return nil, fmt.Errorf("%s: %w", key, store.ErrNotFound)
}

// List implements store.Store.
func (e *Engine) List(ctx context.Context, kind string, opts store.ListOptions) (store.Snapshot, error) {
	err := e.readable(ctx, kind)
	var snap store.Snapshot
	if err == nil {
		snap, err = e.list(kind, opts)
	}
	if err != nil {
		return store.Snapshot{}, fmt.Errorf("list %s: %w", kind, err)
	}
	return snap, nil
}

func (e *Engine) readable(ctx context.Context, kind string) error {
	if e.closed() {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := e.codec.layout(kind)
	return err
}

// Revision implements store.Store.
func (e *Engine) Revision() uint64 { return e.current.Load().revision }

// Stats implements store.Store.
func (e *Engine) Stats() store.Stats {
	v := e.current.Load()
	e.watchMu.Lock()
	watchers := len(e.watchers)
	e.watchMu.Unlock()
	s := store.Stats{
		Revision: v.revision, Compacted: e.compacted(), Objects: v.objects, Watchers: watchers,
		Commits: e.commits.Load(), Changes: e.changes.Load(), NoOps: e.noOps.Load(),
	}
	if e.log != nil {
		s.Bytes = e.log.Size()
	}
	if why := e.failure.Load(); why != nil {
		s.ReadOnly, s.LastFailure = true, *why
	}
	return s
}

// compacted is the oldest revision that a watch can start from.
func (e *Engine) compacted() uint64 {
	if e.log != nil {
		return e.log.Compacted()
	}
	floor, _ := e.ring.bounds()
	return floor
}

// Compact removes the events up to and including a revision; a watch can then start
// from that revision at the earliest. Objects stay.
func (e *Engine) Compact(ctx context.Context, upTo uint64) error {
	if head := e.Revision(); upTo > head {
		return fmt.Errorf("%w: cannot compact up to revision %d, the store is at %d", store.ErrInvalid, upTo, head)
	}
	return e.BetweenCommits(ctx, func(fail func(error) error) error {
		if e.log != nil {
			if err := e.log.Compact(upTo); err != nil {
				return fail(err)
			}
		}
		e.ring.compact(upTo)
		return nil
	})
}

// BetweenCommits runs fn while nothing is committed: writers wait, readers do not. fn may
// call fail with an error after which no commit may follow, and returns its result. A
// context that ends before fn is run takes it back.
func (e *Engine) BetweenCommits(ctx context.Context, fn func(fail func(error) error) error) error {
	if why := e.failure.Load(); why != nil {
		return readOnly(*why)
	}
	var err error
	done := make(chan struct{})
	task := func() {
		defer close(done)
		if why := e.failure.Load(); why != nil {
			err = readOnly(*why)
			return
		}
		err = fn(e.fail)
	}
	select {
	case e.tasks <- task:
		<-done // the committer has begun it; its length is bounded by the database's
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-e.closing:
		return store.ErrClosed
	}
}

// Close ends the watches with ErrClosed, refuses what is queued, commits what has been
// executed and closes the log. It may be called more than once.
func (e *Engine) Close() error {
	var err error
	e.once.Do(func() {
		e.watchMu.Lock()
		close(e.closing)
		for w := range e.watchers {
			w.cancel(store.ErrClosed)
		}
		e.watchMu.Unlock()
		<-e.stopped
		e.watching.Wait()
		e.codec.close()
		if e.log != nil {
			err = e.log.Close()
		}
	})
	return err
}

func (e *Engine) closed() bool {
	select {
	case <-e.closing:
		return true
	default:
		return false
	}
}
