package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

func decode(t *testing.T) map[string]any {
	t.Helper()
	raw, err := Document(kinds.Registry(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// at follows a path of keys.
func at(t *testing.T, v any, keys ...string) any {
	t.Helper()
	for _, k := range keys {
		m, ok := v.(map[string]any)
		if !ok || m[k] == nil {
			t.Fatalf("nothing at %q of %q", k, keys)
		}
		v = m[k]
	}
	return v
}

// walk calls visit for every JSON object of the document.
func walk(v any, path string, visit func(path string, o map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		visit(path, v)
		for k, item := range v {
			walk(item, path+"/"+k, visit)
		}
	case []any:
		for i, item := range v {
			walk(item, fmt.Sprintf("%s/%d", path, i), visit)
		}
	}
}

func TestEveryReferenceResolves(t *testing.T) {
	doc := decode(t)
	seen := 0
	walk(doc, "", func(path string, o map[string]any) {
		ref, ok := o["$ref"].(string)
		if !ok {
			return
		}
		seen++
		keys := strings.Split(strings.TrimPrefix(ref, "#/"), "/")
		target, _ := at(t, doc, keys...).(map[string]any)
		if len(target) == 0 {
			t.Errorf("%s refers to %s, which is empty", path, ref)
		}
		if len(o) != 1 {
			t.Errorf("%s has keys beside $ref, which readers ignore", path)
		}
	})
	if seen < 50 {
		t.Errorf("only %d references seen", seen)
	}
}

func TestOperationsAreWellFormed(t *testing.T) {
	doc := decode(t)
	ids := map[string]string{}
	for path, item := range at(t, doc, "paths").(map[string]any) {
		declared := map[string]bool{}
		params, _ := item.(map[string]any)["parameters"].([]any)
		for _, p := range params {
			name := at(t, p, "name").(string)
			declared[name] = true
			if at(t, p, "required") != true {
				t.Errorf("%s: path parameter %s is not required", path, name)
			}
		}
		for _, m := range regexp.MustCompile(`\{([^}]*)\}`).FindAllStringSubmatch(path, -1) {
			if !declared[m[1]] {
				t.Errorf("%s: parameter %s is not declared", path, m[1])
			}
			delete(declared, m[1])
		}
		if len(declared) > 0 {
			t.Errorf("%s: parameters %v are not in the path", path, declared)
		}
		for method, op := range item.(map[string]any) {
			if method == "parameters" {
				continue
			}
			id := at(t, op, "operationId").(string)
			if other := ids[id]; other != "" {
				t.Errorf("%s %s and %s share the id %s", method, path, other, id)
			}
			ids[id] = method + " " + path
			at(t, op, "responses", "default")
		}
	}
}

func TestEveryKindHasItsSchemaAndPaths(t *testing.T) {
	doc := decode(t)
	for _, k := range kinds.Registry().Kinds() {
		at(t, doc, "components", "schemas", k.Name, "properties", "metadata")
		at(t, doc, "components", "schemas", k.Name+"List", "properties", "items")
		at(t, doc, "paths", root+"/"+k.Plural, "get")
		object := root + "/" + k.Plural + "/{name}"
		if k.Namespaced {
			object = root + "/namespaces/{namespace}/" + k.Plural + "/{name}"
		}
		item := at(t, doc, "paths", object).(map[string]any)
		if (item["put"] == nil) != k.System {
			t.Errorf("%s: a kind that only the daemon writes can be replaced, or another can't", k.Name)
		}
	}
}

func TestOptionsOfFieldsShow(t *testing.T) {
	schemas := at(t, decode(t), "components", "schemas")
	if got := fmt.Sprint(at(t, schemas, "AppSpec", "properties", "state", "enum")); got != "[Running Stopped]" {
		t.Errorf("enum of spec.state: %s", got)
	}
	if got := fmt.Sprint(at(t, schemas, "AppSpec", "properties", "ports", "x-kubernetes-list-map-keys")); got != "[name]" {
		t.Errorf("list keys of spec.ports: %s", got)
	}
	if got := fmt.Sprint(at(t, schemas, "App", "required")); got != "[apiVersion kind metadata]" {
		t.Errorf("required of App: %s", got)
	}
	if got := fmt.Sprint(at(t, schemas, "ObjectMeta", "properties", "labels", "additionalProperties", "type")); got != "string" {
		t.Errorf("labels are %s", got)
	}
}

func TestDescriptionsAreTheComments(t *testing.T) {
	schemas := at(t, decode(t), "components", "schemas")
	for want, path := range map[string][]string{
		"App is an application in an unprivileged guest on an appliance's network.": {"App", "description"},
		"Host name of the guest; default: the object's name.":                       {"AppSpec", "properties", "hostname", "description"},
		"Limits of the guest.": {"AppSpec", "properties", "resources", "description"}, // around a reference
		"Kind of the object.":  {"App", "properties", "kind", "description"},
	} {
		if got := at(t, schemas, path...); got != want {
			t.Errorf("%v is %q, want %q", path, got, want)
		}
	}
	for _, k := range kinds.Registry().Kinds() {
		for name, property := range at(t, schemas, k.Name, "properties").(map[string]any) {
			p := property.(map[string]any)
			if p["$ref"] == nil && p["description"] == nil {
				t.Errorf("%s.%s has no description", k.Name, name)
			}
		}
	}
}

func TestDocumentIsStable(t *testing.T) {
	first, err := Document(kinds.Registry(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	second, err := Document(kinds.Registry(), "v1")
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("two documents differ, error %v", err)
	}
}

// TestSystemRoutesAreTheGateways holds the table to what the gateway was generated from.
func TestSystemRoutesAreTheGateways(t *testing.T) {
	const file = "../../../api/proximity/v1alpha1/gateway.yaml"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rule := regexp.MustCompile(`selector: proximity\.v1alpha1\.SystemService\.(\w+)\s+(get|post|put|patch|delete): (\S+)`)
	want := map[string]bool{}
	for _, m := range rule.FindAllStringSubmatch(string(raw), -1) {
		want[strings.ToUpper(m[2])+" "+m[3]+" "+m[1]] = true
	}
	for _, r := range SystemRoutes {
		key := r.Method + " " + r.Path + " " + string(r.RPC)
		if !want[key] {
			t.Errorf("%s is not in %s", key, file)
		}
		delete(want, key)
	}
	if len(want) > 0 {
		t.Errorf("not in the table: %v", want)
	}
}
