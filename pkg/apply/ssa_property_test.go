package apply_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// fields is what a manager wants of an App, by path, in a world small enough for managers
// to meet: labels, scalars, items of a list that is merged, a list that is not.
type fields map[string]string

var values = map[string][]string{
	"metadata.labels[tier]": {"x", "y"},
	"spec.state":            {"Running", "Stopped"},
	"spec.resources.cores":  {"1", "2"},
	"spec.env[A]":           {"1", "2"},
	"spec.env[B]":           {"1", "2"},
	"spec.packages":         {"[curl]", "[vim]", "[]"},
}

var paths = []string{"metadata.labels[tier]", "spec.state", "spec.resources.cores", "spec.env[A]", "spec.env[B]", "spec.packages"}

func drawFields(t *rapid.T, label string, from []string) fields {
	wanted := fields{}
	for _, p := range from {
		if rapid.Bool().Draw(t, label+" has "+p) {
			wanted[p] = rapid.SampledFrom(values[p]).Draw(t, label+" "+p)
		}
	}
	return wanted
}

// document writes the fields as YAML.
func (w fields) document() string {
	labels, env, spec := "", "", ""
	for _, p := range paths {
		v, ok := w[p]
		switch {
		case !ok:
		case strings.HasPrefix(p, "metadata"):
			labels = "  labels: {tier: " + v + "}\n"
		case strings.HasPrefix(p, "spec.env"):
			env += fmt.Sprintf("  - {name: %c, value: %q}\n", p[len("spec.env[")], v)
		case p == "spec.resources.cores":
			spec += "  resources: {cores: " + v + "}\n"
		default:
			spec += "  " + strings.TrimPrefix(p, "spec.") + ": " + v + "\n"
		}
	}
	if env != "" {
		spec += "  env:\n" + env
	}
	return doc("App", "web", labels+"spec:\n"+spec)
}

// world is an Applier over an empty store.
type world struct {
	*rapid.T
	*apply.Applier
	st  store.Store
	reg *resource.Registry
}

