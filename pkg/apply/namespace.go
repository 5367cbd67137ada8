package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// namespaceKind is the one kind that this package knows by name: it is part of every key.
const namespaceKind = "Namespace"

// permanent namespaces exist from the first start and are never deleted.
var permanent = []string{resource.DefaultNamespace, resource.SystemNamespace}

// EnsureNamespaces creates the permanent namespaces that do not exist.
func (a *Applier) EnsureNamespaces(ctx context.Context) error {
	_, err := a.store.Update(ctx, func(tx store.Tx) error {
		for _, name := range permanent {
			kind, ok := a.reg.Get(namespaceKind)
			if !ok {
				return fmt.Errorf("%w %s", resource.ErrUnknownKind, namespaceKind)
			}
			ns := kind.New()
			ns.GetMetadata().Name = name
			if _, err := tx.Create(ns); err != nil && !errors.Is(err, store.ErrAlreadyExists) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("create the permanent namespaces: %w", err)
	}
	return nil
}

// needNamespace returns resource.FieldErrors when objects cannot be written into the
// namespace of obj.
func (a *Applier) needNamespace(tx store.Tx, obj resource.Object) error {
	name := obj.GetMetadata().GetNamespace()
	if name == "" {
		return nil
	}
	ns, err := tx.Get(resource.Key{Kind: namespaceKind, Name: name})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return resource.FieldErrors{resource.Invalid("metadata.namespace", name, "a namespace that exists, or one that the same set creates")}
	case err != nil:
		return err
	case resource.Deleting(ns):
		return resource.FieldErrors{resource.Invalid("metadata.namespace", name, "a namespace that is not being deleted")}
	}
	return nil
}

// emptyNamespace refuses the deletion of a namespace that has objects of users, and deletes
// those of the daemon (events).
func (a *Applier) emptyNamespace(tx store.Tx, name string) error {
	for _, p := range permanent {
		if name == p {
			return resource.FieldErrors{resource.Forbidden("metadata.name", name, "this namespace always exists and cannot be deleted")}
		}
	}
	var left []string
	var leftovers []resource.Object
	for _, kind := range a.reg.Kinds() {
		if !kind.Namespaced {
			continue
		}
		objs := tx.List(kind.Name, name)
		switch {
		case kind.System:
			leftovers = append(leftovers, objs...)
		case len(objs) > 0:
			left = append(left, fmt.Sprintf("%d %s (%s)", len(objs), kind.Plural, examples(objs)))
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("%s: %w: it still has %s; delete them first",
			resource.Key{Kind: namespaceKind, Name: name}, store.ErrConflict, strings.Join(left, ", "))
	}
	for _, obj := range leftovers {
		if _, err := tx.Delete(resource.KeyOf(obj), store.Preconditions{}); err != nil {
			return err
		}
	}
	return nil
}

// examples names a few objects.
func examples(objs []resource.Object) string {
	const most = 3
	var names []string
	for i, obj := range objs {
		if i == most {
			names = append(names, "...")
			break
		}
		names = append(names, obj.GetMetadata().GetName())
	}
	return strings.Join(names, ", ")
}
