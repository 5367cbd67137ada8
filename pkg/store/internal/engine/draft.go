package engine

import (
	"github.com/proximity-pve/proximity/pkg/resource"
)

// draft is the state of the store while the executor works on a batch: a view, and the
// changes that its transactions have made to it so far. Trees are copied where they are
// first changed and then changed in place, so a batch copies each node once and not once
// for each transaction. It belongs to the executor alone.
type draft struct {
	codec    *codec
	base     *view
	changed  map[string]*tree // by kind
	revision uint64
	scratch  *scratch
	// last is what was looked for last, with a namespace and without one: writes look for
	// their object more than once, and all for the same namespace.
	last [2]lookup
}

// lookup is what there is under a key; the zero lookup is none.
type lookup struct {
	key     resource.Key
	treeKey string
	found   *version
}

// lookup is where the last look for such a key is.
func (d *draft) lookup(key resource.Key) (last *lookup, same bool) {
	last = &d.last[0]
	if key.Namespace == "" {
		last = &d.last[1]
	}
	return last, last.treeKey != "" && last.key == key
}

// scratch is room for what a transaction encodes and looks for, used again by the next one.
type scratch struct {
	rest, meta []byte
	undo       []*version
	pivot      version
}

func newDraft(c *codec, base *view) *draft {
	return &draft{codec: c, base: base, revision: base.revision, scratch: &scratch{}}
}

// next is a draft on top of this one, which is no longer used.
func (d *draft) next() *draft {
	base := d.view()
	return &draft{codec: d.codec, base: base, revision: base.revision, scratch: d.scratch, last: d.last}
}

// view is the draft as it is now; what is drafted later does not show in it.
func (d *draft) view() *view {
	if d.revision == d.base.revision {
		return d.base
	}
	d.base = d.base.with(d.changed, d.revision)
	d.changed = nil
	return d.base
}

func (d *draft) tree(kind string) *tree {
	if t := d.changed[kind]; t != nil {
		return t
	}
	return d.base.kinds[kind]
}

func (d *draft) get(key resource.Key) *version {
	t := d.tree(key.Kind)
	if t == nil {
		return nil
	}
	last, same := d.lookup(key)
	if !same {
		d.scratch.pivot.key = treeKey(key.Namespace, key.Name)
		found, _ := t.Get(&d.scratch.pivot)
		*last = lookup{key, d.scratch.pivot.key, found}
	}
	return last.found
}

// treeKey is that of a key which was most likely looked for before.
func (d *draft) treeKey(key resource.Key) string {
	if last, same := d.lookup(key); same {
		return last.treeKey
	}
	return treeKey(key.Namespace, key.Name)
}

// put stores a version, or removes what has the key when it is nil, and returns what was
// there.
func (d *draft) put(kind, key string, v *version) (was *version) {
	for i := range d.last {
		if last := &d.last[i]; last.key.Kind == kind && last.treeKey == key {
			last.found = v
		}
	}
	t := d.changed[kind]
	if t == nil {
		if d.changed == nil {
			d.changed = map[string]*tree{}
		}
		t = d.base.kinds[kind].Clone()
		d.changed[kind] = t
	}
	if v == nil {
		was, _ = t.Delete(&version{key: key})
	} else {
		was, _ = t.ReplaceOrInsert(v)
	}
	return was
}
