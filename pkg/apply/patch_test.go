package apply_test

import (
	"errors"
	"fmt"
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

var (
	lanKey = resource.Key{Kind: "Bridge", Name: "lan"}
	lanDoc = doc("Bridge", "lan", "  labels: {a: \"1\", b: \"2\"}\nspec:\n  subnet: 10.20.0.0/24\n  mtu: 1400\n  comment: hello\n")
)

func TestPatch(t *testing.T) {
	f := newFixture(t)
	for name, tt := range map[string]struct {
		typ   apply.PatchType
		patch string
		want  string // description of the result, or the error
	}{
		"merge sets and removes":    {apply.MergePatch, `{"metadata":{"labels":{"a":null,"c":"3"}},"spec":{"mtu":1300,"comment":null}}`, "map[b:2 c:3] 1300 \"\""},
		"merge of nothing":          {apply.MergePatch, `{}`, "map[a:1 b:2] 1400 \"hello\""},
		"a default comes back":      {apply.MergePatch, `{"spec":{"deletionPolicy":null}}`, "map[a:1 b:2] 1400 \"hello\""},
		"status is not touched":     {apply.MergePatch, `{"status":{"method":"HostFile"}}`, "map[a:1 b:2] 1400 \"hello\""},
		"operations":                {apply.JSONPatch, `[{"op":"test","path":"/spec/mtu","value":1400},{"op":"replace","path":"/spec/mtu","value":1300},{"op":"remove","path":"/metadata/labels/a"}]`, "map[b:2] 1300 \"hello\""},
		"copy":                      {apply.JSONPatch, `[{"op":"copy","from":"/metadata/name","path":"/spec/comment"}]`, "map[a:1 b:2] 1400 \"lan\""},
		"failing test":              {apply.JSONPatch, `[{"op":"replace","path":"/spec/mtu","value":1300},{"op":"test","path":"/spec/mtu","value":1400}]`, "patch: "},
		"remove of nothing":         {apply.JSONPatch, `[{"op":"remove","path":"/spec/nothing"}]`, "patch: "},
		"unknown field":             {apply.MergePatch, `{"spec":{"mtuu":1300}}`, "spec.mtuu: unknown field"},
		"wrong value":               {apply.MergePatch, `{"spec":{"mtu":1}}`, "spec.mtu: found \"1\""},
		"immutable field":           {apply.MergePatch, `{"spec":{"interfaceName":"br7"}}`, "spec.interfaceName: found \"br7\"; allowed is \"lan\""},
		"another name":              {apply.MergePatch, `{"metadata":{"name":"wan"}}`, "metadata.name: found \"wan\"; allowed is \"lan\": a patch cannot"},
		"another kind":              {apply.MergePatch, `{"kind":"Namespace","spec":null,"status":null}`, "kind: found \"Namespace\"; allowed is \"Bridge\""},
		"no metadata":               {apply.MergePatch, `{"metadata":null}`, "metadata.name: "},
		"old resourceVersion":       {apply.MergePatch, `{"metadata":{"resourceVersion":"1"}}`, store.ErrConflict.Error()},
		"another uid":               {apply.MergePatch, `{"metadata":{"uid":"x"}}`, "uid"},
		"merge patch that is none":  {apply.MergePatch, `[]`, "patch: a merge patch is one JSON object"},
		"JSON patch that is none":   {apply.JSONPatch, `{}`, "patch: a JSON patch is one JSON list"},
		"two values":                {apply.MergePatch, `{}{}`, "patch: a merge patch is one JSON object"},
		"nothing":                   {apply.MergePatch, ``, "patch: a merge patch is one JSON object"},
		"other type":                {"application/strategic-merge-patch+json", `{}`, "patch: the type \"application/strategic-merge-patch+json\""},
		"too many operations":       {apply.JSONPatch, "[" + strings.Repeat(`{"op":"test","path":"/kind","value":"Bridge"},`, apply.MaxPatchOperations) + `{"op":"remove","path":"/kind"}]`, "patch: it has 10001 operations"},
		"more text than is allowed": {apply.MergePatch, strings.Repeat(" ", apply.MaxPatchBytes+1), "patch: it has "},
		"copies without end":        {apply.JSONPatch, doubling(40), "patch: "},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := f.Delete(t.Context(), lanKey, store.Preconditions{}); err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
			f.mustApply(lanDoc)
			before := f.get("Bridge", "", "lan")
			dry, dryErr := f.Patch(t.Context(), lanKey, tt.typ, []byte(tt.patch), apply.Options{DryRun: true})
			if diff := cmp.Diff(before, f.get("Bridge", "", "lan"), protocmp.Transform()); diff != "" {
				t.Fatalf("the dry run wrote: %s", diff)
			}
			got, err := f.Patch(t.Context(), lanKey, tt.typ, []byte(tt.patch))
			if fmt.Sprint(err) != fmt.Sprint(dryErr) {
				t.Errorf("dry run: %v, real: %v", dryErr, err)
			}
			if err != nil {
				if !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				if !proto.Equal(before, f.get("Bridge", "", "lan")) {
					t.Error("refused, and yet something changed")
				}
				return
			}
			b := got.(*v1alpha1.Bridge)
			if text := fmt.Sprintf("%v %d %q", b.Metadata.Labels, b.GetSpec().GetMtu(), b.GetSpec().GetComment()); text != tt.want {
				t.Errorf("got %s, want %s", text, tt.want)
			}
			if b.GetSpec().GetDeletionPolicy() != "Delete" || b.GetStatus().GetMethod() != "" {
				t.Errorf("default or status: %v", b)
			}
			same(t, dry, got)
		})
	}
}

