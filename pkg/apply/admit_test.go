package apply_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// overtaken is a store in which somebody else writes once, after an apply has looked at the
// objects and before its transaction.
type overtaken struct {
	store.Store
	first func()
}

func (o *overtaken) Update(ctx context.Context, fn func(store.Tx) error) (uint64, error) {
	if first := o.first; first != nil {
		o.first = nil
		first()
	}
	return o.Store.Update(ctx, fn)
}

// Lookup keeps the short way of the store below.
func (o *overtaken) Lookup(ctx context.Context, key resource.Key) (store.Version, error) {
	return store.Lookup(ctx, o.Store, key)
}

// rival is what somebody else does to an App.
type rival struct {
	what    string
	manager string
	wanted  fields
	force   bool
}

func drawRival(t *rapid.T) rival {
	return rival{
		what:    rapid.SampledFrom([]string{"apply", "apply", "apply", "delete", "replace", "finalize and delete", "nothing", "status"}).Draw(t, "rival does"),
		manager: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "rival"),
		wanted:  drawFields(t, "rival", paths),
		force:   rapid.Bool().Draw(t, "rival forces"),
	}
}

// act may fail, the same way wherever it is done: what it leaves is what counts.
func (r rival) act(w *world) {
	ctx, key := context.Background(), resource.Key{Kind: "App", Namespace: "default", Name: "web"}
	remove := func() { _, _ = w.Delete(ctx, key, store.Preconditions{}) }
	switch r.what {
	case "apply":
		_, _ = w.apply(r.manager, r.wanted, r.force, false)
	case "delete":
		remove()
	case "replace": // by another object of the same name
		remove()
		_, _ = w.apply(r.manager, r.wanted, r.force, false)
	case "finalize and delete":
		_, _ = w.Patch(ctx, key, apply.MergePatch, []byte(`{"metadata":{"finalizers":["test/held"]}}`))
		remove()
	case "status":
		_, _ = w.st.Update(ctx, func(tx store.Tx) error {
			obj, err := tx.Get(key)
			if err != nil {
				return err
			}
			_, err = tx.UpdateStatus(withStatus(obj))
			return err
		})
	}
}

// TestOvertakenApply: an apply that looked at an object which somebody else then wrote, before
// its transaction, does and answers what it would have if it had come after.
func TestOvertakenApply(t *testing.T) {
	reg := kinds.Registry()
	seen := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		var history []rival
		for range rapid.IntRange(0, 2).Draw(rt, "history") {
			history = append(history, drawRival(rt))
		}
		between := drawRival(rt)
		wanted := drawFields(rt, "document", paths)
		if len(history) > 0 && rapid.Bool().Draw(rt, "what somebody applied") {
			wanted = history[len(history)-1].wanted
		}
		force, dry := rapid.Bool().Draw(rt, "force"), rapid.IntRange(0, 4).Draw(rt, "dry") == 0
		each := rapid.Bool().Draw(rt, "each by itself")

		type end struct {
			outcome string
			result  resource.Object
			stored  []resource.Object
		}
		var ends [2]end
		for i, overtakes := range []bool{false, true} {
			st := &overtaken{Store: memory.New(reg)}
			rt.Cleanup(func() { _ = st.Close() })
			w := &world{T: rt, Applier: apply.New(st, reg), st: st, reg: reg}
			if err := w.EnsureNamespaces(context.Background()); err != nil {
				rt.Fatal(err)
			}
			for _, r := range history {
				r.act(w)
			}
			if overtakes {
				st.first = func() { between.act(w) }
			} else {
				between.act(w)
			}
			var result apply.Result
			var err error
			if each {
				result, err = w.applyEach("a", wanted, force, dry)
			} else {
				result, err = w.apply("a", wanted, force, dry)
			}
			if overtakes && st.first != nil {
				rt.Fatal("nobody came between")
			}
			list, listErr := st.List(context.Background(), "App", store.ListOptions{})
			if listErr != nil {
				rt.Fatal(listErr)
			}
			ends[i] = end{fmt.Sprint(result.Outcome, " ", err), result.Object, list.Items}
			if err == nil {
				seen[result.Outcome]++
			} else {
				seen["error"]++
			}
			seen[between.what]++
		}
		after, over := ends[0], ends[1]
		if after.outcome != over.outcome {
			rt.Fatalf("%+v: after %s, overtaken %s", between, after.outcome, over.outcome)
		}
		if after.result != nil {
			if diff := alike(after.result, over.result); diff != "" {
				rt.Fatalf("%+v: -after +overtaken:\n%s", between, diff)
			}
		}
		if !slices.EqualFunc(after.stored, over.stored, func(x, y resource.Object) bool { return alike(x, y) == "" }) {
			rt.Fatalf("%+v: stored after %v, overtaken %v", between, after.stored, over.stored)
		}
	})
	for _, want := range []string{apply.Created, apply.Configured, "error", "apply", "delete", "replace", "finalize and delete", "status"} {
		if seen[want] == 0 {
			t.Errorf("%q did not come up: %v", want, seen)
		}
	}
}

