package apply_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// applyAs applies the documents of a text as a manager.
func (f *fixture) applyAs(manager, text string, force bool) ([]apply.Result, error) {
	f.Helper()
	docs, err := resource.DecodeDocuments(f.reg, "set.yaml", []byte(text))
	if err != nil {
		f.Fatal(err)
	}
	return f.ApplySet(f.Context(), docs, apply.Options{Manager: manager, Force: force})
}

func (f *fixture) mustApplyAs(manager, text string) resource.Object {
	f.Helper()
	results, err := f.applyAs(manager, text, false)
	if err != nil {
		f.Fatal(err)
	}
	return results[0].Object
}

func (f *fixture) app(name string) *v1alpha1.AppSpec {
	f.Helper()
	return f.get("App", "default", name).(*v1alpha1.App).GetSpec()
}

// owners is "manager/operation fields", one a line.
func owners(obj resource.Object) string {
	var lines []string
	for _, e := range obj.GetMetadata().GetManagedFields() {
		lines = append(lines, fmt.Sprintf("%s/%s %s", e.GetManager(), e.GetOperation(), e.GetFieldsV1()))
	}
	return strings.Join(lines, "\n")
}

const webApp = "spec:\n  state: Stopped\n  env:\n  - {name: A, value: \"1\"}\n  - {name: B, value: \"2\"}\n  packages: [curl]\n"

