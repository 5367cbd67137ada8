package cache

import (
	"cmp"
	"slices"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// The indexes that every informer has. Their names cannot be those of a caller's: a caller
// names no index with a NUL.
const (
	byNamespace = "\x00namespace"
	byLabel     = "\x00label"
)

func labelValue(key, value string) string { return key + "\x00" + value }

// values returns what an object is found by in every index.
func (i *Informer[T]) values(obj T, each func(index, value string)) {
	m := obj.GetMetadata()
	each(byNamespace, m.GetNamespace())
	for key, value := range m.GetLabels() {
		each(byLabel, labelValue(key, value))
	}
	for name, of := range i.opts.Indexes {
		for _, value := range of(obj) {
			each(name, value)
		}
	}
}

func (i *Informer[T]) reindex(key resource.Key, obj T) {
	i.values(obj, func(index, value string) {
		found := i.index[index][value]
		if found == nil {
			found = map[resource.Key]T{}
			i.index[index][value] = found
		}
		found[key] = obj
	})
}

func (i *Informer[T]) unindex(key resource.Key, obj T) {
	i.values(obj, func(index, value string) {
		if delete(i.index[index][value], key); len(i.index[index][value]) == 0 {
			delete(i.index[index], value)
		}
	})
}

// Get returns an object of the cache, shared.
func (i *Informer[T]) Get(namespace, name string) (T, bool) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	obj, ok := i.items[resource.Key{Kind: i.objects.Kind(), Namespace: namespace, Name: name}]
	return obj, ok
}

// Len is the number of objects in the cache.
func (i *Informer[T]) Len() int {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return len(i.items)
}

// List returns all objects, or those of a namespace, ordered by namespace and name, shared.
func (i *Informer[T]) List(namespace string) []T {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if namespace == "" {
		return ordered(i.items)
	}
	return ordered(i.index[byNamespace][namespace])
}

// ByLabel returns the objects with a label of that value, ordered and shared like List's.
func (i *Informer[T]) ByLabel(key, value string) []T {
	return i.ByIndex(byLabel, labelValue(key, value))
}

// ByIndex returns the objects that an index of Options.Indexes finds by a value, ordered and
// shared like List's; none when there is no such index.
func (i *Informer[T]) ByIndex(index, value string) []T {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return ordered(i.index[index][value])
}

func ordered[T resource.Object](items map[resource.Key]T) []T {
	out := make([]T, 0, len(items))
	for _, key := range sortedKeys(items) {
		out = append(out, items[key])
	}
	return out
}

func sortedKeys[T any](items map[resource.Key]T) []resource.Key {
	keys := make([]resource.Key, 0, len(items))
	for key := range items {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(x, y resource.Key) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	return keys
}
