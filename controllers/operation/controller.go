// Package operation reconciles kind Operation: it carries out an imperative wish, once.
//
// Reads: Operation, Appliance, Bridge, App, Cluster; Rebuild (rebuild.go) also writes Bridges,
// Appliances and Apps. The actions act on the appliance's guest through its agent, on an App's
// guest, or look at a Cluster.
//
// Owns outside: the guest that TestNAT makes where there is no other to send from (probe.go), by
// the mark of the operation. It is in the status before it is made, and out of it when it is gone: an
// operation that came to its end, or whose daemon died, removes it first of all.
//
// Finalizer: proximity/operation. Deletion removes that guest.
//
// An operation never runs twice: the phase Running is durable before the action begins,
// and an operation that is found Running after a restart of the daemon has Failed, with a
// message that says that its outcome is not known. Finished operations are kept for a day,
// at most 100 in a namespace.
//
// Conditions: Complete. Reasons: Pending, Running, Succeeded, Failed, Interrupted, TimedOut,
// TargetNotFound, ApplianceNotReady.
package operation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	kind      = "Operation"
	finalizer = "proximity/operation"

	// Phases.
	pending   = "Pending"
	running   = "Running"
	succeeded = "Succeeded"
	failed    = "Failed"

	// keepFor and keepMost bound what is kept of finished operations.
	keepFor  = 24 * time.Hour
	keepMost = 100

	// tidyAfter is the pause before an operation that came to its end is looked at again,
	// and older ones make room for it.
	tidyAfter = time.Second

	defaultTimeout = 2 * time.Minute
	maxTimeout     = 30 * time.Minute

	// CondComplete: the operation came to an end, whichever.
	CondComplete = "Complete"
)

// Deps is what the controller needs.
type Deps struct {
	Clusters *cluster.Set
	Board    *live.Board
	Syncs    Previewer
	Log      *slog.Logger
}

type session = runtime.Session[*v1alpha1.Operation]

type reconciler struct {
	Deps
	mu      sync.Mutex
	started map[string]bool // uids that this process began
}

// New makes the controller.
func New(d Deps) *runtime.Controller {
	return runtime.New(runtime.Options[*v1alpha1.Operation]{
		Kind: kind, Finalizer: finalizer, Reconciler: &reconciler{Deps: d, started: map[string]bool{}}, Resync: time.Hour,
		Timeout: maxTimeout + time.Minute,
	})
}

// Finalize removes the guest that is left of the operation, if there is one.
func (r *reconciler) Finalize(ctx context.Context, s *session) (runtime.Result, error) {
	return runtime.Result{}, r.removeGuest(ctx, s)
}

// Reconcile begins a pending operation, and cleans up finished ones.
func (r *reconciler) Reconcile(ctx context.Context, s *session) (runtime.Result, error) {
	if phase := s.Object.GetStatus().GetPhase(); phase == succeeded || phase == failed {
		if err := r.removeGuest(ctx, s); err != nil {
			return runtime.Result{}, err
		}
		return r.expire(ctx, s)
	}
	if err := r.carryOut(ctx, s); err != nil {
		return runtime.Result{}, err
	}
	return runtime.Result{RequeueAfter: tidyAfter}, nil
}

// status is the object's, which has one from now on.
func status(s *session) *v1alpha1.OperationStatus {
	if s.Object.Status == nil {
		s.Object.Status = &v1alpha1.OperationStatus{}
	}
	return s.Object.Status
}

func (r *reconciler) carryOut(ctx context.Context, s *session) error {
	status(s) // what follows writes into it
	uid := s.Object.GetMetadata().GetUid()
	if s.Object.GetStatus().GetPhase() == running {
		r.mu.Lock()
		mine := r.started[uid]
		r.mu.Unlock()
		if !mine {
			r.interrupted(s)
		}
		return nil
	}
	return r.run(ctx, s, uid)
}

func (r *reconciler) interrupted(s *session) {
	r.finish(s, failed, "Interrupted", "the daemon stopped while the operation ran; whether it took effect is not known")
}

