package engine

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

var errEnded = errors.New("the transaction has ended")

// transaction is one run of a closure on a draft. Nothing it does shows anywhere until
// the committer publishes the view that the draft becomes.
type transaction struct {
	reg    *resource.Registry
	draft  *draft
	before uint64            // the draft's revision when the transaction began
	undo   []resource.Object // what was under the key of each event before; nil: nothing
	events []Event
	bytes  int64
	noOps  uint64
	now    time.Time
	limit  error // a limit was passed; the transaction cannot succeed any more
	ended  bool
}

func newTransaction(reg *resource.Registry, d *draft, now time.Time) *transaction {
	return &transaction{reg: reg, draft: d, before: d.revision, now: now}
}

// takeBack makes the draft what it was before the transaction.
func (t *transaction) takeBack() {
	for i, ev := range slices.Backward(t.events) {
		t.draft.put(ev.Key, t.undo[i])
	}
	t.draft.revision = t.before
}

func (t *transaction) Get(key resource.Key) (resource.Object, error) {
	if t.ended {
		return nil, fmt.Errorf("%s: %w: %w", key, store.ErrInvalid, errEnded)
	}
	if _, err := kindOf(t.reg, key.Kind); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if o, ok := t.draft.get(key); ok {
		return o, nil
	}
	return nil, fmt.Errorf("%s: %w", key, store.ErrNotFound)
}

func (t *transaction) List(kind, namespace string) []resource.Object {
	if t.ended {
		return nil
	}
	return t.draft.list(kind, namespace)
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
	if _, ok := t.draft.get(key); ok {
		return nil, fmt.Errorf("%s: %w", key, store.ErrAlreadyExists)
	}
	if rv := obj.GetMetadata().GetResourceVersion(); rv != "" {
		return nil, fmt.Errorf("%s: %w: it does not exist, but resourceVersion %q was expected", key, store.ErrConflict, rv)
	}
	next := own(obj)
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
	next, changed, specChanged := revised(cur, obj)
	if !changed {
		t.noOps++
		return cur, nil
	}
	m := next.GetMetadata()
	if specChanged {
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

// target finds the object that an update is about and checks its resourceVersion.
func (t *transaction) target(obj resource.Object) (resource.Key, resource.Object, error) {
	key, err := t.check(obj)
	if err != nil {
		return key, nil, err
	}
	cur, ok := t.draft.get(key)
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
	next.GetMetadata().ResourceVersion = strconv.FormatUint(t.draft.revision+1, 10)
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
	t.draft.revision++
	t.bytes += int64(size)
	after := next
	if typ == store.Deleted {
		after = nil
	}
	t.undo = append(t.undo, t.draft.put(key, after))
	t.events = append(t.events, Event{
		Event: store.Event{Type: typ, Object: next, Encoded: encoded, Revision: t.draft.revision},
		Key:   key, Time: t.now,
	})
	return next, nil
}

// encode is what is stored of an object. It happens here and not in the log, so that an
// object that cannot be encoded fails its transaction and nothing else. Deterministic:
// equal objects are equal bytes in every backup.
func encode(o resource.Object) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(o)
}

// own is the transaction's copy of an object that was passed in, without status.
func own(obj resource.Object) resource.Object {
	m := obj.ProtoReflect()
	if fd := m.Descriptor().Fields().ByName("status"); fd != nil && m.Has(fd) {
		bare := shallow(obj)
		bare.ProtoReflect().Clear(fd)
		obj = bare
	}
	return resource.Clone(obj)
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
