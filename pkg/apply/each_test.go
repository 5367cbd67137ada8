package apply_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// each applies the documents of a text one by one and returns a line for each: its
// outcome, and the line and field of its first error, or its text.
func (f *fixture) each(text string, opts apply.Options) []string {
	f.Helper()
	docs, err := resource.DecodeDocuments(f.reg, "set.yaml", []byte(text))
	if err != nil {
		f.Fatal(err)
	}
	opts.Manager = "test"
	results, err := f.ApplyEach(context.Background(), docs, opts)
	if err != nil || len(results) != len(docs) {
		f.Fatalf("%d results, %v", len(results), err)
	}
	var lines []string
	for i, r := range results {
		line := r.Outcome
		var fields resource.FieldErrors
		switch {
		case errors.As(r.Err, &fields):
			line += fmt.Sprintf(" %d %s", fields[0].Line, fields[0].Path)
		case r.Err != nil:
			line += " " + r.Err.Error()
		}
		if (r.Err == nil) != (r.Outcome != apply.Failed) || r.Err == nil && r.Object == nil {
			f.Errorf("document %d: %+v", i, r)
		}
		lines = append(lines, line)
	}
	return lines
}

const eachText = `apiVersion: proximity/v1alpha1
kind: App
metadata: {name: web, namespace: shop}
spec: {source: {template: debian-12-standard}}
---
apiVersion: proximity/v1alpha1
kind: Namespace
metadata: {name: shop}
---
apiVersion: proximity/v1alpha1
kind: App
metadata: {name: bad, namespace: shop}
spec: {source: {template: debian-12-standard}, vmid: 5}
---
apiVersion: proximity/v1alpha1
kind: App
metadata: {name: lost, namespace: nowhere}
spec: {source: {template: debian-12-standard}}
---
apiVersion: proximity/v1alpha1
kind: App
metadata: {name: web, namespace: shop}
spec: {source: {template: debian-12-standard}}
---
apiVersion: proximity/v1alpha1
kind: Namespace
metadata: {name: other, uid: 0b5f0e0c-0000-4000-8000-000000000000}
`

func TestApplyEach(t *testing.T) {
	f := newFixture(t)
	want := []string{
		"created", "created", "failed 13 spec.vmid", "failed 17 metadata.namespace", "failed 22 metadata.name",
		"failed Namespace other: conflict: it does not exist",
	}
	before := f.st.Revision()
	check := func(got []string) {
		t.Helper()
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]) {
				t.Errorf("document %d: got %q, want %q", i, got[i], want[i])
			}
		}
	}
	check(f.each(eachText, apply.Options{DryRun: true}))
	if f.st.Revision() != before {
		t.Error("the dry run changed something")
	}
	check(f.each(eachText, apply.Options{}))
	f.get("App", "shop", "web")
	f.absent("App", "shop", "bad")
	f.absent("App", "nowhere", "lost")
	want[0], want[1] = "unchanged", "unchanged"
	after := f.st.Revision()
	check(f.each(eachText, apply.Options{}))
	if f.st.Revision() != after {
		t.Error("documents that change nothing changed something")
	}
}

// Where nothing is wrong, and in any number of transactions, documents one by one come to
// the same as the set.
func TestApplyEachOfAGoodSetIsTheSet(t *testing.T) {
	var text strings.Builder
	for i := range 700 {
		fmt.Fprintf(&text, "---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: a%d, namespace: n%d, labels: {x: %q}}\nspec: {source: {template: debian-12-standard}}\n",
			i, i%7, strings.Repeat("x", i%50))
		if i < 7 {
			fmt.Fprintf(&text, "---\napiVersion: proximity/v1alpha1\nkind: Namespace\nmetadata: {name: n%d}\n", i)
		}
	}
	set, each := newFixture(t), newFixture(t)
	want := set.mustApply(text.String())
	got := each.each(text.String(), apply.Options{})
	commits := each.st.Stats().Commits
	if commits < 4 {
		t.Errorf("%d commits: one for all would hold up others", commits)
	}
	for i, r := range want {
		if got[i] != r.Outcome {
			t.Errorf("document %d: %s, of the set %s", i, got[i], r.Outcome)
		}
		a, b := set.get(r.Key.Kind, r.Key.Namespace, r.Key.Name), each.get(r.Key.Kind, r.Key.Namespace, r.Key.Name)
		for _, o := range []resource.Object{a, b} {
			m := o.GetMetadata()
			m.Uid, m.CreationTimestamp, m.ResourceVersion, m.ManagedFields = "", "", "", nil
		}
		if !proto.Equal(a, b) {
			t.Errorf("%s: %v, of the set %v", r.Key, b, a)
		}
	}
}

