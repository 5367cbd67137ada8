package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// The model is the contract once more, as short as it can be said: a map of small structs
// that are compared with what the store has. It shares no code with the engine.

// facts is what the model knows of an App.
type facts struct {
	uid        string
	revision   uint64
	generation int32
	spec       int32  // spec.vmid
	label      string // metadata.labels["l"]
	finalizers string // sorted letters
	deleting   bool
	status     int32 // status.vmid, 0: no status
}

func factsOf(o resource.Object) facts {
	a, m := o.(*v1alpha1.App), o.GetMetadata()
	f := facts{
		uid: m.GetUid(), revision: rev(o), generation: m.GetGeneration(), spec: a.GetSpec().GetVmid(),
		label: m.GetLabels()["l"], deleting: resource.Deleting(o), status: a.GetStatus().GetVmid(),
	}
	for _, fin := range m.GetFinalizers() {
		f.finalizers += fin
	}
	return f
}

// record is an event of the model.
type record struct {
	typ   store.EventType
	key   resource.Key
	facts facts
}

// model is a state and how it came to be.
type model struct {
	objects  map[resource.Key]facts
	log      []record
	revision uint64
}

func (m *model) clone() *model {
	return &model{objects: maps.Clone(m.objects), log: slices.Clone(m.log), revision: m.revision}
}

// op is one operation of a transaction, as the generator drew it.
type op struct {
	verb       string
	key        resource.Key
	spec       int32
	label      string
	finalizers string
	status     int32
	version    choice // the expected resourceVersion
	uid        choice // the expected uid of a deletion
}

// choice is an expectation that a client may have.
type choice int

const (
	none    choice = iota
	current        // what the object has when the op runs
	wrong
)

func (c choice) of(value string) string {
	return [...]string{"", value, "9" + value}[c]
}

// object is what an op passes to the store.
func (o op) object(cur facts) *v1alpha1.App {
	a := appIn(o.key.Namespace, o.key.Name)
	a.Spec = &v1alpha1.AppSpec{Vmid: proto.Int32(o.spec)}
	if o.status != 0 {
		a.Status = &v1alpha1.AppStatus{Vmid: proto.Int32(o.status)}
	}
	a.Metadata.ResourceVersion = o.version.of(strconv.FormatUint(cur.revision, 10))
	a.Metadata.Labels = map[string]string{"l": o.label}
	for _, f := range o.finalizers {
		a.Metadata.Finalizers = append(a.Metadata.Finalizers, string(f))
	}
	return a
}

// expect says what the op must lead to: an error, or the facts afterwards and the event.
// An empty event type stands for a change that changes nothing.
func (m *model) expect(o op) (facts, store.EventType, error) {
	cur, there := m.objects[o.key]
	switch {
	case o.verb == "create" && there:
		return cur, "", store.ErrAlreadyExists
	case o.verb == "create" && o.version != none:
		return cur, "", store.ErrConflict
	case o.verb == "create":
		return facts{generation: 1, spec: o.spec, label: o.label, finalizers: o.finalizers}, store.Added, nil
	case !there:
		return cur, "", store.ErrNotFound
	case o.version == wrong:
		return cur, "", store.ErrConflict
	}
	next := cur
	switch o.verb {
	case "update":
		for _, f := range o.finalizers {
			if cur.deleting && !slices.Contains([]rune(cur.finalizers), f) {
				return cur, "", store.ErrInvalid
			}
		}
		next.spec, next.label, next.finalizers = o.spec, o.label, o.finalizers
		if next.spec != cur.spec {
			next.generation++
		}
		if cur.deleting && next.finalizers == "" {
			return next, store.Deleted, nil
		}
	case "status":
		next.status = o.status
	case "delete":
		switch {
		case o.uid == wrong:
			return cur, "", store.ErrConflict
		case cur.finalizers == "":
			return next, store.Deleted, nil
		case !cur.deleting:
			next.deleting = true
			next.generation++
		}
	}
	if next == cur {
		return cur, "", nil
	}
	return next, store.Modified, nil
}

