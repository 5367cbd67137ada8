package engine

import (
	"fmt"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Contents is what a log holds when the store is opened: objects, in the form in which the
// engine keeps them.
type Contents struct {
	Revision uint64

	draft *draft
}

// NewContents returns those of a new, empty store.
func NewContents(reg *resource.Registry) *Contents {
	c := newCodec(reg)
	return &Contents{Revision: InitialRevision, draft: newDraft(c, newView(c, 0))}
}

// Knows tells whether the registry has the kind. Objects of others cannot be put.
func (c *Contents) Knows(kind string) bool { return c.draft.codec.layouts[kind] != nil }

// Put adds an object or takes the place of the one with that key. It keeps the bytes. An
// error says what is wrong with them, as far as that shows without decoding them.
func (c *Contents) Put(key resource.Key, encoded []byte) error {
	l, err := c.draft.codec.layout(key.Kind)
	if err != nil {
		return err
	}
	v, err := l.read(key, encoded)
	if err != nil {
		return err
	}
	c.draft.put(key.Kind, v.key, v)
	return nil
}

// Delete removes an object, if it is there.
func (c *Contents) Delete(key resource.Key) {
	if c.Knows(key.Kind) {
		c.draft.put(key.Kind, treeKey(key.Namespace, key.Name), nil)
	}
}

// Each calls fn for every object, a kind after the other and each in order.
func (c *Contents) Each(fn func(key resource.Key, encoded []byte)) {
	for kind := range c.draft.codec.layouts {
		walk(c.draft.tree(kind), "", "", func(v *version) bool {
			fn(v.name(), v.encoded)
			return true
		})
	}
}

// Get returns an object's bytes, or nil.
func (c *Contents) Get(key resource.Key) []byte {
	if v := c.draft.get(key); v != nil {
		return v.encoded
	}
	return nil
}

// Check decodes every object.
func (c *Contents) Check() error {
	for kind := range c.draft.codec.layouts {
		var err error
		walk(c.draft.tree(kind), "", "", func(v *version) bool {
			if _, err = v.decode(); err != nil {
				err = fmt.Errorf("%s: %w", v.name(), err)
			}
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Contents) view() *view {
	c.draft.revision = c.Revision
	return c.draft.view()
}
