package ownership

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// drawDocument draws a document of an App or a Vhost with whatever the short way has to
// tell apart: maps, lists of all sorts in any order, messages, empty ones, odd text, fields
// that are null.
func drawDocument(t *rapid.T, reg *resource.Registry, kind string) resource.Document {
	plain := rapid.IntRange(0, 2).Draw(t, "plain") > 0 // the short way is for these
	text := rapid.SampledFrom([]string{"x", "y", "a.b/c", "", `q"<&>\`, "ü"})
	maybe := func(name string, tree map[string]any, value func() any) {
		switch rapid.IntRange(0, 9).Draw(t, name) {
		case 0, 1, 2, 3, 4:
			tree[name] = value()
		case 5:
			tree[name] = nil
		}
	}
	dict := func() any {
		m := map[string]any{}
		for _, k := range []string{"tier", "app.kubernetes.io/name", "z<"} {
			if rapid.Bool().Draw(t, k) && (!plain || k != "z<") || plain && k == "tier" {
				m[k] = text.Draw(t, "value")
			}
		}
		return m
	}
	items := func(key string, names []string, more func(map[string]any)) func() any {
		return func() any {
			list := []any{}
			for _, name := range rapid.Permutation(names).Draw(t, key) {
				if rapid.Bool().Draw(t, name) && (!plain || name != "C\"") || plain && len(list) == 0 {
					item := map[string]any{key: name}
					more(item)
					list = append(list, item)
				}
			}
			return list
		}
	}
	meta := map[string]any{"name": "a", "namespace": "default"}
	maybe("labels", meta, dict)
	maybe("annotations", meta, dict)
	if !plain {
		maybe("finalizers", meta, func() any { return []any{"proximity/f"} })
	}
	maybe("ownerReferences", meta, items("uid", []string{"u1", "u2"}, func(o map[string]any) { o["name"] = "o" }))
	spec := map[string]any{}
	if kind == "App" {
		maybe("hostname", spec, func() any { return text.Draw(t, "hostname") })
		maybe("suspend", spec, func() any { return rapid.Bool().Draw(t, "suspend") })
		maybe("resources", spec, func() any {
			r := map[string]any{}
			maybe("cores", r, func() any { return rapid.IntRange(0, 2).Draw(t, "cores") })
			if plain {
				r["disk"] = "1Gi"
			}
			maybe("memory", r, func() any { return text.Draw(t, "memory") })
			return r
		})
		maybe("packages", spec, func() any {
			return rapid.SliceOfN(rapid.SampledFrom([]any{"p", "q"}), least(plain), 2).Draw(t, "packages")
		})
		maybe("env", spec, items("name", []string{"A", "B", "C\""}, func(o map[string]any) {
			maybe("value", o, func() any { return text.Draw(t, "value") })
		}))
		maybe("ports", spec, items("name", []string{"http", "dns"}, func(o map[string]any) {
			maybe("port", o, func() any { return rapid.IntRange(1, 3).Draw(t, "port") })
			maybe("protocol", o, func() any { return "UDP" })
		}))
		maybe("commands", spec, func() any { return []any{map[string]any{"argv": []any{text.Draw(t, "argument")}}, map[string]any{}} })
	} else {
		maybe("hosts", spec, func() any { return []any{text.Draw(t, "host")} })
		maybe("rules", spec, items("path", []string{"/", "/a"}, func(map[string]any) {}))
	}
	tree := map[string]any{"apiVersion": resource.APIVersion, "kind": kind, "metadata": meta}
	maybe("spec", tree, func() any { return spec })
	data, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := resource.DecodeDocuments(reg, "", data)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return docs[0]
}

func least(plain bool) int {
	if plain {
		return 1
	}
	return 0
}

// drift changes the object behind the managers' backs, as controllers and defaults do.
func drift(t *rapid.T, kind *resource.Kind, live resource.Object) {
	if kind.Default != nil && rapid.Bool().Draw(t, "defaults") {
		kind.Default(live)
	}
	app, ok := live.(*v1alpha1.App)
	if !ok {
		return
	}
	switch rapid.IntRange(0, 9).Draw(t, "drift") {
	case 0:
		app.Metadata.Finalizers = append(app.Metadata.Finalizers, "proximity/app")
	case 1:
		app.Status = &v1alpha1.AppStatus{}
	case 2:
		if env := app.GetSpec().GetEnv(); len(env) > 1 {
			slices.Reverse(env)
		}
	case 3:
		if app.Spec != nil {
			app.Spec.Resources = nil
		}
	}
}

var ignoreTimes = cmp.Options{protocmp.Transform(), protocmp.IgnoreFields(&v1alpha1.ManagedFieldsEntry{}, "time")}

// TestShortWay: along any history of documents of two appliers and an updater, what the
// short way makes of an object, its managedFields and all, is what the library makes of it;
// and the fields it writes down are the library's, byte by byte.
func TestShortWay(t *testing.T) {
	reg := kinds.Registry()
	short := New(reg)
	long := short.WithoutShortWays()
	sets, agains := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		kind, _ := reg.Get(rapid.SampledFrom([]string{"App", "App", "Vhost"}).Draw(rt, "kind"))
		var live resource.Object
		var last resource.Document
		for step := range rapid.IntRange(1, 8).Draw(rt, "steps") {
			manager := rapid.SampledFrom([]string{"me", "me", "me", "me", "you"}).Draw(rt, "manager")
			doc := last
			if step == 0 || rapid.IntRange(0, 3).Draw(rt, "other fields") == 0 {
				doc = drawDocument(rt, reg, kind.Name)
			} else {
				doc = otherValues(rt, last)
			}
			last = doc
			defaulted := resource.Clone(doc.Object)
			if kind.Default != nil {
				kind.Default(defaulted)
			}
			if len(kind.CheckShape(defaulted)) > 0 {
				continue
			}
			fields, simple := fieldSet(doc)
			if simple {
				sets++
				set, err := long.typed(kind, doc.Wish(defaulted)).ToFieldSet()
				if err != nil {
					rt.Fatal(err)
				}
				if want, err := set.ToJSON(); err != nil || string(want) != fields {
					rt.Fatalf("fields %s, the library has %s (%v)", fields, want, err)
				}
				if live != nil {
					next := resource.Clone(live)
					if short.Again(next, doc, manager) {
						agains++
						want, _, err := long.Apply(kind, live, doc, resource.Clone(defaulted), manager, false)
						if diff := cmp.Diff(want, next, ignoreTimes); err != nil || diff != "" {
							rt.Fatalf("again: %v, -library +short:\n%s", err, diff)
						}
					}
				}
			}
			force := rapid.Bool().Draw(rt, "force")
			got, conflicts, err := short.Apply(kind, live, doc, resource.Clone(defaulted), manager, force)
			want, wantConflicts, wantErr := long.Apply(kind, live, doc, resource.Clone(defaulted), manager, force)
			if fmt.Sprint(err, conflicts) != fmt.Sprint(wantErr, wantConflicts) {
				rt.Fatalf("%v %v, the library: %v %v", conflicts, err, wantConflicts, wantErr)
			}
			if diff := cmp.Diff(want, got, ignoreTimes); diff != "" {
				rt.Fatalf("-library +short:\n%s", diff)
			}
			if err != nil || len(conflicts) > 0 {
				continue
			}
			live = got
			drift(rt, kind, live)
			if rapid.IntRange(0, 9).Draw(rt, "update") == 0 {
				next := resource.Clone(live)
				next.GetMetadata().Labels = map[string]string{"tier": "updated"}
				if err := short.Update(kind, live, next, "updater"); err != nil {
					rt.Fatal(err)
				}
				live = next
			}
		}
	})
	if sets < 50 || agains < 10 {
		t.Fatalf("%d sets and %d objects came the short way: the test says nothing", sets, agains)
	}
}

// otherValues is the document with the same fields and, in some, another value.
func otherValues(t *rapid.T, doc resource.Document) resource.Document {
	doc.Object = resource.Clone(doc.Object)
	for k := range doc.Object.GetMetadata().GetLabels() {
		doc.Object.GetMetadata().Labels[k] = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "label")
	}
	app, ok := doc.Object.(*v1alpha1.App)
	if !ok {
		return doc
	}
	if app.Spec != nil && app.Spec.Hostname != nil {
		*app.Spec.Hostname = rapid.SampledFrom([]string{"h", "i", ""}).Draw(t, "hostname")
	}
	for _, e := range app.GetSpec().GetEnv() {
		if e.Value != nil {
			*e.Value = rapid.SampledFrom([]string{"1", "2"}).Draw(t, "value")
		}
	}
	if p := app.GetSpec().GetPackages(); len(p) > 0 {
		app.Spec.Packages = append(p, "another")
	}
	return doc
}
