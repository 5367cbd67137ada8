package apply_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

// TestUnchangedSetsWriteNothing: applying 1,000 documents again makes no transaction of the
// database, no revision and no new time in managedFields; a set with one change in it makes
// one change.
func TestUnchangedSetsWriteNothing(t *testing.T) {
	const objects = 1000
	reg := kinds.Registry()
	st, err := bolt.Open(filepath.Join(t.TempDir(), "state.db"), reg, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	a := apply.New(st, reg)
	if err := a.EnsureNamespaces(t.Context()); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for i := range objects {
		text.WriteString(doc("App", fmt.Sprintf("web-%d", i), webApp))
	}
	run := func(text string, outcomes map[string]int) {
		t.Helper()
		docs, err := resource.DecodeDocuments(reg, "set.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		results, err := a.ApplySet(t.Context(), docs, apply.Options{Manager: "me"})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, r := range results {
			got[r.Outcome]++
		}
		if fmt.Sprint(got) != fmt.Sprint(outcomes) {
			t.Errorf("got %v, want %v", got, outcomes)
		}
	}
	run(text.String(), map[string]int{apply.Created: objects})
	before := st.Stats()
	run(text.String(), map[string]int{apply.Unchanged: objects})
	after := st.Stats()
	if after.Commits != before.Commits || after.Changes != before.Changes || after.Revision != before.Revision || after.Bytes != before.Bytes {
		t.Errorf("applying the same again wrote: %+v, before %+v", after, before)
	}
	if after.NoOps-before.NoOps != objects {
		t.Errorf("%d changes that changed nothing, want %d", after.NoOps-before.NoOps, objects)
	}
	run(strings.Replace(text.String(), "state: Stopped", "state: Running", 1), map[string]int{apply.Unchanged: objects - 1, apply.Configured: 1})
	if last := st.Stats(); last.Commits != after.Commits+1 || last.Changes != after.Changes+1 {
		t.Errorf("one change of many made %d commits of %d changes", last.Commits-after.Commits, last.Changes-after.Changes)
	}
}
