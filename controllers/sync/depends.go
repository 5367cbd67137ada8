package sync

import (
	"context"
	"slices"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// dependencies waits for the Syncs that this one depends on.
func (r *reconciler) dependencies(ctx context.Context, s *session) error {
	wanted := s.Object.GetSpec().GetDependsOn()
	if len(wanted) == 0 {
		return nil
	}
	ns := s.Object.GetMetadata().GetNamespace()
	all, err := runtime.List[*v1alpha1.Sync](ctx, s.Client, kind, ns)
	if err != nil {
		return err
	}
	byName := make(map[string]*v1alpha1.Sync, len(all))
	for _, o := range all {
		byName[o.GetMetadata().GetName()] = o
	}
	byName[s.Object.GetMetadata().GetName()] = s.Object
	if circle := cycle(byName, s.Object.GetMetadata().GetName()); circle != nil {
		return runtime.Stalled("DependencyCycle", "Syncs wait for one another: %s; take one of spec.dependsOn away", strings.Join(circle, " -> "))
	}
	for _, d := range wanted {
		other := byName[d.GetName()]
		if other == nil {
			return runtime.Waiting(sourceRetry, "DependencyNotReady", "Sync %s/%s does not exist", ns, d.GetName())
		}
		if why := r.behind(ctx, s, other); why != "" {
			return runtime.Waiting(sourceRetry, "DependencyNotReady", "waits for %s: %s", resource.KeyOf(other), why)
		}
	}
	return nil
}

// behind says why a Sync is not ready at its newest revision, "" when it is.
func (r *reconciler) behind(ctx context.Context, s *session, other *v1alpha1.Sync) string {
	if !resource.IsReady(other) {
		if c := resource.FindCondition(other, runtime.ConditionReady); c.GetMessage() != "" {
			return c.GetMessage()
		}
		return "it is not ready"
	}
	repo, err := runtime.Get[*v1alpha1.GitRepository](ctx, s.Client, sourceOf(other))
	if err != nil || other.GetSpec().GetRevision() != "" || other.GetSpec().GetMode() == modeDetect {
		return "" // ready is all that can be said
	}
	if newest := repo.GetStatus().GetArtifact().GetRevision(); newest != other.GetStatus().GetAppliedRevision() {
		return "it has not applied " + newest + " yet"
	}
	return ""
}

// cycle returns the names from a Sync back to itself, nil when there is no way.
func cycle(byName map[string]*v1alpha1.Sync, from string) []string {
	seen := map[string]bool{}
	var path []string
	var walk func(name string) bool
	walk = func(name string) bool {
		path = append(path, name)
		for _, d := range byName[name].GetSpec().GetDependsOn() {
			if d.GetName() == from {
				path = append(path, from)
				return true
			}
			if !seen[d.GetName()] {
				seen[d.GetName()] = true
				if walk(d.GetName()) {
					return true
				}
			}
		}
		path = path[:len(path)-1]
		return false
	}
	if walk(from) {
		return slices.Clip(path)
	}
	return nil
}
