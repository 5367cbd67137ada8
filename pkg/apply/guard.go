package apply

import (
	"context"
	"errors"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Guard is asked about every change before it is made, with the identity of the writer in
// the context: some changes need more than the right to change the object. Sensitive values
// are sealed in what it sees.
type Guard interface {
	// Check refuses a change; was is nil for a new object, is nil for one that goes away.
	Check(ctx context.Context, tx store.Tx, was, is resource.Object) error
	// Asks tells whether Check has anything to say of a change of the kind to is (nil: of a
	// deletion). For most changes it has not, and what was there is not looked at.
	Asks(kind string, is resource.Object) bool
	// Wants tells whether Committed is to be called after changes of the kind.
	Wants(kind string) bool
	// Committed is called after a transaction, and before its outcome is told.
	Committed(ctx context.Context, kinds map[string]bool) error
}

// WithGuard returns an Applier whose changes the guard must let through. The Applier of the
// daemon itself (System) has none.
func (a *Applier) WithGuard(g Guard) *Applier {
	as := *a
	as.guard = g
	return &as
}

// guarded is a transaction behind a guard.
type guarded struct {
	store.Tx
	ctx   context.Context
	guard Guard
	// touched are the kinds that were changed and that the guard wants to know of.
	touched map[string]bool
}

// check asks the guard about a change of the object; was is not read for a new one.
func (g *guarded) check(key resource.Key, created bool, is resource.Object) error {
	if g.guard.Wants(key.Kind) {
		if g.touched == nil {
			g.touched = map[string]bool{}
		}
		g.touched[key.Kind] = true
	}
	if !g.guard.Asks(key.Kind, is) {
		return nil
	}
	var was resource.Object
	if !created {
		var err error
		if was, err = g.Get(key); err != nil {
			return err
		}
	}
	return g.guard.Check(g.ctx, g.Tx, was, is)
}

func (g *guarded) Create(obj resource.Object) (resource.Object, error) {
	if err := g.check(resource.KeyOf(obj), true, obj); err != nil {
		return nil, err
	}
	return g.Tx.Create(obj)
}

func (g *guarded) CreateAs(obj resource.Object, uid string) (resource.Object, error) {
	if err := g.check(resource.KeyOf(obj), true, obj); err != nil {
		return nil, err
	}
	return g.Tx.CreateAs(obj, uid)
}

func (g *guarded) Update(obj resource.Object) (resource.Object, error) {
	if err := g.checkUpdate(obj); err != nil {
		return nil, err
	}
	return g.Tx.Update(obj)
}

func (g *guarded) checkUpdate(obj resource.Object) error {
	return g.check(resource.KeyOf(obj), false, obj)
}

// Current implements store.TxReader.
func (g *guarded) Current(key resource.Key) (store.Version, error) { return store.Current(g.Tx, key) }

var (
	_ store.Writer   = (*guarded)(nil)
	_ store.TxReader = (*guarded)(nil)
)

// PutNew implements store.Writer.
func (g *guarded) PutNew(obj resource.Object, uid string) (store.Version, error) {
	if err := g.check(resource.KeyOf(obj), true, obj); err != nil {
		return nil, err
	}
	return store.PutNew(g.Tx, obj, uid)
}

// Put implements store.Writer.
func (g *guarded) Put(obj resource.Object) (store.Version, error) {
	if err := g.checkUpdate(obj); err != nil {
		return nil, err
	}
	return store.Put(g.Tx, obj)
}

// PutStatus implements store.Writer; no guard is asked about a status.
func (g *guarded) PutStatus(obj resource.Object) (store.Version, error) {
	return store.PutStatus(g.Tx, obj)
}

func (g *guarded) Delete(key resource.Key, pre store.Preconditions) (resource.Object, error) {
	if err := g.check(key, false, nil); err != nil {
		return nil, err
	}
	return g.Tx.Delete(key, pre)
}

// behindGuard runs a transaction of the store behind the guard, if there is one.
func (a *Applier) behindGuard(ctx context.Context, write func(store.Tx) error) error {
	var g *guarded
	_, err := a.store.Update(ctx, func(tx store.Tx) error {
		if a.guard == nil {
			return write(tx)
		}
		g = &guarded{Tx: tx, ctx: ctx, guard: a.guard}
		return write(g)
	})
	// With an unknown outcome it may have taken effect, too.
	if g != nil && len(g.touched) > 0 && (err == nil || errors.Is(err, store.ErrUnknownOutcome)) {
		err = errors.Join(err, a.guard.Committed(ctx, g.touched))
	}
	return err
}
