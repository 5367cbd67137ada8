package engine

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// The engine compares and joins bytes. This is what it must come to, on decoded objects.

// updated is what an update makes of an object.
func updated(cur, obj resource.Object) (next resource.Object, changed, specChanged bool) {
	next = resource.Clone(obj)
	resource.CopyField(next, cur, "status")
	specChanged = !resource.EqualField(cur, obj, "spec")
	if !specChanged {
		resource.CopyField(next, cur, "spec")
	}
	m, c := next.GetMetadata(), cur.GetMetadata()
	m.Uid, m.ResourceVersion, m.Generation = c.GetUid(), c.GetResourceVersion(), c.GetGeneration()
	m.CreationTimestamp, m.DeletionTimestamp = c.GetCreationTimestamp(), c.GetDeletionTimestamp()
	if slices.EqualFunc(m.ManagedFields, c.GetManagedFields(), func(a, b *v1alpha1.ManagedFieldsEntry) bool { return proto.Equal(a, b) }) {
		return next, !proto.Equal(cur, next), specChanged
	}
	timeless := resource.Clone(next)
	if len(m.ManagedFields) == len(c.GetManagedFields()) {
		for i, entry := range timeless.GetMetadata().ManagedFields {
			entry.Time = c.GetManagedFields()[i].GetTime()
		}
	}
	return next, !proto.Equal(cur, timeless), specChanged
}

// observed is what a status write makes of an object.
func observed(cur, obj resource.Object) (next resource.Object, changed bool) {
	next = resource.Clone(cur)
	if resource.EqualField(cur, obj, "status") {
		return next, false
	}
	resource.CopyField(next, obj, "status")
	return next, true
}

func TestWritesOnBytesAreThoseOnObjects(t *testing.T) {
	reg, err := resource.NewRegistry(resource.Definition{Message: &v1alpha1.App{}}, resource.Definition{Message: &v1alpha1.Event{}})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		kind, _ := reg.Get(rapid.SampledFrom([]string{"App", "Event"}).Draw(t, "kind"))
		c := newCodec(reg)
		d := newDraft(c, newView(c, InitialRevision))
		tx := newTransaction(d, time.Unix(1, 0))
		obj := kind.New()
		fill(t, obj.ProtoReflect(), 0, 3)
		name(obj)
		cur, err := tx.Create(obj)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 4).Draw(t, "writes") {
			obj := resource.Clone(cur)
			refill(t, obj.ProtoReflect())
			name(obj)
			before, had := len(tx.events), cur.GetMetadata()
			if had.GetDeletionTimestamp() != "" {
				return
			}
			status := kind.HasField("status") && rapid.Bool().Draw(t, "status")
			var want resource.Object
			var changed, specChanged bool
			var got resource.Object
			if status {
				want, changed = observed(cur, obj)
				got, err = tx.UpdateStatus(obj)
			} else {
				want, changed, specChanged = updated(cur, obj)
				got, err = tx.Update(obj)
			}
			if err != nil {
				t.Fatal(err)
			}
			if is := len(tx.events) > before; is != changed {
				t.Fatalf("changed: %t, want %t\nwas  %v\nby   %v\nis   %v", is, changed, cur, obj, got)
			}
			if !changed {
				continue
			}
			m := want.GetMetadata()
			m.ResourceVersion = strconv.FormatUint(d.revision, 10)
			if specChanged {
				m.Generation++
			}
			if !proto.Equal(got, want) {
				t.Fatalf("got  %v\nwant %v", got, want)
			}
			whole, err := deterministic.Marshal(want)
			if ev := tx.events[len(tx.events)-1]; err != nil || string(ev.Encoded) != string(whole) {
				t.Fatalf("the bytes are not those of the message (%v)\n%q\n%q", err, ev.Encoded, whole)
			}
			last := &tx.events[len(tx.events)-1]
			last.origin, last.was = &audit.Origin{Type: "user"}, tx.undo[len(tx.undo)-1]
			addRecords(tx.events)
			fields, values := audit.Changed(cur, want)
			if !slices.Equal(last.Audit.Fields, fields) || !reflect.DeepEqual(last.Audit.Values, values) {
				t.Fatalf("fields are %q, %v, want %q, %v", last.Audit.Fields, last.Audit.Values, fields, values)
			}
			cur = got
		}
	})
}

// name makes an object one that can be stored under one key.
func name(obj resource.Object) {
	m := obj.GetMetadata()
	m.Name, m.Namespace, m.ResourceVersion = "a", "n", ""
	m.Uid, m.CreationTimestamp, m.DeletionTimestamp = "", "", ""
}

var texts = []string{"", "a", "b", "ab", "ba"}

