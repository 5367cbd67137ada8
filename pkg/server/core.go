package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store"
)

// core is what the API can do, without any wire format. Each method checks that the
// request names a kind and a scope that exist, then authorises, then does its work.
type core struct {
	store    store.Store
	applier  Applier
	registry *resource.Registry
	planner  Planner // nil: steps are not told
	usages   Usage   // nil: it is not told
	encoded  eventOnce
}

// kind finds a kind by its exact name.
func (c *core) kind(name string) (*resource.Kind, error) {
	if k, ok := c.registry.Get(name); ok {
		return k, nil
	}
	return nil, fmt.Errorf("%w %q", resource.ErrUnknownKind, name)
}

// key checks that a key names an object of a known kind in the right scope.
func (c *core) key(key resource.Key) error {
	k, err := c.kind(key.Kind)
	switch {
	case err != nil:
		return err
	case key.Name == "":
		return apistatus.New(apistatus.BadRequest, "%s: a name is needed", key.Kind)
	case k.Namespaced && key.Namespace == "":
		return apistatus.New(apistatus.BadRequest, "%s %s: a namespace is needed", key.Kind, key.Name)
	case !k.Namespaced && key.Namespace != "":
		return apistatus.New(apistatus.BadRequest, "%s %s: the kind is cluster-scoped and takes no namespace", key.Kind, key.Name)
	}
	return nil
}

func (c *core) get(ctx context.Context, key resource.Key) (resource.Object, error) {
	if err := c.key(key); err != nil {
		return nil, err
	}
	if err := authorize(ctx, auth.VerbGet, key.Kind, key.Namespace); err != nil {
		return nil, err
	}
	obj, err := c.store.Get(ctx, key)
	return c.shown(obj), apistatus.About(key, err)
}

func (c *core) list(ctx context.Context, kind string, sel selection) (store.Snapshot, error) {
	return c.listPage(ctx, kind, sel, pageRequest{})
}

// listPage answers a page of a list, or all of it.
func (c *core) listPage(ctx context.Context, kind string, sel selection, at pageRequest) (store.Snapshot, error) {
	k, err := c.kind(kind)
	if err != nil {
		return store.Snapshot{}, err
	}
	if err := authorize(ctx, auth.VerbList, kind, sel.namespace); err != nil {
		return store.Snapshot{}, err
	}
	if at.limit < 0 {
		return store.Snapshot{}, apistatus.New(apistatus.BadRequest, "limit %d: allowed is a positive number, or 0 for all", at.limit)
	}
	snapshot, err := c.store.List(ctx, kind, store.ListOptions{
		Namespace: sel.namespace, Match: sel.match(), Limit: min(at.limit, MaxListItems), Continue: at.token,
		Encoded: at.encoded && !k.HasSensitive(),
	})
	if at.token != "" && errors.Is(err, store.ErrInvalid) {
		return store.Snapshot{}, apistatus.New(apistatus.BadRequest,
			"continue: the token is not one of this list; give it back as it came, with the same namespace and selectors")
	}
	if err != nil {
		return store.Snapshot{}, err
	}
	if n := len(snapshot.Items) + len(snapshot.Encoded); n > MaxListItems {
		return store.Snapshot{}, apistatus.New(apistatus.RequestEntityTooLarge,
			"the list has %d objects, at most %d can be answered: ask for pages with a limit, or narrow it by namespace or label selector", n, MaxListItems)
	}
	return c.shownSnapshot(kind, snapshot), nil
}

// shown replaces sealed values by their marks. Everything that is read for a caller goes
// through it; what the Applier returns has been.
func (c *core) shown(obj resource.Object) resource.Object {
	if obj == nil {
		return nil
	}
	if k, ok := c.registry.Get(obj.GetKind()); ok {
		return k.Shown(obj)
	}
	return obj
}

func (c *core) shownSnapshot(kind string, s store.Snapshot) store.Snapshot {
	if k, ok := c.registry.Get(kind); !ok || !k.HasSensitive() {
		return s
	}
	s.Items = slices.Clone(s.Items)
	for i, obj := range s.Items {
		s.Items[i] = c.shown(obj)
	}
	return s
}

// place puts a namespaced object that names no namespace into the default one, before
// anybody asks whether the caller may write there.
func (c *core) place(obj resource.Object) resource.Key {
	key := resource.KeyOf(obj)
	if k, ok := c.registry.Get(key.Kind); ok && k.Namespaced && key.Namespace == "" && obj.GetMetadata() != nil {
		obj.GetMetadata().Namespace = resource.DefaultNamespace
	}
	return resource.KeyOf(obj)
}

