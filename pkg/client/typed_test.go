package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/server/servertest"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

func serve(t *testing.T) *client.Client {
	t.Helper()
	st := memory.New(kinds.Registry())
	srv, err := servertest.New(t.TempDir(), st, kinds.Registry())
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := srv.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), srv.Stop(), st.Close()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func appWith(name string, spec *v1alpha1.AppSpec) *v1alpha1.App {
	return &v1alpha1.App{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{Namespace: "default", Name: name}, Spec: spec,
	}
}

// TestTyped goes through the verbs of a typed client, against the real server.
func TestTyped(t *testing.T) {
	ctx := t.Context()
	apps := client.For[*v1alpha1.App](serve(t))
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dry, err := apps.Create(ctx, appWith("a", nil), client.DryRun())
	check(err)
	if _, err := apps.Get(ctx, "default", "a"); !errors.Is(err, client.ErrNotFound) || dry.GetSpec().GetHostname() != "a" {
		t.Fatalf("dry run: %v, %v", dry, err)
	}
	a, err := apps.Create(ctx, appWith("a", nil), client.ManagedBy("maker"))
	check(err)
	if _, err := apps.Create(ctx, appWith("a", nil)); !errors.Is(err, client.ErrAlreadyExists) {
		t.Fatalf("got %v", err)
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	w, err := apps.Watch(watching, client.WatchOptions{ResourceVersion: a.GetMetadata().GetResourceVersion()})
	check(err)

	stale := resource.Clone(a)
	a.Spec.Node = proto.String("pve1")
	a, err = apps.Update(ctx, a, client.ManagedBy("updater"))
	check(err)
	stale.Spec.Node = proto.String("pve2")
	if _, err := apps.Update(ctx, stale); !errors.Is(err, client.ErrConflict) {
		t.Fatalf("got %v", err)
	}
	a.Status = &v1alpha1.AppStatus{State: proto.String("Running")}
	_, err = apps.UpdateStatus(ctx, a)
	check(err)
	a, err = apps.Patch(ctx, "default", "a", client.MergePatch, []byte(`{"metadata":{"labels":{"tier":"web"}}}`), client.PatchOptions{Manager: "patcher"})
	check(err)
	_, outcome, err := apps.Apply(ctx, appWith("a", &v1alpha1.AppSpec{Suspend: proto.Bool(false)}), client.ApplyOptions{Manager: "applier"})
	check(err)
	if outcome != "configured" {
		t.Errorf("outcome %s", outcome)
	}
	_, _, err = apps.Apply(ctx, appWith("a", &v1alpha1.AppSpec{Node: proto.String("pve3")}), client.ApplyOptions{Manager: "applier"})
	if !errors.Is(err, client.ErrConflict) || !strings.Contains(err.Error(), "updater") {
		t.Errorf("got %v", err)
	}
	for range 3 {
		ev, err := w.Next()
		check(err)
		if ev.Type != client.Modified || ev.Object.GetMetadata().GetName() != "a" {
			t.Fatalf("got %v", ev)
		}
	}
	for n := range 4 {
		_, err := apps.Create(ctx, appWith(fmt.Sprint("b", n), nil))
		check(err)
	}
	list, err := apps.List(ctx, client.ListOptions{Namespace: "default", Limit: 2})
	check(err)
	if len(list.Items) != 5 || list.Items[0].GetMetadata().GetLabels()["tier"] != "web" || list.ResourceVersion == "" {
		t.Errorf("got %d items at %q", len(list.Items), list.ResourceVersion)
	}
	if list, err = apps.List(ctx, client.ListOptions{LabelSelector: "tier=web"}); err != nil || len(list.Items) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
	if _, err := apps.Delete(ctx, "default", "a", "another uid"); !errors.Is(err, client.ErrConflict) {
		t.Errorf("got %v", err)
	}
	if _, err := apps.Delete(ctx, "default", "a", "", client.IfVersion("1")); !errors.Is(err, client.ErrConflict) {
		t.Errorf("got %v", err)
	}
	_, err = apps.Delete(ctx, "default", "a", a.GetMetadata().GetUid(), client.DryRun())
	check(err)
	_, err = apps.Delete(ctx, "default", "a", a.GetMetadata().GetUid())
	check(err)
	if _, err := apps.Get(ctx, "default", "a"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	enough := errors.New("enough")
	seen := 0
	err = apps.Follow(ctx, client.WatchOptions{}, func(ev client.EventOf[*v1alpha1.App]) error {
		if seen++; ev.Type == client.Bookmark {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || seen != 5 {
		t.Errorf("got %v after %d events", err, seen)
	}
}

// TestTypedUnknownKind: a message that is no kind of the registry is an error of every call.
func TestTypedUnknownKind(t *testing.T) {
	reg, err := resource.NewRegistry(resource.Definition{Message: &v1alpha1.Bridge{}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Address: "127.0.0.1:1", Token: "x", Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	apps, ctx := client.For[*v1alpha1.App](c), t.Context()
	_, e1 := apps.Get(ctx, "default", "a")
	_, e2 := apps.List(ctx, client.ListOptions{})
	_, e3 := apps.Create(ctx, appWith("a", nil))
	_, e4 := apps.Update(ctx, appWith("a", nil))
	_, e5 := apps.UpdateStatus(ctx, appWith("a", nil))
	_, _, e6 := apps.Apply(ctx, appWith("a", nil), client.ApplyOptions{})
	_, e7 := apps.Patch(ctx, "default", "a", client.MergePatch, nil, client.PatchOptions{})
	_, e8 := apps.Delete(ctx, "default", "a", "")
	_, e9 := apps.Watch(ctx, client.WatchOptions{})
	e10 := apps.Follow(ctx, client.WatchOptions{}, nil)
	for n, err := range []error{e1, e2, e3, e4, e5, e6, e7, e8, e9, e10} {
		if !errors.Is(err, resource.ErrUnknownKind) {
			t.Errorf("call %d: %v", n+1, err)
		}
	}
}