// apply runs an op on the store and the model and compares. It runs in a transaction's
// closure, maybe in another goroutine, so it reports a difference as an error.
func (m *model) apply(tx store.Tx, o op) error {
	cur := m.objects[o.key]
	want, typ, wantErr := m.expect(o)
	var got resource.Object
	var err error
	switch o.verb {
	case "create":
		got, err = tx.Create(o.object(cur))
	case "update":
		got, err = tx.Update(o.object(cur))
	case "status":
		got, err = tx.UpdateStatus(o.object(cur))
	case "delete":
		got, err = tx.Delete(o.key, store.Preconditions{
			UID: o.uid.of(cur.uid), ResourceVersion: o.version.of(strconv.FormatUint(cur.revision, 10)),
		})
	}
	if !errors.Is(err, wantErr) {
		return fmt.Errorf("%+v: got error %v, want %v", o, err, wantErr)
	}
	if err != nil {
		return nil
	}
	have := factsOf(got)
	if typ == store.Added {
		if have.uid == "" || have.uid == cur.uid {
			return fmt.Errorf("%+v: uid %q", o, have.uid)
		}
		want.uid = have.uid
	}
	if typ != "" {
		if have.revision <= m.revision {
			return fmt.Errorf("%+v: revision %d after %d", o, have.revision, m.revision)
		}
		want.revision, m.revision = have.revision, have.revision
		m.log = append(m.log, record{typ, o.key, want})
	}
	if have != want {
		return fmt.Errorf("%+v: got %+v, want %+v", o, have, want)
	}
	if typ == store.Deleted {
		delete(m.objects, o.key)
	} else {
		m.objects[o.key] = want
	}
	return nil
}

// machine is the state machine that rapid drives.
type machine struct {
	backend Backend
	st      store.Store
	t       *testing.T
	model   *model
	floor   uint64 // compaction point
	ops     *int   // done: operations of transactions, and everything else that asks the store
}

func drawOp(t *rapid.T) op {
	anyChoice := rapid.SampledFrom([]choice{none, none, current, current, wrong})
	return op{
		verb: rapid.SampledFrom([]string{"create", "create", "update", "update", "status", "delete"}).Draw(t, "verb"),
		key: resource.Key{
			Kind:      "App",
			Namespace: rapid.SampledFrom([]string{"one", "two"}).Draw(t, "namespace"),
			Name:      rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"),
		},
		spec:       rapid.Int32Range(0, 2).Draw(t, "spec"),
		label:      rapid.SampledFrom([]string{"x", "y"}).Draw(t, "label"),
		finalizers: rapid.SampledFrom([]string{"", "", "f", "fg", "g"}).Draw(t, "finalizers"),
		status:     rapid.Int32Range(0, 2).Draw(t, "status"),
		version:    anyChoice.Draw(t, "version"),
		uid:        anyChoice.Draw(t, "uid"),
	}
}

// Transaction runs one to four operations; one in five fails at its end.
func (s *machine) Transaction(t *rapid.T) {
	ops := rapid.SliceOfN(rapid.Custom(drawOp), 1, 4).Draw(t, "operations")
	*s.ops += len(ops)
	fails := rapid.IntRange(0, 4).Draw(t, "fails") == 0
	after := s.model.clone()
	var difference error
	revision, err := s.st.Update(bg, func(tx store.Tx) error {
		for _, o := range ops {
			if difference = after.apply(tx, o); difference != nil {
				return difference
			}
		}
		difference = after.compare(tx.List("App", ""))
		if fails {
			return errMine
		}
		return difference
	})
	switch {
	case difference != nil:
		t.Fatal(difference)
	case fails && err != errMine:
		t.Fatalf("got %v", err)
	case fails:
		return
	case err != nil || revision != after.revision:
		t.Fatalf("revision %d (%v), want %d", revision, err, after.revision)
	}
	s.model = after
}

