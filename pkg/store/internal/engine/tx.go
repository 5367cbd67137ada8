package engine

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

var errEnded = errors.New("the transaction has ended")

// transaction is one run of a closure on a draft. Nothing it does shows anywhere until
// the committer publishes the view that the draft becomes.
type transaction struct {
	draft  *draft
	before uint64     // the draft's revision when the transaction began
	undo   []*version // what was under the key of each event before; nil: nothing
	events []Event
	bytes  int64
	noOps  uint64
	now    time.Time
	limit  error // a limit was passed; the transaction cannot succeed any more
	ended  bool
}

func newTransaction(d *draft, now time.Time) *transaction {
	return &transaction{draft: d, before: d.revision, now: now, undo: d.scratch.undo[:0]}
}

var (
	_ store.Tx       = (*transaction)(nil)
	_ store.Writer   = (*transaction)(nil)
	_ store.TxReader = (*transaction)(nil)
)

// end lets the next transaction have the room of this one.
func (t *transaction) end() {
	t.ended = true
	clear(t.undo)
	if cap(t.undo) <= maxBatchEvents {
		t.draft.scratch.undo = t.undo
	}
}

// takeBack makes the draft what it was before the transaction.
func (t *transaction) takeBack() {
	for i, ev := range slices.Backward(t.events) {
		t.draft.put(ev.Key.Kind, ev.version.key, t.undo[i])
	}
	t.draft.revision = t.before
}

func (t *transaction) Get(key resource.Key) (resource.Object, error) {
	return object(t.current(key))
}

// Current implements store.TxReader.
func (t *transaction) Current(key resource.Key) (store.Version, error) {
	return versionOf(t.current(key))
}

// object is the decoded form of what a step of a transaction has returned.
func object(v *version, err error) (resource.Object, error) {
	if err != nil {
		return nil, err
	}
	return v.Object()
}

// current finds a version by its key.
func (t *transaction) current(key resource.Key) (*version, error) {
	if t.ended {
		return nil, fmt.Errorf("%s: %w: %w", key, store.ErrInvalid, errEnded)
	}
	if _, err := t.draft.codec.layout(key.Kind); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if v := t.draft.get(key); v != nil {
		return v, nil
	}
	return nil, fmt.Errorf("%s: %w", key, store.ErrNotFound)
}

// List fails the transaction when an object cannot be decoded: a closure that does not see
// it must not decide anything on that.
func (t *transaction) List(kind, namespace string) (objects []resource.Object) {
	all := t.draft.tree(kind)
	if t.ended || all == nil {
		return nil
	}
	l := t.draft.codec.layouts[kind]
	defer l.scanned()
	walk(all, namespace, "", func(v *version) bool {
		o, err := v.scan()
		if err != nil {
			t.limit = err
			return false
		}
		objects = append(objects, o)
		return true
	})
	return objects
}

func (t *transaction) Create(obj resource.Object) (resource.Object, error) {
	return t.CreateAs(obj, uuid.NewString())
}

func (t *transaction) CreateAs(obj resource.Object, uid string) (resource.Object, error) {
	return object(t.create(obj, uid))
}

func (t *transaction) create(obj resource.Object, uid string) (*version, error) {
	key, l, err := t.checkContent(obj)
	if err != nil {
		return nil, err
	}
	if uid == "" {
		return nil, fmt.Errorf("%s: %w: the uid is empty", key, store.ErrInvalid)
	}
	if t.draft.get(key) != nil {
		return nil, fmt.Errorf("%s: %w", key, store.ErrAlreadyExists)
	}
	if rv := obj.GetMetadata().GetResourceVersion(); rv != "" {
		return nil, fmt.Errorf("%s: %w: it does not exist, but resourceVersion %q was expected", key, store.ErrConflict, rv)
	}
	m := shallowMetadata(obj.GetMetadata())
	m.Uid = uid
	m.CreationTimestamp = timestamp(t.now)
	m.DeletionTimestamp = ""
	m.Generation = 1
	next := l.typ.New()
	l.copyOthers(next, obj.ProtoReflect())
	next.Set(l.metadata, protoreflect.ValueOfMessage(m.ProtoReflect()))
	return t.record(change{store.Added, key, l, nil, false}, func(version string) ([]byte, error) {
		m.ResourceVersion = version
		return deterministic.Marshal(next.Interface())
	})
}

// PutNew implements store.Writer.
func (t *transaction) PutNew(obj resource.Object, uid string) (store.Version, error) {
	if uid == "" {
		uid = uuid.NewString()
	}
	return versionOf(t.create(obj, uid))
}

func (t *transaction) Update(obj resource.Object) (resource.Object, error) {
	return object(t.update(obj))
}

// Put implements store.Writer.
func (t *transaction) Put(obj resource.Object) (store.Version, error) {
	return versionOf(t.update(obj))
}