func newWorld(t *rapid.T, reg *resource.Registry) *world {
	st := memory.New(reg)
	t.Cleanup(func() { _ = st.Close() })
	w := &world{T: t, Applier: apply.New(st, reg), st: st, reg: reg}
	if err := w.EnsureNamespaces(context.Background()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) apply(manager string, f fields, force, dry bool) (apply.Result, error) {
	docs, err := resource.DecodeDocuments(w.reg, "set.yaml", []byte(f.document()))
	if err != nil {
		w.Fatal(err)
	}
	results, err := w.ApplySet(context.Background(), docs, apply.Options{Manager: manager, Force: force, DryRun: dry})
	if err != nil {
		return apply.Result{}, err
	}
	return results[0], nil
}

func (w *world) applyEach(manager string, f fields, force, dry bool) (apply.Result, error) {
	docs, err := resource.DecodeDocuments(w.reg, "set.yaml", []byte(f.document()))
	if err != nil {
		w.Fatal(err)
	}
	results, err := w.ApplyEach(context.Background(), docs, apply.Options{Manager: manager, Force: force, DryRun: dry})
	if err != nil {
		w.Fatal(err)
	}
	return results[0].Result, results[0].Err
}

// withStatus is an object with another status.
func withStatus(obj resource.Object) resource.Object {
	app := resource.Clone(obj).(*v1alpha1.App)
	app.Status = &v1alpha1.AppStatus{Node: proto.String(app.GetStatus().GetNode() + "x")}
	return app
}

// conflictPlaces are the documents that conflict with another manager.
func conflictPlaces(err error) string {
	var errs resource.FieldErrors
	if !errors.As(err, &errs) {
		return ""
	}
	var places []string
	for _, e := range errs {
		if e.Reason == resource.ReasonManagerConflict {
			places = append(places, fmt.Sprint(e.Document))
		}
	}
	return strings.Join(places, " ")
}

// alike compares two objects but for what depends on when and how often was written.
func alike(a, b resource.Object) string {
	if resource.Deleting(a) != resource.Deleting(b) {
		return "one is being deleted, the other is not"
	}
	return cmp.Diff(a, b, protocmp.Transform(),
		protocmp.IgnoreFields(&v1alpha1.ObjectMeta{}, "uid", "resource_version", "generation", "creation_timestamp", "deletion_timestamp"),
		protocmp.IgnoreFields(&v1alpha1.ManagedFieldsEntry{}, "time"))
}

// TestApplyHistories: along any history of three appliers, a reference of maps says which
// fields conflict, with whom, and what the object has in the end; a dry run says what the
// real run does; applying again changes nothing.
func TestApplyHistories(t *testing.T) {
	reg := kinds.Registry()
	conflicts, forced := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, reg)
		owned := map[string]fields{} // manager -> its last document
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			manager := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "manager")
			wanted := drawFields(rt, "document", paths)
			force := rapid.IntRange(0, 3).Draw(rt, "force") == 0
			var expected []string
			for other, has := range owned {
				for p, v := range wanted {
					if theirs, both := has[p]; other != manager && both && theirs != v {
						expected = append(expected, p+" "+other)
					}
				}
			}
			dry, dryErr := w.apply(manager, wanted, force, true)
			got, err := w.apply(manager, wanted, force, false)
			if fmt.Sprint(dryErr) != fmt.Sprint(err) || err == nil && alike(dry.Object, got.Object) != "" {
				rt.Fatalf("dry run: %v %v\nreal run: %v %v", dry, dryErr, got, err)
			}
			if len(expected) > 0 && !force {
				conflicts++
				if found := conflictsOf(err, wanted); !slices.Equal(found, sorted(expected)) {
					rt.Fatalf("conflicts %v, want %v: %v", found, sorted(expected), err)
				}
				continue
			}
			if err != nil {
				rt.Fatalf("%s applies %v over %v: %v", manager, wanted, owned, err)
			}
			for _, lost := range expected {
				forced++
				p, other, _ := strings.Cut(lost, " ")
				delete(owned[other], p)
			}
			owned[manager] = wanted
			w.check(got.Object, owned)
			before := w.st.Revision()
			again, err := w.apply(manager, wanted, false, false)
			if err != nil || again.Outcome != apply.Unchanged || w.st.Revision() != before {
				rt.Fatalf("again: %v %v", again, err)
			}
		}
	})
	if conflicts == 0 || forced == 0 {
		t.Errorf("%d conflicts, %d forced: not tried", conflicts, forced)
	}
}

// check compares an object with what all managers together want.
func (w *world) check(obj resource.Object, owned map[string]fields) {
	all := fields{}
	for _, has := range owned {
		for p, v := range has {
			all[p] = v
		}
	}
	spec := obj.(*v1alpha1.App).GetSpec()
	env := map[string]string{}
	for _, e := range spec.GetEnv() {
		env[e.GetName()] = e.GetValue()
	}
	or := func(p, unset string) string {
		if v, ok := all[p]; ok {
			return v
		}
		return unset
	}
	got := fmt.Sprint(obj.GetMetadata().GetLabels()["tier"], "|", spec.GetState(), "|", spec.GetResources().GetCores(), "|", env["A"], "|", env["B"], "|", spec.GetPackages())
	want := fmt.Sprint(or("metadata.labels[tier]", ""), "|", or("spec.state", "Running"), "|", or("spec.resources.cores", "1"), "|", or("spec.env[A]", ""), "|", or("spec.env[B]", ""), "|", or("spec.packages", "[]"))
	if got != want || spec.GetHostname() != "web" {
		w.Fatalf("got %s, want %s of %v", got, want, owned)
	}
}