// doubling is a patch each operation of which doubles the spec.
func doubling(times int) string {
	var operations []string
	for i := range times {
		operations = append(operations, fmt.Sprintf(`{"op":"copy","from":"/spec","path":"/spec/x%d"}`, i))
	}
	return "[" + strings.Join(operations, ",") + "]"
}

// same compares a dry run's object with the real one's.
func same(t interface {
	Helper()
	Errorf(string, ...any)
}, dry, real resource.Object) {
	t.Helper()
	if diff := cmp.Diff(dry, real, protocmp.Transform(), protocmp.IgnoreFields(&v1alpha1.ObjectMeta{}, "uid", "creation_timestamp", "deletion_timestamp"),
		protocmp.IgnoreFields(&v1alpha1.ManagedFieldsEntry{}, "time")); diff != "" {
		t.Errorf("dry run (-) and real run (+) differ: %s", diff)
	}
}

func TestDryRunOfSingleObjects(t *testing.T) {
	f := newFixture(t)
	dry := apply.Options{DryRun: true}
	bridge := newObject[*v1alpha1.Bridge](f, "Bridge", "", "lan")
	bridge.Spec = &v1alpha1.BridgeSpec{Subnet: proto.String("10.20.0.0/24")}
	would, err := f.Create(t.Context(), bridge, dry)
	if err != nil {
		t.Fatal(err)
	}
	f.absent("Bridge", "", "lan")
	created, err := f.Create(t.Context(), bridge)
	if err != nil {
		t.Fatal(err)
	}
	same(t, would, created)
	if _, err := f.Create(t.Context(), bridge, dry); !errors.Is(err, store.ErrAlreadyExists) {
		t.Errorf("dry run of a second create: %v", err)
	}

	changed := resource.Clone(created).(*v1alpha1.Bridge)
	changed.Spec.Mtu = proto.Int32(1400)
	changed.Status = &v1alpha1.BridgeStatus{Method: proto.String("API")}
	revision := f.st.Revision()
	if would, err = f.Update(t.Context(), changed, dry); err != nil || would.(*v1alpha1.Bridge).GetSpec().GetMtu() != 1400 {
		t.Errorf("update: %v, %v", would, err)
	}
	if would, err = f.UpdateStatus(t.Context(), changed, dry); err != nil || would.(*v1alpha1.Bridge).GetStatus().GetMethod() != "API" {
		t.Errorf("status: %v, %v", would, err)
	}
	if _, err := f.Delete(t.Context(), lanKey, store.Preconditions{}, dry); err != nil {
		t.Error(err)
	}
	if f.st.Revision() != revision || !proto.Equal(created, f.get("Bridge", "", "lan")) {
		t.Error("a dry run wrote")
	}
}

