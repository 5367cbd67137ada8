package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

func TestObservationsAreBounded(t *testing.T) {
	o := newObservations(3)
	key := func(i int) resource.Key { return resource.Key{Kind: "App", Name: fmt.Sprint(i)} }
	for i := range 5 {
		o.remember(key(i), "u", i)
		if i > 0 {
			o.remember(key(1), "u", "again") // what is looked at again and again stays
		}
	}
	for i, want := range []any{nil, "again", nil, 3, 4} {
		if got, at := o.last(key(i), "u"); got != want || at.IsZero() != (want == nil) {
			t.Errorf("%d: %v at %s, want %v", i, got, at, want)
		}
	}
	if got, _ := o.last(key(4), "another"); got != nil {
		t.Errorf("another object of that name has %v", got)
	}
	o.forget(key(4))
	o.forget(key(4))
	if got, _ := o.last(key(4), "u"); got != nil || o.age.Len() != 2 || len(o.byKey) != 2 {
		t.Errorf("forgotten: %v, %d and %d are kept", got, o.age.Len(), len(o.byKey))
	}
}

// planKind is a controller whose plan tells what it was given.
type planKind struct{ fail error }

func (planKind) Reconcile(_ context.Context, s *Session[*v1alpha1.App]) (Result, error) {
	s.Remember("seen " + s.Object.GetSpec().GetHostname())
	return Result{}, nil
}

func (planKind) Finalize(context.Context, *Session[*v1alpha1.App]) (Result, error) {
	return Result{}, nil
}

func (k *planKind) plan(ctx context.Context, p Planning[*v1alpha1.App]) (Plan, error) {
	if k.fail != nil {
		return Plan{Steps: []Step{{Action: "Create"}}}, k.fail
	}
	apps, err := List[*v1alpha1.App](ctx, p.Client, "App", "")
	if err != nil {
		return Plan{}, err
	}
	var names []string
	for _, a := range apps {
		names = append(names, a.GetMetadata().GetName())
	}
	if err := p.Client.Delete(ctx, resource.KeyOf(p.Object), ""); err == nil {
		return Plan{}, errors.New("a plan could delete")
	}
	p.Object.Spec.Hostname = proto.String("changed by the plan") // a private copy
	return Plan{Steps: []Step{{Action: "Tell", Text: fmt.Sprintf("deleted=%v seen=%v apps=%s", p.Deleted, p.Seen, strings.Join(names, ","))}}}, nil
}

