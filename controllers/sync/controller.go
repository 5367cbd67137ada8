package sync

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/gitops"
	"github.com/proximity-pve/proximity/pkg/gitops/git"
	"github.com/proximity-pve/proximity/pkg/gitops/source"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
)

const (
	kind      = "Sync"
	finalizer = "proximity/sync"

	// CondApplied, CondHealthy, CondInSync and CondPlaintext: see the package comment.
	CondApplied   = "Applied"
	CondHealthy   = "Healthy"
	CondInSync    = "InSync"
	CondPlaintext = "PlaintextSecrets"

	modeDetect = "detect"

	// sourceRetry is the pause before a source or dependency that is not ready is looked at
	// again; a change of it wakes the Sync at once.
	sourceRetry = 15 * time.Second
	// healthPause is the pause between looks at objects that are not ready yet.
	healthPause = 2 * time.Second

	resync  = time.Hour // for objects that nothing else is due for
	timeout = 30 * time.Minute
)

// Deps is what the controller needs.
type Deps struct {
	source.Sources
	Engine   gitops.Engine
	Registry *resource.Registry
	Log      *slog.Logger
}

type session = runtime.Session[*v1alpha1.Sync]

type reconciler struct {
	Deps
	memory *memory
}

// New makes the controller, and a Previewer on what it remembers.
func New(d Deps) (*runtime.Controller, *Previewer) {
	r := &reconciler{Deps: d, memory: newMemory()}
	return runtime.New(runtime.Options[*v1alpha1.Sync]{
		Kind: kind, Finalizer: finalizer, Reconciler: r, ReadyFor: readyFor, Resync: resync, Timeout: timeout,
		Watches: []runtime.Watch{secretref.Watch(kind), {Kind: "GitRepository", Map: ofSource}, {Kind: kind, Map: dependents}},
	}), &Previewer{r}
}

func readyFor(s *v1alpha1.Sync) []string {
	if s.GetSpec().GetMode() == modeDetect {
		return []string{CondApplied}
	}
	return []string{CondApplied, CondHealthy}
}

// ofSource returns the Syncs of a repository.
func ofSource(ctx context.Context, c runtime.Client, repo resource.Object) []resource.Key {
	return which(ctx, c, repo, func(s *v1alpha1.Sync) bool {
		return s.GetSpec().GetSourceRef().GetName() == repo.GetMetadata().GetName()
	})
}

// dependents returns the Syncs that wait for one.
func dependents(ctx context.Context, c runtime.Client, sync resource.Object) []resource.Key {
	return which(ctx, c, sync, func(s *v1alpha1.Sync) bool {
		return slices.ContainsFunc(s.GetSpec().GetDependsOn(), func(d *v1alpha1.SyncDependency) bool { return d.GetName() == sync.GetMetadata().GetName() })
	})
}

func which(ctx context.Context, c runtime.Client, of resource.Object, match func(*v1alpha1.Sync) bool) []resource.Key {
	syncs, err := runtime.List[*v1alpha1.Sync](ctx, c, kind, of.GetMetadata().GetNamespace())
	if err != nil {
		return nil // the interval finds it
	}
	var keys []resource.Key
	for _, s := range syncs {
		if match(s) {
			keys = append(keys, resource.KeyOf(s))
		}
	}
	return keys
}

// Reconcile applies the commit, or finds that there is nothing to apply.
func (r *reconciler) Reconcile(ctx context.Context, s *session) (runtime.Result, error) {
	if s.Object.Status == nil {
		s.Object.Status = &v1alpha1.SyncStatus{}
	}
	asked := s.Object.GetMetadata().GetAnnotations()[resource.AnnotationReconcile]
	err := r.sync(ctx, s)
	if asked != s.Object.Status.GetLastHandledRequest() {
		s.Object.Status.LastHandledRequest = proto.String(asked)
	}
	if err != nil {
		return runtime.Result{}, r.failed(s, err)
	}
	return runtime.Result{RequeueAfter: r.health(ctx, s)}, nil
}

func (r *reconciler) sync(ctx context.Context, s *session) error {
	if err := r.dependencies(ctx, s); err != nil {
		return err
	}
	w, err := r.work(ctx, s.Client, s.Object, s.Object.GetSpec().GetRevision())
	if w != nil { // also of a commit whose files are refused
		s.Object.Status.AttemptedRevision = proto.String(w.revision)
	}
	if err != nil {
		return err
	}
	set, err := r.load(ctx, s.Client, s.Object, w)
	if err != nil {
		return err
	}
	r.tellPlaintext(ctx, s, set)
	if s.Object.GetSpec().GetMode() == modeDetect {
		return r.detect(ctx, s, w, set)
	}
	return r.apply(ctx, s, w, set)
}

// refusal is a reason of the condition Applied; the commit is not applied.
type refusal struct{ reason, text string }

func (e *refusal) Error() string { return e.text }

// maxMessage bounds a message in a condition.
const maxMessage = 1500

// failed says why a commit is not applied, and when it is tried again.
func (r *reconciler) failed(s *session, err error) error {
	retry := durationOf(s.Object.GetSpec().GetRetryInterval(), 30*time.Second)
	var waiting *runtime.WaitingError
	var stalled *runtime.StalledError
	var refused *refusal
	var fields resource.FieldErrors
	reason, text := "", err.Error()
	switch {
	case errors.As(err, &stalled):
		s.False(CondApplied, stalled.Reason, "%s", text)
		return err
	case errors.As(err, &waiting):
		s.False(CondApplied, waiting.Reason, "%s", text)
		return err
	case errors.As(err, &refused):
		reason = refused.reason
	case errors.As(err, &fields):
		reason = "Invalid"
		if slices.ContainsFunc(fields, func(f *resource.FieldError) bool { return f.Reason == resource.ReasonManagerConflict }) {
			reason = "Conflict"
		}
		text = summary(fields)
	case errors.Is(err, gitops.ErrForbidden):
		reason = "Forbidden"
	case git.ReasonOf(err) != "":
		reason = git.ReasonOf(err)
	default:
		s.False(CondApplied, "Retrying", "%s", shortened(text))
		return err // of the store: with backoff
	}
	if last := s.Object.Status.GetAppliedRevision(); last != "" {
		text = shortened(text) + "; " + last + " stays applied"
	}
	s.False(CondApplied, reason, "%s", shortened(text))
	return runtime.Waiting(retry, reason, "%s", shortened(text))
}

func shortened(text string) string {
	if len(text) > maxMessage {
		return strings.ToValidUTF8(text[:maxMessage-3], "") + "..."
	}
	return text
}

// summary is the first errors of a list.
func summary(errs resource.FieldErrors) string {
	const most = 3
	if len(errs) <= most {
		return strings.ReplaceAll(errs.Error(), "\n", "; ")
	}
	return strings.ReplaceAll(errs[:most].Error(), "\n", "; ") + "; and " + counted(len(errs)-most, "more error")
}

func durationOf(text string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d
	}
	return otherwise
}
