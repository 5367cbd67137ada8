// Package store is the contract of the database that holds desired and observed state.
//
// # Revision
//
// The store has one counter, above 0 from the start. Every committed change of an object
// takes the next revision; an object's metadata.resourceVersion is the decimal revision of
// its last change and a list's is the revision of its snapshot. Clients treat it as
// opaque; here it is comparable. Revisions may have gaps.
//
// # Writes
//
// Writes happen in transactions (Update): all of their changes take effect or none.
// Within one, later reads see earlier writes, and every change is an event of its own. The
// closure may be run in another goroutine and must not block, do I/O, call the store or
// keep the Tx. Its panic is raised in the caller of Update.
//
//   - Conflict: a change whose object carries a resourceVersion that is not the current
//     one returns ErrConflict. An empty resourceVersion overwrites.
//   - A change that changes nothing (apart from times in managedFields) bumps no revision
//     and emits no event. An unset and an empty spec or status are equal.
//   - Create sets uid, creationTimestamp, generation 1, whatever the object says, and
//     drops status.
//   - Update changes metadata (labels, annotations, finalizers, ownerReferences,
//     managedFields) and everything outside metadata but status; it cannot change uid,
//     creationTimestamp or deletionTimestamp: empty means as it is, another value is
//     ErrInvalid. generation is bumped when spec changed.
//   - UpdateStatus changes status only and looks at nothing else but uid and
//     resourceVersion.
//   - Delete: with finalizers the object gets a deletionTimestamp (generation is bumped)
//     and stays; no new finalizers can be added then. An Update that removes the last
//     finalizer of such an object removes it. Without finalizers it is removed at once.
//   - Preconditions (uid, resourceVersion) that do not hold return ErrConflict.
//   - Objects that cannot be stored (unknown kind, wrong scope, no name, text that is not
//     UTF-8, a sensitive value that is not sealed) are ErrInvalid. Defaulting and validation
//     are not the store's business.
//
// A context that ends before a transaction is run takes it back. Once it runs, Update waits
// for the outcome, and gives up with ErrUnknownOutcome only when the disk hangs.
//
// # Durability
//
// Publish after durable: no reply, no event and no read shows a revision that a crash
// could take back. One committer takes what was executed during the last fsync, each
// transaction on top of the ones before so that a failing one affects only itself, writes
// one database transaction, swaps the index, publishes, answers. After a failed write or
// fsync the store accepts no more writes (ErrReadOnly) and stays readable.
//
// # Audit
//
// Every change that package audit wants recorded has a record, made by the store from the
// context of its Update (audit.OriginFrom) and durable in the same moment: there is never
// one without the other. A store that keeps records for reading is an AuditLog; how many
// it keeps, by number and age, is its own business.
//
// # Reads and watches
//
// Reads come from an immutable index in memory, which has the objects as they are encoded.
// They are decoded when they are read, and shared by those who read them meanwhile: they
// must not be changed (resource.Clone). Who can do with the bytes need not have them
// decoded: ListOptions.Encoded, Put.
//
// A list with a Limit comes in pages: each but the last has a Continue token, which asks
// for the next one, with the same kind, namespace and Match. All pages are of the snapshot
// that the first one was, whatever is written meanwhile. The store remembers the
// snapshots of MaxPagedLists lists, each for PageLife after its last page, and forgets them
// when it is closed; a token of one that it no longer knows is ErrCompacted: list again. A
// token that no list gave out, or one of another list, is ErrInvalid.
//
// Watch(from) delivers every event with a revision > from, in order, once, without a gap,
// also across restarts: the event log is on disk. from = 0 begins with an Added event for
// every object of a snapshot, then a Bookmark with the snapshot's revision, then changes.
// A from below the compaction point, or ahead of the store (it was restored from a
// backup), returns ErrCompacted: list again. A watcher that takes nothing while many
// events pass, or so slowly that the log moves on without it, is cut off with ErrSlow; it
// never delays a writer.
//
// A watcher to which nothing was delivered while other changes passed it by gets a
// Bookmark after BookmarkPeriod: everything up to its revision was delivered or was not
// selected, so that a watch may resume from there. Where nothing happens none is sent.
//
// Selection is by the event's own object: a change that takes an object out of the
// selection by labels is not delivered as a deletion.
package store

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Errors of the contract. They are wrapped with the key they are about.
var (
	ErrNotFound      = errors.New("not found")
	ErrAlreadyExists = errors.New("already exists")
	ErrConflict      = errors.New("conflict")
	// ErrCompacted: the wanted revision is no longer in the event log.
	ErrCompacted = errors.New("revision has been compacted")
	// ErrSlow: the watcher did not take its events in time and was cut off.
	ErrSlow = errors.New("watcher was too slow")
	// ErrReadOnly: an earlier write could not be made durable; the store only reads.
	ErrReadOnly = errors.New("store is read-only after a failed write")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store is closed")
	// ErrTooLarge: an object or a transaction is larger than the store takes.
	ErrTooLarge = errors.New("too large")
	// ErrUnknownOutcome: the context ended while the transaction was being made durable,
	// and the disk did not answer for seconds: it may or may not have taken effect.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrTooMany: a bound on concurrent use (the number of watchers) was reached.
	ErrTooMany = errors.New("too many")
	// ErrInvalid: the change breaks a rule of the contract (a new finalizer on a deleted
	// object, a changed uid), or names a kind that the registry does not have.
	ErrInvalid = errors.New("invalid change")
	// ErrLocked: another process has the database open.
	ErrLocked = errors.New("database is in use by another process")
)

