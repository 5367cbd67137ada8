package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// fake is a reconciler whose steps a test sets.
type fake struct {
	reconcile func(ctx context.Context, s *runtime.Session[*v1alpha1.Bridge]) (runtime.Result, error)
	finalize  func(ctx context.Context, s *runtime.Session[*v1alpha1.Bridge]) (runtime.Result, error)
	calls     atomic.Int32
}

func (f *fake) Reconcile(ctx context.Context, s *runtime.Session[*v1alpha1.Bridge]) (runtime.Result, error) {
	f.calls.Add(1)
	return f.reconcile(ctx, s)
}

func (f *fake) Finalize(ctx context.Context, s *runtime.Session[*v1alpha1.Bridge]) (runtime.Result, error) {
	return f.finalize(ctx, s)
}

func healthy(_ context.Context, s *runtime.Session[*v1alpha1.Bridge]) (runtime.Result, error) {
	s.True("Active", "Active", "it is up")
	return runtime.Result{}, nil
}

func done(context.Context, *runtime.Session[*v1alpha1.Bridge]) (runtime.Result, error) {
	return runtime.Result{}, nil
}

// world is a store with one running controller for bridges, in a synctest bubble.
type world struct {
	t    *testing.T
	st   store.Store
	stop func()
}

func run(t *testing.T, f *fake, watches ...runtime.Watch) *world {
	t.Helper()
	st := memory.New(kinds.Registry())
	c := runtime.New(runtime.Options[*v1alpha1.Bridge]{
		Kind: "Bridge", Finalizer: "test/bridge", Reconciler: f, Ready: []string{"Active"}, Resync: time.Minute, Watches: watches,
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	m := runtime.NewManager(st, slog.New(slog.DiscardHandler), nil, c)
	go func() { m.Run(ctx); close(ended) }()
	w := &world{t: t, st: st}
	w.stop = func() {
		cancel()
		<-ended
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
	return w
}

func (w *world) update(fn func(tx store.Tx) error) {
	w.t.Helper()
	if _, err := w.st.Update(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

func (w *world) create() {
	w.t.Helper()
	w.update(func(tx store.Tx) error {
		_, err := tx.Create(&v1alpha1.Bridge{
			ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"),
			Metadata: &v1alpha1.ObjectMeta{Name: "lan"}, Spec: &v1alpha1.BridgeSpec{Subnet: proto.String("10.0.0.0/24")},
		})
		return err
	})
}

var key = resource.Key{Kind: "Bridge", Name: "lan"}

func (w *world) get() resource.Object {
	w.t.Helper()
	obj, err := w.st.Get(w.t.Context(), key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return obj
}

func (w *world) condition(typ string) string {
	w.t.Helper()
	c := resource.FindCondition(w.get(), typ)
	return c.GetStatus() + " " + c.GetReason()
}

func TestReadyIsComputedAndQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{reconcile: healthy, finalize: done}
		w := run(t, f)
		defer w.stop()
		w.create()
		if got := w.condition("Ready"); got != "True Ready" {
			t.Errorf("Ready is %q", got)
		}
		if fin := w.get().GetMetadata().GetFinalizers(); len(fin) != 1 {
			t.Errorf("finalizers %v", fin)
		}
		if !resource.IsReady(w.get()) {
			t.Error("IsReady is false")
		}
		calls, rev := f.calls.Load(), w.st.Revision()
		if calls != 1 {
			t.Errorf("%d reconciles for one creation: own writes trigger", calls)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := f.calls.Load() - calls; n != 60 {
			t.Errorf("%d reconciles in an hour with a resync of a minute", n)
		}
		if w.st.Revision() != rev {
			t.Errorf("%d writes in a quiet hour", w.st.Revision()-rev)
		}
	})
}

func TestErrorClasses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		err     error
		ready   string
		stalled string
		within  time.Duration // of the second try
	}{
		{"waiting", runtime.Waiting(3*time.Second, "NotYet", "not yet"), "False NotYet", " ", 4 * time.Second},
		{"stalled", runtime.Stalled("Taken", "taken"), "False Taken", "True Taken", 61 * time.Second},
		{"wrapped stalled", fmt.Errorf("step: %w", runtime.Stalled("Taken", "taken")), "False Taken", "True Taken", 61 * time.Second},
		{"transient", errors.New("boom"), "False Retrying", " ", time.Second},
		{"conflict", fmt.Errorf("save: %w", runtime.ErrConflict), "False Retrying", " ", time.Second},
		{"panic", nil, "False Retrying", " ", time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var fail atomic.Bool
				fail.Store(true)
				f := &fake{finalize: done}
				f.reconcile = func(ctx context.Context, s *runtime.Session[*v1alpha1.Bridge]) (runtime.Result, error) {
					switch {
					case !fail.Load():
						return healthy(ctx, s)
					case tc.err == nil:
						panic("a bug")
					}
					return runtime.Result{}, tc.err
				}
				w := run(t, f)
				defer w.stop()
				w.create()
				if got := w.condition("Ready"); got != tc.ready {
					t.Errorf("Ready is %q, want %q", got, tc.ready)
				}
				if got := w.condition("Stalled"); got != tc.stalled {
					t.Errorf("Stalled is %q, want %q", got, tc.stalled)
				}
				fail.Store(false)
				time.Sleep(tc.within)
				synctest.Wait()
				if got := w.condition("Ready"); got != "True Ready" {
					t.Errorf("after the fault Ready is %q", got)
				}
				if got := w.condition("Stalled"); got != " " {
					t.Errorf("after the fault Stalled is %q", got)
				}
			})
		})
	}
}

