package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Effect is what a step means for what runs and is stored outside.
type Effect string

// Effects, from harmless to destructive. Recreate and DataLoss are never the way to a
// change of a spec: only a deletion has them.
const (
	InPlace  Effect = "in place"
	Restart  Effect = "restart"
	Recreate Effect = "recreate"
	DataLoss Effect = "data loss"
)

// Step is one thing to do outside.
type Step struct {
	// Action is a verb in CamelCase, as logs and events have it.
	Action string
	Effect Effect
	// Text is a sentence for people without a full stop: "create guest 20000 on node pve".
	Text string
	// By is the kind and name of another object whose controller takes the step; "" is the
	// object's own.
	By string
	// If says what a step depends on that has not been looked at yet, "" when it is certain.
	If string
}

// LogStep says that a step is taken now.
func LogStep(log *slog.Logger, s Step, more ...any) {
	log.Info("step", append([]any{"action", s.Action, "effect", string(s.Effect), "text", s.Text}, more...)...)
}

// Blocked says why nothing may be done, and what a human can do.
type Blocked struct{ Reason, Text string }

// Plan is what a change would do outside.
type Plan struct {
	Steps []Step
	// Blocked is set when the controller would stop before the first step.
	Blocked *Blocked
	// Notes are sentences about what is not done, and why.
	Notes []string
	// Outside tells whether objects of the kind stand for anything outside.
	Outside bool
	// ObservedAt is when the look was taken that the plan starts from; zero: the object has
	// never been looked at, and the plan starts from nothing.
	ObservedAt time.Time
}

// Change is a change of one object that has not been made: to Desired, or (nil) its deletion.
type Change struct {
	Key     resource.Key
	Desired resource.Object
}

// Planning is what a kind's plan is made from.
type Planning[T resource.Object] struct {
	// Object is the object as it would be stored; of a deletion, as it is.
	Object T
	// Deleted: the object is to be deleted.
	Deleted bool
	// Client reads the store as if all changes of the request were made. It does not write.
	Client Client
	// Seen is what the controller remembered last (Session.Remember), nil: nothing.
	Seen any
	// Once makes a value that the plans of one request share, the first time it is asked for.
	Once func(name string, make func() (any, error)) (any, error)
}

// Plans are the plans of changes, in their order.
type Plans struct {
	Changes []Plan
	// Affected are others for which something is done because of the changes, at most
	// MaxAffected. MoreAffected: there may be more, or nobody looked (MaxAffectedSources).
	Affected     []Affected
	MoreAffected bool
}

// Plan tells what changes would do outside, as if all of them were made together, from what
// the controllers saw last. It asks nothing outside and writes nothing.
func (m *Manager) Plan(ctx context.Context, changes []Change) (Plans, error) {
	world := newOverlay(m.client, changes)
	byKind := make(map[string]*Controller, len(m.controllers))
	for _, c := range m.controllers {
		byKind[c.kind] = c
	}
	made := Plans{Changes: make([]Plan, len(changes))}
	for i, ch := range changes {
		if err := ctx.Err(); err != nil {
			return made, err
		}
		c := byKind[ch.Key.Kind]
		if c == nil || c.plan == nil {
			continue
		}
		p, err := c.plan(ctx, ch, world)
		if err != nil {
			return made, fmt.Errorf("plan %s: %w", ch.Key, err)
		}
		made.Changes[i] = p
	}
	var err error
	made.Affected, made.MoreAffected, err = m.affected(ctx, changes, made.Changes, world)
	return made, err
}

// plan makes the plan of one change.
func (h *harness[T]) plan(ctx context.Context, ch Change, world *overlay) (p Plan, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v}
		}
	}()
	p.Outside = true
	req := Planning[T]{Client: world, Once: world.once, Deleted: ch.Desired == nil}
	if req.Deleted {
		live, err := Get[T](ctx, h.client, ch.Key)
		if errors.Is(err, ErrNotFound) {
			return p, nil
		}
		if err != nil {
			return p, err
		}
		req.Object = live
	} else if req.Object, err = as[T](ch.Key, resource.Clone(ch.Desired)); err != nil {
		return p, err
	}
	req.Seen, p.ObservedAt = h.seen.last(ch.Key, req.Object.GetMetadata().GetUid())
	if suspended(req.Object) {
		p.Notes = append(p.Notes, "spec.suspend is set: nothing outside is looked at or changed until it is cleared")
		return p, nil
	}
	made, err := h.opts.Plan(ctx, req)
	made.Outside, made.ObservedAt = p.Outside, p.ObservedAt
	return withBlocked(made, err)
}

// withBlocked turns what a reconcile would end with into an answer.
func withBlocked(p Plan, err error) (Plan, error) {
	var w *WaitingError
	var s *StalledError
	switch {
	case errors.As(err, &s):
		p.Blocked = &Blocked{s.Reason, s.Text}
	case errors.As(err, &w):
		p.Blocked = &Blocked{w.Reason, w.Text}
	default:
		return p, err
	}
	return p, nil
}

func as[T resource.Object](key resource.Key, obj resource.Object) (T, error) {
	t, ok := obj.(T)
	if !ok {
		return t, fmt.Errorf("%s is a %T", key, obj)
	}
	return t, nil
}
