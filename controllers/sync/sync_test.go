package sync_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

func namespaceKey(name string) resource.Key { return resource.Key{Kind: "Namespace", Name: name} }

func secretKey(ns, name string) resource.Key {
	return resource.Key{Kind: "Secret", Namespace: ns, Name: name}
}

func TestFollowsARepository(t *testing.T) {
	w := newWorld(t)
	// Order follows references, not names of files.
	w.repo.Write("a.yaml", strings.Replace(secret("db", "one"), "name: db", "name: db\n  namespace: team-a", 1))
	w.repo.Write("z/project.yaml", project("team-a", "first"))
	first := w.repo.Push("first")
	w.follow(`namespaces: ["*"]`)
	w.start()
	s := w.applied(first)
	if got := w.applies(syncKey); !slices.Equal(got, []string{"Namespace team-a z/project.yaml", "Secret team-a/db a.yaml"}) {
		t.Errorf("inventory %v", got)
	}
	if c := s.GetStatus().GetSummary(); c.GetCreated() != 2 {
		t.Errorf("summary %v", c)
	}
	if h := s.GetStatus().GetHistory(); len(h) != 1 || h[0].GetSubject() != "first" || h[0].GetAuthor() != "Ada" {
		t.Errorf("history %v", h)
	}
	if c := resource.FindCondition(s, "PlaintextSecrets"); c.GetStatus() != "True" || !strings.Contains(c.GetMessage(), "a.yaml: db") {
		t.Errorf("PlaintextSecrets is %v", c)
	}
	obj := w.get(namespaceKey("team-a"))
	if by, file, ok := resource.FollowedBy(obj); !ok || by != syncKey || file != "z/project.yaml" {
		t.Errorf("the object names %v %s", by, file)
	}

	// A change of one file is one write of one object.
	before := w.get(secretKey("team-a", "db")).GetMetadata().GetResourceVersion()
	w.repo.Write("z/project.yaml", project("team-a", "second"))
	second := w.push("second")
	s = w.applied(second)
	if w.description("team-a") != "second" {
		t.Errorf("the description is %q", w.description("team-a"))
	}
	if c := s.GetStatus().GetSummary(); c.GetConfigured() != 1 || c.GetUnchanged() != 1 {
		t.Errorf("summary %v", c)
	}
	if after := w.get(secretKey("team-a", "db")).GetMetadata().GetResourceVersion(); after != before {
		t.Error("an object that did not change was written")
	}

	// A commit beside the path costs nothing but its revision.
	changes := w.store.Stats().Changes
	w.repo.Write("README.txt", "hello")
	third := w.push("third")
	w.applied(third)
	if got := w.store.Stats().Changes - changes; got > 6 {
		t.Errorf("a commit that changes no manifest made %d changes", got)
	}
	if h := w.syncOf(syncKey).GetStatus().GetHistory(); len(h) != 2 {
		t.Errorf("%d entries of history", len(h))
	}
}

// TestNothingNewWritesNothing: neither looks of the repository nor of the Sync write, once
// everything is as it should be; also after a restart.
func TestNothingNewWritesNothing(t *testing.T) {
	w := newWorld(t)
	w.repo.Write("p.yaml", project("team-a", "first"))
	commit := w.repo.Push("first")
	w.follow()
	w.start()
	w.applied(commit)
	for range 2 {
		before := w.store.Revision()
		for range 3 {
			for _, c := range []resource.Key{syncKey} {
				if _, err := w.look(c); err != nil {
					t.Fatal(err)
				}
			}
		}
		if after := w.store.Revision(); after != before {
			t.Errorf("looking again wrote: revision %d became %d", before, after)
		}
		w.stop()
		w.start()
	}
}

func TestInvalidCommitChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.repo.Write("a.yaml", project("team-a", "first"))
	w.repo.Write("b.yaml", project("team-b", "first"))
	good := w.repo.Push("good")
	w.follow()
	w.start()
	w.applied(good)
	for name, c := range map[string]struct{ text, reason, words string }{
		"no YAML":       {"kind: [", "Invalid", "b.yaml:1"},
		"unknown field": {strings.Replace(project("team-b", "x"), "description", "descripton", 1), "Invalid", "b.yaml:6: spec.descripton: unknown field"},
		"unknown kind":  {strings.Replace(project("team-b", "x"), "Namespace", "Nmespace", 1), "Invalid", "did you mean Namespace"},
		"bad name":      {project("Team_B", "x"), "Invalid", "b.yaml:4"},
		"an Operation":  {"apiVersion: proximity/v1alpha1\nkind: Operation\nmetadata: {name: x}\nspec: {action: Examine, target: {kind: Cluster, name: default}}\n", "Invalid", "carried out once"},
		"twice":         {project("team-a", "x"), "Invalid", "a value of its own"},
		"no namespace":  {strings.Replace(secret("x", "y"), "name: x", "name: x\n  namespace: default\n  labels: {a: \"b c\"}", 1), "Invalid", "metadata.labels"},
		"another's":     {strings.Replace(secret("x", "y"), "name: x", "name: x\n  namespace: proximity-system", 1), "Invalid", "spec.namespaces"},
	} {
		t.Run(name, func(t *testing.T) {
			w.T = t
			w.repo.Write("a.yaml", project("team-a", name))
			w.repo.Write("b.yaml", c.text)
			bad := w.push(name)
			s := w.refused(bad, c.reason, c.words, good)
			if w.description("team-a") != "first" || !strings.HasSuffix(s.GetStatus().GetAppliedRevision(), good) {
				t.Errorf("something of the commit was applied: %q, %s", w.description("team-a"), s.GetStatus().GetAppliedRevision())
			}
		})
	}
	w.T = t
	w.repo.Write("b.yaml", project("team-b", "second"))
	w.applied(w.push("repaired"))
	if w.description("team-b") != "second" {
		t.Errorf("team-b is %q", w.description("team-b"))
	}
}

func TestPruneAndGuards(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		w.repo.Write(name+".yaml", project("team-"+name, "x"))
	}
	first := w.repo.Push("six")
	w.must(project("mine", "by hand"))
	w.follow()
	w.start()
	w.applied(first)

	w.repo.Remove("a.yaml")
	s := w.applied(w.push("one less"))
	if w.description("team-a") != "-" || s.GetStatus().GetSummary().GetPruned() != 1 {
		t.Errorf("team-a is %q, %v", w.description("team-a"), s.GetStatus().GetSummary())
	}

	// Too much at once: nothing of the commit is applied.
	for _, name := range []string{"b", "c", "d", "e"} {
		w.repo.Remove(name + ".yaml")
	}
	w.repo.Write("f.yaml", project("team-f", "changed"))
	bad := w.push("much less")
	w.refused(bad, "PruneBlocked", "delete 4 of 5", "allowed are 3", "spec.maxDeletions to 4")
	if w.description("team-f") != "x" || w.description("team-b") != "x" {
		t.Error("something of the commit was applied")
	}
	w.sync("main", "maxDeletions: 4")
	w.applied(bad)
	if w.description("team-f") != "changed" || w.description("team-b") != "-" {
		t.Errorf("team-f is %q, team-b %q", w.description("team-f"), w.description("team-b"))
	}

	// An empty repository is a mistake, whatever is allowed.
	w.repo.Remove("f.yaml")
	w.repo.Write("README.md", "empty")
	w.refused(w.push("empty"), "EmptySource", "deletionPolicy")
	if w.description("team-f") != "changed" || w.description("mine") != "by hand" {
		t.Error("something was deleted")
	}
}

func app(name, spec string) string {
	return fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: App\nmetadata:\n  name: %s\nspec: %s\n", name, spec)
}

