package engine

import (
	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// draft is the state of the store while the executor works on a batch: a view, and the
// changes that its transactions have made to it so far. Trees are copied where they are
// first changed and then changed in place, so a batch copies each node once and not once
// for each transaction. It belongs to the executor alone.
type draft struct {
	base     *view
	changed  map[string]*iradix.Txn[resource.Object] // by kind
	revision uint64
}

func newDraft(base *view) *draft { return &draft{base: base, revision: base.revision} }

// view is the draft as it is now; what is drafted later does not show in it.
func (d *draft) view() *view {
	if d.revision == d.base.revision {
		return d.base
	}
	d.base = d.base.with(d.changed, d.revision)
	d.changed = nil
	return d.base
}

func (d *draft) get(key resource.Key) (resource.Object, bool) {
	if txn := d.changed[key.Kind]; txn != nil {
		return txn.Get(treeKey(key.Namespace, key.Name))
	}
	return d.base.get(key)
}

func (d *draft) list(kind, namespace string) []resource.Object {
	if txn := d.changed[kind]; txn != nil {
		return listTree(txn.Root(), namespace, nil)
	}
	if t := d.base.kinds[kind]; t != nil {
		return listTree(t.Root(), namespace, nil)
	}
	return nil
}

// put stores an object, or removes it when it is nil, and returns what was there.
func (d *draft) put(key resource.Key, obj resource.Object) (was resource.Object) {
	txn := d.changed[key.Kind]
	if txn == nil {
		if d.changed == nil {
			d.changed = map[string]*iradix.Txn[resource.Object]{}
		}
		txn = d.base.kinds[key.Kind].Txn()
		d.changed[key.Kind] = txn
	}
	if obj == nil {
		was, _ = txn.Delete(treeKey(key.Namespace, key.Name))
	} else {
		was, _ = txn.Insert(treeKey(key.Namespace, key.Name), obj)
	}
	return was
}