// write authorises and checks a change of one object.
func (c *core) write(ctx context.Context, verb auth.Verb, obj resource.Object) (resource.Key, error) {
	key := c.place(obj)
	if err := c.key(key); err != nil {
		return key, err
	}
	if err := authorize(ctx, verb, key.Kind, key.Namespace); err != nil {
		return key, err
	}
	return key, c.userWritable(key.Kind)
}

// userWritable refuses kinds that only the daemon itself writes.
func (c *core) userWritable(kind string) error {
	if k, err := c.kind(kind); err != nil || !k.System {
		return err
	}
	return apistatus.New(apistatus.Forbidden, "objects of kind %s are written by the daemon only; they can be read and deleted", kind)
}

func (c *core) create(ctx context.Context, obj resource.Object, opts apply.Options) (resource.Object, error) {
	key, err := c.write(ctx, auth.VerbCreate, obj)
	if err != nil {
		return nil, apistatus.About(key, err)
	}
	created, err := c.applier.Create(ctx, obj, opts)
	return created, apistatus.About(key, err)
}

func (c *core) update(ctx context.Context, obj resource.Object, opts apply.Options) (resource.Object, error) {
	key, err := c.write(ctx, auth.VerbUpdate, obj)
	if err != nil {
		return nil, apistatus.About(key, err)
	}
	updated, err := c.applier.Update(ctx, obj, opts)
	return updated, apistatus.About(key, err)
}

func (c *core) updateStatus(ctx context.Context, obj resource.Object, opts apply.Options) (resource.Object, error) {
	key, err := c.write(ctx, auth.VerbUpdateStatus, obj)
	if err != nil {
		return nil, apistatus.About(key, err)
	}
	updated, err := c.applier.UpdateStatus(ctx, obj, opts)
	return updated, apistatus.About(key, err)
}

func (c *core) patch(ctx context.Context, key resource.Key, typ apply.PatchType, patch []byte, opts apply.Options) (resource.Object, error) {
	if err := c.key(key); err != nil {
		return nil, err
	}
	if err := authorize(ctx, auth.VerbUpdate, key.Kind, key.Namespace); err != nil {
		return nil, apistatus.About(key, err)
	}
	if err := c.userWritable(key.Kind); err != nil {
		return nil, apistatus.About(key, err)
	}
	patched, err := c.applier.Patch(ctx, key, typ, patch, opts)
	return patched, apistatus.About(key, err)
}

func (c *core) delete(ctx context.Context, key resource.Key, pre store.Preconditions, opts apply.Options) (resource.Object, error) {
	if err := c.key(key); err != nil {
		return nil, err
	}
	if err := authorize(ctx, auth.VerbDelete, key.Kind, key.Namespace); err != nil {
		return nil, err
	}
	last, err := c.applier.Delete(ctx, key, pre, opts)
	return last, apistatus.About(key, err)
}

// admitSet authorises every document of a set before anything is done with the first.
func (c *core) admitSet(ctx context.Context, docs []resource.Document) error {
	type scope struct{ kind, namespace string }
	allowed := map[scope]bool{}
	for _, d := range docs {
		key := c.place(d.Object)
		s := scope{key.Kind, key.Namespace}
		if allowed[s] {
			continue
		}
		if err := authorize(ctx, auth.VerbApply, s.kind, s.namespace); err != nil {
			return apistatus.About(key, err)
		}
		if err := c.userWritable(s.kind); err != nil {
			return apistatus.About(key, err)
		}
		allowed[s] = true
	}
	if len(docs) > MaxApplyObjects {
		return apistatus.New(apistatus.RequestEntityTooLarge, "the set has %d documents, allowed are %d", len(docs), MaxApplyObjects)
	}
	return nil
}

func (c *core) applySet(ctx context.Context, docs []resource.Document, opts apply.Options) ([]apply.Result, error) {
	if err := c.admitSet(ctx, docs); err != nil {
		return nil, err
	}
	if len(docs) == 0 {
		return nil, apistatus.New(apistatus.BadRequest, "the set has no documents")
	}
	return c.applier.ApplySet(ctx, docs, opts)
}

// applyOne applies one document.
func (c *core) applyOne(ctx context.Context, doc resource.Document, opts apply.Options) (apply.Result, error) {
	results, err := c.applySet(ctx, []resource.Document{doc}, opts)
	if err != nil {
		return apply.Result{}, err
	}
	return results[0], nil
}
