package runtime

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// errReadOnly is what a plan that writes gets.
var errReadOnly = errors.New("plans change nothing")

// overlay is the store as if some changes had been made. It serves one request: lists are
// read once, so that all plans of the request see the same. It is not safe for concurrent use.
type overlay struct {
	Client
	changed map[resource.Key]resource.Object // nil: deleted
	lists   map[string][]resource.Object     // by kind and namespace
	made    map[string]any
}

func newOverlay(c Client, changes []Change) *overlay {
	o := &overlay{Client: c, changed: make(map[resource.Key]resource.Object, len(changes)), lists: map[string][]resource.Object{}, made: map[string]any{}}
	for _, ch := range changes {
		o.changed[ch.Key] = ch.Desired
	}
	return o
}

// once implements Planning.Once.
func (o *overlay) once(name string, make func() (any, error)) (any, error) {
	if v, ok := o.made[name]; ok {
		return v, nil
	}
	v, err := make()
	if err == nil {
		o.made[name] = v
	}
	return v, err
}

func (o *overlay) Get(ctx context.Context, key resource.Key) (resource.Object, error) {
	obj, ok := o.changed[key]
	switch {
	case !ok:
		return o.Client.Get(ctx, key)
	case obj == nil:
		return nil, ErrNotFound
	}
	return resource.Clone(obj), nil
}

func (o *overlay) List(ctx context.Context, kind, namespace string) ([]resource.Object, error) {
	name := kind + " " + namespace
	if l, ok := o.lists[name]; ok {
		return l, nil
	}
	stored, err := o.Client.List(ctx, kind, namespace)
	if err != nil {
		return nil, err
	}
	out := make([]resource.Object, 0, len(stored))
	for _, obj := range stored {
		if _, changed := o.changed[resource.KeyOf(obj)]; !changed {
			out = append(out, obj)
		}
	}
	for key, obj := range o.changed {
		if key.Kind == kind && obj != nil && (namespace == "" || namespace == key.Namespace) {
			out = append(out, obj)
		}
	}
	slices.SortFunc(out, func(a, b resource.Object) int {
		x, y := a.GetMetadata(), b.GetMetadata()
		return cmp.Or(cmp.Compare(x.GetNamespace(), y.GetNamespace()), cmp.Compare(x.GetName(), y.GetName()))
	})
	o.lists[name] = out
	return out, nil
}

func (o *overlay) Create(context.Context, resource.Object) (resource.Object, error) {
	return nil, errReadOnly
}

func (o *overlay) Update(context.Context, resource.Object) (resource.Object, error) {
	return nil, errReadOnly
}

func (o *overlay) UpdateStatus(context.Context, resource.Object) (resource.Object, error) {
	return nil, errReadOnly
}

func (o *overlay) Delete(context.Context, resource.Key, string) error { return errReadOnly }

func (o *overlay) Transact(context.Context, func(Tx) error) error { return errReadOnly }
