package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// graphsEnv sets the number of graphs; the default is for make test.
const graphsEnv = "PROXIMITY_GRAPHS"

// Random graphs of owners, with circles, whose controller needs several tries to take down
// what it has made outside, while several callers delete and change objects at once. An
// object must not go before its outside has, everything that has lost all its owners goes,
// nothing else does, and nothing is left outside.
func TestDeletionOfRandomGraphs(t *testing.T) {
	graphs := 3000
	if raced {
		graphs = 100
	}
	if n, err := strconv.Atoi(os.Getenv(graphsEnv)); err == nil {
		graphs = n
	}
	done := 0
	for done < graphs {
		rapid.Check(t, func(rt *rapid.T) {
			done++
			g := drawGraph(rt)
			inBubble(t, func() { g.run(rt) })
		})
	}
	t.Logf("%d graphs", done)
}

// ownerGraphPlan is a graph and what happens to it, drawn before it begins.
type ownerGraphPlan struct {
	owners  [][]int // of each object, by number
	tries   []int   // what taking down the outside of each takes
	fails   []int   // how: which of the outcomes comes first
	deletes []deed
	changes []deed
}

// deed is something that is done to an object at a time.
type deed struct {
	object int
	after  time.Duration
}

func drawGraph(t *rapid.T) ownerGraphPlan {
	n := rapid.IntRange(2, 9).Draw(t, "objects")
	number := rapid.IntRange(0, n-1)
	deeds := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) deed {
		return deed{number.Draw(t, "object"), time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond}
	}), 1, 6)
	g := ownerGraphPlan{deletes: deeds.Draw(t, "deletes"), changes: deeds.Draw(t, "changes")}
	for range n {
		g.owners = append(g.owners, rapid.SliceOfNDistinct(number, 0, 3, rapid.ID[int]).Draw(t, "owners"))
		g.tries = append(g.tries, rapid.IntRange(0, 4).Draw(t, "tries"))
		g.fails = append(g.fails, rapid.IntRange(0, 2).Draw(t, "fails"))
	}
	return g
}

// left says what must be there at the end.
func (g ownerGraphPlan) left() []string {
	gone := map[int]bool{}
	for _, d := range g.deletes {
		gone[d.object] = true
	}
	for changed := true; changed; {
		changed = false
		for i, owners := range g.owners {
			alive := func(o int) bool { return !gone[o] }
			if !gone[i] && len(owners) > 0 && !slices.ContainsFunc(owners, alive) {
				gone[i], changed = true, true
			}
		}
	}
	names := []string{}
	for i := range g.owners {
		if !gone[i] {
			names = append(names, nameOf(i))
		}
	}
	return names
}

func nameOf(i int) string { return fmt.Sprintf("b%d", i) }

// outside is what the controller has made, by uid: what is left to be taken down.
type outside struct {
	mu    sync.Mutex
	parts map[string]int
	fails map[string]int
	plan  ownerGraphPlan
}

func (o *outside) Reconcile(_ context.Context, s *runtime.Session[*v1alpha1.Bridge]) (runtime.Result, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := s.Object.GetMetadata()
	if _, there := o.parts[m.GetUid()]; !there {
		i, _ := strconv.Atoi(m.GetName()[1:])
		o.parts[m.GetUid()], o.fails[m.GetUid()] = o.plan.tries[i], o.plan.fails[i]
	}
	s.True("Active", "Active", "it is up")
	return runtime.Result{}, nil
}

// Finalize makes a little progress with each try, and ends them in every way there is.
func (o *outside) Finalize(_ context.Context, s *runtime.Session[*v1alpha1.Bridge]) (runtime.Result, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	uid := s.Object.GetMetadata().GetUid()
	left := o.parts[uid]
	if left == 0 {
		delete(o.parts, uid)
		return runtime.Result{}, nil
	}
	o.parts[uid] = left - 1
	switch (left + o.fails[uid]) % 3 {
	case 0:
		return runtime.Result{RequeueAfter: time.Second}, nil
	case 1:
		return runtime.Result{}, runtime.Waiting(time.Second, "InUse", "it takes a while")
	}
	return runtime.Result{}, errors.New("no answer")
}

func (o *outside) has(uid string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, there := o.parts[uid]
	return there
}

