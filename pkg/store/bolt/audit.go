package bolt

import (
	"encoding/binary"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/store/internal/engine"
)

// The records of a commit are in batches of package audit with their checksums, each under
// the revision of its last record. One value for each record would cost a commit of many
// small changes two keys for each. One for all of a large commit would be written again by
// the next few: bbolt has it in one node with its neighbours.

var (
	auditBucket = []byte("audit")
	keyAudit    = []byte("audit") // in meta: number of records, bytes of all batches
)

const (
	// auditSlack is how many more batches a commit removes at most than it adds.
	auditSlack = 3
	// auditBatchBytes is about how large a batch is at most.
	auditBatchBytes = 4 << 10
)

// auditCounters are how much the audit bucket holds.
type auditCounters struct{ records, bytes uint64 }

func readAuditCounters(tx *bbolt.Tx) (auditCounters, error) {
	v := tx.Bucket(metaBucket).Get(keyAudit)
	switch len(v) {
	case 0: // written by a version without audit
		return auditCounters{}, nil
	case 16:
		return auditCounters{records: binary.BigEndian.Uint64(v), bytes: binary.BigEndian.Uint64(v[8:])}, nil
	}
	return auditCounters{}, fmt.Errorf("%w: meta has no numbers %q", ErrDamaged, keyAudit)
}

func (c auditCounters) write(tx *bbolt.Tx) error {
	return tx.Bucket(metaBucket).Put(keyAudit, binary.BigEndian.AppendUint64(number(c.records), c.bytes))
}

// putAudit stores the records of a commit and removes old ones.
func (d *database) putAudit(tx *bbolt.Tx, c *auditCounters, events []engine.Event) error {
	var records []*audit.Record
	for i := range events {
		if events[i].Audit != nil {
			records = append(records, events[i].Audit)
		}
	}
	if len(records) == 0 {
		return nil
	}
	b := tx.Bucket(auditBucket)
	b.FillPercent = 1 // keys only grow
	added := 0
	for rest := records; len(rest) > 0; added++ {
		n := audit.Fitting(rest, auditBatchBytes)
		batch := seal(audit.EncodeBatch(rest[:n]))
		if err := b.Put(number(rest[n-1].Revision), batch); err != nil {
			return err
		}
		c.records += uint64(n)
		c.bytes += uint64(len(batch))
		rest = rest[n:]
	}
	if err := d.trimAudit(b, c, added+auditSlack); err != nil {
		return err
	}
	return c.write(tx)
}

// trimAudit removes up to limit of the oldest batches, as long as the bucket is above its
// bounds. The newest stays. One that cannot be read is kept too, and those after it, for a check to
// find: what is damaged is nobody's to throw away unseen.
func (d *database) trimAudit(b *bbolt.Bucket, c *auditCounters, limit int) error {
	now := time.Now()
	var keys [][]byte // collected first: a bbolt cursor does not survive a deletion
	cursor := b.Cursor()
	for k, v := cursor.First(); k != nil && len(keys) < limit; k, v = cursor.Next() {
		records, last, err := audit.BatchHead(v)
		due := c.records > d.opts.AuditMaxRecords || c.bytes > d.opts.AuditMaxBytes || now.Sub(last) > d.opts.AuditMaxAge
		if err != nil || !due || c.records <= uint64(records) {
			break
		}
		keys = append(keys, k)
		c.records -= uint64(records)
		c.bytes -= min(c.bytes, uint64(len(v)))
	}
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// Audit implements engine.Log.
func (d *database) Audit(page *engine.AuditPage) error {
	return d.view(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket(auditBucket).Cursor()
		k, v := cursor.Seek(number(page.After() + 1))
		next := cursor.Next
		if page.Newest() {
			k, v = cursor.Last()
			next = cursor.Prev
		}
		for ; k != nil; k, v = next() {
			records, err := readBatch(v)
			if err != nil {
				return fmt.Errorf("audit records up to revision %x: %w", k, err)
			}
			if !page.Add(records) {
				return nil
			}
		}
		return nil
	})
}

func readBatch(v []byte) ([]*audit.Record, error) {
	encoded, err := unseal(v)
	if err != nil {
		return nil, err
	}
	return audit.DecodeBatch(encoded)
}

// checkAudit demands that every batch can be read, that revisions go up, and that the
// numbers in meta are those of the batches.
func (c *checker) checkAudit(tx *bbolt.Tx) {
	bucket := tx.Bucket(auditBucket)
	if bucket == nil {
		return // written by a version without audit
	}
	var sum auditCounters
	var last uint64
	cursor := bucket.Cursor()
	for k, v := cursor.First(); k != nil; k, v = cursor.Next() {
		sum.bytes += uint64(len(v))
		records, err := readBatch(v)
		if err != nil {
			c.add("audit records up to revision %x: %v", k, err)
			continue
		}
		sum.records += uint64(len(records))
		for _, r := range records {
			if r.Revision <= last || r.Revision > c.counters.revision {
				c.add("there is an audit record of revision %d after %d; the newest revision is %d", r.Revision, last, c.counters.revision)
			}
			last = r.Revision
		}
		if len(k) != 8 || binary.BigEndian.Uint64(k) != last {
			c.add("audit records up to revision %d are under the key %x", last, k)
		}
	}
	if want, err := readAuditCounters(tx); err != nil {
		c.add("%v", err)
	} else if want != sum {
		c.add("there are %d audit records of %d bytes, meta says %d of %d", sum.records, sum.bytes, want.records, want.bytes)
	}
}
