package engine

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	iradix "github.com/hashicorp/go-immutable-radix/v2"
	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

var errEnded = errors.New("the transaction has ended")

// transaction is one run of a closure on top of base. Nothing it does shows anywhere
// until the committer publishes its view.
type transaction struct {
	reg      *resource.Registry
	base     *view
	changed  map[string]*iradix.Txn[resource.Object]
	revision uint64
	events   []Event
	bytes    int64
	noOps    uint64
	now      time.Time
	limit    error // a limit was passed; the transaction cannot succeed any more
	ended    bool
}

func newTransaction(reg *resource.Registry, base *view, now time.Time) *transaction {
	return &transaction{reg: reg, base: base, revision: base.revision, now: now}
}

// view is the state after the transaction.
func (t *transaction) view() *view {
	if len(t.events) == 0 {
		return t.base
	}
	return t.base.with(t.changed, t.revision)
}

func (t *transaction) Get(key resource.Key) (resource.Object, error) {
	if _, err := kindOf(t.reg, key.Kind); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if o, ok := t.lookup(key); ok {
		return o, nil
	}
	return nil, fmt.Errorf("%s: %w", key, store.ErrNotFound)
}

func (t *transaction) List(kind, namespace string) []resource.Object {
	if txn := t.changed[kind]; txn != nil {
		return listTree(txn.Root(), namespace, nil)
	}
	if tr := t.base.kinds[kind]; tr != nil {
		return listTree(tr.Root(), namespace, nil)
	}
	return nil
}

func (t *transaction) Create(obj resource.Object) (resource.Object, error) {
	return t.CreateAs(obj, uuid.NewString())
}

func (t *transaction) CreateAs(obj resource.Object, uid string) (resource.Object, error) {
	key, err := t.checkContent(obj)
	if err != nil {
		return nil, err
	}
	if uid == "" {
		return nil, fmt.Errorf("%s: %w: the uid is empty", key, store.ErrInvalid)
	}
	if _, ok := t.lookup(key); ok {
		return nil, fmt.Errorf("%s: %w", key, store.ErrAlreadyExists)
	}
	if rv := obj.GetMetadata().GetResourceVersion(); rv != "" {
		return nil, fmt.Errorf("%s: %w: it does not exist, but resourceVersion %q was expected", key, store.ErrConflict, rv)
	}
	next := own(obj)
	clearStatus(next)
	m := next.GetMetadata()
	m.Uid = uid
	m.CreationTimestamp = timestamp(t.now)
	m.DeletionTimestamp = ""
	m.Generation = 1
	return t.record(store.Added, key, next)
}

func (t *transaction) Update(obj resource.Object) (resource.Object, error) {
	if _, err := t.checkContent(obj); err != nil {
		return nil, err
	}
	key, cur, err := t.target(obj)
	if err != nil {
		return nil, err
	}
	if err := keepsIdentity(cur, obj); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	next := own(obj)
	shareField(next, cur, "status")
	m, cm := next.GetMetadata(), cur.GetMetadata()
	m.Uid, m.CreationTimestamp, m.DeletionTimestamp = cm.GetUid(), cm.GetCreationTimestamp(), cm.GetDeletionTimestamp()
	m.Generation, m.ResourceVersion = cm.GetGeneration(), cm.GetResourceVersion()

	specEqual := resource.EqualField(cur, next, "spec")
	if sameApartFromTimes(cur, next, specEqual) {
		t.noOps++
		return cur, nil
	}
	if !specEqual {
		m.Generation++
	}
	if resource.Deleting(cur) && len(m.GetFinalizers()) == 0 {
		return t.record(store.Deleted, key, next)
	}
	return t.record(store.Modified, key, next)
}