// versionOf keeps a nil version from becoming an interface that is not nil.
func versionOf(v *version, err error) (store.Version, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (t *transaction) update(obj resource.Object) (*version, error) {
	if _, _, err := t.checkContent(obj); err != nil {
		return nil, err
	}
	key, cur, err := t.target(obj)
	if err != nil {
		return nil, err
	}
	var room [16]field
	meta, err := cur.meta(room[:0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if err := meta.keepsIdentity(obj.GetMetadata()); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	l := cur.layout
	next, err := l.revise(cur, meta, obj, t.draft.scratch)
	if err != nil { // text that is not UTF-8, above all
		return nil, fmt.Errorf("%s: %w: %w", key, store.ErrInvalid, err)
	}
	if !next.changed {
		t.noOps++
		return cur, nil
	}
	typ, generation := store.Modified, meta.generation()
	if next.specChanged {
		generation++
	}
	if meta.deleting() && len(obj.GetMetadata().GetFinalizers()) == 0 {
		typ = store.Deleted
	}
	return t.record(change{typ, key, l, next.within, false}, func(version string) ([]byte, error) {
		return next.encode(version, generation, cur, t.draft.scratch)
	})
}

func (t *transaction) UpdateStatus(obj resource.Object) (resource.Object, error) {
	return object(t.updateStatus(obj))
}

// PutStatus implements store.Writer.
func (t *transaction) PutStatus(obj resource.Object) (store.Version, error) {
	return versionOf(t.updateStatus(obj))
}

func (t *transaction) updateStatus(obj resource.Object) (*version, error) {
	key, cur, err := t.target(obj)
	if err != nil {
		return nil, err
	}
	var room [16]field
	meta, err := cur.meta(room[:0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if uid := obj.GetMetadata().GetUid(); uid != "" && uid != meta.text(metaUID) {
		return nil, fmt.Errorf("%s: %w: the status is of another object of that name (uid %s)", key, store.ErrInvalid, uid)
	}
	l := cur.layout
	if l.status == nil {
		return nil, fmt.Errorf("%s: %w: the kind has no status", key, store.ErrInvalid)
	}
	status, equal, err := l.reviseStatus(cur, obj, t.draft.scratch)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", key, store.ErrInvalid, err)
	}
	if equal {
		t.noOps++
		return cur, nil
	}
	return t.record(change{store.Modified, key, l, nil, true}, func(version string) ([]byte, error) {
		var room [16]field
		rest, err := cur.others(room[:0])
		t.draft.scratch.meta = meta.appendMetadata(t.draft.scratch.meta[:0], version, meta.generation())
		return l.join(rest, t.draft.scratch.meta, status), err
	})
}

func (t *transaction) Delete(key resource.Key, pre store.Preconditions) (resource.Object, error) {
	return object(t.remove(key, pre))
}

func (t *transaction) remove(key resource.Key, pre store.Preconditions) (*version, error) {
	cur, err := t.current(key)
	if err != nil {
		return nil, err
	}
	m, err := cur.metadata()
	if err != nil {
		return nil, err
	}
	if pre.UID != "" && pre.UID != m.GetUid() {
		return nil, fmt.Errorf("%s: %w: its uid is %s, not %s", key, store.ErrConflict, m.GetUid(), pre.UID)
	}
	if err := checkVersion(cur, pre.ResourceVersion); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	typ := store.Modified
	switch {
	case len(m.GetFinalizers()) == 0:
		typ = store.Deleted
	case m.GetDeletionTimestamp() != "":
		t.noOps++
		return cur, nil
	default:
		m.DeletionTimestamp = timestamp(t.now)
		m.Generation++
	}
	rest, err := cur.others(nil)
	if err != nil {
		return nil, err
	}
	next := revision{rest: rest, metadata: m}
	return t.record(change{typ, key, cur.layout, nil, false}, func(version string) ([]byte, error) {
		return next.encode(version, m.Generation, cur, t.draft.scratch)
	})
}

// target finds the object that an update is about and checks its resourceVersion.
func (t *transaction) target(obj resource.Object) (resource.Key, *version, error) {
	key, _, err := t.check(obj)
	if err != nil {
		return key, nil, err
	}
	cur := t.draft.get(key)
	if cur == nil {
		return key, nil, fmt.Errorf("%s: %w", key, store.ErrNotFound)
	}
	if err := checkVersion(cur, obj.GetMetadata().GetResourceVersion()); err != nil {
		return key, nil, fmt.Errorf("%s: %w", key, err)
	}
	return key, cur, nil
}

// check refuses objects that cannot be stored whatever the state is.
func (t *transaction) check(obj resource.Object) (resource.Key, *layout, error) {
	if t.ended {
		return resource.Key{}, nil, fmt.Errorf("%w: %w", store.ErrInvalid, errEnded)
	}
	if obj == nil || !obj.ProtoReflect().IsValid() || obj.GetMetadata() == nil {
		return resource.Key{}, nil, fmt.Errorf("%w: no object, or one without metadata", store.ErrInvalid)
	}
	key := resource.KeyOf(obj)
	l, err := t.draft.codec.layout(key.Kind)
	if err != nil {
		return key, nil, fmt.Errorf("%s: %w", key, err)
	}
	kind := l.kind
	switch {
	case kind.Descriptor() != obj.ProtoReflect().Descriptor() && kind.Descriptor().FullName() != obj.ProtoReflect().Descriptor().FullName():
		return key, nil, fmt.Errorf("%s: %w: the message is a %s", key, store.ErrInvalid, obj.ProtoReflect().Descriptor().Name())
	case obj.GetApiVersion() != resource.APIVersion:
		return key, nil, fmt.Errorf("%s: %w: apiVersion is %q, not %q", key, store.ErrInvalid, obj.GetApiVersion(), resource.APIVersion)
	case key.Name == "" || !validKeyPart(key.Name) || !validKeyPart(key.Namespace):
		return key, nil, fmt.Errorf("%.300s: %w: an object needs a name of at most %d bytes, none of them zero",
			key, store.ErrInvalid, store.MaxNameBytes)
	case kind.Namespaced != (key.Namespace != ""):
		return key, nil, fmt.Errorf("%s: %w: namespaced is %t for the kind", key, store.ErrInvalid, kind.Namespaced)
	}
	return key, l, nil
}

// checkContent is check for a write of more than the status: no sensitive value may be
// stored as it is.
func (t *transaction) checkContent(obj resource.Object) (resource.Key, *layout, error) {
	key, l, err := t.check(obj)
	if err != nil || !l.kind.HasSensitive() {
		return key, l, err
	}
	if err := l.kind.CheckSealed(obj); err != nil {
		return key, nil, fmt.Errorf("%s: %w: %w", key, store.ErrInvalid, err)
	}
	return key, l, nil
}

// change is what record has to know of one.
type change struct {
	typ    store.EventType
	key    resource.Key
	layout *layout
	within *within // all that it changes; nil: find out
	status bool    // it is one of the status, and of nothing else
}

// record gives a change the next revision. For Deleted, encode makes the object as it last
// was; it too carries the revision, so that a client can resume a watch from it. Encoding
// happens here and not in the log, so that an object that cannot be encoded fails its
// transaction and nothing else.
func (t *transaction) record(c change, encode func(version string) ([]byte, error)) (*version, error) {
	typ, key := c.typ, c.key
	if t.ended {
		return nil, fmt.Errorf("%s: %w: %w", key, store.ErrInvalid, errEnded)
	}
	encoded, err := encode(strconv.FormatUint(t.draft.revision+1, 10))
	size := len(encoded)
	switch {
	case err != nil: // text that is not UTF-8, above all
		return nil, fmt.Errorf("%s: %w: %w", key, store.ErrInvalid, err)
	case size > store.MaxObjectBytes && typ != store.Deleted:
		return nil, fmt.Errorf("%s: %w: %d bytes, at most %d are allowed", key, store.ErrTooLarge, size, store.MaxObjectBytes)
	case len(t.events) >= store.MaxTxObjects:
		t.limit = fmt.Errorf("%w: more than %d changes in a transaction", store.ErrTooLarge, store.MaxTxObjects)
		return nil, t.limit
	case t.bytes+int64(size) > store.MaxTxBytes:
		t.limit = fmt.Errorf("%w: more than %d bytes of changes in a transaction", store.ErrTooLarge, store.MaxTxBytes)
		return nil, t.limit
	}
	t.draft.revision++
	t.bytes += int64(size)
	next := &version{layout: c.layout, key: t.draft.treeKey(key), encoded: encoded, revision: t.draft.revision}
	after := next
	if typ == store.Deleted {
		after = nil
	}
	t.undo = append(t.undo, t.draft.put(key.Kind, next.key, after))
	t.events = append(t.events, Event{
		Event: store.Event{Type: typ, Encoded: encoded, Revision: t.draft.revision},
		Key:   key, Time: t.now, version: next, within: c.within, statusAlone: c.status,
	})
	return next, nil
}

func checkVersion(cur *version, wanted string) error {
	if have := cur.revision; wanted != "" && wanted != strconv.FormatUint(have, 10) {
		return fmt.Errorf("%w: its resourceVersion is %d, not %s", store.ErrConflict, have, wanted)
	}
	return nil
}

// deleting tells whether deletion was asked for.
func (f fields) deleting() bool { return f.text(metaDeleted) != "" }

// text of a field.
func (f fields) text(num protowire.Number) string { return string(content(f.get(num))) }

// keepsIdentity refuses an update of what only the store sets. An empty value means: as it is.
func (f fields) keepsIdentity(m *v1alpha1.ObjectMeta) error {
	for _, id := range [...]struct {
		name   string
		num    protowire.Number
		wanted string
	}{
		{"uid", metaUID, m.GetUid()},
		{"creationTimestamp", metaCreated, m.GetCreationTimestamp()},
		{"deletionTimestamp", metaDeleted, m.GetDeletionTimestamp()},
	} {
		if id.wanted != "" && id.wanted != f.text(id.num) {
			return fmt.Errorf("%w: %s cannot be changed from %q to %q", store.ErrInvalid, id.name, f.text(id.num), id.wanted)
		}
	}
	if !f.deleting() {
		return nil
	}
	for _, name := range m.GetFinalizers() {
		if !hasText(f.get(metaFinalizers), name) {
			return fmt.Errorf("%w: it is being deleted, finalizer %q cannot be added", store.ErrInvalid, name)
		}
	}
	return nil
}