// TestOvertakenSet: in a set, only some of whose objects somebody else wrote meanwhile, each
// is what it would have been.
func TestOvertakenSet(t *testing.T) {
	reg := kinds.Registry()
	st := &overtaken{Store: memory.New(reg)}
	defer st.Close()
	a := apply.New(st, reg)
	if err := a.EnsureNamespaces(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := func(n int, env string) (all string) {
		for i := range n {
			all += doc("App", fmt.Sprint("web-", i), "spec:\n  env: [{name: A, value: \""+env+"\"}]\n")
		}
		return all
	}
	const objects = 40 // enough for several goroutines
	set := func(manager, text string, force bool) ([]apply.Result, error) {
		docs, err := resource.DecodeDocuments(reg, "set.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return a.ApplySet(t.Context(), docs, apply.Options{Manager: manager, Force: force})
	}
	if _, err := set("me", text(objects, "1"), false); err != nil {
		t.Fatal(err)
	}
	st.first = func() {
		if _, err := set("you", text(3, "2"), true); err != nil {
			t.Error(err)
		}
	}
	_, err := set("me", text(objects, "3"), false)
	if got := conflictPlaces(err); got != "0 1 2" {
		t.Fatalf("conflicts in the documents %q: %v", got, err)
	}
	st.first = func() {
		if _, err := a.Delete(t.Context(), resource.Key{Kind: "App", Namespace: "default", Name: "web-7"}, store.Preconditions{}); err != nil {
			t.Error(err)
		}
	}
	results, err := set("me", text(objects, "3"), true)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		want := apply.Configured
		if i == 7 {
			want = apply.Created
		}
		if r.Outcome != want || r.Key.Name != fmt.Sprint("web-", i) {
			t.Errorf("%s: %s", r.Key, r.Outcome)
		}
	}
}

// TestShortAdmission: along any history of documents, right and wrong ones, what an Applier
// that takes short ways does and answers is what one does that takes none.
func TestShortAdmission(t *testing.T) {
	reg := kinds.Registry()
	seen := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, reg)
		slow := newWorld(rt, reg)
		slow.Applier = slow.Slow()
		text := ""
		for range rapid.IntRange(2, 6).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "document") {
			case 0:
				text = randomDocument(rt)
			case 1:
				text = oddApp(rt)
			default: // other values for the same fields, mostly
				old, other := rapid.SampledFrom([]string{"x", "Running", "\"1\"", "80", "http"}).Draw(rt, "old"),
					rapid.SampledFrom([]string{"y", "Stopped", "\"2\"", "81", "dns", "Gone", "a b"}).Draw(rt, "new")
				text = strings.ReplaceAll(text, ": "+old, ": "+other)
			}
			docs, err := resource.DecodeDocuments(reg, "set.yaml", []byte(text))
			if err != nil {
				continue
			}
			opts := apply.Options{
				Manager: rapid.SampledFrom([]string{"me", "me", "me", "you"}).Draw(rt, "manager"),
				Force:   rapid.IntRange(0, 3).Draw(rt, "force") == 0,
			}
			got, err := w.ApplySet(context.Background(), docs, opts)
			want, wantErr := slow.ApplySet(context.Background(), docs, opts)
			if fmt.Sprint(outcomes(got), err) != fmt.Sprint(outcomes(want), wantErr) {
				rt.Fatalf("%s\nshort: %s %v\nslow: %s %v", text, outcomes(got), err, outcomes(want), wantErr)
			}
			for i := range got {
				if diff := alike(want[i].Object, got[i].Object); diff != "" {
					rt.Fatalf("%s\n-slow +short:\n%s", text, diff)
				}
				seen[got[i].Outcome]++
			}
			if err != nil {
				seen["error"]++
			}
		}
	})
	for _, want := range []string{apply.Created, apply.Configured, apply.Unchanged, "error"} {
		if seen[want] < 5 {
			t.Errorf("%q came up %d times", want, seen[want])
		}
	}
}

// oddApp is an App with lists, of which some are wrong.
func oddApp(t *rapid.T) string {
	pick := func(label string, values ...string) string { return rapid.SampledFrom(values).Draw(t, label) }
	return doc("App", "web", "  labels: {tier: "+pick("label", "x", "y", "a b")+"}\nspec:\n  state: "+pick("state", "Running", "Stopped", "Gone")+
		"\n  ports: [{name: http, port: "+pick("port", "80", "81", "0")+"}, {name: "+pick("name", "dns", "http")+", port: 53}]\n  env: [{name: A, value: \"1\"}]\n")
}
