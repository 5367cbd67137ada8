// Package gitrepository reconciles kind GitRepository: it asks the server for the commit that
// the reference names, fetches it into the cache and, where that is demanded, verifies who
// signed it.
//
// Reads: GitRepository, Secret. Owns the repository's directory in the cache, which is thrown
// away with the object. A commit that cannot be fetched or verified changes nothing: the
// artifact in the status stays what it was, and so does what Syncs made of it.
//
// Conditions: Fetched, and Verified where spec.verify demands it; Ready is both. Reasons are
// those of package git, and those of package secretref. An unchanged head costs one exchange
// with the server and writes nothing.
package gitrepository

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/gitops/git"
	"github.com/proximity-pve/proximity/pkg/gitops/source"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
)

const (
	kind      = "GitRepository"
	finalizer = "proximity/gitrepository"

	// CondFetched: the commit that the reference names is there. CondVerified: it has a
	// signature that counts.
	CondFetched  = "Fetched"
	CondVerified = "Verified"

	defaultInterval = 15 * time.Second
	// resync is for objects that nothing else is due for; see RequeueAfter.
	resync     = time.Hour
	maxTimeout = 31 * time.Minute
)

// Deps is what the controller needs.
type Deps struct {
	source.Sources
	// Pokes are repositories to look at now, as webhooks say; nil: none.
	Pokes <-chan resource.Key
	Log   *slog.Logger
}

type session = runtime.Session[*v1alpha1.GitRepository]

type reconciler struct{ Deps }

// New makes the controller.
func New(d Deps) *runtime.Controller {
	return runtime.New(runtime.Options[*v1alpha1.GitRepository]{
		Kind: kind, Finalizer: finalizer, Reconciler: &reconciler{d}, ReadyFor: readyFor, Resync: resync, Timeout: maxTimeout,
		Watches: []runtime.Watch{secretref.Watch(kind)}, Sources: []runtime.Source{d.poked},
	})
}

func readyFor(r *v1alpha1.GitRepository) []string {
	if r.GetSpec().GetVerify() == nil {
		return []string{CondFetched}
	}
	return []string{CondFetched, CondVerified}
}

func (d Deps) poked(ctx context.Context, _ runtime.Client, enqueue func(resource.Key)) {
	for {
		select {
		case <-ctx.Done():
			return
		case key := <-d.Pokes:
			enqueue(key)
		}
	}
}

// Finalize throws the cache away.
func (r *reconciler) Finalize(_ context.Context, s *session) (runtime.Result, error) {
	return runtime.Result{}, r.Cache.Drop(source.CacheID(s.Object))
}

// Reconcile fetches.
func (r *reconciler) Reconcile(ctx context.Context, s *session) (runtime.Result, error) {
	if s.Object.Status == nil {
		s.Object.Status = &v1alpha1.GitRepositoryStatus{}
	}
	if asked := s.Object.GetMetadata().GetAnnotations()[resource.AnnotationReconcile]; asked != s.Object.Status.GetLastHandledRequest() {
		s.Object.Status.LastHandledRequest = proto.String(asked)
	}
	again := jitter(intervalOf(s.Object))
	err := r.fetch(ctx, s)
	if err == nil {
		return runtime.Result{RequeueAfter: again}, nil
	}
	if reason := git.ReasonOf(err); reason != "" {
		cond := CondFetched
		if reason == git.ReasonUnverified {
			cond = CondVerified
		}
		s.False(cond, reason, "%v", err)
		return runtime.Result{}, runtime.Waiting(again, reason, "%v", err)
	}
	var waiting *runtime.WaitingError
	if errors.As(err, &waiting) {
		s.False(CondFetched, waiting.Reason, "%v", err)
	}
	return runtime.Result{}, err
}

func intervalOf(r *v1alpha1.GitRepository) time.Duration {
	if d, err := time.ParseDuration(r.GetSpec().GetInterval()); err == nil && d > 0 {
		return d
	}
	return defaultInterval
}

// jitter adds or takes away up to a tenth, so that many repositories are not all asked for
// at the same moment.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.2*float64(d))
}

func (r *reconciler) fetch(ctx context.Context, s *session) error {
	remote, err := r.Remote(ctx, s.Client, s.Object)
	if err != nil {
		return err
	}
	id := source.CacheID(s.Object)
	fetched, err := r.Cache.Fetch(ctx, id, remote, source.RefOf(s.Object))
	if err != nil {
		return r.Drop(s.Object, err) // next time from the beginning
	}
	old := s.Object.Status.GetArtifact()
	if !fetched.Transferred && old.GetRevision() == fetched.Revision() && r.judged(s.Object) {
		s.True(CondFetched, "Fetched", "%s", fetched.Revision())
		return nil
	}
	commit, err := r.read(id, remote.URL, fetched.Commit)
	if err != nil {
		return r.Drop(s.Object, err)
	}
	s.True(CondFetched, "Fetched", "%s", fetched.Revision())
	artifact := &v1alpha1.GitArtifact{
		Revision: proto.String(fetched.Revision()), Commit: proto.String(commit.Hash), Subject: proto.String(commit.Subject), Author: proto.String(commit.Author),
		CommitTime: proto.String(stamp(commit.Time)), FetchTime: proto.String(stamp(time.Now())),
	}
	if err := r.verify(s, commit, artifact); err != nil {
		return err
	}
	if old.GetRevision() == artifact.GetRevision() {
		artifact.FetchTime = old.FetchTime
	} else {
		s.Normal(ctx, "Fetched", "%s: %s", artifact.GetRevision(), commit.Subject)
	}
	s.Object.Status.Artifact = artifact
	return nil
}

// judged tells whether the artifact was verified as this generation of the spec demands.
func (r *reconciler) judged(o *v1alpha1.GitRepository) bool {
	c := resource.FindCondition(o, CondVerified)
	if o.GetSpec().GetVerify() == nil {
		return c == nil || c.GetReason() == "NotDemanded"
	}
	return c.GetStatus() == "True" && c.GetObservedGeneration() == o.GetMetadata().GetGeneration()
}

func (r *reconciler) read(id, url, commit string) (*git.Commit, error) {
	snap, err := r.Cache.Open(id, url, commit, false)
	if err != nil {
		return nil, err
	}
	c, err := snap.Commit(commit)
	return c, errors.Join(err, snap.Close())
}

func (r *reconciler) verify(s *session, commit *git.Commit, artifact *v1alpha1.GitArtifact) error {
	demanded := s.Object.GetSpec().GetVerify()
	if demanded == nil {
		if resource.FindCondition(s.Object, CondVerified) != nil {
			s.SetCondition(CondVerified, "Unknown", "NotDemanded", "spec.verify demands no signature")
		}
		return nil
	}
	keys, err := git.ParseKeys(demanded.GetKeys())
	if err != nil {
		s.False(CondVerified, git.ReasonInvalidSpec, "spec.verify.keys: %v", err)
		return runtime.Stalled(git.ReasonInvalidSpec, "spec.verify.keys: %v", err)
	}
	who, err := keys.Verify(commit)
	if err != nil {
		return err
	}
	artifact.SignedBy = proto.String(who)
	s.True(CondVerified, "Verified", "%s is signed by %s", commit.Hash, who)
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
