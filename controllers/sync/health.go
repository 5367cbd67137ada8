package sync

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/gitops/inventory"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// health sets the condition Healthy and returns when to look again.
func (r *reconciler) health(ctx context.Context, s *session) time.Duration {
	spec := s.Object.GetSpec()
	interval := durationOf(spec.GetInterval(), time.Minute)
	if spec.GetMode() == modeDetect {
		return interval
	}
	if spec.Wait != nil && !spec.GetWait() {
		s.True(CondHealthy, "NotWaitedFor", "spec.wait is false: nobody looks whether the objects are ready")
		return interval
	}
	waiting, err := r.notReady(ctx, s)
	switch {
	case err != nil:
		s.SetCondition(CondHealthy, "Unknown", "Unknown", "%v", err)
	case len(waiting) == 0:
		s.True(CondHealthy, "Healthy", "all objects are ready")
	case time.Since(r.appliedAt(s)) > durationOf(spec.GetTimeout(), 10*time.Minute):
		s.False(CondHealthy, "HealthTimeout", "not ready %s after they were applied: %s", spec.GetTimeout(), strings.Join(waiting, "; "))
		return min(interval, 5*healthPause)
	default:
		s.False(CondHealthy, "Progressing", "not ready yet: %s", strings.Join(waiting, "; "))
		return min(interval, healthPause)
	}
	return interval
}

func (r *reconciler) appliedAt(s *session) time.Time {
	if h := s.Object.GetStatus().GetHistory(); len(h) > 0 {
		if t, err := time.Parse(time.RFC3339, h[0].GetTime()); err == nil {
			return t
		}
	}
	return time.Now()
}

// notReady says which objects are not ready, the first few, and why.
func (r *reconciler) notReady(ctx context.Context, s *session) ([]string, error) {
	entries, err := inventory.Decode(s.Object.GetStatus().GetInventory())
	if err != nil {
		return nil, err
	}
	drifted := map[resource.Key]bool{}
	for _, d := range s.Object.GetStatus().GetDrift() {
		drifted[resource.Key{Kind: d.GetKind(), Namespace: d.GetNamespace(), Name: d.GetName()}] = true
	}
	const most = 5
	var waiting []string
	live := lister{client: s.Client, byKind: map[string]map[resource.Key]resource.Object{}}
	more := 0
	for _, e := range entries {
		if !r.waitsFor(e.Key) {
			continue
		}
		obj, err := live.get(ctx, e.Key)
		why := ""
		switch {
		case err != nil:
			return nil, err
		case obj == nil && drifted[e.Key]:
		case obj == nil:
			why = "it does not exist"
		case resource.Deleting(obj):
			why = "it is being deleted"
		case !resource.IsReady(obj):
			why = whyNotReady(obj)
		}
		switch {
		case why == "":
		case len(waiting) == most:
			more++
		default:
			waiting = append(waiting, e.Key.String()+": "+why)
		}
	}
	if more > 0 {
		waiting = append(waiting, fmt.Sprintf("and %d more", more))
	}
	return waiting, nil
}

// lister reads objects, each kind as a whole: that copies nothing.
type lister struct {
	client runtime.Client
	byKind map[string]map[resource.Key]resource.Object
}

// get returns an object, nil when there is none; shared, not to be changed.
func (l lister) get(ctx context.Context, key resource.Key) (resource.Object, error) {
	all, ok := l.byKind[key.Kind]
	if !ok {
		list, err := l.client.List(ctx, key.Kind, "")
		if err != nil {
			return nil, err
		}
		all = make(map[resource.Key]resource.Object, len(list))
		for _, obj := range list {
			all[resource.KeyOf(obj)] = obj
		}
		l.byKind[key.Kind] = all
	}
	return all[key], nil
}

// waitsFor: kinds whose objects have no conditions are ready when they are stored. Syncs and
// their sources speak for themselves: one may wait for this one.
func (r *reconciler) waitsFor(key resource.Key) bool {
	k, ok := r.Registry.Get(key.Kind)
	if !ok || key.Kind == kind || key.Kind == "GitRepository" {
		return false
	}
	status := k.Descriptor().Fields().ByName("status")
	return status != nil && status.Message() != nil && status.Message().Fields().ByName("conditions") != nil
}

// whyNotReady is "" for an object that nobody is meant to make ready.
func whyNotReady(obj resource.Object) string {
	c := resource.FindCondition(obj, runtime.ConditionReady)
	switch {
	case c == nil:
		return "nothing is known of it yet"
	case c.GetReason() == "Suspended":
		return ""
	case c.GetObservedGeneration() != obj.GetMetadata().GetGeneration():
		return "it is being changed"
	}
	return c.GetMessage()
}
