package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
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

// TestNumbersOfMetadata: what reads metadata from their bytes knows fields by their numbers.
func TestNumbersOfMetadata(t *testing.T) {
	byNumber := map[protoreflect.Name]protoreflect.FieldNumber{
		"name": metaName, "namespace": metaNamespace, "labels": metaLabels, "annotations": metaAnnotations, "uid": metaUID,
		"resource_version": metaVersion, "generation": metaGeneration, "creation_timestamp": metaCreated,
		"deletion_timestamp": metaDeleted, "finalizers": metaFinalizers, "owner_references": metaOwners, "managed_fields": metaManagers,
	}
	fields := (&v1alpha1.ObjectMeta{}).ProtoReflect().Descriptor().Fields()
	if fields.Len() != len(byNumber) {
		t.Errorf("metadata has %d fields: sameMetadata has to know them all", fields.Len())
	}
	for name, num := range byNumber {
		if fd := fields.ByName(name); fd == nil || fd.Number() != num {
			t.Errorf("%s is %v", name, fd)
		}
	}
}

// TestNumbersOfManagers: sameManagerRecords knows the fields of an entry by their order.
func TestNumbersOfManagers(t *testing.T) {
	fields := (&v1alpha1.ManagedFieldsEntry{}).ProtoReflect().Descriptor().Fields()
	names := []protoreflect.Name{"manager", "operation", "api_version", "time", "fields_type", "fields_v1", "subresource"}
	if fields.Len() != len(names) {
		t.Errorf("an entry has %d fields", fields.Len())
	}
	for i, name := range names {
		if fd := fields.ByName(name); fd == nil || fd.Number() != protoreflect.FieldNumber(i+1) || fd.HasPresence() {
			t.Errorf("%s is %v", name, fd)
		}
	}
	list := []*v1alpha1.ManagedFieldsEntry{
		{Manager: "m", Operation: "Apply", ApiVersion: "v", Time: "t", FieldsType: "f", FieldsV1: "{}", Subresource: "s"}, {Manager: "n"}, {},
	}
	records, err := proto.Marshal(&v1alpha1.ObjectMeta{ManagedFields: list})
	if err != nil {
		t.Fatal(err)
	}
	if !sameManagerRecords(records, list) || sameManagerRecords(records, list[:2]) || sameManagerRecords(nil, list) || !sameManagerRecords(nil, nil) {
		t.Error("entries are not told from others")
	}
	for i := range names {
		other := proto.CloneOf(list[0])
		other.ProtoReflect().Set(fields.ByName(names[i]), protoreflect.ValueOfString("another"))
		gone := proto.CloneOf(list[0])
		gone.ProtoReflect().Clear(fields.ByName(names[i]))
		for _, e := range []*v1alpha1.ManagedFieldsEntry{other, gone} {
			if sameManagerRecords(records, []*v1alpha1.ManagedFieldsEntry{e, list[1], list[2]}) {
				t.Errorf("%v is taken for %v", e, list[0])
			}
		}
	}
}

// inTransactions runs closures one after the other on an empty store.
func inTransactions(t testing.TB) (run func(func(store.Tx) error) (bool, *transaction), d *draft) {
	c := newCodec(testRegistry(t))
	d = newDraft(c, newView(c, InitialRevision))
	return func(fn func(store.Tx) error) (bool, *transaction) {
		tx := newTransaction(d, time.Time{})
		return (&request{fn: fn, origin: audit.OriginFrom(context.Background())}).runIn(tx), tx
	}, d
}

func update(obj resource.Object) func(store.Tx) error {
	return func(tx store.Tx) error { _, err := tx.Update(obj); return err }
}

// TestTimesOfManagedFields: a new time alone is no change; with another change it counts.
func TestTimesOfManagedFields(t *testing.T) {
	run, d := inTransactions(t)
	first := &v1alpha1.Bridge{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"), Metadata: &v1alpha1.ObjectMeta{
		Name: "a", Labels: map[string]string{"l": "1"}, ManagedFields: []*v1alpha1.ManagedFieldsEntry{{Manager: "m", Time: "t", FieldsV1: "{}"}},
	}}
	if ok, _ := run(func(tx store.Tx) error { _, err := tx.Create(first); return err }); !ok {
		t.Fatal("not created")
	}
	later := resource.Clone(first)
	later.Metadata.ManagedFields[0].Time = "later"
	if ok, tx := run(update(later)); !ok || len(tx.events) != 0 {
		t.Error("a new time alone is taken for a change")
	}
	later.Metadata.Labels["l"] = "2"
	if ok, tx := run(update(later)); !ok || len(tx.events) != 1 {
		t.Error("it is no change")
	}
	m, err := d.get(resource.KeyOf(first)).metadata()
	if err != nil || m.ManagedFields[0].Time != "later" || m.Labels["l"] != "2" || m.Generation != 1 {
		t.Errorf("it became %v (%v)", m, err)
	}
}

// TestFailedTransactionsLeaveTheDraft: whatever a transaction has drafted before it fails,
// the ones after it in the same batch see nothing of it.
func TestFailedTransactionsLeaveTheDraft(t *testing.T) {
	run, d := inTransactions(t)
	if ok, _ := run(func(tx store.Tx) error { return errors.Join(createBridge("a")(tx), createBridge("b")(tx)) }); !ok {
		t.Fatal("the first transaction failed")
	}
	list := func() (all []*version) {
		walk(d.tree("Bridge"), "", "", func(v *version) bool { all = append(all, v); return true })
		return all
	}
	before, revision := list(), d.revision
	for name, end := range map[string]func(){"error": func() {}, "panic": func() { panic("at the disco") }} {
		ok, _ := run(func(tx store.Tx) error {
			first, err := tx.Get(before[0].name())
			if err != nil {
				t.Error(err)
			}
			bridge := resource.Clone(first.(*v1alpha1.Bridge))
			bridge.Metadata.Labels = map[string]string{"new": "one"}
			if _, err := tx.Update(bridge); err != nil {
				t.Error(err)
			}
			if _, err := tx.Delete(before[1].name(), store.Preconditions{}); err != nil {
				t.Error(err)
			}
			if err := errors.Join(createBridge("b")(tx), createBridge("c")(tx)); err != nil {
				t.Error(err)
			}
			end()
			return errEnded
		})
		after := list()
		if ok || d.revision != revision || len(after) != len(before) || after[0] != before[0] || after[1] != before[1] {
			t.Errorf("%s: ok %t, revision %d, was %d, objects %v, were %v", name, ok, d.revision, revision, after, before)
		}
	}
}
