package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/internal/engine"
)

// CheckFile reads a whole database that nobody has open for writing and reports what is
// wrong with it: bbolt's own check of the pages and, unless pagesOnly, what this package
// relies on: every event and object is as it was written, the log has no gap, the objects
// are what it says up to the checkpoint, no two objects are the same, owners are who they
// are said to be. It changes nothing.
//
// A damaged file may end the process: bbolt maps it. Call it in a process of its own.
// Errors: store.ErrLocked, ErrSchema, and those of the file system.
func CheckFile(path string, reg *resource.Registry, pagesOnly bool) (*v1alpha1.DatabaseReport, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	c := &checker{reg: reg, report: &v1alpha1.DatabaseReport{FileBytes: info.Size()}}
	db, err := bbolt.Open(path, fileMode, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: lockTimeout})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, fmt.Errorf("check database %s: %w%s", path, store.ErrLocked, holderText(path))
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch):
		c.add("it is not a bbolt file: %v", err)
		return c.report, nil
	case err != nil:
		return nil, fmt.Errorf("check database %s: %w", path, err)
	}
	err = db.View(func(tx *bbolt.Tx) error { return c.check(tx, pagesOnly) })
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, fmt.Errorf("check database %s: %w", path, err)
	}
	return c.report, nil
}

// checker collects what is wrong.
type checker struct {
	reg      *resource.Registry
	report   *v1alpha1.DatabaseReport
	counters counters
	last     map[resource.Key]logged // the newest event of each object, up to the checkpoint
	later    map[uint64]logged       // the events after it
	changed  map[resource.Key]bool   // there is one of them about the object
	uids     map[string]resource.Key
	owned    []ownedObject
}

// logged is an event in the log; its bytes are the file's.
type logged struct {
	key      resource.Key
	revision uint64
	deleted  bool
	encoded  []byte
}

type ownedObject struct {
	key    resource.Key
	owners []*v1alpha1.OwnerReference
}

func (c *checker) add(format string, args ...any) {
	if len(c.report.Problems) >= maxProblems {
		c.report.MoreProblems++
		return
	}
	c.report.Problems = append(c.report.Problems, fmt.Sprintf(format, args...))
}

func (c *checker) note(format string, args ...any) {
	if len(c.report.Notes) < maxProblems {
		c.report.Notes = append(c.report.Notes, fmt.Sprintf(format, args...))
	}
}

func (c *checker) check(tx *bbolt.Tx, pagesOnly bool) error {
	for err := range tx.Check() {
		c.add("pages: %v", err)
	}
	if len(c.report.Problems) > 0 {
		return nil // what is in such pages could be anything
	}
	version, err := readSchema(tx)
	switch {
	case errors.Is(err, errEmpty):
		c.note("it is empty, as before the first start")
		return nil
	case errors.Is(err, ErrSchema):
		return err
	case err != nil:
		c.add("%v", err)
		return nil
	}
	c.report.Schema = int32(version)
	if version != schemaVersion {
		c.note("it has schema %d: the next start migrates it to %d; only its pages were checked", version, schemaVersion)
		return nil
	}
	if pagesOnly {
		return nil
	}
	c.report.UsedBytes = usedBytes(tx)
	if c.counters, err = readCounters(tx); err != nil {
		c.add("%v", err)
	}
	c.report.Revision, c.report.Compacted = strconv.FormatUint(c.counters.revision, 10), strconv.FormatUint(c.counters.compacted, 10)
	c.report.StoreId = string(tx.Bucket(metaBucket).Get(keyStoreID))
	c.checkLog(tx.Bucket(logBucket))
	c.checkAudit(tx)
	if err := c.checkObjects(tx); err != nil {
		return err
	}
	c.checkOwners()
	return nil
}

// usedBytes is the size of the pages that something is in.
func usedBytes(tx *bbolt.Tx) (bytes int64) {
	size := int64(tx.DB().Info().PageSize)
	for id := int64(0); id < tx.Size()/size; {
		p, err := tx.Page(int(id))
		if err != nil || p == nil {
			return bytes
		}
		pages := int64(p.OverflowCount) + 1
		if p.Type == "free" {
			pages = 1 // what it was before says nothing
		} else {
			bytes += pages * size
		}
		id += pages
	}
	return bytes
}

