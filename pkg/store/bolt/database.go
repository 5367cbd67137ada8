package bolt

import (
	"bytes"
	"encoding/binary"
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
	// compactSlack is how many more records a commit removes than it adds, so that a log
	// above its bounds shrinks.
	compactSlack = 64
	// compactChunk bounds the records that one transaction of Compact removes.
	compactChunk = 1024
	// letGoAfter is how much is written between two calls of letGo.
	letGoAfter = 16 << 20
)

// database is the engine.Log on a bbolt file.
type database struct {
	path string
	db   atomic.Pointer[bbolt.DB] // Defrag puts another in its place
	old  sync.WaitGroup           // of databases before it, which close when their readers are done
	reg  *resource.Registry
	opts Options
	id   string

	counters  counters      // of the last commit; the committer's own
	audits    auditCounters // likewise
	compacted atomic.Uint64 // counters.compacted, for everybody
	looked    int           // bytes written since letGo: each write reads pages around it; the committer's own
}

var _ engine.Log = (*database)(nil)

// Commit implements engine.Log.
func (d *database) Commit(events []engine.Event) error {
	c, audits := d.counters, d.audits
	err := d.db.Load().Update(func(tx *bbolt.Tx) error {
		log := tx.Bucket(logBucket)
		log.FillPercent = 1 // keys only grow: no page is split to make room inside it
		for _, ev := range events {
			record, sealed := encodeRecord(ev)
			if err := log.Put(number(ev.Revision), record); err != nil {
				return err
			}
			if err := putObject(tx, ev, sealed); err != nil {
				return err
			}
			c.logBytes += uint64(len(record))
		}
		c.revision = events[len(events)-1].Revision
		if err := d.trim(log, &c, len(events)+compactSlack); err != nil {
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
		return fmt.Errorf("commit %d changes: %w", len(events), err)
	}
	d.settle(c)
	d.audits = audits
	for _, ev := range events {
		d.looked += len(ev.Encoded)
	}
	if d.looked > letGoAfter {
		d.looked = 0
		letGo(d.db.Load())
	}
	return nil
}

func putObject(tx *bbolt.Tx, ev engine.Event, value []byte) error {
	b := tx.Bucket(objBucket(ev.Key.Kind))
	if ev.Type == store.Deleted {
		return b.Delete(objKey(ev.Key))
	}
	return b.Put(objKey(ev.Key), value)
}

func (d *database) settle(c counters) {
	d.counters = c
	d.compacted.Store(c.compacted)
}

// trim removes up to limit of the oldest records, as long as the log is above its bounds.
func (d *database) trim(log *bbolt.Bucket, c *counters, limit int) error {
	now := time.Now()
	return removeOldest(log, c, limit, func(record []byte) bool {
		if c.logBytes > d.opts.LogMaxBytes {
			return true
		}
		return c.events() > d.opts.LogMinEvents && len(record) >= recordHeader && now.Sub(recordTime(record)) > d.opts.LogMaxAge
	})
}

// removeOldest removes records from the front of the log while due says so. The newest
// record stays, whatever its size.
func removeOldest(log *bbolt.Bucket, c *counters, limit int, due func(record []byte) bool) error {
	// Keys are collected first: a bbolt cursor does not survive a deletion.
	var keys [][]byte
	cursor := log.Cursor()
	for k, v := cursor.First(); k != nil && len(keys) < limit && due(v); k, v = cursor.Next() {
		keys = append(keys, k)
		c.logBytes -= uint64(len(v))
		c.compacted++
		if c.compacted >= c.revision {
			break
		}
	}
	for _, k := range keys {
		if err := log.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// Compact implements engine.Log.
func (d *database) Compact(upTo uint64) error {
	for d.counters.compacted < upTo {
		c := d.counters
		err := d.db.Load().Update(func(tx *bbolt.Tx) error {
			due := func([]byte) bool { return c.compacted < upTo }
			if err := removeOldest(tx.Bucket(logBucket), &c, compactChunk, due); err != nil {
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
		cursor := tx.Bucket(logBucket).Cursor()
		k, v := cursor.Seek(number(after + 1))
		if k == nil || binary.BigEndian.Uint64(k) != after+1 {
			return fmt.Errorf("%w: revision %d", store.ErrCompacted, after+1)
		}
		for ; k != nil && len(events) < limit; k, v = cursor.Next() {
			revision := binary.BigEndian.Uint64(k)
			if revision > upTo {
				return nil
			}
			ev, err := decodeRecord(revision, v)
			if err != nil {
				return fmt.Errorf("revision %d: %w", revision, err)
			}
			events = append(events, ev)
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

// Close implements engine.Log.
func (d *database) Close() error {
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
	id       string
	complete bool // it has a bucket for every kind, and for audit records
}

// read checks the layout and reads everything but the log. It changes nothing: a file
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
		if f.contents, err = readObjects(tx, reg); err != nil {
			return err
		}
		f.contents.Revision = f.counters.revision
		f.complete = hasAllKinds(tx, reg)
		return err
	})
	return f, err
}

// readObjects reads all objects of known kinds. It copies them out of the file and looks at
// their checksums and keys; they are decoded when somebody reads them.
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