func (t *transaction) UpdateStatus(obj resource.Object) (resource.Object, error) {
	key, cur, err := t.target(obj)
	if err != nil {
		return nil, err
	}
	if uid := obj.GetMetadata().GetUid(); uid != "" && uid != cur.GetMetadata().GetUid() {
		return nil, fmt.Errorf("%s: %w: the status is of another object of that name (uid %s)", key, store.ErrInvalid, uid)
	}
	if !hasField(cur, "status") {
		return nil, fmt.Errorf("%s: %w: the kind has no status", key, store.ErrInvalid)
	}
	if resource.EqualField(cur, obj, "status") {
		t.noOps++
		return cur, nil
	}
	next := newVersion(cur)
	resource.CopyField(next, obj, "status")
	return t.record(store.Modified, key, next)
}

func (t *transaction) Delete(key resource.Key, pre store.Preconditions) (resource.Object, error) {
	cur, err := t.Get(key)
	if err != nil {
		return nil, err
	}
	m := cur.GetMetadata()
	if pre.UID != "" && pre.UID != m.GetUid() {
		return nil, fmt.Errorf("%s: %w: its uid is %s, not %s", key, store.ErrConflict, m.GetUid(), pre.UID)
	}
	if err := checkVersion(cur, pre.ResourceVersion); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	next := newVersion(cur)
	switch {
	case len(m.GetFinalizers()) == 0:
		return t.record(store.Deleted, key, next)
	case resource.Deleting(cur):
		t.noOps++
		return cur, nil
	}
	next.GetMetadata().DeletionTimestamp = timestamp(t.now)
	next.GetMetadata().Generation++
	return t.record(store.Modified, key, next)
}

// lookup finds an object as the transaction sees it.
func (t *transaction) lookup(key resource.Key) (resource.Object, bool) {
	if txn := t.changed[key.Kind]; txn != nil {
		return txn.Get(treeKey(key.Namespace, key.Name))
	}
	return t.base.get(key)
}

// target finds the object that an update is about and checks its resourceVersion.
func (t *transaction) target(obj resource.Object) (resource.Key, resource.Object, error) {
	key, err := t.check(obj)
	if err != nil {
		return key, nil, err
	}
	cur, ok := t.lookup(key)
	if !ok {
		return key, nil, fmt.Errorf("%s: %w", key, store.ErrNotFound)
	}
	if err := checkVersion(cur, obj.GetMetadata().GetResourceVersion()); err != nil {
		return key, nil, fmt.Errorf("%s: %w", key, err)
	}
	return key, cur, nil
}

// check refuses objects that cannot be stored whatever the state is.
func (t *transaction) check(obj resource.Object) (resource.Key, error) {
	if t.ended {
		return resource.Key{}, fmt.Errorf("%w: %w", store.ErrInvalid, errEnded)
	}
	if obj == nil || !obj.ProtoReflect().IsValid() || obj.GetMetadata() == nil {
		return resource.Key{}, fmt.Errorf("%w: no object, or one without metadata", store.ErrInvalid)
	}
	key := resource.KeyOf(obj)
	kind, err := kindOf(t.reg, key.Kind)
	if err != nil {
		return key, fmt.Errorf("%s: %w", key, err)
	}
	switch {
	case kind.Descriptor().FullName() != obj.ProtoReflect().Descriptor().FullName():
		return key, fmt.Errorf("%s: %w: the message is a %s", key, store.ErrInvalid, obj.ProtoReflect().Descriptor().Name())
	case obj.GetApiVersion() != resource.APIVersion:
		return key, fmt.Errorf("%s: %w: apiVersion is %q, not %q", key, store.ErrInvalid, obj.GetApiVersion(), resource.APIVersion)
	case key.Name == "" || !validKeyPart(key.Name) || !validKeyPart(key.Namespace):
		return key, fmt.Errorf("%.300s: %w: an object needs a name of at most %d bytes, none of them zero",
			key, store.ErrInvalid, store.MaxNameBytes)
	case kind.Namespaced != (key.Namespace != ""):
		return key, fmt.Errorf("%s: %w: namespaced is %t for the kind", key, store.ErrInvalid, kind.Namespaced)
	}
	return key, nil
}