// checkLog demands every revision above the compaction point, once, each the next change
// of its object.
func (c *checker) checkLog(log *bbolt.Bucket) {
	c.last, c.later, c.changed = map[resource.Key]logged{}, map[uint64]logged{}, map[resource.Key]bool{}
	newest := map[resource.Key]logged{}
	next, size := uint64(0), uint64(0)
	cursor := log.Cursor()
	for k, v := cursor.First(); k != nil; k, v = cursor.Next() {
		size += uint64(len(v))
		events, err := openChunk(k, v)
		if err != nil {
			c.add("log: %v", err)
			next = events.last + 1
			continue
		}
		switch {
		case next == 0 && (events.first > c.counters.compacted+1 || events.last <= c.counters.compacted):
			c.add("log: it was compacted up to revision %d, and begins with %d to %d", c.counters.compacted, events.first, events.last)
		case next != 0 && events.first != next:
			c.add("log: after revision %d comes %d", next-1, events.first)
		}
		next = events.last + 1
		err = events.each(func(ev engine.Event) bool {
			if ev.Revision > c.counters.compacted {
				c.report.Events++
			}
			c.checkEvent(ev, newest)
			return true
		})
		if err != nil {
			c.add("log: %v", err)
		}
	}
	if next == 0 {
		next = c.counters.compacted + 1
	}
	if next != c.counters.revision+1 {
		c.add("log: it ends at revision %d, the database is at %d", next-1, c.counters.revision)
	}
	if size != c.counters.logBytes {
		c.add("log: it has %d bytes, the database counted %d", size, c.counters.logBytes)
	}
}

func (c *checker) checkEvent(ev engine.Event, newest map[resource.Key]logged) {
	obj, err := decodeObject(c.reg, ev.Key, ev.Encoded)
	if err != nil {
		c.add("log: revision %d: %s: %v", ev.Revision, ev.Key, err)
		return
	}
	if obj != nil && obj.GetMetadata().GetResourceVersion() != strconv.FormatUint(ev.Revision, 10) {
		c.add("log: revision %d: %s has the resourceVersion %q", ev.Revision, ev.Key, obj.GetMetadata().GetResourceVersion())
	}
	before, known := newest[ev.Key]
	if known && before.deleted != (ev.Type == store.Added) {
		c.add("log: revision %d: %s is %s, and at %d it was deleted: %t", ev.Revision, ev.Key, ev.Type, before.revision, before.deleted)
	}
	now := logged{key: ev.Key, revision: ev.Revision, deleted: ev.Type == store.Deleted, encoded: ev.Encoded}
	newest[ev.Key] = now
	if ev.Revision <= c.counters.checkpoint {
		c.last[ev.Key] = now
	} else {
		c.later[ev.Revision], c.changed[ev.Key] = now, true
	}
}

// checkObjects reads the buckets of objects and compares them with the log up to the
// checkpoint, and then looks at the objects as a start would find them.
func (c *checker) checkObjects(tx *bbolt.Tx) error {
	missing := maps.Clone(c.last)
	err := tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		kindName, ok := bytes.CutPrefix(name, objBucket(""))
		if !ok {
			return nil
		}
		_, known := c.reg.Get(string(kindName))
		if !known {
			c.note("kind %s is not known to this version: its objects were not read", kindName)
		}
		return b.ForEach(func(k, v []byte) error {
			key := keyIn(string(kindName), k)
			delete(missing, key)
			if !known {
				c.report.Objects++
			}
			c.checkPlace(key, v)
			return nil
		})
	})
	if err != nil {
		return err
	}
	for key, ev := range missing {
		if !ev.deleted && !c.changed[key] {
			c.add("%s: revision %d of the log has it, it is not there", key, ev.revision)
		}
	}
	return c.checkState(tx)
}

