package storetest

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// patience bounds the wait for something that must happen; only a failing test waits it out.
const patience = 30 * time.Second

// env is what a case works with. Its helpers end the test when the store fails.
type env struct {
	*testing.T
	st      store.Store
	backend Backend
}

var bg = context.Background()

func app(name string) *v1alpha1.App { return appIn("default", name) }

func appIn(namespace, name string) *v1alpha1.App {
	return &v1alpha1.App{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:     &v1alpha1.AppSpec{Hostname: proto.String(name)},
	}
}

func bridge(name string) *v1alpha1.Bridge {
	return &v1alpha1.Bridge{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"),
		Metadata: &v1alpha1.ObjectMeta{Name: name},
	}
}

func event(name string) *v1alpha1.Event {
	return &v1alpha1.Event{
		ApiVersion: resource.APIVersion, Kind: "Event",
		Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: "default"}, Count: 1,
	}
}

func with[T resource.Object](o T, edit func(T)) T {
	o = resource.Clone(o)
	edit(o)
	return o
}

func rev(o resource.Object) uint64 {
	n, err := strconv.ParseUint(o.GetMetadata().GetResourceVersion(), 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// The four writes, each in a transaction of its own. The result is a copy.

func create[T resource.Object](e *env, o T) T {
	e.Helper()
	return write(e, func(tx store.Tx) (resource.Object, error) { return tx.Create(o) }).(T)
}

func update[T resource.Object](e *env, o T) T {
	e.Helper()
	return write(e, func(tx store.Tx) (resource.Object, error) { return tx.Update(o) }).(T)
}

func updateStatus[T resource.Object](e *env, o T) T {
	e.Helper()
	return write(e, func(tx store.Tx) (resource.Object, error) { return tx.UpdateStatus(o) }).(T)
}

func remove[T resource.Object](e *env, o T) T {
	e.Helper()
	return write(e, func(tx store.Tx) (resource.Object, error) {
		return tx.Delete(resource.KeyOf(o), store.Preconditions{})
	}).(T)
}

func write(e *env, fn func(store.Tx) (resource.Object, error)) resource.Object {
	e.Helper()
	var out resource.Object
	e.must(func(tx store.Tx) (err error) {
		out, err = fn(tx)
		return err
	})
	return resource.Clone(out)
}

// must runs a transaction and returns its revision.
func (e *env) must(fn func(store.Tx) error) uint64 {
	e.Helper()
	revision, err := e.st.Update(bg, fn)
	if err != nil {
		e.Fatalf("transaction: %v", err)
	}
	return revision
}

// refused runs a transaction that must fail with that error and leave no trace.
func (e *env) refused(want error, fn func(store.Tx) error) error {
	e.Helper()
	before := e.st.Revision()
	_, err := e.st.Update(bg, fn)
	if !errors.Is(err, want) {
		e.Fatalf("got error %v, want %v", err, want)
	}
	if after := e.st.Revision(); after != before {
		e.Fatalf("a refused change moved the revision from %d to %d", before, after)
	}
	return err
}

// unchanged runs a change that must change nothing.
func (e *env) unchanged(fn func(store.Tx) (resource.Object, error)) {
	e.Helper()
	before, noOps := e.st.Revision(), e.st.Stats().NoOps
	write(e, fn)
	if after := e.st.Revision(); after != before {
		e.Fatalf("a change that changes nothing moved the revision from %d to %d", before, after)
	}
	if got := e.st.Stats().NoOps; got != noOps+1 {
		e.Errorf("Stats().NoOps went from %d to %d", noOps, got)
	}
}

func get[T resource.Object](e *env, o T) T {
	e.Helper()
	got, err := e.st.Get(bg, resource.KeyOf(o))
	if err != nil {
		e.Fatalf("get: %v", err)
	}
	return resource.Clone(got).(T)
}

func (e *env) gone(o resource.Object) {
	e.Helper()
	if _, err := e.st.Get(bg, resource.KeyOf(o)); !errors.Is(err, store.ErrNotFound) {
		e.Fatalf("get %s: %v, want not found", resource.KeyOf(o), err)
	}
}

func (e *env) list(kind string, opts store.ListOptions) []string {
	e.Helper()
	snap, err := e.st.List(bg, kind, opts)
	if err != nil {
		e.Fatalf("list: %v", err)
	}
	return names(snap.Items)
}

func names(items []resource.Object) []string {
	out := []string{}
	for _, o := range items {
		m := o.GetMetadata()
		out = append(out, m.GetNamespace()+"/"+m.GetName())
	}
	return out
}

func (e *env) same(got, want proto.Message) {
	e.Helper()
	if !proto.Equal(got, want) {
		e.Fatalf("got:\n%s\nwant:\n%s", prototext.Format(got), prototext.Format(want))
	}
}

// watch opens a watch that ends with the test.
func (e *env) watch(opts store.WatchOptions) store.Watcher {
	e.Helper()
	w, err := e.st.Watch(bg, opts)
	if err != nil {
		e.Fatalf("watch: %v", err)
	}
	e.Cleanup(w.Stop)
	return w
}

// live opens a watch from now on.
func (e *env) live() store.Watcher {
	e.Helper()
	return e.watch(store.WatchOptions{From: e.st.Revision()})
}

// next waits for an event.
func (e *env) next(w store.Watcher) store.Event {
	e.Helper()
	select {
	case ev, ok := <-w.Events():
		if !ok {
			e.Fatalf("the watch ended: %v", w.Err())
		}
		return ev
	case <-time.After(patience):
		e.Fatal("no event came")
	}
	panic("unreachable")
}

// expect waits for an event of a type about an object and returns it.
func (e *env) expect(w store.Watcher, typ store.EventType, o resource.Object) store.Event {
	e.Helper()
	ev := e.next(w)
	if ev.Type != typ || resource.KeyOf(ev.Object) != resource.KeyOf(o) {
		e.Fatalf("got %s, want %s %s", text(ev), typ, resource.KeyOf(o))
	}
	return ev
}

// quiet makes sure that no event is under way: a marker written now is the next one.
func (e *env) quiet(w store.Watcher) {
	e.Helper()
	marker := create(e, app("marker"))
	e.expect(w, store.Added, marker)
}

// end waits until the watch has ended, passing over events, and returns its error.
func (e *env) end(w store.Watcher) error {
	e.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, ok := <-w.Events():
			if !ok {
				return w.Err()
			}
		case <-deadline:
			e.Fatal("the watch did not end")
		}
	}
}

func text(ev store.Event) string {
	if ev.Object == nil {
		return string(ev.Type)
	}
	return string(ev.Type) + " " + resource.KeyOf(ev.Object).String()
}