func TestPlanSeesAllChangesAndTheLastObservation(t *testing.T) {
	ctx := context.Background()
	st := memory.New(kinds.Registry())
	defer st.Close()
	k := &planKind{}
	c := New(Options[*v1alpha1.App]{Kind: "App", Reconciler: k, Plan: k.plan})
	m := NewManager(st, slog.New(slog.DiscardHandler), nil, c, New(Options[*v1alpha1.Namespace]{Kind: "Namespace"}))
	client := NewClient(st)
	app := func(name, host string) *v1alpha1.App {
		return &v1alpha1.App{
			ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
			Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: "default"}, Spec: &v1alpha1.AppSpec{Hostname: proto.String(host)},
		}
	}
	key := func(name string) resource.Key {
		return resource.Key{Kind: "App", Namespace: "default", Name: name}
	}
	for _, name := range []string{"a", "b", "z"} {
		if _, err := client.Create(ctx, app(name, "host-"+name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Reconcile(ctx, key("a")); err != nil {
		t.Fatal(err)
	}
	live, err := client.Get(ctx, key("a"))
	if err != nil {
		t.Fatal(err)
	}
	suspended := app("s", "s")
	suspended.Spec.Suspend = proto.Bool(true)
	changes := []Change{
		{key("a"), live}, {key("b"), nil}, {key("n"), app("n", "new")}, {key("gone"), nil},
		{resource.Key{Kind: "Namespace", Name: "x"}, nil}, {key("s"), suspended},
	}
	all, err := m.Plan(ctx, changes)
	if err != nil {
		t.Fatal(err)
	}
	plans := all.Changes
	for i, want := range []string{"deleted=false seen=seen host-a apps=a,n,s,z", "deleted=true seen=<nil> apps=a,n,s,z", "deleted=false seen=<nil> apps=a,n,s,z", "", "", ""} {
		got := ""
		if len(plans[i].Steps) > 0 {
			got = plans[i].Steps[0].Text
		}
		if got != want {
			t.Errorf("plan %d: %q, want %q", i, got, want)
		}
		if outside := i != 4; plans[i].Outside != outside || plans[i].ObservedAt.IsZero() != (i != 0) {
			t.Errorf("plan %d: %+v", i, plans[i])
		}
	}
	if len(plans[5].Notes) != 1 || !strings.Contains(plans[5].Notes[0], "spec.suspend") {
		t.Errorf("suspended: %+v", plans[5])
	}
	if live.(*v1alpha1.App).GetSpec().GetHostname() != "host-a" {
		t.Error("the plan changed the object")
	}
	for reason, fail := range map[string]error{"Taken": Stalled("Taken", "it is taken"), "Later": Waiting(0, "Later", "not yet")} {
		k.fail = fail
		all, err := m.Plan(ctx, changes[2:3])
		if plans := all.Changes; err != nil || plans[0].Blocked == nil || plans[0].Blocked.Reason != reason || len(plans[0].Steps) != 1 {
			t.Errorf("%s: %+v, %v", reason, all, err)
		}
	}
	k.fail = errors.New("a bug")
	if _, err := m.Plan(ctx, changes[2:3]); err == nil {
		t.Error("an error was not told")
	}
}

// TestPlanNamesOthersThatAreAffected: those that watch what is changed, by their
// controllers' declarations, and whose plan is another because of it; not more than there
// is room for.
func TestPlanNamesOthersThatAreAffected(t *testing.T) {
	ctx := context.Background()
	st := memory.New(kinds.Registry())
	defer st.Close()
	client := NewClient(st)
	app := func(name, host string) *v1alpha1.App {
		return &v1alpha1.App{
			ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
			Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: "default"}, Spec: &v1alpha1.AppSpec{Hostname: proto.String(host)},
		}
	}
	source := app("source", "one")
	if _, err := client.Create(ctx, source); err != nil {
		t.Fatal(err)
	}
	const vhosts = MaxAffected + 5
	for i := range vhosts {
		v := &v1alpha1.Vhost{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Vhost"),
			Metadata: &v1alpha1.ObjectMeta{Name: fmt.Sprintf("v%04d", i), Namespace: "default"}}
		if _, err := client.Create(ctx, v); err != nil {
			t.Fatal(err)
		}
	}
	serve := func(keep func(name string) bool) func(context.Context, Planning[*v1alpha1.Vhost]) (Plan, error) {
		return func(ctx context.Context, p Planning[*v1alpha1.Vhost]) (Plan, error) {
			a, err := Get[*v1alpha1.App](ctx, p.Client, resource.KeyOf(source))
			if errors.Is(err, ErrNotFound) || !keep(p.Object.GetMetadata().GetName()) {
				return Plan{}, nil
			}
			return Plan{Steps: []Step{{Action: "Serve", Text: a.GetSpec().GetHostname()}}}, err
		}
	}
	manager := func(block error, keep func(string) bool) *Manager {
		all := func(ctx context.Context, c Client, _ resource.Object) []resource.Key {
			objs, _ := c.List(ctx, "Vhost", "")
			keys := make([]resource.Key, len(objs))
			for i, o := range objs {
				keys[i] = resource.KeyOf(o)
			}
			return keys
		}
		apps := New(Options[*v1alpha1.App]{Kind: "App", Plan: func(context.Context, Planning[*v1alpha1.App]) (Plan, error) { return Plan{}, block }})
		vhosts := New(Options[*v1alpha1.Vhost]{Kind: "Vhost", Plan: serve(keep), Watches: []Watch{{Kind: "App", Map: all}}})
		return NewManager(st, slog.New(slog.DiscardHandler), nil, apps, vhosts)
	}
	change := []Change{{resource.KeyOf(source), app("source", "two")}}
	first := func(name string) bool { return name == "v0000" || name == "v0001" }
	for name, tc := range map[string]struct {
		manager *Manager
		changes []Change
		others  int
		more    bool
	}{
		"two of many":      {manager(nil, first), change, 2, false},
		"nothing changes":  {manager(nil, first), []Change{{resource.KeyOf(source), source}}, 0, false},
		"deleted":          {manager(nil, first), []Change{{resource.KeyOf(source), nil}}, 2, false},
		"changed itself":   {manager(nil, first), append(change, Change{resource.Key{Kind: "Vhost", Namespace: "default", Name: "v0000"}, nil}), 1, false},
		"blocked":          {manager(Stalled("Taken", "taken"), first), change, 0, false},
		"too many to name": {manager(nil, func(string) bool { return true }), change, MaxAffected, true},
		"too many changes": {manager(nil, first), slices.Repeat(change, MaxAffectedSources+1), 0, true},
	} {
		plans, err := tc.manager.Plan(ctx, tc.changes)
		if err != nil || len(plans.Affected) != tc.others || plans.MoreAffected != tc.more {
			t.Errorf("%s: %d others, more %v, %v; want %d, %v", name, len(plans.Affected), plans.MoreAffected, err, tc.others, tc.more)
		}
		for _, a := range plans.Affected {
			if name == "two of many" && a.Plan.Steps[0].Text != "two" {
				t.Errorf("%s: %+v", name, a)
			}
		}
	}
}
