package engine

import (
	"maps"
	"strings"
	"sync"

	"github.com/google/btree"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// treeDegree is the half of how many versions a node of a tree has at most. A commit copies
// the nodes that it touches: larger ones cost more to copy, smaller ones to find.
const treeDegree = 16

// tree holds the objects of one kind by key. One that is in a view is never changed.
type tree = btree.BTreeG[*version]

func newTree() *tree {
	return btree.NewG(treeDegree, func(a, b *version) bool { return a.key < b.key })
}

// view is the state of the store at a revision. It and all it refers to are immutable.
type view struct {
	revision uint64
	objects  int
	kinds    map[string]*tree // every registered kind has one
}

func newView(c *codec, revision uint64) *view {
	v := &view{revision: revision, kinds: make(map[string]*tree, len(c.layouts))}
	for kind := range c.layouts {
		v.kinds[kind] = newTree()
	}
	return v
}

// treeKey orders objects by namespace, then name: no name contains a zero byte, and it
// sorts before every other one.
func treeKey(namespace, name string) string { return namespace + "\x00" + name }

// splitTreeKey is the reverse.
func splitTreeKey(kind, key string) resource.Key {
	namespace, name, _ := strings.Cut(key, "\x00")
	return resource.Key{Kind: kind, Namespace: namespace, Name: name}
}

// validKeyPart tells whether a namespace or name can be part of a treeKey.
func validKeyPart(s string) bool {
	return len(s) <= store.MaxNameBytes && strings.IndexByte(s, 0) < 0
}

func (v *view) get(key resource.Key) *version {
	t, ok := v.kinds[key.Kind]
	if !ok {
		return nil
	}
	pivot := pivots.Get().(*version)
	pivot.key = treeKey(key.Namespace, key.Name)
	found, _ := t.Get(pivot)
	pivot.key = ""
	pivots.Put(pivot)
	return found
}

// pivots are versions to look for others with.
var pivots = sync.Pool{New: func() any { return new(version) }}

// walk calls visit for the versions of a tree from a key on, in order, as long as they are
// in the namespace (empty: all) and visit returns true.
func walk(t *tree, namespace, from string, visit func(*version) bool) {
	within := prefix(namespace)
	t.AscendGreaterOrEqual(&version{key: max(from, within)}, func(v *version) bool {
		return strings.HasPrefix(v.key, within) && visit(v)
	})
}

// prefix is what the tree keys of a namespace begin with; an empty one means all.
func prefix(namespace string) string {
	if namespace == "" {
		return ""
	}
	return treeKey(namespace, "")
}

// with returns the view after a transaction. The trees are its own from now on.
func (v *view) with(changed map[string]*tree, revision uint64) *view {
	next := &view{revision: revision, objects: v.objects, kinds: maps.Clone(v.kinds)}
	for kind, t := range changed {
		next.objects += t.Len() - v.kinds[kind].Len()
		next.kinds[kind] = t
	}
	return next
}
