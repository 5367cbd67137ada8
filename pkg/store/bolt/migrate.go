package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/internal/engine"
)

// A migration makes of a database of the schema before it one of its own schema. It works
// on a copy that nobody else has and that takes the file's place only when it is whole, so
// it may use as many transactions as it likes and need not think of crashes. Keep them for
// ever: a file may be of any age. Each has a file of the schema it begins with in testdata.
type migration struct {
	to   uint64
	what string // for the log: what the database gets
	run  func(db *bbolt.DB) error
}

// migrations are in order, without a gap, and end with schemaVersion.
var migrations = []migration{
	{to: 2, what: "checksums of objects and events", run: addSeals},
	{to: 3, what: "a log in chunks and a checkpoint", run: addChunks},
}

// upgrade returns the database of the file in this version's schema: db itself, or the one
// that has taken its place. After an error the file is as it was. An empty file, and one
// that is refused, are left to the caller to find.
func upgrade(path string, db *openDB, reg *resource.Registry, opts Options, keep bool) (*openDB, error) {
	var from uint64
	err := db.View(func(tx *bbolt.Tx) (err error) {
		from, err = readSchema(tx)
		return err
	})
	if err != nil || from == schemaVersion {
		return db, ignoreEmpty(err)
	}
	kept := ""
	if keep {
		kept = fmt.Sprintf("%s.schema-%d", path, from)
	}
	opts.Logger.Info("the database has an older schema and is migrated", "file", path, "from", from, "to", schemaVersion, "kept", kept)
	next, err := rewrite(path, db.DB, opts, kept, func(copied *bbolt.DB) error {
		for _, m := range migrations {
			if m.to <= from {
				continue
			}
			opts.Logger.Info("migrating the database", "to", m.to, "adding", m.what)
			if err := migrateTo(copied, m, opts); err != nil {
				return fmt.Errorf("to schema %d: %w", m.to, err)
			}
		}
		f, err := read(copied, reg) // what this version cannot read takes nobody's place
		if err == nil {
			err = f.contents.Check()
		}
		return err
	})
	if err != nil {
		return db, fmt.Errorf("migrate from schema %d: %w", from, err)
	}
	return next, db.Close()
}

func ignoreEmpty(err error) error {
	if errors.Is(err, errEmpty) {
		return nil
	}
	return err
}

func migrateTo(db *bbolt.DB, m migration, opts Options) error {
	if err := opts.seams.rewriting(fmt.Sprintf("migrate to %d", m.to)); err != nil {
		return err
	}
	if err := m.run(db); err != nil {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(keySchema, number(m.to)) })
}

// migrateChunk bounds the bytes that one transaction of a migration changes.
const migrateChunk = 4 << 20

// changeValues replaces each value of a bucket, in transactions of about migrateChunk.
func changeValues(db *bbolt.DB, bucket []byte, change func(value []byte) ([]byte, error)) error {
	var next []byte // the first key that is not done
	for first := true; first || next != nil; first = false {
		err := db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket)
			cursor := b.Cursor()
			var keys, values [][]byte
			bytes := 0
			k, v := cursor.Seek(next)
			for ; k != nil && bytes < migrateChunk; k, v = cursor.Next() {
				value, err := change(v)
				if err != nil {
					return fmt.Errorf("%s %q: %w", bucket, k, err)
				}
				keys, values = append(keys, append([]byte(nil), k...)), append(values, value)
				bytes += len(k) + len(value)
			}
			next = append([]byte(nil), k...)
			if k == nil {
				next = nil
			}
			// A bbolt cursor does not survive a change.
			for i := range keys {
				if err := b.Put(keys[i], values[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addSeals is the migration to schema 2. Before, objects stood for themselves, and a
// record ended with its object.
func addSeals(db *bbolt.DB) error {
	buckets, err := objBuckets(db)
	if err != nil {
		return err
	}
	for _, bucket := range buckets {
		err := changeValues(db, bucket, func(v []byte) ([]byte, error) { return appendSealed(nil, v), nil })
		if err != nil {
			return err
		}
	}
	var size uint64
	err = changeValues(db, logBucket, func(v []byte) ([]byte, error) {
		_, encoded, err := decodeOldRecord(0, v)
		if err != nil {
			return nil, err
		}
		head := v[:len(v)-len(encoded)]
		sealed := appendSealed(append([]byte(nil), head...), encoded)
		size += uint64(len(sealed))
		return sealed, nil
	})
	if err != nil {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(keyLogBytes, number(size)) })
}

// decodeOldRecord reads a record of schema 1 or 2, which had a key of its own each: a type,
// a time, the texts of the key, and then, of schema 2 sealed, the encoded object, which it
// returns.
func decodeOldRecord(revision uint64, record []byte) (ev engine.Event, rest []byte, err error) {
	ev = engine.Event{Event: store.Event{Revision: revision}}
	if len(record) < recordHeader || eventTypes[record[0]] == "" {
		return ev, nil, fmt.Errorf("%w: %d bytes of type %x", errRecord, len(record), record[:min(1, len(record))])
	}
	ev.Type, ev.Time = eventTypes[record[0]], time.Unix(0, int64(binary.BigEndian.Uint64(record[1:recordHeader])))
	rest = record[recordHeader:]
	for _, field := range []*string{&ev.Key.Kind, &ev.Key.Namespace, &ev.Key.Name} {
		text, more, ok := cutText(rest)
		if !ok {
			return ev, nil, fmt.Errorf("%w: key", errRecord)
		}
		*field, rest = string(text), more
	}
	return ev, rest, nil
}

// addChunks is the migration to schema 3. Before, each event had a key of its own, and every
// commit wrote objects to their place.
func addChunks(db *bbolt.DB) error {
	var size uint64
	var next []byte // the first key that is not done
	for first := true; first || next != nil; first = false {
		err := db.Update(func(tx *bbolt.Tx) error {
			log := tx.Bucket(logBucket)
			log.FillPercent = 1
			var events []engine.Event
			bytes := 0
			cursor := log.Cursor()
			k, v := cursor.Seek(next)
			for ; k != nil && bytes < migrateChunk; k, v = cursor.Next() {
				if len(k) != 8 {
					return fmt.Errorf("%w: key %x is no revision", errRecord, k)
				}
				ev, sealed, err := decodeOldRecord(binary.BigEndian.Uint64(k), v)
				if err == nil {
					ev.Encoded, err = unseal(sealed)
				}
				if err != nil {
					return fmt.Errorf("revision %x: %w", k, err)
				}
				if n := len(events); n > 0 && events[n-1].Revision+1 != ev.Revision {
					return fmt.Errorf("%w: after revision %d comes %d", errRecord, events[n-1].Revision, ev.Revision)
				}
				ev.Encoded = append([]byte(nil), ev.Encoded...)
				events = append(events, ev)
				bytes += len(v)
			}
			next = append([]byte(nil), k...)
			if k == nil {
				next = nil
			}
			for _, ev := range events {
				if err := log.Delete(number(ev.Revision)); err != nil {
					return err
				}
			}
			for len(events) > 0 {
				chunk, n := appendChunk(nil, events, chunkBytes)
				if err := log.Put(number(events[n-1].Revision), chunk); err != nil {
					return err
				}
				size += uint64(len(chunk))
				events = events[n:]
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		revision, err := readNumber(meta, keyRevision)
		if err != nil {
			return err
		}
		return errors.Join(meta.Put(keyCheckpoint, number(revision)), meta.Put(keyLogBytes, number(size)))
	})
}
