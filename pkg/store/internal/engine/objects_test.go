package engine

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

func fullMetadata() *v1alpha1.ObjectMeta {
	return &v1alpha1.ObjectMeta{
		Name: "a", Namespace: "n", Labels: map[string]string{"l": "1"}, Annotations: map[string]string{"a": "1"},
		Uid: "u", ResourceVersion: "7", Generation: 3, CreationTimestamp: "c", DeletionTimestamp: "d",
		Finalizers:      []string{"f"},
		OwnerReferences: []*v1alpha1.OwnerReference{{Uid: "o"}},
		ManagedFields:   []*v1alpha1.ManagedFieldsEntry{{Manager: "m", Time: "t", FieldsV1: "{}"}},
	}
}

// TestEveryFieldOfMetadata: shallowMetadata and reviseMetadata name the fields one by one,
// and a field that is added to the proto must not be forgotten there.
func TestEveryFieldOfMetadata(t *testing.T) {
	full := fullMetadata()
	fields := full.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if !full.ProtoReflect().Has(fields.Get(i)) {
			t.Fatalf("the test knows nothing of %s", fields.Get(i).Name())
		}
	}
	if c := shallowMetadata(full); !proto.Equal(c, full) {
		t.Errorf("got %v, want %v", c, full)
	}
	theStores := map[protoreflect.Name]bool{"name": true, "namespace": true, "uid": true, "resource_version": true,
		"generation": true, "creation_timestamp": true, "deletion_timestamp": true}
	for i := range fields.Len() {
		fd := fields.Get(i)
		without := proto.Clone(full).(*v1alpha1.ObjectMeta)
		without.ProtoReflect().Clear(fd)
		m := shallowMetadata(full)
		if changed := reviseMetadata(m, without); changed == theStores[fd.Name()] {
			t.Errorf("without %s: changed is %t", fd.Name(), changed)
		}
		if kept := m.ProtoReflect().Has(fd); kept != theStores[fd.Name()] {
			t.Errorf("without %s: it is kept: %t", fd.Name(), kept)
		}
		if !proto.Equal(full, fullMetadata()) {
			t.Fatalf("without %s: the object that is stored was changed", fd.Name())
		}
	}
}

// TestTimesOfManagedFields: a new time alone is no change; with another change it counts.
func TestTimesOfManagedFields(t *testing.T) {
	cur := &v1alpha1.Bridge{Metadata: fullMetadata()}
	later := resource.Clone(cur)
	later.Metadata.ManagedFields[0].Time = "later"
	if _, changed, _ := revised(cur, later); changed {
		t.Error("a new time alone is taken for a change")
	}
	later.Metadata.Labels["l"] = "2"
	next, changed, specChanged := revised(cur, later)
	if !changed || specChanged || next.GetMetadata().GetManagedFields()[0].GetTime() != "later" {
		t.Errorf("changed %t, its spec %t, to %v", changed, specChanged, next)
	}
}

// TestRevisedIsItsOwn: the caller may go on changing what it passed in.
func TestRevisedIsItsOwn(t *testing.T) {
	cur := &v1alpha1.Bridge{Metadata: fullMetadata(), Spec: &v1alpha1.BridgeSpec{Subnet: proto.String("10.0.0.0/24")}}
	obj := &v1alpha1.Bridge{Metadata: &v1alpha1.ObjectMeta{
		Name: "a", Namespace: "n", Labels: map[string]string{"l": "2"}, Annotations: map[string]string{"a": "2"}, Finalizers: []string{"g"},
		OwnerReferences: []*v1alpha1.OwnerReference{{Uid: "p"}}, ManagedFields: []*v1alpha1.ManagedFieldsEntry{{Manager: "n"}},
	}, Spec: &v1alpha1.BridgeSpec{Subnet: proto.String("10.0.1.0/24")}, Status: &v1alpha1.BridgeStatus{}}
	next, _, _ := revised(cur, obj)
	before := resource.Clone(next)
	obj.Metadata.Labels["l"], obj.Metadata.Annotations["a"], obj.Metadata.Finalizers[0] = "3", "3", "h"
	obj.Metadata.OwnerReferences[0].Uid, obj.Metadata.ManagedFields[0].Manager = "q", "o"
	*obj.Spec.Subnet = "10.0.2.0/24"
	if !proto.Equal(next, before) {
		t.Errorf("got %v, was %v", next, before)
	}
	if next.(*v1alpha1.Bridge).Status != nil {
		t.Error("the update has set the status")
	}
}

// TestFailedTransactionsLeaveTheDraft: whatever a transaction has drafted before it fails,
// the ones after it in the same batch see nothing of it.
func TestFailedTransactionsLeaveTheDraft(t *testing.T) {
	reg := testRegistry(t)
	d := newDraft(newView(reg, InitialRevision))
	run := func(fn func(store.Tx) error) bool {
		return (&request{fn: fn}).runIn(newTransaction(reg, d, time.Time{}))
	}
	if !run(func(tx store.Tx) error { return errors.Join(createBridge("a")(tx), createBridge("b")(tx)) }) {
		t.Fatal("the first transaction failed")
	}
	before, revision := listTree(d.changed["Bridge"].Root(), "", nil), d.revision
	for name, end := range map[string]func(){"error": func() {}, "panic": func() { panic("at the disco") }} {
		ok := run(func(tx store.Tx) error {
			bridge := resource.Clone(before[0].(*v1alpha1.Bridge))
			bridge.Metadata.Labels = map[string]string{"new": "one"}
			if _, err := tx.Update(bridge); err != nil {
				t.Error(err)
			}
			if _, err := tx.Delete(resource.KeyOf(before[1]), store.Preconditions{}); err != nil {
				t.Error(err)
			}
			if err := errors.Join(createBridge("b")(tx), createBridge("c")(tx)); err != nil {
				t.Error(err)
			}
			end()
			return errEnded
		})
		after := d.list("Bridge", "")
		if ok || d.revision != revision || len(after) != len(before) || after[0] != before[0] || after[1] != before[1] {
			t.Errorf("%s: ok %t, revision %d, was %d, objects %v, were %v", name, ok, d.revision, revision, after, before)
		}
	}
}
