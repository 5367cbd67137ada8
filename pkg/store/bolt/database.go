package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/internal/engine"
)

const (
	// compactSlack is how many more events a commit removes than it adds, so that a log
	// above its bounds shrinks.
	compactSlack = 64
	// compactChunk bounds the events that one transaction of Compact removes.
	compactChunk = 1024
	// letGoAfter is how much is written between two calls of letGo.
	letGoAfter = 16 << 20
)

// database is the engine.Log on a bbolt file.
type database struct {
	path string
	db   atomic.Pointer[openDB] // Defrag puts another in its place
	old  sync.WaitGroup         // of databases before it, which close when their readers are done
	reg  *resource.Registry
	opts Options
	id   string

	counters  counters      // of the last commit; the committer's own
	audits    auditCounters // likewise
	backlog   *backlog      // likewise
	buffer    []byte        // for the chunks of a commit; likewise
	wrote     bool          // since it was opened; likewise
	failed    bool          // a write did: nothing is written any more; likewise
	compacted atomic.Uint64 // counters.compacted, for everybody
	looked    int           // bytes written since letGo: each write reads pages around it; the committer's own
	written   int64         // up to where the file has no holes, as far as is known; likewise, see makeRoom
	zeros     []byte        // likewise
}

var _ engine.Log = (*database)(nil)

// Commit implements engine.Log.
func (d *database) Commit(events []engine.Event) error {
	c, audits := d.counters, d.audits
	size := 0
	err := d.update(func(tx *bbolt.Tx) (err error) {
		d.makeRoom(tx, d.db.Load().file, sizeOf(events))
		log := tx.Bucket(logBucket)
		log.FillPercent = 1 // keys only grow: no page is split to make room inside it
		if size, err = d.putEvents(log, events); err != nil {
			return err
		}
		c.logBytes += uint64(size)
		c.revision = events[len(events)-1].Revision
		if err := d.maintain(tx, log, &c, len(events), size); err != nil {
			return err
		}
		if err := c.write(tx); err != nil {
			return err
		}
		if err := d.putAudit(tx, &audits, events); err != nil {
			return err
		}
		return d.opts.seams.beforeCommit()
	})
	if err == nil {
		err = d.opts.seams.afterCommit()
	}
	if err != nil {
		d.failed = true
		return fmt.Errorf("commit %d changes: %w", len(events), err)
	}
	if c.checkpoint != d.counters.checkpoint {
		d.backlog.done()
	}
	d.settle(c)
	d.audits = audits
	d.wrote = true
	if d.looked += size; d.looked > letGoAfter {
		d.looked = 0
		letGo(d.db.Load().DB)
	}
	return nil
}

// update runs a transaction that writes. After one that failed there must be no other.
func (d *database) update(fn func(*bbolt.Tx) error) error {
	err := d.db.Load().Update(fn)
	d.failed = d.failed || err != nil
	return err
}

// sizeOf is about how much the log has of events.
func sizeOf(events []engine.Event) (bytes int) {
	for i := range events {
		bytes += len(events[i].Encoded) + 64
	}
	return bytes
}

