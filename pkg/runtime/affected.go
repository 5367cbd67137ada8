package runtime

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	// MaxAffectedSources bounds the changes of a request whose consequences for other
	// objects are looked for: each may have to be compared with every object of a kind.
	MaxAffectedSources = 500
	// MaxAffected bounds the other objects that an answer names.
	MaxAffected = 200
)

// Affected is an object that is not changed itself, but for which something else is done
// because of the changes.
type Affected struct {
	Object resource.Object // shared, not to be changed
	Plan   Plan
}

// affected finds the objects that watch what is changed, by the declarations of their
// controllers, and keeps those whose plan is another with the changes than without. more
// tells that there may be others.
func (m *Manager) affected(ctx context.Context, changes []Change, plans []Plan, world *overlay) (out []Affected, more bool, err error) {
	if len(changes) > MaxAffectedSources {
		return nil, true, nil
	}
	before := newOverlay(m.client, nil) // reads every list once
	for _, c := range m.controllers {
		if c.plan == nil {
			continue
		}
		for _, key := range c.dependents(ctx, changes, plans, before, world) {
			if len(out) == MaxAffected {
				return out, true, nil
			}
			a, differs, err := c.compare(ctx, key, before, world)
			if err != nil {
				return nil, false, err
			}
			if differs {
				out = append(out, a)
			}
		}
	}
	return out, false, nil
}

// dependents are the controller's objects that watch what is changed, before the changes or
// after them, and are not changed themselves. A change that is blocked has no consequences.
func (c *Controller) dependents(ctx context.Context, changes []Change, plans []Plan, before, after *overlay) []resource.Key {
	seen := map[resource.Key]bool{}
	add := func(keys []resource.Key) {
		for _, key := range keys {
			if _, changed := after.changed[key]; !changed {
				seen[key] = true
			}
		}
	}
	for i, ch := range changes {
		for _, w := range c.watches {
			if w.Kind != ch.Key.Kind || plans[i].Blocked != nil {
				continue
			}
			if live, err := before.Get(ctx, ch.Key); err == nil {
				add(w.Map(ctx, before, live))
			}
			if ch.Desired != nil {
				add(w.Map(ctx, after, ch.Desired))
			}
		}
	}
	keys := make([]resource.Key, 0, len(seen))
	for key := range seen {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b resource.Key) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return keys
}

// compare plans an object that stays as it is, without and with the changes of others.
func (c *Controller) compare(ctx context.Context, key resource.Key, before, after *overlay) (Affected, bool, error) {
	live, err := before.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return Affected{}, false, nil
	}
	if err != nil || resource.Deleting(live) {
		return Affected{}, false, err
	}
	ch := Change{Key: key, Desired: live}
	was, err := c.plan(ctx, ch, before)
	if err != nil {
		return Affected{}, false, err
	}
	is, err := c.plan(ctx, ch, after)
	if err != nil {
		return Affected{}, false, err
	}
	same := slices.Equal(was.Steps, is.Steps) && (was.Blocked == nil) == (is.Blocked == nil)
	return Affected{Object: live, Plan: is}, !same, nil
}