func TestPatchOfWhatCannotBePatched(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct{ kind, want string }{
		{"Bridge", store.ErrNotFound.Error()}, {"Event", "written by the daemon only"}, {"Nothing", "unknown kind"},
	} {
		if _, err := f.Patch(t.Context(), resource.Key{Kind: tt.kind, Name: "none"}, apply.MergePatch, []byte(`{}`)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.kind, err, tt.want)
		}
	}
}

// TestPatchesAreIdempotent: a merge patch that was taken changes nothing the second time,
// and the two kinds of patch agree on setting a field.
func TestPatchesAreIdempotent(t *testing.T) {
	reg := kinds.Registry()
	rapid.Check(t, func(rt *rapid.T) {
		st := memory.New(reg)
		defer st.Close()
		a := apply.New(st, reg)
		docs, err := resource.DecodeDocuments(reg, "set.yaml", []byte(lanDoc))
		if err != nil {
			rt.Fatal(err)
		}
		if _, err := a.ApplySet(t.Context(), docs, apply.Options{}); err != nil {
			rt.Fatal(err)
		}
		mtu := rapid.IntRange(1280, 9000).Draw(rt, "mtu")
		operations := fmt.Sprintf(`[{"op":"replace","path":"/spec/mtu","value":%d}]`, mtu)
		would, err := a.Patch(t.Context(), lanKey, apply.JSONPatch, []byte(operations), apply.Options{DryRun: true})
		if err != nil {
			rt.Fatal(err)
		}
		merge := fmt.Sprintf(`{"spec":{"mtu":%d}}`, mtu)
		first, err := a.Patch(t.Context(), lanKey, apply.MergePatch, []byte(merge))
		if err != nil {
			rt.Fatal(err)
		}
		same(rt, would, first)
		revision := st.Revision()
		if _, err := a.Patch(t.Context(), lanKey, apply.MergePatch, []byte(merge)); err != nil || st.Revision() != revision {
			rt.Fatalf("again: %v, revision %d, was %d", err, st.Revision(), revision)
		}
	})
}

// FuzzPatch: no patch brings the daemon down, changes what the server sets, or leaves an
// object that its own kind refuses.
func FuzzPatch(f *testing.F) {
	f.Add(true, []byte(`{"spec":{"mtu":1400,"comment":null}}`))
	f.Add(true, []byte(`{"metadata":{"labels":{"a":null}},"status":null}`))
	f.Add(false, []byte(`[{"op":"move","from":"/spec/comment","path":"/metadata/labels/a"}]`))
	f.Add(false, []byte(`[{"op":"add","path":"/metadata/finalizers/-","value":"x"},{"op":"copy","from":"","path":"/spec"}]`))
	f.Add(false, []byte(`[{"op":"add","path":"/metadata/labels/~1~0","value":null}]`))
	reg := kinds.Registry()
	docs, err := resource.DecodeDocuments(reg, "set.yaml", []byte(lanDoc))
	if err != nil {
		f.Fatal(err)
	}
	kind, _ := reg.Get("Bridge")
	f.Fuzz(func(t *testing.T, merge bool, patch []byte) {
		st := memory.New(reg)
		defer st.Close()
		a := apply.New(st, reg)
		results, err := a.ApplySet(t.Context(), docs, apply.Options{})
		if err != nil {
			t.Fatal(err)
		}
		typ := apply.JSONPatch
		if merge {
			typ = apply.MergePatch
		}
		got, err := a.Patch(t.Context(), lanKey, typ, patch)
		if err != nil {
			return
		}
		was, is := results[0].Object.GetMetadata(), got.GetMetadata()
		if was.GetUid() != is.GetUid() || was.GetCreationTimestamp() != is.GetCreationTimestamp() || was.GetDeletionTimestamp() != is.GetDeletionTimestamp() {
			t.Errorf("the patch changed what the server sets: %v", is)
		}
		if errs := kind.Check(got); len(errs) > 0 {
			t.Errorf("the result is invalid: %v", errs)
		}
	})
}