// putEvents appends to the log and returns how many bytes it did.
func (d *database) putEvents(log *bbolt.Bucket, events []engine.Event) (size int, err error) {
	const keep = 8 << 20
	total := sizeOf(events)
	if cap(d.buffer) < total || cap(d.buffer) > keep && total < keep {
		d.buffer = make([]byte, 0, total+total/4)
	}
	b := d.buffer[:0]
	for rest := events; len(rest) > 0; {
		start := len(b)
		var n int
		b, n = appendChunk(b, rest, chunkSize(total))
		// The bytes stay where they are until the transaction has ended, also when the
		// buffer has to grow.
		if err := log.Put(number(rest[n-1].Revision), b[start:len(b):len(b)]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	d.buffer = b[:0]
	for _, ev := range events {
		d.backlog.note(ev)
	}
	d.backlog.since += uint64(len(b))
	return len(b), nil
}

// maintain does a commit's share of what keeps the file small: it removes old events, and
// writes objects when the log behind the checkpoint has become long or holds up the removal.
func (d *database) maintain(tx *bbolt.Tx, log *bbolt.Bucket, c *counters, events, size int) error {
	limit := events + compactSlack
	removed, blocked, err := d.trim(log, c, limit)
	if err != nil {
		return err
	}
	if blocked || d.backlog.since > d.opts.CheckpointBytes {
		d.backlog.begin(c.revision)
	}
	if d.backlog.target == 0 {
		return nil
	}
	bytes := max(min(flushBytes, int(d.opts.CheckpointBytes/16)), flushFactor*size)
	end, err := d.backlog.write(tx, flushSlack+flushFactor*events, bytes)
	if err != nil || !end {
		return err
	}
	c.checkpoint = d.backlog.target
	_, _, err = d.trim(log, c, limit-removed)
	return err
}

func (d *database) settle(c counters) {
	d.counters = c
	d.compacted.Store(c.compacted)
}

// trim removes up to limit of the oldest events, as long as the log is above its bounds. It
// tells whether events that the checkpoint has not passed are in its way.
func (d *database) trim(log *bbolt.Bucket, c *counters, limit int) (removed int, blocked bool, err error) {
	now := time.Now()
	return removeOldest(log, c, limit, func(ev engine.Event) bool {
		return c.logBytes > d.opts.LogMaxBytes || c.events() > d.opts.LogMinEvents && now.Sub(ev.Time) > d.opts.LogMaxAge
	})
}

// removeOldest removes events from the front of the log while due says so, those up to the
// checkpoint. Their bytes go with the last event of their chunk. A chunk that cannot be
// read is kept, and those after it, for a check to find: what is damaged is nobody's to
// throw away unseen.
func removeOldest(log *bbolt.Bucket, c *counters, limit int, due func(engine.Event) bool) (removed int, blocked bool, err error) {
	// Keys are collected first: a bbolt cursor does not survive a deletion.
	var keys [][]byte
	stop := false
	cursor := log.Cursor()
	for k, v := cursor.First(); k != nil && !stop; k, v = cursor.Next() {
		events, err := openChunk(k, v)
		if err != nil {
			break
		}
		err = events.each(func(ev engine.Event) bool {
			if ev.Revision <= c.compacted {
				return true
			}
			stop = removed >= limit || !due(ev)
			if !stop && ev.Revision > c.checkpoint {
				stop, blocked = true, true
			}
			if stop {
				return false
			}
			removed++
			c.compacted = ev.Revision
			return true
		})
		if err != nil {
			break
		}
		if c.compacted >= events.last {
			keys = append(keys, k)
			c.logBytes -= min(c.logBytes, uint64(len(v)))
		}
	}
	for _, k := range keys {
		if err := log.Delete(k); err != nil {
			return removed, blocked, err
		}
	}
	return removed, blocked, nil
}

// Compact implements engine.Log.
func (d *database) Compact(upTo uint64) error {
	if upTo > d.counters.checkpoint {
		if err := d.catchUp(); err != nil {
			return err
		}
	}
	for d.counters.compacted < upTo {
		c := d.counters
		err := d.update(func(tx *bbolt.Tx) error {
			due := func(engine.Event) bool { return c.compacted < upTo }
			removed, _, err := removeOldest(tx.Bucket(logBucket), &c, compactChunk, due)
			if err == nil && removed == 0 {
				err = fmt.Errorf("%w: revision %d of the log", ErrDamaged, c.compacted+1)
			}
			if err != nil {
				return err
			}
			return c.write(tx)
		})
		if err != nil {
			return fmt.Errorf("compact the log up to revision %d: %w", upTo, err)
		}
		d.settle(c)
	}
	return nil
}

// Events implements engine.Log.
func (d *database) Events(after, upTo uint64, limit int) ([]engine.Event, error) {
	var events []engine.Event
	err := d.view(func(tx *bbolt.Tx) error {
		compacted, err := readNumber(tx.Bucket(metaBucket), keyCompacted)
		if err != nil {
			return err
		}
		cursor := tx.Bucket(logBucket).Cursor()
		k, v := cursor.Seek(number(after + 1))
		if after < compacted || k == nil {
			return fmt.Errorf("%w: revision %d", store.ErrCompacted, after+1)
		}
		for more := true; more && k != nil; k, v = cursor.Next() {
			chunk, err := openChunk(k, v)
			if err == nil {
				err = chunk.each(func(ev engine.Event) bool {
					if more = len(events) < limit && ev.Revision <= upTo; more && ev.Revision > after {
						ev.Encoded = bytes.Clone(ev.Encoded)
						events = append(events, ev)
					}
					return more
				})
			}
			if err != nil {
				return err
			}
		}
		if len(events) > 0 && events[0].Revision != after+1 {
			return fmt.Errorf("%w: after revision %d comes %d", errRecord, after, events[0].Revision)
		}
		return nil
	})
	return events, err
}

// Compacted implements engine.Log.
func (d *database) Compacted() uint64 { return d.compacted.Load() }

// Size implements engine.Log. It is 0 when the file cannot be looked at.
func (d *database) Size() int64 {
	info, err := os.Stat(d.path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// Close implements engine.Log. What the next start would have to read from the log, it
// writes where it belongs; that may fail, for it is in the log.
func (d *database) Close() error {
	if d.wrote && !d.failed {
		if err := d.catchUp(); err != nil {
			d.opts.Logger.Warn("objects that are in the log were not written to their place", "file", d.path, "err", err)
		}
	}
	err := d.db.Load().Close()
	d.old.Wait()
	return err
}

// view runs fn in a read transaction on the database as it is now.
func (d *database) view(fn func(tx *bbolt.Tx) error) error {
	for {
		db := d.db.Load()
		err := db.View(fn)
		if !errors.Is(err, bbolterrors.ErrDatabaseNotOpen) || d.db.Load() == db {
			return err
		} // else Defrag has put another in its place
	}
}

// found is what a file holds beside its log.
type found struct {
	contents *engine.Contents
	counters counters
	audits   auditCounters
	backlog  *backlog
	id       string
	complete bool // it has a bucket for every kind, and for audit records
}

// read checks the layout and reads everything but the log up to the checkpoint. It changes nothing: a file
// that is refused stays as it is, for whoever has to find out what happened to it.
func read(db *bbolt.DB, reg *resource.Registry) (found, error) {
	var f found
	err := db.View(func(tx *bbolt.Tx) error {
		version, err := readSchema(tx)
		if err != nil {
			return err
		}
		if version != schemaVersion {
			return fmt.Errorf("%w: it has schema %d", ErrSchema, version)
		}
		if f.counters, err = readCounters(tx); err != nil {
			return err
		}
		if f.audits, err = readAuditCounters(tx); err != nil {
			return err
		}
		f.id = string(tx.Bucket(metaBucket).Get(keyStoreID))
		if f.contents, f.backlog, err = readState(tx, reg, f.counters); err != nil {
			return err
		}
		f.complete = hasAllKinds(tx, reg)
		return err
	})
	return f, err
}

// readObjects reads the objects in the buckets of known kinds; see readState.
func readObjects(tx *bbolt.Tx, reg *resource.Registry) (*engine.Contents, error) {
	contents := engine.NewContents(reg)
	for _, kind := range reg.Kinds() {
		bucket := tx.Bucket(objBucket(kind.Name))
		if bucket == nil {
			continue // the kind is new
		}
		err := bucket.ForEach(func(k, v []byte) error {
			encoded, err := unseal(v)
			if err == nil {
				err = contents.Put(keyIn(kind.Name, k), bytes.Clone(encoded))
			}
			if err != nil {
				return fmt.Errorf("%w: %s %q: %w", ErrDamaged, kind.Name, k, err)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return contents, nil
}
