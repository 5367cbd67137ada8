package apply_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

func newObject[T resource.Object](f *fixture, kind, namespace, name string) T {
	f.Helper()
	k, ok := f.reg.Get(kind)
	if !ok {
		f.Fatalf("no kind %s", kind)
	}
	obj := k.New().(T)
	obj.GetMetadata().Namespace, obj.GetMetadata().Name = namespace, name
	return obj
}

func TestCreateAdmits(t *testing.T) {
	f := newFixture(t)
	app := newObject[*v1alpha1.App](f, "App", "", "web")
	app.Metadata.Uid, app.Metadata.Generation = "mine", 9
	app.Status = &v1alpha1.AppStatus{State: proto.String("Running")}
	created, err := f.Create(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	m := created.GetMetadata()
	if m.GetNamespace() != "default" || m.GetUid() == "mine" || m.GetUid() == "" || m.GetGeneration() != 1 {
		t.Errorf("metadata: %v", m)
	}
	if got := created.(*v1alpha1.App); got.GetStatus() != nil || got.GetSpec().GetState() != "Running" {
		t.Errorf("got %v", got)
	}
	if app.Spec != nil {
		t.Error("the caller's object was changed")
	}
	if _, err := f.Create(t.Context(), app); !errors.Is(err, store.ErrAlreadyExists) {
		t.Errorf("again: got %v, want already exists", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	f := newFixture(t)
	tests := []struct {
		name string
		obj  resource.Object
		want string
	}{
		{"no name", newObject[*v1alpha1.App](f, "App", "default", ""), "metadata.name: missing"},
		{"unknown namespace", newObject[*v1alpha1.App](f, "App", "shop", "a"), `metadata.namespace: found "shop"`},
		{"bad spec", newObject[*v1alpha1.Bridge](f, "Bridge", "", "lan"), "spec.subnet: missing"},
		{"system kind", newObject[*v1alpha1.Event](f, "Event", "default", "e"), `kind: found "Event"`},
		{"kind that lies", &v1alpha1.App{Kind: proto.String("Bridge"), Metadata: &v1alpha1.ObjectMeta{Name: "x"}}, "unknown kind"},
		{"nothing", &v1alpha1.App{}, "metadata.name: missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := f.st.Revision()
			if _, err := f.Create(t.Context(), tt.obj); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s...", err, tt.want)
			}
			if f.st.Revision() != before {
				t.Error("it was stored")
			}
		})
	}
}

func TestSystemApplierWritesEvents(t *testing.T) {
	f := newFixture(t)
	event := newObject[*v1alpha1.Event](f, "Event", "default", "e")
	event.Type = "Normal"
	if _, err := f.System().Create(t.Context(), event); err != nil {
		t.Error(err)
	}
	bad := newObject[*v1alpha1.Event](f, "Event", "default", "f")
	bad.Type = "Strange"
	if _, err := f.System().Create(t.Context(), bad); err == nil {
		t.Error("an event of an unknown type was stored")
	}
}

func TestUpdate(t *testing.T) {
	f := newFixture(t)
	f.mustApply(doc("Bridge", "lan", lanBridge) + doc("Appliance", "net", appliance))
	update := func(name string, change func(*v1alpha1.Bridge), want string) {
		t.Run(name, func(t *testing.T) {
			b := f.get("Bridge", "", "lan").(*v1alpha1.Bridge)
			change(b)
			saved, err := f.Update(t.Context(), b)
			switch {
			case want == "" && err != nil:
				t.Error(err)
			case want == "" && saved.GetMetadata().GetUid() == "":
				t.Error("no object came back")
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
	update("spec", func(b *v1alpha1.Bridge) { b.Spec.Mtu = proto.Int32(1400) }, "")
	update("defaults come back", func(b *v1alpha1.Bridge) { b.Spec.InterfaceName = nil }, "")
	update("bad value", func(b *v1alpha1.Bridge) { b.Spec.Mtu = proto.Int32(1) }, "spec.mtu: found \"1\"")
	update("immutable", func(b *v1alpha1.Bridge) { b.Spec.InterfaceName = proto.String("other") }, `spec.interfaceName: found "other"; allowed is "lan"`)
	update("bad label", func(b *v1alpha1.Bridge) { b.Metadata.Labels = map[string]string{"a b": "c"} }, "metadata.labels[a b]")
	update("stale", func(b *v1alpha1.Bridge) { b.Metadata.ResourceVersion = "1" }, "conflict")
	update("other uid", func(b *v1alpha1.Bridge) { b.Metadata.Uid = "x" }, "uid cannot be changed")
	update("away from its appliance", func(b *v1alpha1.Bridge) { b.Spec.Subnet = proto.String("10.9.0.0/24") }, "spec.subnet: found")
	if f.get("Bridge", "", "lan").(*v1alpha1.Bridge).GetSpec().GetInterfaceName() != "lan" {
		t.Error("the default was not filled in")
	}
}

// An object that is no longer valid by today's rules can still lose its finalizer and get
// a status.
func TestUpdateOfAnObjectThatIsInvalidToday(t *testing.T) {
	f := newFixture(t)
	old := newObject[*v1alpha1.Bridge](f, "Bridge", "", "old")
	old.Metadata.Finalizers = []string{"proximity/bridge"}
	old.Spec = &v1alpha1.BridgeSpec{Subnet: proto.String("not a subnet")}
	if _, err := f.st.Update(t.Context(), func(tx store.Tx) error { _, err := tx.Create(old); return err }); err != nil {
		t.Fatal(err)
	}
	live := f.get("Bridge", "", "old").(*v1alpha1.Bridge)
	live.Status = &v1alpha1.BridgeStatus{Method: proto.String("API")}
	if _, err := f.UpdateStatus(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Delete(t.Context(), resource.KeyOf(live), store.Preconditions{}); err != nil {
		t.Fatal(err)
	}
	live = f.get("Bridge", "", "old").(*v1alpha1.Bridge)
	live.Metadata.Finalizers = nil
	if _, err := f.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	f.absent("Bridge", "", "old")
}

func TestOperationsAreCreatedAndNeverChanged(t *testing.T) {
	f := newFixture(t)
	op := newObject[*v1alpha1.Operation](f, "Operation", "proximity-system", "op-1")
	op.Spec = &v1alpha1.OperationSpec{Action: proto.String("TestNAT"), Target: &v1alpha1.ObjectReference{Kind: proto.String("Appliance"), Name: proto.String("net")}}
	created, err := f.Create(t.Context(), op)
	if err != nil {
		t.Fatal(err)
	}
	changed := resource.Clone(created).(*v1alpha1.Operation)
	if changed.GetSpec().GetTimeout() != "2m" {
		t.Errorf("timeout %q, want 2m", changed.GetSpec().GetTimeout())
	}
	changed.Spec.Action = proto.String("CollectLogs")
	const want = "spec: an object of kind Operation cannot change once it is created; create another one"
	if _, err := f.Update(t.Context(), changed); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	changed = resource.Clone(created).(*v1alpha1.Operation)
	changed.Status = &v1alpha1.OperationStatus{Phase: proto.String("Running")}
	if _, err := f.UpdateStatus(t.Context(), changed); err != nil {
		t.Error(err)
	}
	changed.Status.Phase = proto.String("Resting")
	changed.Metadata.ResourceVersion = ""
	if _, err := f.UpdateStatus(t.Context(), changed); err == nil || !strings.Contains(err.Error(), "status.phase: found \"Resting\"; allowed is one of Pending") {
		t.Errorf("got %v", err)
	}
}

func TestNamespaces(t *testing.T) {
	f := newFixture(t)
	if err := f.EnsureNamespaces(t.Context()); err != nil {
		t.Errorf("the second time: %v", err)
	}
	key := func(name string) resource.Key { return resource.Key{Kind: "Namespace", Name: name} }
	if _, err := f.Delete(t.Context(), key("default"), store.Preconditions{}); err == nil || !strings.Contains(err.Error(), "always exists") {
		t.Errorf("got %v", err)
	}
	f.mustApply(doc("Namespace", "shop", "") + doc("App", "a", "  namespace: shop\n") + doc("App", "b", "  namespace: shop\n"))
	event := newObject[*v1alpha1.Event](f, "Event", "shop", "e")
	event.Type = "Normal"
	if _, err := f.System().Create(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	_, err := f.Delete(t.Context(), key("shop"), store.Preconditions{})
	if !errors.Is(err, store.ErrConflict) || !strings.HasSuffix(err.Error(), "it still has 2 apps (a, b); delete them first") {
		t.Errorf("got %v", err)
	}
	f.get("Event", "shop", "e")
	for _, name := range []string{"a", "b"} {
		if _, err := f.Delete(t.Context(), resource.Key{Kind: "App", Namespace: "shop", Name: name}, store.Preconditions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Delete(t.Context(), key("shop"), store.Preconditions{}); err != nil {
		t.Fatal(err)
	}
	f.absent("Namespace", "", "shop")
	f.absent("Event", "shop", "e")
	if _, err := f.Delete(t.Context(), key("shop"), store.Preconditions{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("again: got %v, want not found", err)
	}
}

func TestNothingGoesIntoADeletedNamespace(t *testing.T) {
	f := newFixture(t)
	f.mustApply(doc("Namespace", "shop", "  finalizers: [proximity/namespace]\n"))
	if _, err := f.Delete(t.Context(), resource.Key{Kind: "Namespace", Name: "shop"}, store.Preconditions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.apply(doc("App", "a", "  namespace: shop\n")); err == nil || !strings.Contains(err.Error(), "a namespace that is not being deleted") {
		t.Errorf("got %v", err)
	}
}
