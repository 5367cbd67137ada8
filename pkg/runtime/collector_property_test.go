package runtime_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// modelObject is what the reference knows of an object.
type modelObject struct {
	uid      string
	owners   []*v1alpha1.OwnerReference
	held     bool
	deleting bool
}

// ownerModel is the reference: what must be left when nothing more is to be collected.
type ownerModel map[string]*modelObject

func (m ownerModel) remove(name string) {
	if o := m[name]; o != nil && o.held {
		o.deleting = true
	} else {
		delete(m, name)
	}
}

func (m ownerModel) settle() {
	for changed := true; changed; {
		changed = false
		live := map[string]bool{"foreign": true}
		for _, o := range m {
			live[o.uid] = true
		}
		for name, o := range m {
			alive := func(r *v1alpha1.OwnerReference) bool { return live[r.GetUid()] }
			if len(o.owners) > 0 && !o.deleting && !slices.ContainsFunc(o.owners, alive) {
				m.remove(name)
				changed = true
			}
		}
	}
}

func (m ownerModel) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s deleting=%t\n", name, m[name].deleting)
	}
	return b.String()
}

// Random graphs with circles, dangling owners and finalizers; random deletions, changes of
// owners and restarts of the collector. After each step exactly what the reference says is
// left: nothing leaks, nothing goes early.
func TestCollectorAgreesWithReference(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { inBubble(t, func() { collectorProperty(rt) }) })
}

// inBubble runs fn in a bubble of its own and hands on its panic, which is how rapid ends
// a run: it must reach the goroutine that rapid is in.
func inBubble(t *testing.T, fn func()) {
	var panicked any
	synctest.Test(t, func(*testing.T) {
		defer func() { panicked = recover() }()
		fn()
	})
	if panicked != nil {
		panic(panicked)
	}
}

func collectorProperty(t *rapid.T) {
	h := &collectorRun{T: t, st: memory.New(kinds.Registry()), model: ownerModel{}}
	defer h.st.Close()
	h.client = runtime.NewClient(h.st)
	for range rapid.IntRange(0, 8).Draw(t, "before the start") {
		h.put()
	}
	h.start()
	defer func() { h.stop() }()
	h.check()
	steps := map[int]func(){0: h.put, 1: h.put, 2: h.put, 3: h.delete, 4: h.delete, 5: h.release, 6: h.restart}
	for range rapid.IntRange(1, 25).Draw(t, "steps") {
		steps[rapid.IntRange(0, len(steps)-1).Draw(t, "step")]()
		h.check()
	}
}

type collectorRun struct {
	*rapid.T
	st     store.Store
	client runtime.Client
	model  ownerModel
	stop   func()
}

var nodeNames = []string{"a", "b", "c", "d", "app-e", "app-f", "app-g", "app-h"}

func (h *collectorRun) start() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	c := runtime.NewCollector(h.st, kinds.Registry(), slog.New(slog.DiscardHandler), nil)
	go func() { c.Run(ctx); close(ended) }()
	h.stop = func() { cancel(); <-ended }
}

// restart has a deletion happen while no collector runs.
func (h *collectorRun) restart() {
	h.stop()
	h.delete()
	h.start()
}

func (h *collectorRun) owners() []*v1alpha1.OwnerReference {
	var refs []*v1alpha1.OwnerReference
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(append(nodeNames, "gone", "foreign")), 0, 3, rapid.ID[string]).Draw(h.T, "owners") {
		r := &v1alpha1.OwnerReference{Kind: "Bridge", Name: name, Uid: name}
		switch o := h.model[name]; {
		case name == "foreign":
			r.Kind = "Deployment"
		case o != nil:
			r.Kind, r.Uid = cmp.Or(map[bool]string{true: "App"}[strings.HasPrefix(name, "app")], "Bridge"), o.uid
		}
		refs = append(refs, r)
	}
	return refs
}

// put creates an object, or gives it other owners: that is how circles come about.
func (h *collectorRun) put() {
	name := rapid.SampledFrom(nodeNames).Draw(h.T, "name")
	held := rapid.Bool().Draw(h.T, "held")
	owners := h.owners()
	old := h.model[name]
	if old == nil {
		out, err := h.client.Create(context.Background(), owned(name, held, owners...))
		if err != nil {
			h.Fatal(err)
		}
		h.model[name] = &modelObject{uid: out.GetMetadata().GetUid(), owners: owners, held: held}
		return
	}
	old.owners = owners
	if _, err := h.client.Update(context.Background(), owned(name, old.held, owners...)); err != nil {
		h.Fatal(err)
	}
}

func (h *collectorRun) delete() {
	name := rapid.SampledFrom(nodeNames).Draw(h.T, "name")
	if h.model[name] == nil {
		return
	}
	if err := h.client.Delete(context.Background(), resource.KeyOf(owned(name, false)), ""); err != nil {
		h.Fatal(err)
	}
	h.model.remove(name)
}

// release takes the finalizer away; an object that waited for it goes.
func (h *collectorRun) release() {
	name := rapid.SampledFrom(nodeNames).Draw(h.T, "name")
	o := h.model[name]
	if o == nil {
		return
	}
	if _, err := h.client.Update(context.Background(), owned(name, false, o.owners...)); err != nil {
		h.Fatal(err)
	}
	if o.held = false; o.deleting {
		delete(h.model, name)
	}
}

func (h *collectorRun) check() {
	synctest.Wait()
	h.model.settle()
	got := ownerModel{}
	for _, kind := range []string{"App", "Bridge"} {
		objs, err := h.client.List(context.Background(), kind, "")
		if err != nil {
			h.Fatal(err)
		}
		for _, o := range objs {
			got[o.GetMetadata().GetName()] = &modelObject{deleting: resource.Deleting(o)}
		}
	}
	if got.String() != h.model.String() {
		h.Fatalf("the store has\n%s\nthe reference has\n%s", got, h.model)
	}
}