const (
	// MaxNameBytes bounds a name and a namespace. Admission is stricter; this is what a
	// database key can take.
	MaxNameBytes = 253
	// MaxObjectBytes bounds one encoded object.
	MaxObjectBytes = 1 << 20
	// MaxTxObjects bounds the changes of one transaction: a set of 20,000 documents.
	MaxTxObjects = 20_000
	// MaxTxBytes bounds the encoded changes of one transaction.
	MaxTxBytes = 64 << 20
	// MaxPagedLists bounds the snapshots that are kept for lists in pages; the one that was
	// not used for longest makes room.
	MaxPagedLists = 16
	// BookmarkPeriod is how long a watcher may be left behind the store's revision without
	// being told.
	BookmarkPeriod = 45 * time.Second
	// PageLife is how long after a page the next one can be asked for.
	PageLife = 5 * time.Minute
)

// Store is a database. All methods are safe for concurrent use.
type Store interface {
	// Get returns one object (shared, do not change) or ErrNotFound.
	Get(ctx context.Context, key resource.Key) (resource.Object, error)
	// List returns a snapshot of a kind, ordered by namespace and name.
	List(ctx context.Context, kind string, opts ListOptions) (Snapshot, error)
	// Watch streams events; see the package comment.
	Watch(ctx context.Context, opts WatchOptions) (Watcher, error)
	// Update runs fn in a transaction and returns the store's revision after it: that of
	// its last change, or of the snapshot it saw when it changed nothing. An error of fn
	// undoes the transaction and is returned as it is.
	Update(ctx context.Context, fn func(tx Tx) error) (revision uint64, err error)
	// Revision is the revision of the newest published change.
	Revision() uint64
	// Stats returns counters since the store was opened.
	Stats() Stats
	io.Closer
}

// AuditLog is a Store whose records of changes can be read.
type AuditLog interface {
	// Audit returns records of durable changes, in the order of their revisions. Records
	// that are no longer kept are left out.
	Audit(ctx context.Context, opts AuditOptions) ([]*audit.Record, error)
}

// MaxAuditPage bounds the records of one answer of Audit.
const MaxAuditPage = 1000

