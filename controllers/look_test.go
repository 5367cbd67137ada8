package controllers_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Keys of the quickstart's objects.
var (
	bridgeKey    = resource.Key{Kind: "Bridge", Name: "proximity-lan"}
	applianceKey = resource.Key{Kind: "Appliance", Name: "proximity"}
	appKey       = resource.Key{Kind: "App", Namespace: "default", Name: "nginx-01"}
	vhostKey     = resource.Key{Kind: "Vhost", Namespace: "default", Name: "nginx-01.prox.local"}
	// quickstartKeys is the order in which a user deletes them.
	quickstartKeys = []resource.Key{vhostKey, appKey, applianceKey, bridgeKey}
)

// quickstart is the very set that a new user applies.
func (w *world) quickstart() string {
	w.Helper()
	files, err := filepath.Glob("../manifests/quickstart/*.yaml")
	w.must(err)
	if len(files) != 4 {
		w.Fatalf("the quickstart has %d files", len(files))
	}
	var all []string
	for _, f := range files {
		data, err := os.ReadFile(f)
		w.must(err)
		all = append(all, string(data))
	}
	return strings.Join(all, "\n---\n")
}

// get returns an object, nil when there is none.
func (w *world) get(key resource.Key) resource.Object {
	w.Helper()
	o, err := w.store.Get(w.Context(), key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	w.must(err)
	return o
}

func (w *world) list(kind string) []resource.Object {
	w.Helper()
	snap, err := w.store.List(w.Context(), kind, store.ListOptions{})
	w.must(err)
	return snap.Items
}

func (w *world) app(name string) *v1alpha1.App {
	w.Helper()
	o := w.get(resource.Key{Kind: "App", Namespace: "default", Name: name})
	if o == nil {
		return nil
	}
	return o.(*v1alpha1.App)
}

// ready tells whether all of these are Ready for what is asked of them now.
func (w *world) ready(keys ...resource.Key) func() bool {
	return func() bool {
		for _, key := range keys {
			o := w.get(key)
			if o == nil || !resource.IsReady(o) || resource.FindCondition(o, "Ready").GetObservedGeneration() != o.GetMetadata().GetGeneration() {
				return false
			}
		}
		return true
	}
}

// gone tells whether none of these exists.
func (w *world) gone(keys ...resource.Key) func() bool {
	return func() bool {
		for _, key := range keys {
			if w.get(key) != nil {
				return false
			}
		}
		return true
	}
}

// stalled tells whether the object is stalled for that reason.
func (w *world) stalled(key resource.Key, reason string) func() bool {
	return w.has(key, "Stalled", "True", reason)
}

// has tells whether the object has a condition like that.
func (w *world) has(key resource.Key, typ, status, reason string) func() bool {
	return func() bool {
		o := w.get(key)
		if o == nil {
			return false
		}
		c := resource.FindCondition(o, typ)
		return c.GetStatus() == status && c.GetReason() == reason
	}
}

// told tells whether there is an event of that reason about the object.
func (w *world) told(key resource.Key, reason string) bool {
	w.Helper()
	for _, o := range w.list("Event") {
		ev := o.(*v1alpha1.Event)
		about := resource.Key{Kind: ev.GetRegarding().GetKind(), Namespace: ev.GetRegarding().GetNamespace(), Name: ev.GetRegarding().GetName()}
		if about == key && ev.GetReason() == reason {
			return true
		}
	}
	return false
}

// toldOf tells whether there is an event of that reason whose text names something.
func (w *world) toldOf(key resource.Key, reason, text string) bool {
	w.Helper()
	for _, o := range w.list("Event") {
		ev := o.(*v1alpha1.Event)
		if ev.GetRegarding().GetName() == key.Name && ev.GetReason() == reason && strings.Contains(ev.GetMessage(), text) {
			return true
		}
	}
	return false
}

// mustTell demands such events.
func (w *world) mustTell(key resource.Key, reasons ...string) {
	w.Helper()
	for _, reason := range reasons {
		if !w.told(key, reason) {
			w.Errorf("no event %s about %s", reason, key)
		}
	}
}

// deployed applies the quickstart and waits until it works.
func (w *world) deployed() {
	w.Helper()
	w.start()
	w.apply(w.quickstart())
	w.until("quickstart ready", w.ready(quickstartKeys...))
}

// changedSince lists the changes after a revision.
func (w *world) changedSince(revision uint64) string {
	w.Helper()
	watch, err := w.store.Watch(w.Context(), store.WatchOptions{From: revision})
	w.must(err)
	defer watch.Stop()
	var out []string
	for now := w.store.Revision(); revision < now; {
		ev := <-watch.Events()
		revision = ev.Revision
		text, err := resource.EncodeYAML(ev.Object)
		w.must(err)
		out = append(out, string(ev.Type), string(text))
	}
	return strings.Join(out, "\n")
}