// compare holds a list against the model.
func (m *model) compare(items []resource.Object) error {
	if len(items) != len(m.objects) {
		return fmt.Errorf("listed %v, want %v", names(items), m.objects)
	}
	for _, o := range items {
		if got, want := factsOf(o), m.objects[resource.KeyOf(o)]; got != want {
			return fmt.Errorf("%s: got %+v, want %+v", resource.KeyOf(o), got, want)
		}
	}
	return nil
}

// Watch replays the log from a random revision.
func (s *machine) Watch(t *rapid.T) {
	from := s.floor
	if len(s.model.log) > 0 {
		from = rapid.SampledFrom(s.model.log).Draw(t, "from").facts.revision
	}
	*s.ops++
	w, err := s.st.Watch(bg, store.WatchOptions{From: from})
	if from < s.floor {
		if !errors.Is(err, store.ErrCompacted) {
			t.Fatalf("watch from %d, compacted to %d: %v", from, s.floor, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("watch from %d, compacted to %d: %v", from, s.floor, err)
	}
	defer w.Stop()
	for _, want := range s.model.log {
		if want.facts.revision <= from {
			continue
		}
		ev, ok := <-w.Events()
		if !ok {
			t.Fatalf("the watch ended: %v", w.Err())
		}
		if got := (record{ev.Type, resource.KeyOf(ev.Object), factsOf(ev.Object)}); got != want || ev.Revision != want.facts.revision {
			t.Fatalf("watch from %d: got %+v, want %+v", from, got, want)
		}
	}
}

// Restart closes the store and opens it again.
func (s *machine) Restart(t *rapid.T) {
	if s.backend.Reopen == nil || rapid.IntRange(0, 3).Draw(t, "restart") != 0 {
		t.Skip("not now")
	}
	*s.ops++
	s.st = s.backend.Reopen(s.t)
}

// Compact forgets a random part of the log.
func (s *machine) Compact(t *rapid.T) {
	if s.backend.Compact == nil || len(s.model.log) == 0 || rapid.IntRange(0, 3).Draw(t, "compact") != 0 {
		t.Skip("not now")
	}
	*s.ops++
	upTo := rapid.SampledFrom(s.model.log).Draw(t, "upTo").facts.revision
	if err := s.backend.Compact(bg, upTo); err != nil {
		t.Fatalf("compact up to %d: %v", upTo, err)
	}
	s.floor = max(s.floor, upTo)
}

// Check compares the whole state after every action.
func (s *machine) Check(t *rapid.T) {
	snap, err := s.st.List(bg, "App", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if snap.Revision != s.model.revision || s.st.Revision() != s.model.revision {
		t.Fatalf("list at %d, store at %d, want %d", snap.Revision, s.st.Revision(), s.model.revision)
	}
	if err := s.model.compare(snap.Items); err != nil {
		t.Fatal(err)
	}
	for key, want := range s.model.objects {
		o, err := s.st.Get(bg, key)
		if err != nil || factsOf(o) != want {
			t.Fatalf("get %s: %v (%v), want %+v", key, o, err, want)
		}
	}
	if st := s.st.Stats(); st.Objects != len(s.model.objects) || st.Compacted != s.floor {
		t.Fatalf("stats %+v, want %d objects, compacted at %d", st, len(s.model.objects), s.floor)
	}
}

// RunModel compares random transactions, watches, restarts and compactions with the
// model, until there were at least so many operations; the comparisons of the whole state
// after each are not counted. A failure is replayed with rapid's flags.
func RunModel(t *testing.T, open Opener, operations int) {
	done := 0
	for done < operations {
		rapid.Check(t, func(rt *rapid.T) {
			b := open(t)
			s := &machine{backend: b, st: b.Store, t: t, floor: b.Store.Stats().Compacted, ops: &done}
			s.model = &model{objects: map[resource.Key]facts{}, revision: b.Store.Revision()}
			defer func() { _ = s.st.Close() }() // now, not when all runs are done
			rt.Repeat(rapid.StateMachineActions(s))
		})
	}
	t.Logf("%d operations", done)
}
