package controllers_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/proximity-pve/proximity/controllers"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// stepLog is what the daemons' log says of steps that were taken, by object.
type stepLog struct {
	mu    sync.Mutex
	taken map[resource.Key][]runtime.Step
}

// reset begins anew.
func (l *stepLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = map[resource.Key][]runtime.Step{}
}

func (l *stepLog) of(key resource.Key) []runtime.Step {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.taken[key])
}

// stepHandler notes steps on their way to the log.
type stepHandler struct {
	slog.Handler
	log   *stepLog
	attrs []slog.Attr
}

func (h stepHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return stepHandler{h.Handler.WithAttrs(attrs), h.log, slices.Concat(h.attrs, attrs)}
}

func (h stepHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "step" {
		values := map[string]string{}
		note := func(a slog.Attr) bool { values[a.Key] = a.Value.String(); return true }
		for _, a := range h.attrs {
			note(a)
		}
		r.Attrs(note)
		key := resource.Key{Kind: values["kind"], Namespace: values["namespace"], Name: values["name"]}
		h.log.mu.Lock()
		if h.log.taken == nil {
			h.log.taken = map[resource.Key][]runtime.Step{}
		}
		h.log.taken[key] = append(h.log.taken[key], runtime.Step{Action: values["action"], Effect: runtime.Effect(values["effect"]), Text: values["text"]})
		h.log.mu.Unlock()
	}
	return h.Handler.Handle(ctx, r)
}

// plan asks what applying documents would do, as the server does.
func (w *world) plan(yaml string) map[resource.Key]runtime.Plan {
	w.Helper()
	docs, err := resource.DecodeDocuments(w.registry, "story.yaml", []byte(yaml))
	w.must(err)
	results, err := w.applier.ApplySet(w.Context(), docs, apply.Options{Manager: "story", DryRun: true})
	w.must(err)
	var changes []runtime.Change
	for _, r := range results {
		changes = append(changes, runtime.Change{Key: r.Key, Desired: r.Object})
	}
	return w.planned(changes)
}

func (w *world) planDeletion(keys ...resource.Key) map[resource.Key]runtime.Plan {
	w.Helper()
	var changes []runtime.Change
	for _, key := range keys {
		changes = append(changes, runtime.Change{Key: key})
	}
	return w.planned(changes)
}

// planned asks the controllers, when they have nothing to do themselves, and sees to it that
// nothing at all is done for it.
func (w *world) planned(changes []runtime.Change) map[resource.Key]runtime.Plan {
	w.Helper()
	synctest.Wait()
	revision, calls := w.store.Revision(), w.node.Stats()
	plans, err := w.daemon.manager.Plan(w.Context(), changes)
	w.must(err)
	if now := w.store.Revision(); now != revision {
		w.Errorf("the plan wrote to the store: %d, was %d", now, revision)
	}
	synctest.Wait() // what the plan may have begun counts too
	if now := w.node.Stats(); total(now.Requests) != total(calls.Requests) || total(now.Commands) != total(calls.Commands) {
		w.Errorf("the plan asked the node: %v %v, before it %v %v", now.Requests, now.Commands, calls.Requests, calls.Commands)
	}
	byKey := map[resource.Key]runtime.Plan{}
	for i, ch := range changes {
		byKey[ch.Key] = plans.Changes[i]
		if b := plans.Changes[i].Blocked; b != nil {
			w.Errorf("%s is blocked: %+v", ch.Key, b)
		}
	}
	for _, a := range plans.Affected {
		byKey[resource.KeyOf(a.Object)] = a.Plan
	}
	return byKey
}

func total[N int | int64 | uint64](counts map[string]N) (sum N) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// mustHaveTaken compares a plan with the steps that were taken. Steps that depend on what
// had not been looked at may be missing; those of an appliance must have been taken by it, in
// its own step. What is known only when it is done (VMIDs, addresses, nodes) is not compared.
func (w *world) mustHaveTaken(key resource.Key, plan runtime.Plan, exact bool) {
	w.Helper()
	taken := w.steps.of(key)
	show := func(steps []runtime.Step) string {
		var lines []string
		for _, s := range steps {
			lines = append(lines, string(s.Effect)+" "+s.Action+" "+s.Text+" "+s.If+" "+s.By)
		}
		return strings.Join(lines, "\n    ")
	}
	byAppliance := 0
	at := 0
	for _, s := range plan.Steps {
		// As Apps and Vhosts come and go, the appliance configures itself for them too.
		for key == applianceKey && !exact && at < len(taken) && taken[at].Action == "Configure" && s.Action != "Configure" {
			at++
		}
		switch {
		case s.By == "you": // a restart, which is nobody else's
		case s.By != "":
			byAppliance++
		case at < len(taken) && taken[at].Action == s.Action && taken[at].Effect == s.Effect && (!exact || taken[at].Text == s.Text):
			at++
		case s.If == "":
			w.Errorf("%s: step %s of the plan was not taken then:\n  plan\n    %s\n  taken\n    %s", key, s.Action, show(plan.Steps), show(taken))
			return
		}
	}
	rest := taken[at:]
	if key == applianceKey && !exact {
		rest = slices.DeleteFunc(rest, func(s runtime.Step) bool { return s.Action == "Configure" })
	}
	if len(rest) > 0 {
		w.Errorf("%s: more was done than planned:\n  plan\n    %s\n  taken\n    %s", key, show(plan.Steps), show(taken))
	}
	configured := slices.ContainsFunc(w.steps.of(applianceKey), func(s runtime.Step) bool { return s.Action == "Configure" })
	if byAppliance > 0 && !configured {
		w.Errorf("%s: the appliance did nothing for %s", key, show(plan.Steps))
	}
}

