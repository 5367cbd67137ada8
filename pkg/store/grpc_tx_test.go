package store_test

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

// errOneChange is for closures that the adapter cannot carry out.
var errOneChange = errors.New("a transaction over the API has one change, or writes whole objects only")

// Update runs the closure, which only notes its changes, and then makes them: one by its own
// call, several by a set. What the closure got as the result of a change is filled in then.
func (r *remote) Update(ctx context.Context, fn func(store.Tx) error) (uint64, error) {
	if err := r.open(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	tx := &remoteTx{r: r, ctx: ctx}
	err := fn(tx)
	tx.ended = true
	if err == nil {
		err = tx.err
	}
	if err != nil {
		return 0, err
	}
	if err := tx.send(); err != nil {
		return 0, r.fault(err)
	}
	if tx.revision != 0 {
		return tx.revision, nil
	}
	return r.Revision(), nil
}

// remoteTx notes changes. It has no view of its own: reads see what there was before.
type remoteTx struct {
	r        *remote
	ctx      context.Context
	changes  []change
	revision uint64
	err      error
	ended    bool
}

// change is one that was noted.
type change struct {
	key    resource.Key
	obj    resource.Object // nil: a deletion
	status bool
	call   func() (resource.Object, error)
	result resource.Object // what the closure got
}

func (t *remoteTx) Get(key resource.Key) (resource.Object, error) {
	if t.ended {
		return nil, store.ErrInvalid
	}
	return t.r.Get(t.ctx, key)
}

func (t *remoteTx) List(kind, namespace string) []resource.Object {
	snap, err := t.r.List(t.ctx, kind, store.ListOptions{Namespace: namespace})
	if err != nil {
		t.err = err
	}
	return snap.Items
}

func (t *remoteTx) note(c change) (resource.Object, error) {
	if t.ended {
		return nil, store.ErrInvalid
	}
	kind, ok := storetest.Registry().Get(c.key.Kind)
	if !ok {
		return nil, fmt.Errorf("%w: unknown kind %s", store.ErrInvalid, c.key.Kind)
	}
	c.result = kind.New()
	t.changes = append(t.changes, c)
	return c.result, nil
}

// send makes the changes.
func (t *remoteTx) send() error {
	if len(t.changes) == 1 {
		return t.sendOne(t.changes[0])
	}
	var docs []resource.Document
	for _, c := range t.changes {
		if c.obj == nil || c.status {
			return errOneChange
		}
		docs = append(docs, resource.Document{Object: c.obj})
	}
	if len(docs) == 0 {
		return nil
	}
	results, err := t.r.client.ApplySet(t.ctx, docs, client.ApplyOptions{})
	if err != nil {
		return err
	}
	for i, result := range results {
		fill(t.changes[i].result, result.Object)
		t.count("", result.Object)
	}
	return nil
}

func (t *remoteTx) sendOne(c change) error {
	before := ""
	if cur, err := t.r.client.Get(t.ctx, c.key); err == nil {
		before = cur.GetMetadata().GetResourceVersion()
	}
	obj, err := c.call()
	if err != nil {
		return err
	}
	fill(c.result, obj)
	t.count(before, obj)
	return nil
}

func fill(result, obj resource.Object) {
	proto.Reset(result)
	proto.Merge(result, obj)
}

// count keeps the counters that the API does not have.
func (t *remoteTx) count(before string, obj resource.Object) {
	after := obj.GetMetadata().GetResourceVersion()
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	if before == after {
		t.r.stats.NoOps++
		return
	}
	t.revision = max(t.revision, number(after))
	t.r.stats.Changes++
	t.r.stats.Commits++
}

func (t *remoteTx) write(obj resource.Object, status bool, call func(context.Context, resource.Object, ...client.WriteOption) (resource.Object, error)) (resource.Object, error) {
	if obj == nil || obj.GetMetadata() == nil {
		return nil, store.ErrInvalid // nothing that could be sent
	}
	if _, err := proto.Marshal(obj); err != nil { // text that is not UTF-8 does not get onto the wire
		return nil, fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	obj = resource.Clone(obj)
	return t.note(change{key: resource.KeyOf(obj), obj: obj, status: status,
		call: func() (resource.Object, error) { return call(t.ctx, obj) }})
}

func (t *remoteTx) Create(obj resource.Object) (resource.Object, error) {
	return t.write(obj, false, t.r.client.Create)
}

// CreateAs is admission's, and not a client's to ask for.
func (t *remoteTx) CreateAs(resource.Object, string) (resource.Object, error) {
	return nil, errors.New("the API lets nobody choose a uid")
}

func (t *remoteTx) Update(obj resource.Object) (resource.Object, error) {
	return t.write(obj, false, t.r.client.Update)
}

func (t *remoteTx) UpdateStatus(obj resource.Object) (resource.Object, error) {
	return t.write(obj, true, t.r.client.UpdateStatus)
}

func (t *remoteTx) Delete(key resource.Key, pre store.Preconditions) (resource.Object, error) {
	return t.note(change{key: key, call: func() (resource.Object, error) {
		return t.r.client.Delete(t.ctx, key, pre.UID, client.IfVersion(pre.ResourceVersion))
	}})
}
