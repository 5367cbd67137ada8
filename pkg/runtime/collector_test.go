package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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

// startCollector runs a collector in a bubble and returns what ends it.
func startCollector(t *testing.T, st store.Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	c := runtime.NewCollector(st, kinds.Registry(), slog.New(slog.DiscardHandler), nil)
	go func() { c.Run(ctx); close(ended) }()
	return func() { cancel(); <-ended }
}

// owned makes a Bridge or, for a name that begins with "app", an App.
func owned(name string, finalizer bool, owners ...*v1alpha1.OwnerReference) resource.Object {
	m := &v1alpha1.ObjectMeta{Name: name, OwnerReferences: owners}
	if finalizer {
		m.Finalizers = []string{"test/hold"}
	}
	if strings.HasPrefix(name, "app") {
		m.Namespace = resource.DefaultNamespace
		return &v1alpha1.App{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"), Metadata: m}
	}
	return &v1alpha1.Bridge{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"), Metadata: m}
}

func ref(o resource.Object) *v1alpha1.OwnerReference {
	return &v1alpha1.OwnerReference{ApiVersion: resource.APIVersion, Kind: o.GetKind(), Name: o.GetMetadata().GetName(), Uid: o.GetMetadata().GetUid()}
}

func mustCreate(t *testing.T, st store.Store, o resource.Object) resource.Object {
	t.Helper()
	out, err := runtime.NewClient(st).Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func mustDelete(t *testing.T, st store.Store, o resource.Object) {
	t.Helper()
	if err := runtime.NewClient(st).Delete(t.Context(), resource.KeyOf(o), ""); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func exists(t *testing.T, st store.Store, o resource.Object) bool {
	t.Helper()
	_, err := st.Get(t.Context(), resource.KeyOf(o))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestCollectorFollowsAChainAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(kinds.Registry())
		defer st.Close()
		defer startCollector(t, st)()
		a := mustCreate(t, st, owned("a", false))
		b := mustCreate(t, st, owned("app-b", false, ref(a)))
		c := mustCreate(t, st, owned("app-c", false, ref(b)))
		free := mustCreate(t, st, owned("app-free", false))
		synctest.Wait()
		mustDelete(t, st, a)
		if exists(t, st, b) || exists(t, st, c) || !exists(t, st, free) {
			t.Errorf("b %t, c %t, free %t", exists(t, st, b), exists(t, st, c), exists(t, st, free))
		}
		events, err := st.List(t.Context(), "Event", store.ListOptions{})
		if err != nil || len(events.Items) != 2 {
			t.Fatalf("%d events (%v)", len(events.Items), err)
		}
		if got := events.Items[0].(*v1alpha1.Event).GetMessage(); got != "deleted, for its owner Bridge a is gone" {
			t.Errorf("the event says %q", got)
		}
	})
}

func TestCollectorWaitsForTheOwnersFinalizer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(kinds.Registry())
		defer st.Close()
		defer startCollector(t, st)()
		a := mustCreate(t, st, owned("a", true))
		b := mustCreate(t, st, owned("b", false, ref(a)))
		mustDelete(t, st, a)
		time.Sleep(time.Hour)
		if !exists(t, st, b) {
			t.Fatal("the dependent went before its owner")
		}
		if _, err := runtime.NewClient(st).Update(t.Context(), owned("a", false)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if exists(t, st, a) || exists(t, st, b) {
			t.Errorf("a %t, b %t", exists(t, st, a), exists(t, st, b))
		}
	})
}

// What this daemon cannot see may exist all the same, and a namespace is admission's.
func TestCollectorLeavesWhatItCannotJudge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(kinds.Registry())
		defer st.Close()
		foreign := mustCreate(t, st, owned("a", false, &v1alpha1.OwnerReference{Kind: "Deployment", ApiVersion: "apps/v1", Name: "x", Uid: "1"}))
		newer := mustCreate(t, st, owned("b", false, &v1alpha1.OwnerReference{Kind: "Bridge", ApiVersion: "proximity/v9", Name: "x", Uid: "1"}))
		unnamed := mustCreate(t, st, owned("c", false, &v1alpha1.OwnerReference{Uid: "1"}))
		namespace := mustCreate(t, st, &v1alpha1.Namespace{
			ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Namespace"),
			Metadata: &v1alpha1.ObjectMeta{Name: "shop", OwnerReferences: []*v1alpha1.OwnerReference{{Kind: "Bridge", Name: "x", Uid: "1"}}},
		})
		dangling := mustCreate(t, st, owned("d", false, &v1alpha1.OwnerReference{Kind: "Bridge", Name: "x", Uid: "1"}))
		defer startCollector(t, st)()
		synctest.Wait()
		for _, o := range []resource.Object{foreign, newer, unnamed, namespace} {
			if !exists(t, st, o) {
				t.Errorf("%s was collected", resource.KeyOf(o))
			}
		}
		if exists(t, st, dangling) {
			t.Error("an owner that is not there when all was seen is gone")
		}
	})
}

// brokenStore fails writes while it is told to, or has something happen just before one.
type brokenStore struct {
	store.Store
	broken atomic.Bool
	before func()
	tried  atomic.Int32
}

func (b *brokenStore) Update(ctx context.Context, fn func(store.Tx) error) (uint64, error) {
	b.tried.Add(1)
	if before := b.before; before != nil {
		b.before = nil
		before()
	}
	if b.broken.Load() {
		return 0, store.ErrUnknownOutcome
	}
	return b.Store.Update(ctx, fn)
}

func TestCollectorTriesAgainWithPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(kinds.Registry())
		defer st.Close()
		dangling := mustCreate(t, st, owned("a", false, &v1alpha1.OwnerReference{Kind: "Bridge", Name: "x", Uid: "1"}))
		broken := &brokenStore{Store: st}
		broken.broken.Store(true)
		defer startCollector(t, broken)()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if tried := broken.tried.Load(); tried < 10 || tried > 30 {
			t.Errorf("%d attempts in ten minutes", tried)
		}
		broken.broken.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if exists(t, st, dangling) {
			t.Error("it was not collected when the store took writes again")
		}
	})
}

// An object that gets another owner between the decision and the deletion stays.
func TestCollectorSeesAnOwnerThatComesInBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(kinds.Registry())
		defer st.Close()
		a := mustCreate(t, st, owned("a", false))
		b := mustCreate(t, st, owned("b", false, ref(a)))
		other := mustCreate(t, st, owned("other", false))
		late := &brokenStore{Store: st, before: func() {
			if _, err := runtime.NewClient(st).Update(context.Background(), owned("b", false, ref(a), ref(other))); err != nil {
				t.Error(err)
			}
		}}
		defer startCollector(t, late)()
		synctest.Wait()
		mustDelete(t, st, a)
		if late.tried.Load() == 0 || !exists(t, st, b) {
			t.Errorf("after %d attempts b exists: %t", late.tried.Load(), exists(t, st, b))
		}
		mustDelete(t, st, other)
		if exists(t, st, b) {
			t.Error("b outlives its last owner")
		}
	})
}

func TestCollectorDeletesMoreThanABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New(kinds.Registry())
		defer st.Close()
		defer startCollector(t, st)()
		root := mustCreate(t, st, owned("root", false))
		for i := range 500 {
			mustCreate(t, st, owned(fmt.Sprintf("app%d", i), false, ref(root)))
		}
		mustDelete(t, st, root)
		left, err := st.List(t.Context(), "App", store.ListOptions{})
		if err != nil || len(left.Items) != 0 {
			t.Errorf("%d are left (%v)", len(left.Items), err)
		}
	})
}