// conflictsOf lists "path manager" of a conflict, with the items of env by their names.
func conflictsOf(err error, wanted fields) []string {
	env := []string{}
	for _, p := range []string{"spec.env[A]", "spec.env[B]"} {
		if _, ok := wanted[p]; ok {
			env = append(env, p)
		}
	}
	var errs resource.FieldErrors
	if !errors.As(err, &errs) {
		return nil
	}
	var found []string
	for _, e := range errs {
		if e.Reason != resource.ReasonManagerConflict {
			return nil
		}
		path := e.Path
		for i, p := range env {
			if path == fmt.Sprintf("spec.env[%d].value", i) {
				path = p
			}
		}
		found = append(found, path+" "+strings.Split(e.Allowed, `"`)[1])
	}
	return sorted(found)
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// TestDisjointAppliersCommute: the order of managers that share no field does not matter.
func TestDisjointAppliersCommute(t *testing.T) {
	reg := kinds.Registry()
	rapid.Check(t, func(rt *rapid.T) {
		var mine, theirs []string
		for _, p := range paths {
			if rapid.Bool().Draw(rt, p) {
				mine = append(mine, p)
			} else {
				theirs = append(theirs, p)
			}
		}
		a, b := drawFields(rt, "a", mine), drawFields(rt, "b", theirs)
		ends := make([]resource.Object, 2)
		for i, order := range [][]string{{"a", "b"}, {"b", "a"}} {
			w := newWorld(rt, reg)
			for _, manager := range order {
				got, err := w.apply(manager, map[string]fields{"a": a, "b": b}[manager], false, false)
				if err != nil {
					rt.Fatal(err)
				}
				ends[i] = got.Object
			}
			slices.SortFunc(ends[i].(*v1alpha1.App).GetSpec().GetEnv(), func(x, y *v1alpha1.EnvVar) int { return strings.Compare(x.GetName(), y.GetName()) })
		}
		if diff := alike(ends[0], ends[1]); diff != "" {
			rt.Fatal(diff)
		}
	})
}

// FuzzApply: no document brings the daemon down, and one that was taken is unchanged when
// it is applied again, over what another manager applied.
func FuzzApply(f *testing.F) {
	f.Add([]byte(lanDoc), []byte(doc("Bridge", "lan", "spec:\n  mtu: 1400\n")), true)
	f.Add([]byte(doc("App", "web", webApp)), []byte(doc("App", "web", "  finalizers: [a/b, a/b]\nspec:\n  env: []\n  ports: [{name: http, port: 80}]\n")), false)
	f.Add([]byte(doc("Vhost", "v", "spec:\n  hosts: [a.b]\n  rules: [{backends: [{address: 10.0.0.1:80}]}]\n")), []byte(doc("Vhost", "v", "spec:\n  rules: [{path: /, backends: []}]\n")), true)
	reg := kinds.Registry()
	f.Fuzz(func(t *testing.T, first, second []byte, force bool) {
		st := memory.New(reg)
		defer st.Close()
		a := apply.New(st, reg)
		if err := a.EnsureNamespaces(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, text := range [][]byte{first, second} {
			docs, err := resource.DecodeDocuments(reg, "set.yaml", text)
			if err != nil {
				continue
			}
			opts := apply.Options{Manager: fmt.Sprint("m", i), Force: force}
			if _, err := a.ApplySet(t.Context(), docs, opts); err != nil {
				var errs resource.FieldErrors
				if !errors.As(err, &errs) && !strings.Contains(err.Error(), "conflict") {
					t.Errorf("an error that says nothing to the user: %v", err)
				}
				continue
			}
			again, err := a.ApplySet(t.Context(), docs, opts)
			if err != nil && !strings.Contains(err.Error(), "conflict") {
				t.Fatalf("again: %v", err)
			}
			for _, r := range again {
				if r.Outcome != apply.Unchanged {
					t.Errorf("again: %s %s", r.Key, r.Outcome)
				}
			}
		}
	})
}

// BenchmarkApplyUnchanged is the time of a set of 1,000 objects that are as they are wanted.
func BenchmarkApplyUnchanged(b *testing.B) {
	reg := kinds.Registry()
	st := memory.New(reg)
	defer st.Close()
	a := apply.New(st, reg)
	if err := a.EnsureNamespaces(b.Context()); err != nil {
		b.Fatal(err)
	}
	var text strings.Builder
	for i := range 1000 {
		text.WriteString(doc("App", fmt.Sprintf("web-%d", i), webApp))
	}
	docs, err := resource.DecodeDocuments(reg, "set.yaml", []byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := a.ApplySet(b.Context(), docs, apply.Options{Manager: "bench"}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/object")
}