func TestStalledIsLookedAtAgainOnlyOnResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{finalize: done}
		f.reconcile = func(context.Context, *runtime.Session[*v1alpha1.Bridge]) (runtime.Result, error) {
			return runtime.Result{}, runtime.Stalled("Taken", "taken")
		}
		w := run(t, f)
		defer w.stop()
		w.create()
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		if n := f.calls.Load(); n != 11 {
			t.Errorf("%d reconciles in ten minutes", n)
		}
	})
}

func TestBackoffGrowsToItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{finalize: done}
		f.reconcile = func(context.Context, *runtime.Session[*v1alpha1.Bridge]) (runtime.Result, error) {
			return runtime.Result{}, errors.New("down")
		}
		w := run(t, f)
		defer w.stop()
		w.create()
		time.Sleep(time.Hour)
		synctest.Wait()
		// Nine tries in the first minute, then one every 30 s.
		if n := f.calls.Load(); n < 120 || n > 132 {
			t.Errorf("%d tries in an hour", n)
		}
	})
}

func TestDeletionWaitsForTheFinalizer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inUse atomic.Bool
		inUse.Store(true)
		f := &fake{reconcile: healthy}
		f.finalize = func(context.Context, *runtime.Session[*v1alpha1.Bridge]) (runtime.Result, error) {
			if inUse.Load() {
				return runtime.Result{}, runtime.Waiting(time.Second, "InUse", "somebody uses it")
			}
			return runtime.Result{}, nil
		}
		w := run(t, f)
		defer w.stop()
		w.create()
		w.update(func(tx store.Tx) error { _, err := tx.Delete(key, store.Preconditions{}); return err })
		if got := w.condition("Ready"); got != "False InUse" {
			t.Errorf("Ready is %q", got)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if w.get() == nil {
			t.Fatal("it went although it is in use")
		}
		inUse.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if w.get() != nil {
			t.Error("it is still there")
		}
	})
}

func TestSuspendStopsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{reconcile: healthy, finalize: done}
		w := run(t, f)
		defer w.stop()
		w.create()
		setSuspend := func(v bool) {
			w.update(func(tx store.Tx) error {
				cur, err := tx.Get(key)
				if err != nil {
					return err
				}
				b := resource.Clone(cur).(*v1alpha1.Bridge)
				b.Spec.Suspend = proto.Bool(v)
				_, err = tx.Update(b)
				return err
			})
		}
		setSuspend(true)
		calls := f.calls.Load()
		if got := w.condition("Ready"); got != "Unknown Suspended" {
			t.Errorf("Ready is %q", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if f.calls.Load() != calls {
			t.Error("a suspended object was reconciled")
		}
		w.update(func(tx store.Tx) error { _, err := tx.Delete(key, store.Preconditions{}); return err })
		if w.get() == nil {
			t.Error("a suspended object was deleted")
		}
		setSuspend(false)
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if w.get() != nil {
			t.Error("it is still there after the suspension ended")
		}
	})
}

func TestWatchesTriggerByMapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{reconcile: healthy, finalize: done}
		w := run(t, f, runtime.Watch{Kind: "Namespace", Map: func(context.Context, runtime.Client, resource.Object) []resource.Key {
			return []resource.Key{key}
		}})
		defer w.stop()
		w.create()
		calls := f.calls.Load()
		w.update(func(tx store.Tx) error {
			_, err := tx.Create(&v1alpha1.Namespace{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Namespace"), Metadata: &v1alpha1.ObjectMeta{Name: "n"}})
			return err
		})
		if f.calls.Load() != calls+1 {
			t.Errorf("%d reconciles after a change of a watched kind", f.calls.Load()-calls)
		}
	})
}

