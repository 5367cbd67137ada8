package engine

import (
	"maps"
	"strings"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// tree holds the objects of one kind by treeKey. It is immutable.
type tree = iradix.Tree[resource.Object]

// view is the state of the store at a revision. It and all it refers to are immutable.
type view struct {
	revision uint64
	objects  int
	kinds    map[string]*tree // every registered kind has one
}

func newView(reg *resource.Registry, revision uint64) *view {
	v := &view{revision: revision, kinds: map[string]*tree{}}
	for _, k := range reg.Kinds() {
		v.kinds[k.Name] = iradix.New[resource.Object]()
	}
	return v
}

// treeKey orders objects by namespace, then name: no name contains a zero byte, and it
// sorts before every other one.
func treeKey(namespace, name string) []byte {
	k := make([]byte, 0, len(namespace)+1+len(name))
	k = append(k, namespace...)
	k = append(k, 0)
	return append(k, name...)
}

// validKeyPart tells whether a namespace or name can be part of a treeKey.
func validKeyPart(s string) bool {
	return len(s) <= store.MaxNameBytes && strings.IndexByte(s, 0) < 0
}

func (v *view) get(key resource.Key) (resource.Object, bool) {
	t, ok := v.kinds[key.Kind]
	if !ok {
		return nil, false
	}
	return t.Get(treeKey(key.Namespace, key.Name))
}

// listTree appends the objects below root in order; an empty namespace means all.
func listTree(root *iradix.Node[resource.Object], namespace string, match func(resource.Object) bool) []resource.Object {
	var items []resource.Object
	visit := func(_ []byte, o resource.Object) bool {
		if match == nil || match(o) {
			items = append(items, o)
		}
		return false
	}
	if namespace == "" {
		root.Walk(visit)
	} else {
		root.WalkPrefix(treeKey(namespace, ""), visit)
	}
	return items
}

// with returns the view after a transaction.
func (v *view) with(changed map[string]*iradix.Txn[resource.Object], revision uint64) *view {
	next := &view{revision: revision, objects: v.objects, kinds: maps.Clone(v.kinds)}
	for kind, txn := range changed {
		t := txn.Commit()
		next.objects += t.Len() - v.kinds[kind].Len()
		next.kinds[kind] = t
	}
	return next
}