// TestStatefulAppsAreConfirmed: an App that says that it holds data stops a commit that would delete
// it, until somebody confirms.
func TestStatefulAppsAreConfirmed(t *testing.T) {
	w := newWorld(t)
	for name, spec := range map[string]string{
		"db": "{stateful: true}", "queue": "{stateful: true}", "kept": "{stateful: true, deletionPolicy: Orphan}", "web": "{stateful: false}",
	} {
		w.repo.Write(name+".yaml", app(name, spec))
	}
	w.repo.Write("a.yaml", project("team-a", "one"))
	first := w.repo.Push("first")
	w.follow("wait: false")
	w.start()
	w.applied(first)
	is := func(name string) bool {
		return w.get(resource.Key{Kind: "App", Namespace: "default", Name: name}) != nil
	}

	// What holds no data, or keeps it, goes unasked.
	w.repo.Remove("web.yaml")
	w.repo.Remove("kept.yaml")
	w.applied(w.push("stateless"))
	if is("web") || is("kept") {
		t.Errorf("web is there: %v, kept: %v", is("web"), is("kept"))
	}

	w.repo.Remove("db.yaml")
	w.repo.Write("a.yaml", project("team-a", "two"))
	second := w.push("without the database")
	w.refused(second, "PruneNotConfirmed", "App default/db", "spec.stateful", "proxctl -n default annotate app/db proximity/prune=confirm")
	if !is("db") || w.description("team-a") != "one" {
		t.Errorf("something of the commit was applied: db is there: %v, team-a is %q", is("db"), w.description("team-a"))
	}
	if err := w.patch(resource.Key{Kind: "App", Namespace: "default", Name: "db"}, `{"metadata":{"annotations":{"proximity/prune":"confirm"}}}`, false); err != nil {
		t.Fatal(err)
	}
	w.applied(second)
	if is("db") || w.description("team-a") != "two" {
		t.Errorf("db is there: %v, team-a is %q", is("db"), w.description("team-a"))
	}

	w.repo.Remove("queue.yaml")
	third := w.push("without the queue")
	w.refused(third, "PruneNotConfirmed", "App default/queue")
	w.sync("main", "wait: false", "prune: confirm")
	w.applied(third)
	if is("queue") {
		t.Error("queue is there")
	}
}

// TestPruneLeavesOthers: what somebody else made or took over is never deleted.
func TestPruneLeavesOthers(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c", "keep"} {
		w.repo.Write(name+".yaml", project("team-"+name, "x"))
	}
	first := w.repo.Push("first")
	w.follow("maxDeletions: 100")
	w.start()
	w.applied(first)
	// While nobody looks: b was deleted and made again by hand; of a the marks were taken off;
	// c says never.
	w.sync("main", "maxDeletions: 100", "suspend: true")
	w.until("suspended", func() bool { return resource.FindCondition(w.syncOf(syncKey), "Ready").GetReason() == "Suspended" })
	if _, err := w.applier.Delete(w.admin(), namespaceKey("team-b"), store.Preconditions{}, apply.Options{Force: true}); err != nil {
		t.Fatal(err)
	}
	w.must(project("team-b", "by hand"))
	if err := w.patch(namespaceKey("team-a"), `{"metadata":{"annotations":{"proximity/sync":null}}}`, true); err != nil {
		t.Fatal(err)
	}
	if err := w.patch(namespaceKey("team-c"), `{"metadata":{"annotations":{"proximity/prune":"never"}}}`, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		w.repo.Remove(name + ".yaml")
	}
	second := w.push("second")
	w.until("fetched", func() bool { return strings.HasSuffix(w.revision(), second) })
	w.sync("main", "maxDeletions: 100")
	s := w.applied(second)
	for _, name := range []string{"a", "b", "c"} {
		if w.description("team-"+name) == "-" {
			t.Errorf("team-%s was deleted", name)
		}
	}
	if got := w.applies(syncKey); !slices.Equal(got, []string{"Namespace team-keep keep.yaml"}) {
		t.Errorf("inventory %v", got)
	}
	if n := len(s.GetStatus().GetObjects()); n != 3 {
		t.Errorf("%d objects are told: %v", n, s.GetStatus().GetObjects())
	}
	if _, _, ok := resource.FollowedBy(w.get(namespaceKey("team-c"))); ok {
		t.Error("team-c still names the Sync")
	}
}