// fill sets fields at random, unknown ones too.
func fill(t *rapid.T, m protoreflect.Message, level, deepest int) {
	all := m.Descriptor().Fields()
	for i := range all.Len() {
		fd := all.Get(i)
		if level == 0 && fd.Name() == "metadata" {
			fill(t, m.Mutable(fd).Message(), 1, deepest)
			continue
		}
		if level == 0 && (fd.Name() == "api_version" || fd.Name() == "kind") || rapid.IntRange(0, 3).Draw(t, "set") > 0 {
			continue
		}
		fillField(t, m, fd, level, deepest)
	}
	if rapid.IntRange(0, 7).Draw(t, "unknown") == 0 {
		b := protowire.AppendVarint(protowire.AppendTag(nil, 9000, protowire.VarintType), uint64(rapid.IntRange(0, 1).Draw(t, "value")))
		m.SetUnknown(b)
	}
}

func fillField(t *rapid.T, m protoreflect.Message, fd protoreflect.FieldDescriptor, level, deepest int) {
	switch {
	case fd.IsMap():
		entries := m.Mutable(fd).Map()
		for range rapid.IntRange(0, 2).Draw(t, "entries") {
			if fd.MapValue().Message() != nil {
				return
			}
			entries.Set(protoreflect.ValueOfString(rapid.SampledFrom(texts).Draw(t, "key")).MapKey(), scalar(t, fd.MapValue()))
		}
	case fd.IsList():
		list := m.Mutable(fd).List()
		for range rapid.IntRange(0, 2).Draw(t, "items") {
			if fd.Message() == nil {
				list.Append(scalar(t, fd))
			} else if level < deepest {
				fill(t, list.AppendMutable().Message(), level+1, deepest)
			}
		}
	case fd.Message() != nil:
		if sub := m.Mutable(fd).Message(); level < deepest {
			fill(t, sub, level+1, deepest)
		}
	default:
		m.Set(fd, scalar(t, fd))
	}
}

func scalar(t *rapid.T, fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.SampledFrom(texts).Draw(t, "text"))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool"))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(rapid.Int32Range(-1, 2).Draw(t, "number"))
	}
	t.Fatalf("a field of kind %s", fd.Kind())
	return protoreflect.Value{}
}

// refill changes a few fields at the top and below, or none.
func refill(t *rapid.T, m protoreflect.Message) {
	for range rapid.IntRange(0, 2).Draw(t, "changes") {
		at := m
		for level := 0; ; level++ {
			all := at.Descriptor().Fields()
			fd := all.Get(rapid.IntRange(0, all.Len()-1).Draw(t, "field"))
			if fd.Name() == "api_version" || fd.Name() == "kind" || level == 0 && fd.Name() == "metadata" && !at.Has(fd) {
				break
			}
			if fd.Message() != nil && !fd.IsList() && !fd.IsMap() && at.Has(fd) && rapid.IntRange(0, 3).Draw(t, "deeper") > 0 {
				at = at.Mutable(fd).Message()
				continue
			}
			if level == 0 && fd.Name() == "metadata" {
				break
			}
			at.Clear(fd)
			if rapid.Bool().Draw(t, "anew") {
				fillField(t, at, fd, level, 3)
			}
			break
		}
	}
}

// TestWritesAreTheStoresOwn: the caller may go on changing what it passed in.
func TestWritesAreTheStoresOwn(t *testing.T) {
	run, d := inTransactions(t)
	obj := &v1alpha1.Bridge{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"), Metadata: &v1alpha1.ObjectMeta{
		Name: "a", Labels: map[string]string{"l": "1"}, Finalizers: []string{"f"}, OwnerReferences: []*v1alpha1.OwnerReference{{Uid: "o"}},
	}, Spec: &v1alpha1.BridgeSpec{Subnet: proto.String("10.0.0.0/24")}, Status: &v1alpha1.BridgeStatus{}}
	check := func(what string, write func(store.Tx) (resource.Object, error)) {
		t.Helper()
		var got resource.Object
		if ok, _ := run(func(tx store.Tx) (err error) { got, err = write(tx); return err }); !ok {
			t.Fatal("not written")
		}
		before := resource.Clone(got)
		obj.Metadata.Labels = maps.Clone(obj.Metadata.Labels)
		obj.Metadata.Labels["l"] += "1"
		obj.Metadata.Finalizers[0] += "f"
		obj.Metadata.OwnerReferences[0].Uid += "o"
		*obj.Spec.Subnet = "10.0.1.0/24"
		again, err := d.get(resource.KeyOf(obj)).decode()
		if err != nil || !proto.Equal(got, before) || !proto.Equal(again, before) {
			t.Errorf("%s: it became %v and %v (%v), was %v", what, got, again, err, before)
		}
	}
	check("create", func(tx store.Tx) (resource.Object, error) { return tx.Create(obj) })
	check("update", func(tx store.Tx) (resource.Object, error) { return tx.Update(obj) })
}
