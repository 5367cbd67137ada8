package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Conditions that the runtime computes for every kind.
const (
	ConditionReady   = "Ready"
	ConditionStalled = "Stalled"
)

// harness is the frame around a kind's Reconciler.
type harness[T resource.Object] struct {
	opts   Options[T]
	client Client
	rec    *Recorder
	log    *slog.Logger
	seen   *observations
}

func (h *harness[T]) reconcile(ctx context.Context, key resource.Key) (res Result, err error) {
	obj, err := Get[T](ctx, h.client, key)
	if errors.Is(err, ErrNotFound) {
		return Result{}, nil
	}
	if err != nil {
		return Result{}, err
	}
	s := &Session[T]{Client: h.client, rec: h.rec, wasReady: resource.FindCondition(obj, ConditionReady).GetStatus(), ready: h.opts.table(obj), seen: h.seen, Log: h.log.With("kind", key.Kind, "namespace", key.Namespace, "name", key.Name)}
	s.adopt(obj)
	if resource.Deleting(obj) {
		return h.finalize(ctx, s)
	}
	if err := h.ensureFinalizer(ctx, s); err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, h.report(ctx, s, err)) }()
	if suspended(s.Object) {
		setCondition(s.Object, ConditionReady, "Unknown", "Suspended", "spec.suspend is set: nothing outside is looked at or changed")
		return Result{}, errSuspended
	}
	return call(ctx, s, h.opts.Reconciler.Reconcile)
}

// errSuspended tells report that there is nothing to compute.
var errSuspended = &WaitingError{Reason: "Suspended", Text: "suspended", keep: true}

func (h *harness[T]) finalize(ctx context.Context, s *Session[T]) (res Result, err error) {
	fin := h.opts.Finalizer
	if fin == "" || !slices.Contains(s.Object.GetMetadata().GetFinalizers(), fin) {
		return Result{}, nil
	}
	if suspended(s.Object) {
		setCondition(s.Object, ConditionReady, "False", "Suspended", "deletion waits: spec.suspend is set")
		return Result{}, errors.Join(errSuspended, h.report(ctx, s, errSuspended))
	}
	res, err = call(ctx, s, h.opts.Reconciler.Finalize)
	if err != nil || res.RequeueAfter > 0 {
		if err == nil {
			err = Waiting(res.RequeueAfter, "Deleting", "deletion is under way")
		}
		return Result{}, errors.Join(err, h.report(ctx, s, err))
	}
	return Result{}, h.dropFinalizer(context.WithoutCancel(ctx), resource.KeyOf(s.Object), s.Object.GetMetadata().GetUid())
}

// dropFinalizer works on the newest object: the status may have been saved meanwhile.
func (h *harness[T]) dropFinalizer(ctx context.Context, key resource.Key, uid string) error {
	err := h.client.Transact(ctx, func(tx Tx) error {
		cur, err := tx.Get(key)
		if err != nil || cur.GetMetadata().GetUid() != uid {
			return err
		}
		next := resource.Clone(cur)
		m := next.GetMetadata()
		m.Finalizers = slices.DeleteFunc(m.Finalizers, func(f string) bool { return f == h.opts.Finalizer })
		_, err = tx.Update(next)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func (h *harness[T]) ensureFinalizer(ctx context.Context, s *Session[T]) error {
	m := s.Object.GetMetadata()
	if h.opts.Finalizer == "" || slices.Contains(m.GetFinalizers(), h.opts.Finalizer) {
		return nil
	}
	next := resource.Clone(s.Object)
	next.GetMetadata().Finalizers = append(next.GetMetadata().Finalizers, h.opts.Finalizer)
	out, err := h.client.Update(ctx, next)
	if err != nil {
		return fmt.Errorf("add finalizer: %w", err)
	}
	s.adopt(out)
	return nil
}

// report computes Ready and Stalled from the outcome and writes the status when it changed.
// A reconcile that was cancelled, because the daemon stops, has found nothing out; one that
// took too long has.
func (h *harness[T]) report(ctx context.Context, s *Session[T], err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	var waiting *WaitingError
	keep := errors.As(err, &waiting) && waiting.keep
	if len(s.ready) > 0 && !keep {
		summarize(s.Object, s.ready, err)
	}
	if c := classify(Result{}, err); !keep && c != outcomeTransient && c != outcomeConflict && c != outcomePanic {
		setObservedGeneration(s.Object)
	}
	// Before the status, so that who sees Ready finds nothing written after it.
	h.announce(ctx, s)
	saveErr := s.save(ctx)
	if errors.Is(saveErr, ErrNotFound) {
		return nil
	}
	return saveErr
}

// announce records an event when an object became ready or ceased to be.
func (h *harness[T]) announce(ctx context.Context, s *Session[T]) {
	was, now := s.wasReady, resource.FindCondition(s.Object, ConditionReady)
	switch {
	case now == nil || resource.Deleting(s.Object) || was == now.GetStatus():
	case now.GetStatus() == "True":
		s.Normal(ctx, "Ready", "%s", now.GetMessage())
	case was == "True":
		s.Warning(ctx, "NotReady", "%s", now.GetMessage())
	}
}

// call runs a step of a reconciler and turns a panic into an error.
func call[T resource.Object](ctx context.Context, s *Session[T], step func(context.Context, *Session[T]) (Result, error)) (res Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	return step(ctx, s)
}

func suspended(o resource.Object) bool {
	spec, ok := resource.Field(o, "spec")
	if !ok {
		return false
	}
	s, ok := spec.Interface().(interface{ GetSuspend() bool })
	return ok && s.GetSuspend()
}

func setObservedGeneration(o resource.Object) {
	m := o.ProtoReflect()
	sf := m.Descriptor().Fields().ByName("status")
	if sf == nil || sf.Message() == nil {
		return
	}
	gf := sf.Message().Fields().ByName("observed_generation")
	if gf == nil {
		return
	}
	m.Mutable(sf).Message().Set(gf, protoreflect.ValueOfInt32(o.GetMetadata().GetGeneration()))
}
