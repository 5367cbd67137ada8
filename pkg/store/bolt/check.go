package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// CheckFile reads a whole database that nobody has open for writing and reports what is
// wrong with it: bbolt's own check of the pages and, unless pagesOnly, what this package
// relies on: every event and object is as it was written, the log has no gap and ends in the objects,
// no two objects are the same, owners are who they are said to be. It changes nothing.
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
	last     map[resource.Key]logged // the newest event of each object that the log knows
	uids     map[string]resource.Key
	owned    []ownedObject
}

// logged is an event in the log; its bytes are the file's.
type logged struct {
	revision uint64
	deleted  bool
	sealed   []byte
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
	c.last = map[resource.Key]logged{}
	next, size := c.counters.compacted+1, uint64(0)
	cursor := log.Cursor()
	for k, v := cursor.First(); k != nil; k, v = cursor.Next() {
		if len(k) != 8 {
			c.add("log: key %x is no revision", k)
			continue
		}
		revision := binary.BigEndian.Uint64(k)
		if revision != next {
			c.add("log: after revision %d comes %d", next-1, revision)
		}
		next = revision + 1
		size += uint64(len(v))
		c.report.Events++
		c.checkEvent(revision, v)
	}
	if next != c.counters.revision+1 {
		c.add("log: it ends at revision %d, the database is at %d", next-1, c.counters.revision)
	}
	if size != c.counters.logBytes {
		c.add("log: it has %d bytes, the database counted %d", size, c.counters.logBytes)
	}
}

func (c *checker) checkEvent(revision uint64, record []byte) {
	ev, err := decodeEvent(c.reg, revision, record)
	if err != nil {
		c.add("log: revision %d: %v", revision, err)
		return
	}
	if ev.Object != nil && ev.Object.GetMetadata().GetResourceVersion() != strconv.FormatUint(revision, 10) {
		c.add("log: revision %d: %s has the resourceVersion %q", revision, ev.Key, ev.Object.GetMetadata().GetResourceVersion())
	}
	before, known := c.last[ev.Key]
	if known && before.deleted != (ev.Type == store.Added) {
		c.add("log: revision %d: %s is %s, and at %d it was deleted: %t", revision, ev.Key, ev.Type, before.revision, before.deleted)
	}
	_, sealed, _ := decodeHead(revision, record) // decodeRecord has just read it
	c.last[ev.Key] = logged{revision: revision, deleted: ev.Type == store.Deleted, sealed: sealed}
}

// checkObjects reads all objects and compares them with where the log ends.
func (c *checker) checkObjects(tx *bbolt.Tx) error {
	c.uids = map[string]resource.Key{}
	err := tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		kindName, ok := bytes.CutPrefix(name, objBucket(""))
		if !ok {
			return nil
		}
		kind, known := c.reg.Get(string(kindName))
		if !known {
			c.note("kind %s is not known to this version: its objects were not read", kindName)
		}
		return b.ForEach(func(k, v []byte) error {
			c.report.Objects++
			c.checkObject(kind, string(kindName), k, v)
			return nil
		})
	})
	for key, ev := range c.last {
		if !ev.deleted {
			c.add("%s: revision %d of the log has it, it is not there", key, ev.revision)
		}
	}
	return err
}

func (c *checker) checkObject(kind *resource.Kind, kindName string, k, v []byte) {
	key := keyIn(kindName, k)
	ev, inLog := c.last[key]
	delete(c.last, key)
	switch {
	case inLog && ev.deleted:
		c.add("%s: it was deleted at revision %d of the log, and is there", key, ev.revision)
	case inLog && !bytes.Equal(ev.sealed, v):
		c.add("%s: it is not what revision %d of the log says", key, ev.revision)
	}
	if kind == nil {
		return
	}
	obj, err := decodeObject(kind, v)
	if err != nil {
		c.add("%s: %v", key, err)
		return
	}
	if got := resource.KeyOf(obj); got != key {
		c.add("%s: what is there is %s", key, got)
	}
	c.checkMeta(key, obj.GetMetadata(), inLog)
}

// checkMeta checks what the store itself sets.
func (c *checker) checkMeta(key resource.Key, m *v1alpha1.ObjectMeta, inLog bool) {
	version, err := strconv.ParseUint(m.GetResourceVersion(), 10, 64)
	switch {
	case err != nil || version > c.counters.revision:
		c.add("%s: its resourceVersion is %q, the database is at %d", key, m.GetResourceVersion(), c.counters.revision)
	case version > c.counters.compacted && !inLog:
		c.add("%s: its last change, revision %d, is not in the log", key, version)
	}
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