// rest waits until nothing happens any more and every object was looked at since.
func (w *world) rest(keys ...resource.Key) {
	w.Helper()
	w.until("ready", w.ready(keys...))
	time.Sleep(12 * time.Second)
}

// What is planned is what is done: for every kind, to make it, to change it, and to delete it.
func TestWhatIsPlannedIsDone(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		time.Sleep(time.Second) // the Cluster is looked at: its nodes are known
		docs := strings.Split(w.quickstart(), "\n---\n")
		byKind := func(kind string) string {
			for _, d := range docs {
				if strings.Contains(d, "\nkind: "+kind+"\n") {
					return d
				}
			}
			w.Fatalf("no %s in the quickstart", kind)
			return ""
		}
		var made []resource.Key
		for _, key := range []resource.Key{bridgeKey, applianceKey, appKey, vhostKey} {
			w.steps.reset()
			doc := byKind(key.Kind)
			plan := w.plan(doc)[key]
			if len(plan.Steps) == 0 || !plan.ObservedAt.IsZero() || !plan.Outside {
				t.Errorf("%s: %+v", key, plan)
			}
			w.apply(doc)
			made = append(made, key)
			w.rest(made...)
			w.mustHaveTaken(key, plan, false)
			if left := w.plan(doc)[key]; len(left.Steps) > 0 || left.ObservedAt.IsZero() {
				t.Errorf("%s: after it is ready there is left %+v", key, left)
			}
		}
		replace := func(doc string, pairs ...string) string {
			for i := 0; i < len(pairs); i += 2 {
				if !strings.Contains(doc, pairs[i]) {
					w.Fatalf("no %q in\n%s", pairs[i], doc)
				}
				doc = strings.Replace(doc, pairs[i], pairs[i+1], 1)
			}
			return doc
		}
		bridge, app, apl, vhost := byKind("Bridge"), byKind("App"), byKind("Appliance"), byKind("Vhost")
		for _, change := range []struct {
			name  string
			key   resource.Key
			doc   string
			worst runtime.Effect
		}{
			{"bridge in place", bridgeKey, replace(bridge, "spec:\n", "spec:\n  mtu: 1400\n"), runtime.InPlace},
			{"appliance in place", applianceKey, replace(apl, "memory: 512Mi", "memory: 640Mi"), runtime.InPlace},
			{"appliance restarts a service", applianceKey, replace(apl, "memory: 512Mi", "memory: 640Mi", "leaseTime: 12h", "leaseTime: 1h"), runtime.Restart},
			{"app in place", appKey, replace(app, "memory: 256Mi", "memory: 300Mi", "- nginx", "- nginx\n    - curl"), runtime.InPlace},
			// The host name counts from the next start on, which is a human's.
			{"app that a human restarts", appKey, replace(app, "memory: 256Mi", "memory: 300Mi", "- nginx", "- nginx\n    - curl", "spec:\n", "spec:\n  hostname: renamed\n"), runtime.Restart},
			{"app stops", appKey, replace(app, "spec:\n", "spec:\n  state: Stopped\n"), runtime.Restart},
			{"app starts", appKey, app, runtime.InPlace},
			{"vhost in place", vhostKey, replace(vhost, "nginx-01.prox.local\n", "nginx-01.prox.local\n", "hosts:\n", "hosts:\n    - more.prox.local\n"), runtime.InPlace},
		} {
			w.steps.reset()
			plan := w.plan(change.doc)[change.key]
			w.apply(change.doc)
			w.rest(change.key)
			before := t.Failed()
			w.mustHaveTaken(change.key, plan, true)
			if worst := worstOf(plan); worst != change.worst || len(plan.Steps) == 0 {
				t.Errorf("worst effect %q, want %q: %+v", worst, change.worst, plan)
			}
			if t.Failed() && !before {
				t.Errorf("that was: %s", change.name)
			}
			time.Sleep(10 * time.Second)
		}
		for _, key := range quickstartKeys {
			w.steps.reset()
			plan := w.planDeletion(key)[key]
			w.remove(key)
			w.until("gone", w.gone(key))
			time.Sleep(12 * time.Second)
			w.mustHaveTaken(key, plan, true)
			if want := map[string]runtime.Effect{"Bridge": runtime.InPlace, "Vhost": runtime.InPlace}[key.Kind]; want == "" && worstOf(plan) != runtime.DataLoss {
				t.Errorf("deletion of %s: %+v", key, plan)
			}
		}
	})
}