// A change of what nobody reads of a watched object triggers nobody; one that comes and goes does.
func TestWatchesOfWhatIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{reconcile: healthy, finalize: done}
		w := run(t, f, runtime.Watch{
			Kind:  "Namespace",
			Map:   func(context.Context, runtime.Client, resource.Object) []resource.Key { return []resource.Key{key} },
			Reads: func(o resource.Object) string { return o.GetMetadata().GetLabels()["read"] },
		})
		defer w.stop()
		w.create()
		label := func(value, other string) func(tx store.Tx) error {
			return func(tx store.Tx) error {
				o, err := tx.Get(resource.Key{Kind: "Namespace", Name: "n"})
				if err != nil {
					return err
				}
				n := resource.Clone(o)
				n.GetMetadata().Labels = map[string]string{"read": value, "other": other}
				_, err = tx.Update(n)
				return err
			}
		}
		for _, step := range []struct {
			what   string
			do     func(tx store.Tx) error
			awakes int64
		}{
			{"it is made", func(tx store.Tx) error {
				_, err := tx.Create(&v1alpha1.Namespace{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Namespace"), Metadata: &v1alpha1.ObjectMeta{Name: "n"}})
				return err
			}, 1},
			{"something else changes", label("", "x"), 0},
			{"what is read changes", label("1", "x"), 1},
			{"something else changes again", label("1", "y"), 0},
			{"it goes", func(tx store.Tx) error {
				_, err := tx.Delete(resource.Key{Kind: "Namespace", Name: "n"}, store.Preconditions{})
				return err
			}, 1},
		} {
			calls := int64(f.calls.Load())
			w.update(step.do)
			if n := int64(f.calls.Load()) - calls; n != step.awakes {
				t.Errorf("%s: %d reconciles, want %d", step.what, n, step.awakes)
			}
		}
	})
}

func TestEventsAreCountedAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(kinds.Registry())
		defer st.Close()
		c := runtime.NewClient(st)
		rec := runtime.NewRecorder(c, "test", slog.New(slog.DiscardHandler))
		b := &v1alpha1.Bridge{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"), Metadata: &v1alpha1.ObjectMeta{Name: "lan", Uid: "u"}}
		for range 5 {
			rec.Event(t.Context(), b, "Normal", "Same", "the same")
			time.Sleep(11 * time.Second)
		}
		list := func() []*v1alpha1.Event {
			evs, err := runtime.List[*v1alpha1.Event](t.Context(), c, "Event", resource.SystemNamespace)
			if err != nil {
				t.Fatal(err)
			}
			return evs
		}
		if evs := list(); len(evs) != 1 || evs[0].GetCount() != 5 {
			t.Errorf("events %v", evs)
		}
		rev := st.Revision()
		for range 100 {
			rec.Event(t.Context(), b, "Normal", "Burst", "many at once")
		}
		if n := st.Revision() - rev; n != 1 {
			t.Errorf("a burst of equal events made %d writes", n)
		}
		for i := range 1200 {
			rec.Event(t.Context(), b, "Normal", "Other", fmt.Sprint("number ", i))
		}
		if n := len(list()); n != 1000 {
			t.Errorf("%d events are kept", n)
		}
	})
}

func TestReadyTransitionsAreEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		f := &fake{finalize: done}
		f.reconcile = func(ctx context.Context, s *runtime.Session[*v1alpha1.Bridge]) (runtime.Result, error) {
			if down.Load() {
				s.False("Active", "LinkDown", "the link is down")
				return runtime.Result{}, nil
			}
			return healthy(ctx, s)
		}
		w := run(t, f)
		defer w.stop()
		w.create()
		reasons := func() (out []string) {
			snap, err := w.st.List(t.Context(), "Event", store.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range snap.Items {
				out = append(out, o.(*v1alpha1.Event).GetReason()+": "+o.(*v1alpha1.Event).GetMessage())
			}
			slices.Sort(out)
			return out
		}
		if got := reasons(); len(got) != 1 || got[0] != "Ready: everything is as declared" {
			t.Errorf("events %q", got)
		}
		down.Store(true)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if got := reasons(); len(got) != 2 || got[0] != "NotReady: the link is down" {
			t.Errorf("events %q", got)
		}
	})
}