// AuditOptions select records.
type AuditOptions struct {
	// After: only records with a revision above it.
	After uint64
	// Limit is the number of records, 1 to MaxAuditPage; another is ErrInvalid.
	Limit int
	// Newest takes the newest of them instead of the oldest.
	Newest bool
	// Match, when set, must hold for a record.
	Match func(*audit.Record) bool
}

// Tx is a transaction. Objects that are passed in are copied; objects returned are shared.
type Tx interface {
	Get(key resource.Key) (resource.Object, error)
	List(kind, namespace string) []resource.Object
	Create(obj resource.Object) (resource.Object, error)
	// CreateAs is Create with a uid that the caller has made, at random, because something
	// in the object depends on it: sealed values do.
	CreateAs(obj resource.Object, uid string) (resource.Object, error)
	Update(obj resource.Object) (resource.Object, error)
	UpdateStatus(obj resource.Object) (resource.Object, error)
	// Delete returns the object as it is afterwards (still there while it has finalizers)
	// or as it last was, with the deletion's resourceVersion.
	Delete(key resource.Key, pre Preconditions) (resource.Object, error)
}

// Preconditions that must hold for a deletion; empty fields are not checked.
type Preconditions struct {
	UID             string
	ResourceVersion string
}

// ListOptions selects from a kind.
type ListOptions struct {
	Namespace string // empty: all
	// Match, when set, must hold for an object to be listed (label selectors).
	Match func(resource.Object) bool
	// Limit bounds the objects of a page. 0: all there are; less is ErrInvalid.
	Limit int
	// Continue is the token of the page before; empty: the first page.
	Continue string
	// Encoded asks for the objects' bytes in place of the objects, which costs next to
	// nothing when nothing has to Match.
	Encoded bool
}

// Snapshot is a consistent list, or a page of one.
type Snapshot struct {
	Items []resource.Object
	// Encoded are the objects as protobuf, when that was asked for and Items are not. They
	// are shared and must not be changed.
	Encoded  [][]byte
	Revision uint64
	// Continue asks for the next page; empty: this was the last.
	Continue string
	// Remaining is how many objects the pages after this one have.
	Remaining int
}

// EventType is the type of a watch event.
type EventType string

// Types of watch events.
const (
	Added    EventType = "ADDED"
	Modified EventType = "MODIFIED"
	Deleted  EventType = "DELETED"
	Bookmark EventType = "BOOKMARK"
)

// Event is one change. Object is the object after the change and nil for a Bookmark. For
// Deleted it is the object as it last was, with the deletion's resourceVersion, so that
// a client can resume from it.
//
// Encoded is the object as protobuf, encoded once for the database and everybody who
// watches; nil where a store has no such bytes. It is shared and must not be changed.
type Event struct {
	Type     EventType
	Object   resource.Object
	Encoded  []byte
	Revision uint64
}

// WatchOptions selects events.
type WatchOptions struct {
	From      uint64 // 0: begin with a snapshot
	Kind      string // empty: all kinds
	Namespace string // empty: all
	Name      string // empty: all
	Match     func(resource.Object) bool
	// MetadataOnly is for those to whom apiVersion, kind and metadata of an object are
	// enough: a store need not decode the rest, and Match does not see it.
	MetadataOnly bool
}

// Watcher delivers events in order until it is stopped, its context ends, or it fails.
type Watcher interface {
	// Events is closed at the end; Err then says why.
	Events() <-chan Event
	// Err is nil after Stop or the end of the context, else ErrSlow, ErrClosed, ...
	Err() error
	Stop()
}

// Stats are counters since the store was opened.
type Stats struct {
	Revision    uint64
	Compacted   uint64 // oldest revision that a watch can start from
	Objects     int
	Watchers    int
	Commits     uint64 // durable database transactions with at least one change
	Changes     uint64 // object changes
	NoOps       uint64 // changes that changed nothing
	Bytes       int64  // size of the database file
	ReadOnly    bool
	LastFailure string
}
