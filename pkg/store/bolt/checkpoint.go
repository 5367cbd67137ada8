package bolt

import (
	"cmp"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/internal/engine"
)

// A commit writes the log and nothing else. What the buckets of objects do not have yet is
// written there later: in rounds, each object once however often it has changed, a few with
// each commit, so that no commit waits for a round. When a round has written all that had
// changed before it began, the checkpoint moves to where it began.
//
// A round in progress leaves the buckets with some objects that are newer than the
// checkpoint. That does no harm: who reads the file takes the buckets and then every event
// after the checkpoint, in order, and each event has the whole object.

const (
	// flushFactor is how many objects of a round a commit writes for each change that it
	// makes, flushSlack how many at least, and flushBytes bounds what they take when the
	// commit itself is small.
	flushFactor = 2
	flushSlack  = 16
	flushBytes  = 1 << 20
)

// backlog is what the buckets of objects do not have yet. It is the committer's own.
type backlog struct {
	since  uint64                  // bytes of log behind the checkpoint
	fresh  map[resource.Key][]byte // last change of each object since the round began; nil: deleted
	round  map[resource.Key][]byte // what the round has yet to write
	order  []resource.Key          // of the round, those before the next one cut off
	target uint64                  // the checkpoint after the round
	behind uint64                  // since, when the round began
	buffer []byte                  // for what a commit writes
}

// note takes a change in. It lets the round pass the object by: the event that it comes
// with is behind the round's checkpoint.
func (b *backlog) note(ev engine.Event) {
	delete(b.round, ev.Key)
	if b.fresh == nil {
		b.fresh = map[resource.Key][]byte{}
	}
	if ev.Type == store.Deleted {
		b.fresh[ev.Key] = nil
	} else {
		b.fresh[ev.Key] = ev.Encoded
	}
}

// begin begins a round unless there is one. All changes up to the revision were noted.
func (b *backlog) begin(revision uint64) {
	if b.target != 0 {
		return
	}
	b.round, b.fresh = b.fresh, nil
	b.target, b.behind = revision, b.since
	b.order = make([]resource.Key, 0, len(b.round))
	for key := range b.round {
		b.order = append(b.order, key)
	}
	// In the order of the file, so that neighbours are written together.
	slices.SortFunc(b.order, func(x, y resource.Key) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
}

// write writes objects of the round until so many, or so many bytes, were written. It tells
// whether the round is at its end; done then ends it, when that is durable.
func (b *backlog) write(tx *bbolt.Tx, objects, bytes int) (end bool, err error) {
	var bucket *bbolt.Bucket
	kind := ""
	b.buffer = b.buffer[:0]
	for objects > 0 && bytes > 0 && len(b.order) > 0 {
		key := b.order[0]
		b.order = b.order[1:]
		encoded, due := b.round[key]
		if !due {
			continue // it has changed again
		}
		if bucket == nil || kind != key.Kind {
			// Of a kind that this version does not know there may be none yet.
			if bucket, err = tx.CreateBucketIfNotExists(objBucket(key.Kind)); err != nil {
				return false, err
			}
			kind = key.Kind
		}
		if encoded == nil {
			err = bucket.Delete(objKey(key))
		} else {
			// The bytes stay where they are until the transaction has ended, also when the
			// buffer has to grow.
			start := len(b.buffer)
			b.buffer = appendSealed(b.buffer, encoded)
			err = bucket.Put(objKey(key), b.buffer[start:len(b.buffer):len(b.buffer)])
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", key, err)
		}
		delete(b.round, key)
		objects--
		bytes -= len(encoded)
	}
	return len(b.order) == 0, nil
}

// done ends the round.
func (b *backlog) done() {
	b.since -= b.behind
	b.round, b.order, b.target, b.buffer = nil, nil, 0, nil
}

// catchUp writes all of the backlog, in as many transactions as that takes: afterwards the
// checkpoint is the newest revision.
func (d *database) catchUp() error {
	for d.counters.checkpoint < d.counters.revision {
		d.backlog.begin(d.counters.revision)
		c := d.counters
		err := d.update(func(tx *bbolt.Tx) error {
			end, err := d.backlog.write(tx, len(d.backlog.order), copyChunk)
			if err != nil || !end {
				return err
			}
			c.checkpoint = d.backlog.target
			return c.write(tx)
		})
		if err != nil {
			return fmt.Errorf("write objects up to revision %d: %w", d.counters.revision, err)
		}
		if c.checkpoint != d.counters.checkpoint {
			d.backlog.done()
		}
		d.settle(c)
	}
	return nil
}

// readState reads all objects: those in the buckets, and what the log has of them after the
// checkpoint, which is the backlog. It copies them out of the file and looks at checksums
// and keys; they are decoded when somebody reads them.
func readState(tx *bbolt.Tx, reg *resource.Registry, c counters) (*engine.Contents, *backlog, error) {
	contents, err := readObjects(tx, reg)
	if err != nil {
		return nil, nil, err
	}
	contents.Revision = c.revision
	b := &backlog{}
	cursor := tx.Bucket(logBucket).Cursor()
	for k, v := cursor.Seek(number(c.checkpoint + 1)); k != nil; k, v = cursor.Next() {
		events, err := openChunk(k, v)
		if err == nil {
			b.since += uint64(len(v))
			err = events.each(func(ev engine.Event) bool {
				if ev.Revision > c.checkpoint {
					b.note(ev)
				}
				return true
			})
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	for key, encoded := range b.fresh {
		if encoded == nil {
			contents.Delete(key)
			continue
		}
		encoded = slices.Clone(encoded) // it was the file's
		b.fresh[key] = encoded
		if !contents.Knows(key.Kind) {
			continue
		}
		if err := contents.Put(key, encoded); err != nil {
			return nil, nil, fmt.Errorf("%w: %s in the log: %w", ErrDamaged, key, err)
		}
	}
	return contents, b, nil
}