func (g ownerGraphPlan) run(t *rapid.T) {
	st := memory.New(kinds.Registry())
	defer st.Close()
	out := &outside{parts: map[string]int{}, fails: map[string]int{}, plan: g}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer func() { cancel(); running.Wait() }()
	quiet := slog.New(slog.DiscardHandler)
	manager := runtime.NewManager(st, quiet, nil, runtime.New(runtime.Options[*v1alpha1.Bridge]{
		Kind: "Bridge", Finalizer: "test/bridge", Reconciler: out, Ready: []string{"Active"}, Resync: time.Hour,
	}))
	running.Go(func() { manager.Run(ctx) })
	collector := runtime.NewCollector(st, kinds.Registry(), quiet, nil)
	running.Go(func() { collector.Run(ctx) })

	uids := g.make(t, st)
	synctest.Wait()
	early := g.watch(ctx, &running, st, out)
	var deeds sync.WaitGroup
	for _, d := range g.deletes {
		deeds.Go(func() { time.Sleep(d.after); remove(st, nameOf(d.object)) })
	}
	for i, d := range g.changes {
		deeds.Go(func() { time.Sleep(d.after); relabel(st, nameOf(d.object), i) })
	}
	deeds.Wait()
	time.Sleep(time.Hour) // all retries, with their backoff
	synctest.Wait()
	if name := early(); name != "" {
		t.Fatalf("%s went before what was made for it", name)
	}
	want := g.left()
	var got, outsideOf []string
	list, err := st.List(ctx, "Bridge", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list.Items {
		got = append(got, o.GetMetadata().GetName())
	}
	for name, uid := range uids {
		if out.has(uid) {
			outsideOf = append(outsideOf, name)
		}
	}
	slices.Sort(outsideOf)
	if fmt.Sprint(got) != fmt.Sprint(want) || fmt.Sprint(outsideOf) != fmt.Sprint(want) || len(out.parts) != len(want) {
		t.Fatalf("left are %v and outside %v, want %v", got, outsideOf, want)
	}
}

// make creates the objects, then makes them one another's owners.
func (g ownerGraphPlan) make(t *rapid.T, st store.Store) map[string]string {
	uids := map[string]string{}
	_, err := st.Update(context.Background(), func(tx store.Tx) error {
		for i := range g.owners {
			o, err := tx.Create(bridgeNamed(nameOf(i)))
			if err != nil {
				return err
			}
			uids[nameOf(i)] = o.GetMetadata().GetUid()
		}
		for i, owners := range g.owners {
			b := bridgeNamed(nameOf(i))
			for _, o := range owners {
				b.Metadata.OwnerReferences = append(b.Metadata.OwnerReferences,
					&v1alpha1.OwnerReference{ApiVersion: resource.APIVersion, Kind: "Bridge", Name: nameOf(o), Uid: uids[nameOf(o)]})
			}
			if _, err := tx.Update(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return uids
}

func bridgeNamed(name string) *v1alpha1.Bridge {
	return &v1alpha1.Bridge{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"),
		Metadata: &v1alpha1.ObjectMeta{Name: name}, Spec: &v1alpha1.BridgeSpec{Subnet: proto.String("10.0.0.0/24")},
	}
}

// watch looks at every deletion; the function it returns names an object that went early.
func (g ownerGraphPlan) watch(ctx context.Context, running *sync.WaitGroup, st store.Store, out *outside) func() string {
	var mu sync.Mutex
	var early string
	w, err := st.Watch(ctx, store.WatchOptions{From: st.Revision(), Kind: "Bridge"})
	if err != nil {
		return func() string { return err.Error() }
	}
	running.Go(func() {
		for ev := range w.Events() {
			if ev.Type == store.Deleted && out.has(ev.Object.GetMetadata().GetUid()) {
				mu.Lock()
				early = ev.Object.GetMetadata().GetName()
				mu.Unlock()
			}
		}
	})
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return early
	}
}

// remove deletes an object that may be going or gone.
func remove(st store.Store, name string) {
	_, _ = st.Update(context.Background(), func(tx store.Tx) error {
		_, err := tx.Delete(resource.Key{Kind: "Bridge", Name: name}, store.Preconditions{})
		return err
	})
}

// relabel changes an object that may be going or gone, and keeps its finalizers.
func relabel(st store.Store, name string, n int) {
	_, _ = st.Update(context.Background(), func(tx store.Tx) error {
		cur, err := tx.Get(resource.Key{Kind: "Bridge", Name: name})
		if err != nil {
			return err
		}
		next := resource.Clone(cur)
		next.GetMetadata().Labels = map[string]string{"n": strconv.Itoa(n)}
		_, err = tx.Update(next)
		return err
	})
}