// A document that is refused because of others leaves nothing behind, new or changed.
func TestApplyEachWritesNothingOfARefusedDocument(t *testing.T) {
	f := newFixture(t)
	f.mustApply("apiVersion: proximity/v1alpha1\nkind: Bridge\nmetadata: {name: lan}\nspec: {subnet: 10.20.0.0/24}\n" +
		"---\napiVersion: proximity/v1alpha1\nkind: Appliance\nmetadata: {name: gw}\nspec: {bridgeRef: {name: lan}, lan: {address: 10.20.0.1}, dhcp: {start: 10.20.0.100, end: 10.20.0.200}, dns: {zone: prox.local}}\n")
	before := f.st.Revision()
	got := f.each("apiVersion: proximity/v1alpha1\nkind: Appliance\nmetadata: {name: gw}\nspec: {bridgeRef: {name: lan}, lan: {address: 10.9.0.1}, dhcp: {start: 10.20.0.100, end: 10.20.0.200}, dns: {zone: prox.local}}\n"+
		"---\napiVersion: proximity/v1alpha1\nkind: Appliance\nmetadata: {name: second}\nspec: {bridgeRef: {name: lan}, lan: {address: 10.9.0.2}, dhcp: {start: 10.20.0.100, end: 10.20.0.200}, dns: {zone: prox.local}}\n", apply.Options{})
	for i, g := range got {
		if !strings.HasPrefix(g, "failed") {
			t.Errorf("document %d: %s", i, g)
		}
	}
	f.absent("Appliance", "", "second")
	if f.st.Revision() != before {
		t.Error("something was written")
	}
}

func TestApplyEachWhenTheStoreFails(t *testing.T) {
	f := newFixture(t)
	if err := f.st.Close(); err != nil {
		t.Fatal(err)
	}
	docs, err := resource.DecodeDocuments(f.reg, "", []byte(eachText))
	if err != nil {
		t.Fatal(err)
	}
	results, err := f.ApplyEach(context.Background(), docs, apply.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Outcome != apply.Failed || i != 4 && !errors.Is(r.Err, store.ErrClosed) { // 4 is a duplicate
			t.Errorf("document %d: %+v", i, r)
		}
	}
	if _, err := f.ApplyEach(context.Background(), make([]resource.Document, resource.MaxDocuments+1), apply.Options{}); err == nil {
		t.Error("a set that is too large was taken")
	}
}

// As many errors as documents can have are not all kept.
func TestApplyEachKeepsFewErrorsOfMany(t *testing.T) {
	f := newFixture(t)
	docs := make([]resource.Document, 3000)
	for i := range docs {
		labels := map[string]string{}
		for j := range 30 {
			labels[fmt.Sprintf("bad key %d", j)] = "x"
		}
		docs[i] = resource.Document{Object: &v1alpha1.Namespace{
			ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Namespace"),
			Metadata: &v1alpha1.ObjectMeta{Name: fmt.Sprintf("n%d", i), Labels: labels},
		}}
	}
	results, err := f.ApplyEach(context.Background(), docs, apply.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for i, r := range results {
		var fields resource.FieldErrors
		if !errors.As(r.Err, &fields) || len(fields) == 0 {
			t.Fatalf("document %d: %+v", i, r)
		}
		kept += len(fields)
	}
	if kept > 10_000+len(docs) {
		t.Errorf("%d errors are kept", kept)
	}
}

// Its changes are recorded as what they are: applied, and by which manager.
func TestApplyEachIsRecordedAsApplied(t *testing.T) {
	f := newFixture(t)
	ctx := audit.WithOrigin(context.Background(), audit.Origin{Type: "user", Identity: "eve"})
	docs, err := resource.DecodeDocuments(f.reg, "", []byte("apiVersion: proximity/v1alpha1\nkind: Namespace\nmetadata: {name: shop}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ApplyEach(ctx, docs, apply.Options{Manager: "press"}); err != nil {
		t.Fatal(err)
	}
	records, err := f.st.(store.AuditLog).Audit(ctx, store.AuditOptions{Limit: 1, Newest: true})
	if err != nil || len(records) != 1 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	if r := records[0]; r.Identity != "eve" || r.Verb != "apply" || r.Manager != "press" || r.Key.Name != "shop" {
		t.Errorf("recorded: %+v of %+v", r, r.Origin)
	}
}
