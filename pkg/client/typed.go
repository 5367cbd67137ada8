package client

import (
	"context"
	"fmt"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Objects reads and writes the objects of one kind. It is safe for concurrent use.
//
// Objects that are passed in are not changed, those that are returned are the caller's.
// A namespace is "" for kinds outside namespaces.
type Objects[T resource.Object] struct {
	client *Client
	kind   string
	err    error // of every call: the registry does not have the kind
}

// For returns a client of the kind that T is the message of: For[*v1alpha1.App](c). When
// the client's registry does not have it, every call is an error that says so.
func For[T resource.Object](c *Client) *Objects[T] {
	var none T
	md := none.ProtoReflect().Descriptor()
	o := &Objects[T]{client: c, kind: string(md.Name())}
	if kind, ok := c.cfg.Registry.Get(o.kind); !ok || kind.Descriptor().FullName() != md.FullName() {
		o.err = fmt.Errorf("%w: the client's registry does not have %s", resource.ErrUnknownKind, md.FullName())
	}
	return o
}

func (o *Objects[T]) key(namespace, name string) resource.Key {
	return resource.Key{Kind: o.kind, Namespace: namespace, Name: name}
}

// typed is obj as a T.
func typed[T resource.Object](obj resource.Object, err error) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	t, ok := obj.(T)
	if !ok {
		return none, fmt.Errorf("the daemon answered with %T where %T was asked for", obj, none)
	}
	return t, nil
}

// Get returns one object, or ErrNotFound.
func (o *Objects[T]) Get(ctx context.Context, namespace, name string) (T, error) {
	if o.err != nil {
		return typed[T](nil, o.err)
	}
	return typed[T](o.client.Get(ctx, o.key(namespace, name)))
}

// ListOf is List with the objects as what they are.
type ListOf[T resource.Object] struct {
	Items           []T
	ResourceVersion string
	Continue        string
	Remaining       int
}

// List returns the objects that the options select, ordered by namespace and name: all of
// them, of one snapshot, however long a page is, unless opts.Continue names a page.
func (o *Objects[T]) List(ctx context.Context, opts ListOptions) (ListOf[T], error) {
	if o.err != nil {
		return ListOf[T]{}, o.err
	}
	read := o.client.ListAll
	if opts.Continue != "" {
		read = o.client.List
	}
	list, err := read(ctx, o.kind, opts)
	if err != nil {
		return ListOf[T]{}, err
	}
	out := ListOf[T]{ResourceVersion: list.ResourceVersion, Continue: list.Continue, Remaining: list.Remaining, Items: make([]T, len(list.Items))}
	for i, obj := range list.Items {
		if out.Items[i], err = typed[T](obj, nil); err != nil {
			return ListOf[T]{}, err
		}
	}
	return out, nil
}

// Create stores a new object; ErrAlreadyExists when there is one of its name.
func (o *Objects[T]) Create(ctx context.Context, obj T, opts ...WriteOption) (T, error) {
	if o.err != nil {
		return typed[T](nil, o.err)
	}
	return typed[T](o.client.Create(ctx, obj, opts...))
}

// Update replaces metadata and spec; see Client.Update.
func (o *Objects[T]) Update(ctx context.Context, obj T, opts ...WriteOption) (T, error) {
	if o.err != nil {
		return typed[T](nil, o.err)
	}
	return typed[T](o.client.Update(ctx, obj, opts...))
}

// UpdateStatus replaces the status.
func (o *Objects[T]) UpdateStatus(ctx context.Context, obj T, opts ...WriteOption) (T, error) {
	if o.err != nil {
		return typed[T](nil, o.err)
	}
	return typed[T](o.client.UpdateStatus(ctx, obj, opts...))
}

// Apply makes the fields that obj sets be so, and owns them as opts.Manager: a field that an
// earlier Apply of the same manager set, and this one does not, is given up. The outcome is
// created, configured or unchanged.
func (o *Objects[T]) Apply(ctx context.Context, obj T, opts ApplyOptions) (applied T, outcome string, err error) {
	if o.err != nil {
		return applied, "", o.err
	}
	results, err := o.client.ApplySet(ctx, []resource.Document{{Object: obj}}, opts)
	if err != nil {
		return applied, "", err
	}
	applied, err = typed[T](results[0].Object, nil)
	return applied, results[0].Outcome, err
}

// Patch changes an object by a patch of its JSON.
func (o *Objects[T]) Patch(ctx context.Context, namespace, name string, typ PatchType, patch []byte, opts PatchOptions) (T, error) {
	if o.err != nil {
		return typed[T](nil, o.err)
	}
	return typed[T](o.client.Patch(ctx, o.key(namespace, name), typ, patch, opts))
}

// Delete asks for deletion and returns the object as it is then; finalizers may keep it
// for a while. uid, when set, is the one that the object must have.
func (o *Objects[T]) Delete(ctx context.Context, namespace, name, uid string, opts ...WriteOption) (T, error) {
	if o.err != nil {
		return typed[T](nil, o.err)
	}
	return typed[T](o.client.Delete(ctx, o.key(namespace, name), uid, opts...))
}

// EventOf is Event with the object as what it is; Object is nil where Event's is.
type EventOf[T resource.Object] struct {
	Type            string
	Object          T
	ResourceVersion string
}

// Follow is Client.Follow for the kind; opts.Kind is ignored.
func (o *Objects[T]) Follow(ctx context.Context, opts WatchOptions, handle func(EventOf[T]) error) error {
	if o.err != nil {
		return o.err
	}
	opts.Kind = o.kind
	return o.client.Follow(ctx, opts, func(ev Event) error {
		e, err := eventOf[T](ev)
		if err != nil {
			return err
		}
		return handle(e)
	})
}

func eventOf[T resource.Object](ev Event) (EventOf[T], error) {
	out := EventOf[T]{Type: ev.Type, ResourceVersion: ev.ResourceVersion}
	if ev.Object == nil {
		return out, nil
	}
	var err error
	out.Object, err = typed[T](ev.Object, nil)
	return out, err
}

// WatchOf is Watch for one kind.
type WatchOf[T resource.Object] struct{ watch *Watch }

// Watch opens a watch; it ends with the context. opts.Kind is ignored. Unlike Follow it is
// not resumed.
func (o *Objects[T]) Watch(ctx context.Context, opts WatchOptions) (*WatchOf[T], error) {
	if o.err != nil {
		return nil, o.err
	}
	opts.Kind = o.kind
	w, err := o.client.Watch(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &WatchOf[T]{w}, nil
}

// Next waits for the next event.
func (w *WatchOf[T]) Next() (EventOf[T], error) {
	ev, err := w.watch.Next()
	if err != nil {
		return EventOf[T]{}, err
	}
	return eventOf[T](ev)
}

// Kind is the name of the kind.
func (o *Objects[T]) Kind() string { return o.kind }
