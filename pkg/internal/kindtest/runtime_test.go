package kindtest_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/internal/kindtest"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/store"
)

// mounter is the controller package that a kind costs: it mounts the parts.
type mounter struct{}

func (mounter) Reconcile(_ context.Context, s *runtime.Session[*kindtest.Gadget]) (runtime.Result, error) {
	if s.Object.Status == nil {
		s.Object.Status = &kindtest.GadgetStatus{}
	}
	s.Object.Status.PartCount = proto.Int32(int32(len(s.Object.GetSpec().GetParts())))
	s.True("Mounted", "Mounted", "all parts are mounted")
	return runtime.Result{}, nil
}

func (mounter) Finalize(context.Context, *runtime.Session[*kindtest.Gadget]) (runtime.Result, error) {
	return runtime.Result{}, nil
}

// control runs the controller and the collector until the test ends.
func (w *world) control() {
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.DiscardHandler)
	c := runtime.New(runtime.Options[*kindtest.Gadget]{Kind: "Gadget", Finalizer: "test/gadget", Reconciler: mounter{}, Ready: []string{"Mounted"}})
	var wg sync.WaitGroup
	wg.Go(func() { runtime.NewManager(w.st, log, nil, c).Run(ctx) })
	wg.Go(func() { runtime.NewCollector(w.st, kindtest.Registry(), log, nil).Run(ctx) })
	w.Cleanup(func() { cancel(); wg.Wait() })
}

func (w *world) until(what string, ok func() bool) {
	w.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("%s did not come true", what)
		}
	}
}

// TestRuntime: a controller writes the status, its finalizer delays deletion, and what the
// object owns goes after it.
func TestRuntime(t *testing.T) {
	w, ctx := start(t), t.Context()
	w.control()
	g := kindtest.New("owner")
	g.Spec.Parts = []*kindtest.GadgetPart{{Name: proto.String("a")}, {Name: proto.String("b")}}
	owner, err := w.gadgets.Create(ctx, g)
	w.check(err)
	w.until("Ready", func() bool {
		now, err := w.gadgets.Get(ctx, "default", "owner")
		w.check(err)
		return resource.IsReady(now) && now.GetStatus().GetPartCount() == 2 && len(now.GetMetadata().GetFinalizers()) == 1
	})
	owned := kindtest.New("owned")
	owned.Metadata.OwnerReferences = []*v1alpha1.OwnerReference{{ApiVersion: resource.APIVersion, Kind: "Gadget", Name: "owner", Uid: owner.GetMetadata().GetUid()}}
	_, err = w.gadgets.Create(ctx, owned)
	w.check(err)
	_, err = w.gadgets.Delete(ctx, "default", "owner", "")
	w.check(err)
	for _, name := range []string{"owner", "owned"} {
		w.until(name+" is gone", func() bool {
			_, err := w.gadgets.Get(ctx, "default", name)
			return errors.Is(err, client.ErrNotFound)
		})
	}
}

// TestStore: the store keeps the kind like any other.
func TestStore(t *testing.T) {
	w, ctx := start(t), t.Context()
	watch, err := w.st.Watch(ctx, store.WatchOptions{Kind: "Gadget", From: w.st.Revision()})
	w.check(err)
	defer watch.Stop()
	_, err = w.st.Update(ctx, func(tx store.Tx) error { _, err := tx.Create(kindtest.New("s")); return err })
	w.check(err)
	snap, err := w.st.List(ctx, "Gadget", store.ListOptions{Namespace: "default"})
	w.check(err)
	if ev := <-watch.Events(); len(snap.Items) != 1 || ev.Type != store.Added || ev.Object.GetMetadata().GetName() != "s" {
		t.Errorf("got %v, %v", snap.Items, ev)
	}
}
