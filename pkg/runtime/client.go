package runtime

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Tx is a store transaction, for reservations that must be atomic.
type Tx = store.Tx

// Preconditions of a deletion in a Tx; the zero value has none.
type Preconditions = store.Preconditions

// noPreconditions deletes whatever has the name.
var noPreconditions = store.Preconditions{}

// Client is what controllers see of the store. Objects from Get are private copies;
// those from List are shared and must not be changed.
type Client interface {
	Get(ctx context.Context, key resource.Key) (resource.Object, error)
	List(ctx context.Context, kind, namespace string) ([]resource.Object, error)
	Create(ctx context.Context, obj resource.Object) (resource.Object, error)
	Update(ctx context.Context, obj resource.Object) (resource.Object, error)
	UpdateStatus(ctx context.Context, obj resource.Object) (resource.Object, error)
	// Delete asks for deletion of the object with that uid (empty: whatever has the name).
	Delete(ctx context.Context, key resource.Key, uid string) error
	// Transact runs fn atomically; fn must not block.
	Transact(ctx context.Context, fn func(tx Tx) error) error
}

// NewClient returns a Client of a store.
func NewClient(st store.Store) Client { return storeClient{st} }

type storeClient struct{ st store.Store }

func (c storeClient) Get(ctx context.Context, key resource.Key) (resource.Object, error) {
	return store.Copy(ctx, c.st, key)
}

func (c storeClient) List(ctx context.Context, kind, namespace string) ([]resource.Object, error) {
	snap, err := c.st.List(ctx, kind, store.ListOptions{Namespace: namespace})
	return snap.Items, err
}

func (c storeClient) Create(ctx context.Context, obj resource.Object) (resource.Object, error) {
	return c.one(ctx, func(tx Tx) (resource.Object, error) { return tx.Create(obj) })
}

func (c storeClient) Update(ctx context.Context, obj resource.Object) (resource.Object, error) {
	return c.put(ctx, obj, store.Put)
}

func (c storeClient) UpdateStatus(ctx context.Context, obj resource.Object) (resource.Object, error) {
	return c.put(ctx, obj, store.PutStatus)
}

// put writes an object and decodes what became of it for the caller, outside of the
// transaction, which others wait for.
func (c storeClient) put(ctx context.Context, obj resource.Object, put func(Tx, resource.Object) (store.Version, error)) (resource.Object, error) {
	var v store.Version
	_, err := c.st.Update(ctx, func(tx Tx) (err error) {
		v, err = put(tx, obj)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := obj.ProtoReflect().New().Interface().(resource.Object)
	if err := proto.Unmarshal(v.Encoded(), out); err != nil {
		return nil, fmt.Errorf("%s: decode what was stored: %w", resource.KeyOf(obj), err)
	}
	return out, nil
}

func (c storeClient) Delete(ctx context.Context, key resource.Key, uid string) error {
	_, err := c.one(ctx, func(tx Tx) (resource.Object, error) {
		return tx.Delete(key, store.Preconditions{UID: uid})
	})
	return err
}

func (c storeClient) Transact(ctx context.Context, fn func(tx Tx) error) error {
	_, err := c.st.Update(ctx, fn)
	return err
}

func (c storeClient) one(ctx context.Context, change func(Tx) (resource.Object, error)) (resource.Object, error) {
	var out resource.Object
	_, err := c.st.Update(ctx, func(tx Tx) (err error) {
		out, err = change(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resource.Clone(out), nil
}

// Get returns a private copy of an object of type T.
func Get[T resource.Object](ctx context.Context, c Client, key resource.Key) (T, error) {
	var zero T
	obj, err := c.Get(ctx, key)
	if err != nil {
		return zero, err
	}
	t, ok := obj.(T)
	if !ok {
		return zero, fmt.Errorf("%s is a %T", key, obj)
	}
	return t, nil
}

// List returns the objects of a kind as type T; they are shared and must not be changed.
func List[T resource.Object](ctx context.Context, c Client, kind, namespace string) ([]T, error) {
	objs, err := c.List(ctx, kind, namespace)
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, len(objs))
	for _, o := range objs {
		t, ok := o.(T)
		if !ok {
			return nil, fmt.Errorf("a %s is a %T", kind, o)
		}
		out = append(out, t)
	}
	return out, nil
}