// A whole set is planned as if all of it were there; each object's steps are then taken.
func TestPlanOfASet(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		time.Sleep(time.Second)
		plans := w.plan(w.quickstart())
		w.apply(w.quickstart())
		w.rest(quickstartKeys...)
		for _, key := range quickstartKeys {
			w.mustHaveTaken(key, plans[key], false)
		}
		deletion := w.planDeletion(quickstartKeys...)
		w.steps.reset()
		w.remove(quickstartKeys...)
		w.until("gone", w.gone(quickstartKeys...))
		for _, key := range []resource.Key{appKey, applianceKey, bridgeKey} {
			plan := deletion[key]
			if len(plan.Steps) < 2 {
				t.Errorf("%s: %+v", key, plan)
			}
			plan.Steps = slices.DeleteFunc(slices.Clone(plan.Steps), func(s runtime.Step) bool { return s.By != "" }) // the appliance may go first
			w.mustHaveTaken(key, plan, key != applianceKey)
		}
	})
}

// A daemon that has not looked yet knows nothing, and asks nobody: it has no way to anything.
func TestObservationsAreOfThisLife(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		blind := cluster.NewSet(&cluster.Connection{Name: cluster.DefaultName, Installation: installation})
		fresh := runtime.NewManager(w.store, slog.New(slog.DiscardHandler), nil, controllers.All(controllers.Deps{Clusters: blind, Log: slog.New(slog.DiscardHandler)})...)
		var changes []runtime.Change
		for _, key := range quickstartKeys {
			changes = append(changes, runtime.Change{Key: key, Desired: w.get(key)})
		}
		plans, err := fresh.Plan(w.Context(), changes)
		w.must(err)
		for i, p := range plans.Changes {
			if !p.ObservedAt.IsZero() || !p.Outside || len(p.Steps) == 0 && p.Blocked == nil { // the Bridge: without a way to the node
				t.Errorf("%s: %+v", changes[i].Key, p)
			}
		}
		time.Sleep(12 * time.Second)
		if p := w.planDeletion(appKey)[appKey]; time.Since(p.ObservedAt) > 6*time.Second || len(p.Steps) != 3 {
			t.Errorf("by the daemon that has looked: %+v", p)
		}
	})
}

// What a change does for others that are not part of it is told too.
func TestPlanTellsConsequences(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		time.Sleep(12 * time.Second)
		for name, tc := range map[string]struct {
			kind   string
			from   string
			to     string
			others map[resource.Key]string
		}{
			"port of an app":     {"App", "port: 80\n", "port: 8080\n", map[resource.Key]string{vhostKey: "ChangeVhost", applianceKey: "Configure"}},
			"zone":               {"Appliance", "zone: prox.local", "zone: lab.local", map[resource.Key]string{appKey: "Update"}},
			"memory of an app":   {"App", "memory: 256Mi", "memory: 300Mi", nil},
			"nothing whatsoever": {"App", "nginx", "nginx", nil},
		} {
			for _, doc := range strings.Split(w.quickstart(), "\n---\n") {
				if !strings.Contains(doc, "\nkind: "+tc.kind+"\n") {
					continue
				}
				if !strings.Contains(doc, tc.from) {
					t.Fatalf("%s: no %q in\n%s", name, tc.from, doc)
				}
				plans := w.plan(strings.Replace(doc, tc.from, tc.to, 1))
				if len(plans) != 1+len(tc.others) {
					t.Errorf("%s: %+v", name, plans)
				}
				for key, action := range tc.others {
					if steps := plans[key].Steps; len(steps) == 0 || steps[0].Action != action {
						t.Errorf("%s: %s has the steps %+v", name, key, steps)
					}
				}
			}
		}
		deletion := w.planDeletion(appKey)
		if p, ok := deletion[vhostKey]; !ok || len(p.Steps) != 1 || len(deletion) != 3 || deletion[applianceKey].Steps[0].Action != "Configure" {
			t.Errorf("deletion of the app: %+v", deletion)
		}
	})
}

func worstOf(p runtime.Plan) runtime.Effect {
	order := []runtime.Effect{"", runtime.InPlace, runtime.Restart, runtime.Recreate, runtime.DataLoss}
	worst := 0
	for _, s := range p.Steps {
		worst = max(worst, slices.Index(order, s.Effect))
	}
	return order[worst]
}
