package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Result of a reconcile that went well.
type Result struct {
	// RequeueAfter looks at the object again after this time instead of the resync period.
	RequeueAfter time.Duration
}

// Reconciler is what a kind's controller implements.
type Reconciler[T resource.Object] interface {
	// Reconcile makes the outside look like the object says, and the status say how it looks.
	Reconcile(ctx context.Context, s *Session[T]) (Result, error)
	// Finalize removes from the outside what the object stands for. The object goes away when it
	// returns nil; Waiting keeps it.
	Finalize(ctx context.Context, s *Session[T]) (Result, error)
}

// Session is one reconcile of one object.
type Session[T resource.Object] struct {
	// Object is a private copy. Only its status may be changed.
	Object T
	Client Client
	Log    *slog.Logger

	rec      *Recorder
	wasReady string        // when the reconcile began
	saved    proto.Message // the status as the store has it; nil: none
	ready    []string      // the conditions that Ready is computed from
	seen     *observations
}

// Remember keeps what this reconcile saw outside, for plans that are asked for later. It
// must not be changed any more; the one before is forgotten.
func (s *Session[T]) Remember(observed any) {
	s.seen.remember(resource.KeyOf(s.Object), s.Object.GetMetadata().GetUid(), observed)
}

// Remembered returns what Remember kept last, nil for nothing.
func (s *Session[T]) Remembered() any {
	last, _ := s.seen.last(resource.KeyOf(s.Object), s.Object.GetMetadata().GetUid())
	return last
}

// SetCondition sets one condition; the transition time moves only when the status changes.
// Reconcilers never set Ready or Stalled: these are computed.
func (s *Session[T]) SetCondition(typ, status, reason, format string, args ...any) {
	setCondition(s.Object, typ, status, reason, fmt.Sprintf(format, args...))
}

// True sets a condition to True.
func (s *Session[T]) True(typ, reason, format string, args ...any) {
	s.SetCondition(typ, "True", reason, format, args...)
}

// False sets a condition to False.
func (s *Session[T]) False(typ, reason, format string, args ...any) {
	s.SetCondition(typ, "False", reason, format, args...)
}

// Normal records an event about the object.
func (s *Session[T]) Normal(ctx context.Context, reason, format string, args ...any) {
	s.rec.Event(ctx, s.Object, "Normal", reason, fmt.Sprintf(format, args...))
}

// Warning records an event that a human may have to look at.
func (s *Session[T]) Warning(ctx context.Context, reason, format string, args ...any) {
	s.rec.Event(ctx, s.Object, "Warning", reason, fmt.Sprintf(format, args...))
}

// SaveStatus makes the status durable now. Use it for facts that must survive a crash
// before the next step: a reserved VMID, the UPID of a task that was started. It also shows
// how far a long reconcile has come.
func (s *Session[T]) SaveStatus(ctx context.Context) error {
	if !s.changed() {
		return nil
	}
	if len(s.ready) > 0 {
		showProgress(s.Object, s.ready)
	}
	return s.save(ctx)
}

func (s *Session[T]) save(ctx context.Context) error {
	if !s.changed() {
		return nil
	}
	out, err := s.Client.UpdateStatus(ctx, s.Object)
	if err != nil {
		return fmt.Errorf("save status of %s: %w", resource.KeyOf(s.Object), err)
	}
	s.adopt(out)
	return nil
}

// Refresh replaces the session's object by what the store has, e.g. after a Transact that
// changed its status.
func (s *Session[T]) Refresh(ctx context.Context) error {
	out, err := s.Client.Get(ctx, resource.KeyOf(s.Object))
	if err != nil {
		return err
	}
	s.adopt(out)
	return nil
}

// adopt takes over an object that nobody else has. Of what the store has, the status is
// kept: nothing else of an object changes in a reconcile, and of thousands that are looked
// at again and again most change not even that.
func (s *Session[T]) adopt(obj resource.Object) {
	s.Object, s.saved = obj.(T), nil
	if status, ok := resource.Field(obj, "status"); ok {
		s.saved = proto.Clone(status.Interface())
	}
}

// changed tells whether the status is another than the store's; unset and empty are equal.
func (s *Session[T]) changed() bool {
	status, ok := resource.Field(s.Object, "status")
	switch {
	case ok && s.saved != nil:
		return !proto.Equal(s.saved, status.Interface())
	case ok:
		return proto.Size(status.Interface()) > 0
	}
	return s.saved != nil && proto.Size(s.saved) > 0
}

func setCondition(obj resource.Object, typ, status, reason, message string) {
	resource.SetCondition(obj, &v1alpha1.Condition{
		Type: typ, Status: status, Reason: reason, Message: message,
		ObservedGeneration: obj.GetMetadata().GetGeneration(),
	})
}
