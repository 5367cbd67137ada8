package apply_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// randomDocument is a document of a small world, in which sets collide: sometimes it is
// invalid by itself, sometimes among the others.
func randomDocument(t *rapid.T) string {
	pick := func(label string, values ...string) string { return rapid.SampledFrom(values).Draw(t, label) }
	name := pick("name", "a", "b")
	switch pick("kind", "Namespace", "Bridge", "Appliance", "App", "Vhost") {
	case "Namespace":
		return doc("Namespace", "shop", "")
	case "Bridge":
		return doc("Bridge", name, "spec:\n  subnet: "+pick("subnet", "10.20.0.0/24", "10.20.0.0/25", "10.30.0.0/24", "10.20.0.0")+"\n")
	case "Appliance":
		return doc("Appliance", name, strings.ReplaceAll(appliance, "{name: lan}", "{name: "+pick("bridge", "a", "b")+"}")+"  vmid: "+pick("vmid", "200", "201")+"\n")
	case "App":
		return doc("App", name, "  namespace: "+pick("namespace", "default", "shop")+"\n  labels: {tier: "+pick("label", "x", "y")+"}\nspec:\n  state: "+pick("state", "Running", "Stopped", "Gone")+"\n")
	}
	return doc("Vhost", name, "spec:\n  hosts: ["+pick("host", "x.prox.local", "y.prox.local")+"]\n  rules: [{backends: [{appRef: {name: "+name+"}}]}]\n")
}

// TestSetsAreAtomicAndIdempotent: whatever a set is, it either changes nothing and says
// why, or is applied, and then applying it again is "unchanged" everywhere and writes
// nothing. A dry run says the same as the real one.
func TestSetsAreAtomicAndIdempotent(t *testing.T) {
	reg := kinds.Registry()
	accepted, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		st := memory.New(reg)
		defer st.Close()
		a := apply.New(st, reg)
		if err := a.EnsureNamespaces(ctx); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 4).Draw(t, "sets") {
			text := ""
			for range rapid.IntRange(1, 4).Draw(t, "documents") {
				text += randomDocument(t)
			}
			docs, err := resource.DecodeDocuments(reg, "set.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			before := st.Revision()
			dry, dryErr := a.ApplySet(ctx, docs, apply.Options{DryRun: true})
			if st.Revision() != before {
				t.Fatal("the dry run wrote")
			}
			results, err := a.ApplySet(ctx, docs, apply.Options{})
			if fmt.Sprint(err) != fmt.Sprint(dryErr) || outcomes(results) != outcomes(dry) {
				t.Fatalf("dry run: %s, %v\nreal run: %s, %v", outcomes(dry), dryErr, outcomes(results), err)
			}
			if err != nil {
				refused++
				if st.Revision() != before {
					t.Fatalf("refused, and yet something was written: %v", err)
				}
				continue
			}
			accepted++
			after := st.Revision()
			again, err := a.ApplySet(ctx, docs, apply.Options{})
			if err != nil || strings.Count(outcomes(again), apply.Unchanged) != len(docs) || st.Revision() != after {
				t.Fatalf("again: %s, %v, revision %d -> %d", outcomes(again), err, after, st.Revision())
			}
		}
	})
	if accepted == 0 || refused == 0 {
		t.Errorf("%d sets were accepted and %d refused: the property was not tried", accepted, refused)
	}
}