func TestDrift(t *testing.T) {
	w := newWorld(t)
	w.repo.Write("a.yaml", strings.Replace(project("team-a", "as in git"), "name: team-a", "name: team-a\n  labels: {tier: gold}", 1))
	first := w.repo.Push("first")
	w.follow("driftPolicy: correct")
	w.start()
	w.applied(first)
	key := namespaceKey("team-a")

	// Without force it is refused, with a pointer.
	err := w.patch(key, `{"spec":{"description":"by hand"}}`, false)
	if err == nil || !strings.Contains(err.Error(), "the file a.yaml of Sync default/main") {
		t.Fatalf("a change by hand: %v", err)
	}
	if err := w.apply(project("team-a", "by hand"), apply.Options{Manager: "proxctl"}); err == nil || !strings.Contains(err.Error(), "a.yaml") {
		t.Fatalf("an apply by hand: %v", err)
	}
	if _, err := w.applier.Delete(w.admin(), key, store.Preconditions{}); err == nil || !strings.Contains(err.Error(), "a.yaml") {
		t.Fatalf("a deletion by hand: %v", err)
	}
	if err := w.patch(key, `{"metadata":{"labels":{"tier":"lead"}}}`, false); err == nil {
		t.Fatal("a label of the file was changed")
	}
	if err := w.patch(key, `{"metadata":{"labels":{"mine":"x"}}}`, false); err != nil {
		t.Fatalf("a label of one's own: %v", err)
	}

	// Forced, it is set back; what is nobody's business stays.
	if err := w.patch(key, `{"spec":{"description":"by hand"},"metadata":{"labels":{"tier":"lead"}}}`, true); err != nil {
		t.Fatal(err)
	}
	w.until("set back", func() bool {
		l := w.get(key).GetMetadata().GetLabels()
		return w.description("team-a") == "as in git" && l["tier"] == "gold" && l["mine"] == "x"
	})
	w.until("told", func() bool { return w.event("DriftCorrected") != "" })
	if _, err := w.applier.Delete(w.admin(), key, store.Preconditions{}, apply.Options{Force: true}); err != nil {
		t.Fatal(err)
	}
	w.until("made again", func() bool { return w.description("team-a") == "as in git" })

	// warn leaves it and says so, over a restart too, until the policy changes.
	w.sync("main", "driftPolicy: warn")
	if err := w.patch(key, `{"spec":{"description":"by hand"}}`, true); err != nil {
		t.Fatal(err)
	}
	drifted := func() bool {
		c := resource.FindCondition(w.syncOf(syncKey), "InSync")
		return c.GetStatus() == "False" && strings.Contains(c.GetMessage(), "Namespace team-a") && strings.Contains(c.GetMessage(), "hand")
	}
	w.until("said", drifted)
	w.stop()
	w.start()
	w.repo.Write("b.yaml", project("team-b", "new"))
	w.applied(w.push("another file"))
	if w.description("team-a") != "by hand" || !drifted() || w.description("team-b") != "new" {
		t.Errorf("team-a is %q, team-b %q", w.description("team-a"), w.description("team-b"))
	}
	w.sync("main", "driftPolicy: correct")
	w.until("set back", func() bool { return w.description("team-a") == "as in git" })
	w.until("in sync", func() bool { return resource.FindCondition(w.syncOf(syncKey), "InSync").GetStatus() == "True" })
}

func TestTwoSyncsClaimOneObject(t *testing.T) {
	w := newWorld(t)
	w.repo.Write("one/a.yaml", project("team-a", "one"))
	w.repo.Write("two/a.yaml", project("team-a", "two"))
	commit := w.repo.Push("first")
	w.follow("path: one")
	w.start()
	w.applied(commit)
	w.sync("second", "path: two", "force: true")
	second := resource.Key{Kind: "Sync", Namespace: "default", Name: "second"}
	w.until("conflict", func() bool {
		c := resource.FindCondition(w.syncOf(second), "Applied")
		return c.GetReason() == "Conflict" && strings.Contains(c.GetMessage(), "belongs to Sync default/main") && strings.Contains(c.GetMessage(), "one/a.yaml")
	})
	version := w.get(namespaceKey("team-a")).GetMetadata().GetResourceVersion()
	for range 3 {
		_, _ = w.look(second)
		_, _ = w.look(syncKey)
	}
	if now := w.get(namespaceKey("team-a")).GetMetadata().GetResourceVersion(); now != version || w.description("team-a") != "one" {
		t.Error("they fight")
	}
}

// TestTakesOver: objects that are there are joined when they are alike, and taken over when
// that is asked for.
func TestTakesOver(t *testing.T) {
	w := newWorld(t)
	w.must(project("team-a", "by hand"))
	w.repo.Write("a.yaml", project("team-a", "as in git"))
	commit := w.repo.Push("first")
	w.follow()
	w.start()
	w.refused(commit, "Conflict", "a.yaml:6: spec.description", `the manager "proxctl"`, "set spec.force")
	w.sync("main", "force: true")
	w.applied(commit)
	if w.description("team-a") != "as in git" {
		t.Errorf("team-a is %q", w.description("team-a"))
	}
}
