package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store/internal/engine"
)

const (
	// schemaVersion is the layout that this package reads and writes; see the package comment.
	schemaVersion = 3
	// oldestSchema is the oldest layout that migrations begin with.
	oldestSchema = 1
)

// ErrSchema: the file was written by a version whose layout this one does not know.
var ErrSchema = errors.New("unsupported database schema")

// ErrDamaged: the file is not a database of this store, or contradicts itself.
var ErrDamaged = errors.New("not a usable database")

var (
	metaBucket = []byte("meta")
	logBucket  = []byte("log")

	keySchema    = []byte("schema")
	keyStoreID   = []byte("store-id")
	keyRevision  = []byte("revision")
	keyCompacted = []byte("compacted")
	keyLogBytes  = []byte("log-bytes")

	keyCheckpoint = []byte("checkpoint")
)

func objBucket(kind string) []byte { return []byte("obj/" + kind) }

func objKey(key resource.Key) []byte { return []byte(key.Namespace + "\x00" + key.Name) }

// keyIn is the reverse of objKey.
func keyIn(kind string, k []byte) resource.Key {
	namespace, name, _ := bytes.Cut(k, []byte{0})
	return resource.Key{Kind: kind, Namespace: string(namespace), Name: string(name)}
}

// counters are the numbers in meta that change with every commit.
type counters struct {
	revision   uint64
	compacted  uint64
	checkpoint uint64 // from compacted to revision
	logBytes   uint64
}

// events is the number of events in the log: this backend leaves no gaps.
func (c counters) events() uint64 { return c.revision - c.compacted }

func (c counters) write(tx *bbolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	return errors.Join(
		meta.Put(keyRevision, number(c.revision)),
		meta.Put(keyCompacted, number(c.compacted)),
		meta.Put(keyCheckpoint, number(c.checkpoint)),
		meta.Put(keyLogBytes, number(c.logBytes)),
	)
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func readNumber(meta *bbolt.Bucket, key []byte) (uint64, error) {
	v := meta.Get(key)
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: meta has no number %q", ErrDamaged, key)
	}
	return binary.BigEndian.Uint64(v), nil
}

// errEmpty: a new file, without a layout.
var errEmpty = errors.New("empty database")

// create makes the layout in an empty file.
func create(tx *bbolt.Tx) error {
	meta, err := tx.CreateBucket(metaBucket)
	if err != nil {
		return err
	}
	if _, err := tx.CreateBucket(logBucket); err != nil {
		return err
	}
	return errors.Join(
		meta.Put(keySchema, number(schemaVersion)),
		meta.Put(keyStoreID, []byte(uuid.NewString())),
		counters{revision: engine.InitialRevision, compacted: engine.InitialRevision, checkpoint: engine.InitialRevision}.write(tx),
	)
}

// addKinds makes the buckets of kinds that are new, and that of audit records, so that a
// commit need not look whether they exist.
func addKinds(tx *bbolt.Tx, reg *resource.Registry) error {
	if _, err := tx.CreateBucketIfNotExists(auditBucket); err != nil {
		return err
	}
	for _, kind := range reg.Kinds() {
		if _, err := tx.CreateBucketIfNotExists(objBucket(kind.Name)); err != nil {
			return err
		}
	}
	return nil
}

func hasAllKinds(tx *bbolt.Tx, reg *resource.Registry) bool {
	return tx.Bucket(auditBucket) != nil && !slices.ContainsFunc(reg.Kinds(), func(k *resource.Kind) bool {
		return tx.Bucket(objBucket(k.Name)) == nil
	})
}

// readSchema returns the schema of a file that this version can open or migrate.
func readSchema(tx *bbolt.Tx) (uint64, error) {
	if first, _ := tx.Cursor().First(); first == nil {
		return 0, errEmpty
	}
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return 0, fmt.Errorf("%w: it is a bbolt file of something else", ErrDamaged)
	}
	version, err := readNumber(meta, keySchema)
	switch {
	case err != nil:
		return 0, err
	case version > schemaVersion:
		return 0, fmt.Errorf("%w: it has schema %d, this version knows up to %d: use the version that wrote it, or a newer one",
			ErrSchema, version, schemaVersion)
	case version < oldestSchema:
		return 0, fmt.Errorf("%w: it has schema %d, this version knows %d to %d", ErrSchema, version, oldestSchema, schemaVersion)
	case tx.Bucket(logBucket) == nil:
		return 0, fmt.Errorf("%w: it has no log", ErrDamaged)
	}
	return version, nil
}

// readCounters reads meta and holds it against the log.
func readCounters(tx *bbolt.Tx) (counters, error) {
	meta := tx.Bucket(metaBucket)
	var c counters
	var err error
	for key, field := range map[string]*uint64{
		string(keyRevision): &c.revision, string(keyCompacted): &c.compacted, string(keyCheckpoint): &c.checkpoint, string(keyLogBytes): &c.logBytes,
	} {
		if *field, err = readNumber(meta, []byte(key)); err != nil {
			return c, err
		}
	}
	if c.compacted > c.checkpoint || c.checkpoint > c.revision {
		return c, fmt.Errorf("%w: its checkpoint is %d, its log has revisions %d to %d", ErrDamaged, c.checkpoint, c.compacted+1, c.revision)
	}
	log := tx.Bucket(logBucket).Cursor()
	k, v := log.First()
	if k == nil && c.events() == 0 {
		return c, nil
	}
	first, err := openChunk(k, v)
	last, _ := log.Last()
	switch {
	case err != nil:
		return c, fmt.Errorf("%w: the log: %w", ErrDamaged, err)
	case first.first > c.compacted+1, first.last < c.compacted+1, binary.BigEndian.Uint64(last) != c.revision:
		return c, fmt.Errorf("%w: its log has revisions %d to %x, but its revision is %d and it was compacted up to %d",
			ErrDamaged, first.first, last, c.revision, c.compacted)
	}
	return c, nil
}

// objBuckets returns the names of all buckets of objects, those of unknown kinds too.
func objBuckets(db *bbolt.DB) ([][]byte, error) {
	var names [][]byte
	err := db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
			if bytes.HasPrefix(name, objBucket("")) {
				names = append(names, bytes.Clone(name))
			}
			return nil
		})
	})
	return names, err
}