// checkPlace compares what is in its place in the file with the event that it must come
// from. An object that was changed after the checkpoint may have been passed by, and may be
// of any age; but if it is newer than the checkpoint, a round has written it.
func (c *checker) checkPlace(key resource.Key, v []byte) {
	encoded, err := unseal(v)
	if err != nil {
		c.add("%s: %v", key, err)
		return
	}
	obj, err := decodeObject(c.reg, key, encoded)
	if err != nil {
		c.add("%s: %v", key, err)
		return
	}
	ev, inLog := c.last[key]
	if obj == nil && c.changed[key] {
		return // of a kind that this version cannot read
	}
	if obj != nil {
		version, err := strconv.ParseUint(obj.GetMetadata().GetResourceVersion(), 10, 64)
		switch {
		case err != nil || version > c.counters.revision:
			c.add("%s: its resourceVersion is %q, the database is at %d", key, obj.GetMetadata().GetResourceVersion(), c.counters.revision)
			return
		case version > c.counters.checkpoint:
			ev, inLog = c.later[version]
			inLog = inLog && ev.key == key
		case c.changed[key]:
			return
		}
		if version > c.counters.compacted && !inLog {
			c.add("%s: its last change, revision %d, is not in the log", key, version)
		}
	}
	switch {
	case inLog && ev.deleted:
		c.add("%s: it was deleted at revision %d of the log, and is there", key, ev.revision)
	case inLog && !bytes.Equal(ev.encoded, encoded):
		c.add("%s: it is not what revision %d of the log says", key, ev.revision)
	}
}

// checkState looks at all objects as they are.
func (c *checker) checkState(tx *bbolt.Tx) error {
	c.uids = map[string]resource.Key{}
	contents, _, err := readState(tx, c.reg, c.counters)
	if errors.Is(err, ErrDamaged) {
		c.add("%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	contents.Each(func(key resource.Key, encoded []byte) {
		c.report.Objects++
		obj, err := decodeObject(c.reg, key, encoded)
		if err != nil {
			c.add("%s: %v", key, err)
			return
		}
		c.checkMeta(key, obj.GetMetadata())
	})
	return nil
}

// decodeObject reads an object and demands that it has the key. It is nil when the registry
// does not know its kind.
func decodeObject(reg *resource.Registry, key resource.Key, encoded []byte) (resource.Object, error) {
	kind, known := reg.Get(key.Kind)
	if !known {
		return nil, nil
	}
	obj := kind.New()
	if err := proto.Unmarshal(encoded, obj); err != nil {
		return nil, err
	}
	if got := resource.KeyOf(obj); got != key {
		return nil, fmt.Errorf("what is there is %s", got)
	}
	return obj, nil
}

// checkMeta checks what the store itself sets.
func (c *checker) checkMeta(key resource.Key, m *v1alpha1.ObjectMeta) {
	if m.GetGeneration() < 1 || m.GetCreationTimestamp() == "" {
		c.add("%s: it has no generation or no creationTimestamp", key)
	}
	if m.GetDeletionTimestamp() != "" && len(m.GetFinalizers()) == 0 {
		c.add("%s: it is being deleted and nothing holds it, yet it is there", key)
	}
	if other, twice := c.uids[m.GetUid()]; twice || m.GetUid() == "" {
		c.add("%s: its uid %q is none, or that of %s", key, m.GetUid(), other)
	}
	c.uids[m.GetUid()] = key
	if owners := m.GetOwnerReferences(); len(owners) > 0 {
		c.owned = append(c.owned, ownedObject{key, owners})
	}
}

// checkOwners: an owner that is gone is a matter of the garbage collector, one that is
// somebody else is a fault.
func (c *checker) checkOwners() {
	for _, o := range c.owned {
		for _, ref := range o.owners {
			owner, there := c.uids[ref.GetUid()]
			switch {
			case ref.GetUid() == "":
				c.add("%s: its owner %s %s has no uid", o.key, ref.GetKind(), ref.GetName())
			case !there:
				c.note("%s: its owner %s %s is gone: the garbage collector looks after it", o.key, ref.GetKind(), ref.GetName())
			case owner.Kind != ref.GetKind() || owner.Name != ref.GetName() || owner.Namespace != "" && owner.Namespace != o.key.Namespace:
				c.add("%s: its owner is said to be %s %s, but that uid is %s", o.key, ref.GetKind(), ref.GetName(), owner)
			}
		}
	}
}
