package cli

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// fakeController makes everything Ready in two steps and lets go of everything that is
// being deleted. Labels change that:
//
//	test-hold: the object stays at its first step, as one whose outside is not ready
//	test-keep: the object's deletion waits for ever
//
// An Operation succeeds with a log, unless its argument service is "broken".
type fakeController struct{ st store.Store }

const fakeFinalizer = "proximity/fake"

func (c *fakeController) run(w store.Watcher) {
	for ev := range w.Events() {
		if ev.Object == nil || ev.Type == store.Deleted {
			continue
		}
		key := resource.KeyOf(ev.Object)
		_, err := c.st.Update(context.Background(), func(tx store.Tx) error { return c.reconcile(tx, key) })
		if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrClosed) {
			panic(err)
		}
	}
}

func (c *fakeController) reconcile(tx store.Tx, key resource.Key) error {
	cur, err := tx.Get(key)
	if err != nil {
		return err
	}
	obj := resource.Clone(cur)
	if op, ok := obj.(*v1alpha1.Operation); ok {
		return c.carryOut(tx, op)
	}
	if !slices.Contains([]string{"Bridge", "Appliance", "App", "Vhost"}, key.Kind) {
		return nil
	}
	m := obj.GetMetadata()
	switch {
	case resource.Deleting(obj):
		return c.letGo(tx, obj)
	case len(m.GetFinalizers()) == 0:
		m.Finalizers = []string{fakeFinalizer}
		_, err := tx.Update(obj)
		return err
	}
	first := resource.FindCondition(obj, "GuestCreated")
	switch {
	case first == nil || m.GetLabels()["test-hold"] != "":
		set(obj, "GuestCreated", "False", "Creating", "guest 100 is being created on pve")
		set(obj, "Ready", "False", "Creating", "guest 100 is being created on pve")
	default:
		set(obj, "GuestCreated", "True", "Created", "guest 100 is there")
		set(obj, "Ready", "True", "Ready", "everything is as declared")
	}
	if app, ok := obj.(*v1alpha1.App); ok {
		st := app.GetStatus()
		st.State, st.Vmid, st.Node, st.Address = proto.String("Running"), proto.Int32(100), proto.String("pve"), proto.String("10.20.0.100")
	}
	if apl, ok := obj.(*v1alpha1.Appliance); ok {
		if apl.Status == nil {
			apl.Status = &v1alpha1.ApplianceStatus{}
		}
		apl.Status.CaCertificate, apl.Status.LeaseCount = proto.String("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"), proto.Int32(2)
		apl.Status.Leases = []*v1alpha1.LeaseStatus{{
			Address: proto.String("10.20.0.100"), Mac: proto.String("bc:24:11:00:00:01"), Hostname: proto.String("web"), App: proto.String("default/web"),
		}}
	}
	if resource.IsReady(obj) && !resource.IsReady(cur) {
		if err := c.event(tx, obj); err != nil {
			return err
		}
	}
	_, err = tx.UpdateStatus(obj)
	return err
}

func set(obj resource.Object, typ, status, reason, message string) {
	resource.SetCondition(obj, &v1alpha1.Condition{
		Type: typ, Status: status, Reason: reason, Message: message, ObservedGeneration: obj.GetMetadata().GetGeneration(),
	})
}

func (c *fakeController) letGo(tx store.Tx, obj resource.Object) error {
	if obj.GetMetadata().GetLabels()["test-keep"] != "" {
		set(obj, "Ready", "False", "InUse", "deletion waits: something uses it")
		_, err := tx.UpdateStatus(obj)
		return err
	}
	obj.GetMetadata().Finalizers = nil
	_, err := tx.Update(obj)
	return err
}

func (c *fakeController) event(tx store.Tx, obj resource.Object) error {
	key := resource.KeyOf(obj)
	name := key.Name + "-became-ready"
	if _, err := tx.Get(resource.Key{Kind: "Event", Namespace: key.EventNamespace(), Name: name}); err == nil {
		return nil
	}
	const when = "2026-01-02T03:04:05Z"
	_, err := tx.Create(&v1alpha1.Event{
		ApiVersion: resource.APIVersion, Kind: "Event",
		Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: key.EventNamespace()},
		Regarding: &v1alpha1.ObjectReference{
			Kind: proto.String(key.Kind), Namespace: proto.String(key.Namespace), Name: proto.String(key.Name),
			Uid: proto.String(obj.GetMetadata().GetUid()),
		},
		Type: "Normal", Reason: "BecameReady", Message: "it works\x1b[31m now", Count: 1, FirstTimestamp: when, LastTimestamp: when,
	})
	return err
}

func (c *fakeController) carryOut(tx store.Tx, op *v1alpha1.Operation) error {
	if op.GetStatus().GetPhase() != "" {
		return nil
	}
	op.Status = &v1alpha1.OperationStatus{
		Phase: proto.String("Succeeded"), Message: proto.String("done"),
		Log:    []string{"first line of " + op.GetSpec().GetTarget().GetName(), "second \x1b[2Jline"},
		Result: map[string]string{"target": "10.0.0.1:53"},
	}
	if op.GetSpec().GetAction() == "Examine" {
		op.Status.Log, op.Status.Checks = nil, examinedFor(op.GetSpec().GetTarget().GetName())
	}
	if op.GetSpec().GetArguments()["service"] == "broken" {
		op.Status.Phase, op.Status.Message = proto.String("Failed"), proto.String("there is no service broken")
	}
	_, err := tx.UpdateStatus(op)
	return err
}

// examinedFor is what an examination finds: nothing wrong, but on a Cluster named broken.
func examinedFor(cluster string) []*v1alpha1.Check {
	checks := []*v1alpha1.Check{
		{Name: proto.String("API"), Status: proto.String("Pass"), Message: proto.String("https://pve:8006 answers")},
		{Name: proto.String("Clock"), Status: proto.String("Warn"), Message: proto.String("late"), Fix: []string{"timedatectl set-ntp true"}},
	}
	if cluster == "broken" {
		checks = append(checks, &v1alpha1.Check{
			Name: proto.String("Quorum"), Status: proto.String("Fail"), Message: proto.String("no\x1b[2J quorum"), Fix: []string{"pvecm status", "# wait"},
		})
	}
	return checks
}