// checkContent is check for a write of more than the status: no sensitive value may be
// stored as it is.
func (t *transaction) checkContent(obj resource.Object) (resource.Key, error) {
	key, err := t.check(obj)
	if err != nil {
		return key, err
	}
	kind, _ := kindOf(t.reg, key.Kind) // check has found it
	if !kind.HasSensitive() {
		return key, nil
	}
	if err := kind.CheckSealed(obj); err != nil {
		return key, fmt.Errorf("%s: %w: %w", key, store.ErrInvalid, err)
	}
	return key, nil
}

// record gives a change the next revision. For Deleted, next is the object as it last
// was; it too carries the revision, so that a client can resume a watch from it.
func (t *transaction) record(typ store.EventType, key resource.Key, next resource.Object) (resource.Object, error) {
	if t.ended {
		return nil, fmt.Errorf("%s: %w: %w", key, store.ErrInvalid, errEnded)
	}
	next.GetMetadata().ResourceVersion = strconv.FormatUint(t.revision+1, 10)
	encoded, err := encode(next)
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
	t.revision++
	t.bytes += int64(size)
	txn := t.txn(key.Kind)
	if typ == store.Deleted {
		txn.Delete(treeKey(key.Namespace, key.Name))
	} else {
		txn.Insert(treeKey(key.Namespace, key.Name), next)
	}
	t.events = append(t.events, Event{
		Event: store.Event{Type: typ, Object: next, Revision: t.revision},
		Key:   key, Encoded: encoded, Size: size, Time: t.now,
	})
	return next, nil
}

// txn is the transaction's version of a kind's tree.
func (t *transaction) txn(kind string) *iradix.Txn[resource.Object] {
	txn := t.changed[kind]
	if txn == nil {
		if t.changed == nil {
			t.changed = map[string]*iradix.Txn[resource.Object]{}
		}
		txn = t.base.kinds[kind].Txn()
		t.changed[kind] = txn
	}
	return txn
}

// encode is what is stored of an object. It happens here and not in the log, so that an
// object that cannot be encoded fails its transaction and nothing else. Deterministic:
// equal objects are equal bytes in every backup.
func encode(o resource.Object) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(o)
}

// own is the transaction's copy of an object that was passed in.
func own(obj resource.Object) resource.Object { return resource.Clone(obj) }

func clearStatus(o resource.Object) {
	m := o.ProtoReflect()
	if fd := m.Descriptor().Fields().ByJSONName("status"); fd != nil {
		m.Clear(fd)
	}
}

func kindOf(reg *resource.Registry, name string) (*resource.Kind, error) {
	if k, ok := reg.Get(name); ok {
		return k, nil
	}
	return nil, fmt.Errorf("%w: %w %q", store.ErrInvalid, resource.ErrUnknownKind, name)
}

func checkVersion(cur resource.Object, wanted string) error {
	if have := cur.GetMetadata().GetResourceVersion(); wanted != "" && wanted != have {
		return fmt.Errorf("%w: its resourceVersion is %s, not %s", store.ErrConflict, have, wanted)
	}
	return nil
}

// keepsIdentity refuses an update of what only the store sets. An empty value means: as it is.
func keepsIdentity(cur, obj resource.Object) error {
	c, m := cur.GetMetadata(), obj.GetMetadata()
	for _, f := range []struct{ name, have, wanted string }{
		{"uid", c.GetUid(), m.GetUid()},
		{"creationTimestamp", c.GetCreationTimestamp(), m.GetCreationTimestamp()},
		{"deletionTimestamp", c.GetDeletionTimestamp(), m.GetDeletionTimestamp()},
	} {
		if f.wanted != "" && f.wanted != f.have {
			return fmt.Errorf("%w: %s cannot be changed from %q to %q", store.ErrInvalid, f.name, f.have, f.wanted)
		}
	}
	if !resource.Deleting(cur) {
		return nil
	}
	for _, f := range m.GetFinalizers() {
		if !slices.Contains(c.GetFinalizers(), f) {
			return fmt.Errorf("%w: it is being deleted, finalizer %q cannot be added", store.ErrInvalid, f)
		}
	}
	return nil
}