func TestDefaultsAreOwnedByNobody(t *testing.T) {
	f := newFixture(t)
	got := owners(f.mustApplyAs("a", doc("App", "web", webApp)))
	const want = `a/Apply {"f:spec":{"f:env":{"k:{\"name\":\"A\"}":{".":{},"f:name":{},"f:value":{}},` +
		`"k:{\"name\":\"B\"}":{".":{},"f:name":{},"f:value":{}}},"f:packages":{},"f:state":{}}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if f.app("web").GetHostname() != "web" {
		t.Error("no defaults")
	}
}

func TestFieldsOfOneOwnerGoWithTheDocument(t *testing.T) {
	f := newFixture(t)
	f.mustApplyAs("a", doc("App", "web", webApp))
	f.mustApplyAs("a", doc("App", "web", "spec:\n  env:\n  - {name: B, value: \"2\"}\n"))
	spec := f.app("web")
	if spec.GetState() != "Running" {
		t.Errorf("state %q is not the default", spec.GetState())
	}
	if len(spec.GetEnv()) != 1 || spec.Env[0].GetName() != "B" || len(spec.GetPackages()) != 0 {
		t.Errorf("env %v, packages %v", spec.GetEnv(), spec.GetPackages())
	}
}

func TestTwoManagersOfOneObject(t *testing.T) {
	f := newFixture(t)
	f.mustApplyAs("a", doc("App", "web", webApp))
	f.mustApplyAs("b", doc("App", "web", "spec:\n  env:\n  - {name: C, value: \"3\"}\n  resources: {cores: 2}\n"))
	if env := f.app("web").GetEnv(); len(env) != 3 {
		t.Errorf("the list was not merged by its key: %v", env)
	}

	// The same value is shared: it stays as long as one of them has it.
	f.mustApplyAs("b", doc("App", "web", "spec:\n  state: Stopped\n"))
	spec := f.app("web")
	if len(spec.GetEnv()) != 2 || spec.GetResources().GetCores() != 1 {
		t.Errorf("what b alone had stayed: %v", spec)
	}
	f.mustApplyAs("a", doc("App", "web", "spec: {}\n"))
	if spec := f.app("web"); spec.GetState() != "Stopped" || len(spec.GetEnv()) != 0 {
		t.Errorf("shared state %q, env %v", spec.GetState(), spec.GetEnv())
	}
}

func TestConflictsNameFieldAndManager(t *testing.T) {
	f := newFixture(t)
	f.mustApplyAs("a", doc("App", "web", "  labels: {tier: x}\n"+webApp))
	before := f.get("App", "default", "web")
	_, err := f.applyAs("b", doc("App", "web", "  labels: {tier: y}\nspec:\n  state: Running\n  env:\n  - {name: Z, value: \"0\"}\n  - {name: B, value: \"9\"}\n  packages: [vim]\n"), false)
	var errs resource.FieldErrors
	if !errors.As(err, &errs) {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, e := range errs {
		if e.Reason != resource.ReasonManagerConflict || !strings.Contains(e.Text(), `the manager "a" has applied another value`) {
			t.Errorf("%s: %s", e.Reason, e.Text())
		}
		got = append(got, fmt.Sprintf("%d %s", e.Line, e.Path))
	}
	want := []string{"6 metadata.labels[tier]", "8 spec.state", "11 spec.env[1].value", "12 spec.packages"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !proto.Equal(before, f.get("App", "default", "web")) {
		t.Error("a conflict changed the object")
	}
}

func TestForceTakesOwnership(t *testing.T) {
	f := newFixture(t)
	f.mustApplyAs("a", doc("App", "web", webApp))
	const other = "spec:\n  state: Running\n"
	if _, err := f.applyAs("b", doc("App", "web", other), true); err != nil {
		t.Fatal(err)
	}
	if got := f.app("web").GetState(); got != "Running" {
		t.Errorf("state %q", got)
	}
	if _, err := f.applyAs("a", doc("App", "web", webApp), false); err == nil || !strings.Contains(err.Error(), `spec.state: the manager "b"`) {
		t.Errorf("a was not told that b has it: %v", err)
	}
}

func TestUpdatesAndPatchesOwnWhatTheyChange(t *testing.T) {
	f := newFixture(t)
	f.mustApplyAs("a", doc("Bridge", "lan", lanBridge+"  mtu: 1400\n  comment: x\n"))
	live := f.get("Bridge", "", "lan").(*v1alpha1.Bridge)
	live.Spec.Mtu = proto.Int32(1300)
	if _, err := f.Update(t.Context(), live, apply.Options{Manager: "editor"}); err != nil {
		t.Fatal(err)
	}
	got, err := f.Patch(t.Context(), lanKey, apply.MergePatch, []byte(`{"spec":{"comment":"y"},"metadata":{"managedFields":[]}}`), apply.Options{Manager: "patcher"})
	if err != nil {
		t.Fatal(err)
	}
	const want = `a/Apply {"f:spec":{"f:subnet":{}}}` + "\n" + `editor/Update {"f:spec":{"f:mtu":{}}}` + "\n" + `patcher/Update {"f:spec":{"f:comment":{}}}`
	if owners(got) != want {
		t.Errorf("got\n%s", owners(got))
	}
	if _, err := f.applyAs("a", doc("Bridge", "lan", lanBridge+"  mtu: 1400\n"), false); err == nil || !strings.Contains(err.Error(), `spec.mtu: the manager "editor" has set another value`) {
		t.Errorf("got %v", err)
	}
	status := resource.Clone(got).(*v1alpha1.Bridge)
	status.Status = &v1alpha1.BridgeStatus{Method: proto.String("API")}
	after, err := f.UpdateStatus(t.Context(), status)
	if err != nil || owners(after) != want {
		t.Errorf("a status made owners: %v\n%s", err, owners(after))
	}
}

// An object written before fields were tracked belongs to the first who applies it, but
// for its metadata: finalizers are the daemon's.
func TestFirstApplyTakesOver(t *testing.T) {
	f := newFixture(t)
	old := newObject[*v1alpha1.Bridge](f, "Bridge", "", "lan")
	old.Metadata.Finalizers = []string{"proximity/bridge"}
	old.Metadata.Labels = map[string]string{"by": "hand"}
	old.Spec = &v1alpha1.BridgeSpec{Subnet: proto.String("10.20.0.0/24"), Mtu: proto.Int32(1400), Comment: proto.String("x"), InterfaceName: proto.String("lan"),
		ClusterRef: &v1alpha1.LocalReference{Name: proto.String("default")}}
	if _, err := f.st.Update(t.Context(), func(tx store.Tx) error { _, err := tx.Create(old); return err }); err != nil {
		t.Fatal(err)
	}
	b := f.mustApplyAs("a", doc("Bridge", "lan", lanBridge+"  mtu: 1500\n")).(*v1alpha1.Bridge)
	if b.GetSpec().GetMtu() != 1500 || b.Spec.Comment != nil || b.GetSpec().GetInterfaceName() != "lan" {
		t.Errorf("spec: %v", b.GetSpec())
	}
	if m := b.GetMetadata(); len(m.GetFinalizers()) != 1 || m.GetLabels()["by"] != "hand" {
		t.Errorf("metadata: %v", m)
	}
	if got, want := owners(b), `a/Apply {"f:spec":{"f:mtu":{},"f:subnet":{}}}`; got != want {
		t.Errorf("got %s", got)
	}
}

func TestPartOfAnObjectCanBeApplied(t *testing.T) {
	f := newFixture(t)
	f.mustApplyAs("a", doc("Bridge", "lan", lanBridge))
	f.mustApplyAs("b", doc("Bridge", "lan", "spec:\n  mtu: 1400\n")) // no subnet: not a Bridge by itself
	if _, err := f.applyAs("b", doc("Bridge", "wan", "spec:\n  mtu: 1400\n"), false); err == nil || !strings.Contains(err.Error(), "spec.subnet") {
		t.Errorf("a new Bridge without a subnet: %v", err)
	}
}

// What `get -o yaml --show-managed-fields` prints can be read again.
func TestManagedFieldsAreAnObjectInJSONAndYAML(t *testing.T) {
	f := newFixture(t)
	obj := f.mustApplyAs("a", doc("App", "web", webApp))
	data, err := resource.EncodeJSON(obj)
	if err != nil || !strings.Contains(string(data), `"fieldsV1":{"f:spec":{"f:env":{"k:{\"name\":\"A\"}":{".":{},`) {
		t.Errorf("JSON: %s, %v", data, err)
	}
	text, err := resource.EncodeYAML(obj)
	if err != nil || !strings.Contains(string(text), "      fieldsV1:\n        f:spec:\n          f:env:\n            k:{\"name\":\"A\"}:\n") {
		t.Errorf("YAML: %s, %v", text, err)
	}
	for _, form := range [][]byte{data, text} {
		back, err := resource.DecodeJSON(f.reg, form)
		if err != nil {
			t.Fatalf("%v\n%s", err, form)
		}
		if diff := cmp.Diff(obj, back, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestManagersAreBounded(t *testing.T) {
	f := newFixture(t)
	f.mustApplyAs("a", doc("Bridge", "lan", lanBridge))
	var obj resource.Object
	for i := range 25 {
		var err error
		patch := fmt.Sprintf(`{"metadata":{"labels":{"l%d":"x"}}}`, i)
		if obj, err = f.Patch(t.Context(), lanKey, apply.MergePatch, []byte(patch), apply.Options{Manager: fmt.Sprintf("m%02d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(obj.GetMetadata().GetManagedFields()); n != 11 || !strings.Contains(owners(obj), "ancient-changes/Update") {
		t.Errorf("%d managers:\n%s", n, owners(obj))
	}
	if _, err := f.applyAs(strings.Repeat("m", apply.MaxManagerBytes+1), lanDoc, false); err == nil || !strings.Contains(err.Error(), "fieldManager") {
		t.Errorf("a long name: %v", err)
	}
}
