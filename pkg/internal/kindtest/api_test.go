package kindtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/internal/kindtest"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// TestGRPC finds the kind in every method of the ResourceService.
func TestGRPC(t *testing.T) {
	w, ctx := start(t), t.Context()
	infos, err := w.client.Kinds(ctx)
	w.check(err)
	found := false
	for _, k := range infos {
		if k.GetKind() == "Gadget" {
			found = true
			if k.GetPlural() != "gadgets" || !slices.Equal(k.GetShortNames(), []string{"gdg", "gd"}) || !k.GetNamespaced() ||
				!slices.Equal(k.GetCategories(), []string{"all", "toys"}) || k.GetApplyOrder() != 60 {
				t.Errorf("kind info: %v", k)
			}
		}
	}
	if !found {
		t.Fatal("Kinds does not have it")
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	watch, err := w.gadgets.Watch(watching, client.WatchOptions{LabelSelector: "for=grpc"})
	w.check(err)
	ev, err := watch.Next()
	if w.check(err); ev.Type != client.Bookmark {
		t.Fatalf("got %v", ev)
	}
	g := kindtest.New("one")
	g.Metadata.Labels, g.Spec.Serial = map[string]string{"for": "grpc"}, proto.String("AB-0001")
	g, err = w.gadgets.Create(ctx, g)
	w.check(err)
	g.Spec.Size = proto.Int32(7)
	g, err = w.gadgets.Update(ctx, g)
	w.check(err)
	g.Status = &kindtest.GadgetStatus{PartCount: proto.Int32(3)}
	_, err = w.gadgets.UpdateStatus(ctx, g)
	w.check(err)
	g, err = w.gadgets.Patch(ctx, "default", "one", client.MergePatch, []byte(`{"spec":{"note":"two\nlines"}}`), client.PatchOptions{})
	w.check(err)
	if g.GetStatus().GetPartCount() != 3 || g.GetSpec().GetNote() != "two\nlines" || g.GetMetadata().GetGeneration() != 3 {
		t.Errorf("got %v", g)
	}
	for _, sel := range []client.ListOptions{{LabelSelector: "for in (grpc)"}, {FieldSelector: "metadata.name=one"}, {Namespace: "default"}} {
		list, err := w.gadgets.List(ctx, sel)
		if w.check(err); len(list.Items) != 1 {
			t.Errorf("%v: %d objects", sel, len(list.Items))
		}
	}
	_, outcome, err := w.gadgets.Apply(ctx, kindtest.New("two"), client.ApplyOptions{Manager: "m"})
	if w.check(err); outcome != "created" {
		t.Errorf("outcome %s", outcome)
	}
	_, err = w.gadgets.Delete(ctx, "default", "one", g.GetMetadata().GetUid())
	w.check(err)
	if _, err := w.gadgets.Get(ctx, "default", "one"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	var types []string
	for len(types) < 5 {
		ev, err := watch.Next()
		w.check(err)
		types = append(types, ev.Type)
	}
	if got := strings.Join(types, " "); got != "ADDED MODIFIED MODIFIED MODIFIED DELETED" {
		t.Errorf("watched %s", got)
	}
}

// TestErrors: what the proto's options forbid is told with path, value, rule and line.
func TestErrors(t *testing.T) {
	w := start(t)
	docs, err := resource.DecodeDocuments(kindtest.Registry(), "toys.yaml", []byte(`apiVersion: proximity/v1alpha1
kind: Gadget
metadata: {name: bad, namespace: default}
spec:
  color: pink
  serial: "7"
  size: 501
  parts:
  - {name: a, count: 1}
  - {name: a, count: 0}
  pin: "1"
`))
	w.check(err)
	_, err = w.client.ApplySet(t.Context(), docs, client.ApplyOptions{Manager: "m"})
	var answer *client.Error
	if !errors.As(err, &answer) || !errors.Is(err, client.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	var lines []string
	for _, c := range answer.Causes {
		lines = append(lines, c.String())
	}
	all := strings.Join(lines, "\n")
	for _, want := range []string{
		`toys.yaml:5: spec.color: found "pink"; allowed is one of red, green, blue`,
		`toys.yaml:6: spec.serial: found "7"; allowed is two capitals, a hyphen and four digits, e.g. AB-1234`,
		`toys.yaml:7: spec.size: found "501"; allowed is a number from 1 to 500`,
		`toys.yaml:10: spec.parts[1].name: found "a"; allowed is a value of its own; it is already at spec.parts[0]`,
		`toys.yaml:10: spec.parts[1].count: found "0"; allowed is a number of at least 1`,
		`spec.pin: found "(hidden)"; allowed is 4 to 8 characters`,
	} {
		has(w, all, want)
	}
	if _, err := resource.DecodeDocuments(kindtest.Registry(), "toys.yaml", []byte("apiVersion: proximity/v1alpha1\nkind: Gadget\nmetadata: {name: a}\nspec: {colour: red}\n")); err == nil {
		t.Error("an unknown field passed")
	} else {
		has(w, err.Error(), `toys.yaml:4: spec.colour: unknown field; did you mean "color"`)
	}
}

// TestSensitive: a value of a sensitive field is kept, and never shown.
func TestSensitive(t *testing.T) {
	w := start(t)
	g := kindtest.New("safe")
	g.Spec.Pin = proto.String("471147")
	made, err := w.gadgets.Create(t.Context(), g)
	w.check(err)
	got, err := w.gadgets.Get(t.Context(), "default", "safe")
	w.check(err)
	_, answer := w.rest("GET", apis+"/namespaces/default/gadgets/safe", "", "")
	stored, err := w.st.Get(t.Context(), resource.KeyOf(g))
	w.check(err)
	for _, shown := range []string{made.String(), got.String(), fmt.Sprint(answer), fmt.Sprint(stored), w.proxctl(0, "get", "gadget/safe", "-o", "yaml")} {
		if strings.Contains(shown, "471147") {
			t.Errorf("shown: %s", shown)
		}
	}
	if got.GetSpec().GetPin() == "" {
		t.Error("that there is a value is not shown")
	}
}

// TestOwnership: list keys decide who owns which item, and immutable fields stay.
func TestOwnership(t *testing.T) {
	w, ctx := start(t), t.Context()
	part := func(name string, n int32) *kindtest.GadgetPart {
		return &kindtest.GadgetPart{Name: proto.String(name), Count: proto.Int32(n)}
	}
	mine, theirs := kindtest.New("shared"), kindtest.New("shared")
	mine.Spec.Serial, mine.Spec.Parts = proto.String("AB-0001"), []*kindtest.GadgetPart{part("a", 1)}
	theirs.Spec = &kindtest.GadgetSpec{Parts: []*kindtest.GadgetPart{part("b", 2)}}
	for manager, g := range map[string]*kindtest.Gadget{"mine": mine} {
		_, _, err := w.gadgets.Apply(ctx, g, client.ApplyOptions{Manager: manager})
		w.check(err)
	}
	g, _, err := w.gadgets.Apply(ctx, theirs, client.ApplyOptions{Manager: "theirs"})
	w.check(err)
	if len(g.GetSpec().GetParts()) != 2 || g.GetSpec().GetColor() != "red" {
		t.Errorf("got %v", g.GetSpec())
	}
	owners := fmt.Sprint(g.GetMetadata().GetManagedFields())
	has(w, strings.ReplaceAll(owners, `\`, ""), `k:{"name":"b"}`)
	theirs.Spec.Parts = []*kindtest.GadgetPart{part("a", 5)}
	if _, _, err := w.gadgets.Apply(ctx, theirs, client.ApplyOptions{Manager: "theirs"}); !errors.Is(err, client.ErrConflict) {
		t.Errorf("got %v", err)
	}
	mine.Spec.Serial = proto.String("AB-0002")
	_, _, err = w.gadgets.Apply(ctx, mine, client.ApplyOptions{Manager: "mine"})
	if !errors.Is(err, client.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	var answer *client.Error
	if errors.As(err, &answer); len(answer.Causes) != 1 || answer.Causes[0].Field != "spec.serial" {
		t.Errorf("got %v", answer.Causes)
	}
}

const apis = "/apis/proximity/v1alpha1"

// TestREST finds the kind in discovery, in every verb and in the OpenAPI document.
func TestREST(t *testing.T) {
	w := start(t)
	code, found := w.rest("GET", apis, "", "")
	var entry map[string]any
	resources, _ := found["resources"].([]any)
	names := map[string]bool{}
	for _, r := range resources {
		name, _ := at(r, "name").(string)
		if names[name] = true; name == "gadgets" {
			entry, _ = r.(map[string]any)
		}
	}
	if code != 200 || entry == nil || !names["gadgets/status"] || fmt.Sprint(entry["shortNames"]) != "[gdg gd]" || entry["namespaced"] != true {
		t.Errorf("discovery: %d %v", code, entry)
	}
	const list, one = apis + "/namespaces/default/gadgets", apis + "/namespaces/default/gadgets/r"
	body := `{"apiVersion":"proximity/v1alpha1","kind":"Gadget","metadata":{"name":"r","labels":{"l":"1"}},"spec":{"color":"red","size":%d}}`
	expect := func(code, want int, answer map[string]any, value any, path ...string) {
		t.Helper()
		if got := at(answer, path...); code != want || fmt.Sprint(got) != fmt.Sprint(value) {
			t.Errorf("got %d, %v = %v, want %d, %v; %v", code, path, got, want, value, answer)
		}
	}
	code, a := w.rest("POST", list, "application/json", fmt.Sprintf(body, 1))
	expect(code, 201, a, "r", "metadata", "name")
	code, a = w.rest("PUT", one, "application/json", fmt.Sprintf(body, 2))
	expect(code, 200, a, 2, "spec", "size")
	code, a = w.rest("PATCH", one, "application/merge-patch+json", `{"spec":{"size":3}}`)
	expect(code, 200, a, 3, "spec", "size")
	code, a = w.rest("PATCH", one+"?fieldManager=f&force=true", "application/apply-patch+yaml", fmt.Sprintf(body, 4))
	expect(code, 200, a, 4, "spec", "size")
	code, a = w.rest("PUT", one+"/status", "application/json", `{"apiVersion":"proximity/v1alpha1","kind":"Gadget","metadata":{"name":"r"},"status":{"partCount":9}}`)
	expect(code, 200, a, 9, "status", "partCount")
	code, a = w.rest("GET", one, "", "")
	expect(code, 200, a, 9, "status", "partCount")
	code, a = w.rest("PATCH", one, "application/merge-patch+json", `{"spec":{"size":0}}`)
	expect(code, 422, a, "Invalid", "reason")
	for _, path := range []string{list + "?labelSelector=l%3D1", apis + "/gadgets?fieldSelector=metadata.name%3Dr"} {
		code, a = w.rest("GET", path, "", "")
		if items, _ := a["items"].([]any); code != 200 || len(items) != 1 {
			t.Errorf("%s: %d %v", path, code, a)
		}
	}
	if code, a = w.rest("DELETE", one, "", ""); code != 200 {
		t.Errorf("delete: %d %v", code, a)
	}
	code, a = w.rest("GET", one, "", "")
	expect(code, 404, a, "NotFound", "reason")
}

func TestOpenAPI(t *testing.T) {
	w := start(t)
	_, doc := w.rest("GET", "/openapi/v3"+apis, "", "")
	for _, path := range []string{apis + "/gadgets", apis + "/namespaces/{namespace}/gadgets", apis + "/namespaces/{namespace}/gadgets/{name}"} {
		if at(doc, "paths", path) == nil {
			t.Errorf("no path %s", path)
		}
	}
	spec := at(doc, "components", "schemas", "GadgetSpec", "properties")
	for _, tt := range []struct {
		want any
		path []string
	}{
		{"[red green blue]", []string{"color", "enum"}},
		{"Color of the case.", []string{"color", "description"}},
		{"^[A-Z]{2}-[0-9]{4}$", []string{"serial", "pattern"}},
		{500, []string{"size", "maximum"}}, {1, []string{"size", "minimum"}},
		{40, []string{"note", "maxLength"}},
		{4, []string{"parts", "maxItems"}}, {"[name]", []string{"parts", "x-kubernetes-list-map-keys"}},
		{3, []string{"settings", "maxProperties"}}, {8, []string{"settings", "additionalProperties", "maxLength"}},
		{"^[a-z]+$", []string{"words", "items", "pattern"}},
		{true, []string{"pin", "writeOnly"}},
	} {
		if got := at(spec, tt.path...); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%v: %v, want %v", tt.path, got, tt.want)
		}
	}
	if got := at(doc, "components", "schemas", "GadgetSpec", "required"); fmt.Sprint(got) != "[color]" {
		t.Errorf("required: %v", got)
	}
}
