package export

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

var registry = kinds.Registry()

// manifests are of kinds with defaults, each with lines that may be there or not.
var manifests = map[string][]string{
	"App":           {"hostname: web", "hostname: other", "state: Running", "state: Stopped", "resources: {cores: 1, memory: 512Mi}", "resources: {cores: 2}", "ports: [{name: http, port: 80, protocol: TCP}, {name: dns, port: 53, protocol: UDP}]", "env: [{name: A, value: \"\"}]", "suspend: false", "deletionPolicy: Orphan", "network: {fallback: None}", "network: {address: 10.20.0.7}", "driftPolicy: correct", "packages: [nginx]"},
	"Sync":          {"path: apps", "prune: auto", "prune: never", "wait: true", "wait: false", "mode: apply", "timeout: 10m", "substitute: {A: b}", "namespaces: [a, b]"},
	"Bridge":        {"mtu: 1500", "comment: lab"},
	"GitRepository": {"interval: 15s", "interval: 30s", "ref: {branch: main}", "suspend: true"},
}

var required = map[string]string{"Sync": "sourceRef: {name: main}", "Bridge": "subnet: 10.20.0.0/24", "GitRepository": "url: https://example.org/x", "App": "source: {template: debian-12-standard}"}

// TestStable: what is exported, applied to the same daemon, changes nothing; applied to an
// empty one it gives the same; and exported again it is the same text.
func TestStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kindName := rapid.SampledFrom([]string{"App", "Sync", "Bridge", "GitRepository"}).Draw(t, "kind")
		kind, _ := registry.Get(kindName)
		text := fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: %s\nmetadata: {name: web, labels: {a: b}, annotations: {x/y: z}}\nspec:\n  %s\n", kindName, required[kindName])
		seen := map[string]bool{}
		for _, line := range rapid.SliceOfN(rapid.SampledFrom(manifests[kindName]), 0, 6).Draw(t, "lines") {
			if field, _, _ := strings.Cut(line, ":"); !seen[field] {
				seen[field] = true
				text += "  " + line + "\n"
			}
		}
		a, first := applied(t, text)
		exported := export(t, kind, first)
		again, err := applyText(a, exported, "other")
		if err != nil {
			t.Fatalf("%v\n%s", err, exported)
		}
		if again.Outcome != apply.Unchanged && !proto.Equal(spec(again.Object), spec(first)) {
			t.Fatalf("applied again it is %s:\n%s", again.Outcome, exported)
		}
		_, second := applied(t, exported)
		if !proto.Equal(spec(first), spec(second)) {
			t.Fatalf("a new daemon has another object:\n%v\n%v\nfrom\n%s", spec(first), spec(second), exported)
		}
		if twice := export(t, kind, second); twice != exported {
			t.Fatalf("exported again:\n%s\nfirst:\n%s", twice, exported)
		}
		for _, word := range []string{"status", "managedFields", "uid", "creationTimestamp", "resourceVersion"} {
			if strings.Contains(exported, word+":") {
				t.Fatalf("the export has %s:\n%s", word, exported)
			}
		}
	})
}

func spec(o resource.Object) proto.Message {
	m, _ := resource.Field(o, "spec")
	return m.Interface()
}

func applied(t *rapid.T, text string) (*apply.Applier, resource.Object) {
	a := apply.New(memory.New(registry), registry)
	if err := a.EnsureNamespaces(context.Background()); err != nil {
		t.Fatal(err)
	}
	r, err := applyText(a, text, "proxctl")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return a, r.Object
}

func applyText(a *apply.Applier, text, manager string) (apply.Result, error) {
	docs, err := resource.DecodeDocuments(registry, "x.yaml", []byte(text))
	if err != nil {
		return apply.Result{}, err
	}
	results, err := a.ApplySet(context.Background(), docs, apply.Options{Manager: manager})
	if err != nil {
		return apply.Result{}, err
	}
	return results[0], nil
}

func export(t *rapid.T, kind *resource.Kind, obj resource.Object) string {
	before := resource.Clone(obj)
	text, err := resource.EncodeYAML(Clean(kind, obj))
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(before, obj) {
		t.Fatal("the object was changed")
	}
	return string(text)
}

func TestNoDefaults(t *testing.T) {
	docs, err := resource.DecodeDocuments(registry, "x", []byte("apiVersion: proximity/v1alpha1\nkind: Sync\nmetadata: {name: a, namespace: default, finalizers: [proximity/sync, mine/x], annotations: {proximity/sync: default/main, proximity/source: a.yaml}}\nspec: {sourceRef: {name: main}, wait: true, prune: never}\nstatus: {appliedRevision: x}\n"))
	if err != nil {
		t.Fatal(err)
	}
	kind, _ := registry.Get("Sync")
	obj := docs[0].Object
	kind.Default(obj)
	text, err := resource.EncodeYAML(Clean(kind, obj))
	if err != nil {
		t.Fatal(err)
	}
	want := "apiVersion: proximity/v1alpha1\nkind: Sync\nmetadata:\n  name: a\n  namespace: default\n  finalizers:\n    - mine/x\nspec:\n  sourceRef:\n    name: main\n  prune: never\n"
	if string(text) != want {
		t.Errorf("exported\n%s\nwant\n%s", text, want)
	}
}

func TestLeftOut(t *testing.T) {
	for text, words := range map[string]string{
		"apiVersion: proximity/v1alpha1\nkind: Namespace\nmetadata: {name: default}\n":                                                                           "always exists",
		"apiVersion: proximity/v1alpha1\nkind: Operation\nmetadata: {name: a}\nspec: {action: Examine, target: {kind: Cluster, name: a}}\n":                      "never part",
		"apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: a, ownerReferences: [{apiVersion: x, kind: Release, name: r, uid: u, controller: true}]}\n": "made by Release r",
		"apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: a, deletionTimestamp: \"2026-01-01T00:00:00Z\"}\n":                                          "being deleted",
		"apiVersion: proximity/v1alpha1\nkind: Cluster\nmetadata: {name: default, managedFields: [{manager: proximityd, operation: Update, fieldsV1: {}}]}\n":    "declares it itself",
		"apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: a}\n":                                                                                       "",
	} {
		docs, err := resource.DecodeDocuments(registry, "x", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := LeftOut(registry, docs[0].Object); (got == "") != (words == "") || !strings.Contains(got, words) {
			t.Errorf("%s: %q; want %q", text, got, words)
		}
	}
}