func (r *reconciler) run(ctx context.Context, s *session, uid string) error {
	timeout, err := timeoutOf(s.Object)
	if err != nil {
		r.finish(s, failed, "Failed", "%v", err)
		return nil
	}
	created, _ := time.Parse(time.RFC3339, s.Object.GetMetadata().GetCreationTimestamp())
	left := timeout - time.Since(created)
	target, err := r.target(ctx, s)
	if err != nil {
		var w *runtime.WaitingError
		if errors.As(err, &w) && left > 0 {
			s.Object.Status.Phase, s.Object.Status.Message = proto.String(pending), proto.String(w.Text)
			return err
		}
		r.finish(s, failed, "TargetNotFound", "%v", err)
		return nil
	}
	st := s.Object.Status
	st.Phase, st.StartTime, st.Message = proto.String(running), proto.String(now()), proto.String("")
	s.False(CondComplete, "Running", "%s is under way", s.Object.GetSpec().GetAction())
	r.mu.Lock()
	r.started[uid] = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.started, uid)
		r.mu.Unlock()
	}()
	if err := s.SaveStatus(ctx); err != nil {
		return err
	}
	actx, cancel := context.WithTimeout(ctx, max(left, time.Second))
	defer cancel()
	out, err := target.do(actx, s.Object.GetSpec())
	s.Object.Status.Result, s.Object.Status.Log, s.Object.Status.Checks = out.result, out.log, out.checks
	switch {
	case errors.Is(actx.Err(), context.DeadlineExceeded):
		r.finish(s, failed, "TimedOut", "not done within %s", timeout)
	case ctx.Err() != nil:
		r.interrupted(s)
	case err != nil:
		r.finish(s, failed, "Failed", "%v", err)
	default:
		r.finish(s, succeeded, "Succeeded", "%s", out.message)
	}
	s.Normal(ctx, s.Object.Status.GetPhase(), "%s of %s: %s", s.Object.GetSpec().GetAction(), target.label(), s.Object.Status.GetMessage())
	return nil
}

func timeoutOf(op *v1alpha1.Operation) (time.Duration, error) {
	text := op.GetSpec().GetTimeout()
	if text == "" {
		return defaultTimeout, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxTimeout {
		return 0, fmt.Errorf("spec.timeout %q is not a duration of at most %s", text, maxTimeout)
	}
	return d, nil
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }

func (r *reconciler) finish(s *session, phase, reason, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	st := s.Object.Status
	st.Phase, st.Message, st.CompletionTime = proto.String(phase), proto.String(text), proto.String(now())
	s.True(CondComplete, reason, "%s", text)
}

// expire deletes an operation whose time is over, or that is one too many.
func (r *reconciler) expire(ctx context.Context, s *session) (runtime.Result, error) {
	key := resource.KeyOf(s.Object)
	ended, err := time.Parse(time.RFC3339, s.Object.GetStatus().GetCompletionTime())
	if err != nil {
		ended = time.Now()
	}
	if left := keepFor - time.Since(ended); left > 0 {
		return runtime.Result{RequeueAfter: left}, r.trim(ctx, s, key.Namespace)
	}
	err = s.Client.Delete(ctx, key, s.Object.GetMetadata().GetUid())
	if errors.Is(err, runtime.ErrNotFound) {
		err = nil
	}
	return runtime.Result{}, err
}

// trim keeps the newest finished operations of a namespace.
func (r *reconciler) trim(ctx context.Context, s *session, namespace string) error {
	all, err := runtime.List[*v1alpha1.Operation](ctx, s.Client, kind, namespace)
	if err != nil || len(all) <= keepMost {
		return err
	}
	ended := slices.DeleteFunc(all, func(o *v1alpha1.Operation) bool { return o.GetStatus().GetCompletionTime() == "" })
	slices.SortFunc(ended, func(a, b *v1alpha1.Operation) int {
		return strings.Compare(a.GetStatus().GetCompletionTime(), b.GetStatus().GetCompletionTime())
	})
	for _, o := range ended[:max(0, len(ended)-keepMost)] {
		if err := s.Client.Delete(ctx, resource.KeyOf(o), o.GetMetadata().GetUid()); err != nil && !errors.Is(err, runtime.ErrNotFound) {
			return err
		}
	}
	return nil
}
