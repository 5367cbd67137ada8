package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// oneStepPlanner plans a step for every change but of Namespaces, from a look a minute ago
// for what there is.
type oneStepPlanner struct {
	asked    [][]PlanChange
	affected []PlanAffected
	note     string
}

func (p *oneStepPlanner) Plan(_ context.Context, changes []PlanChange) (Plans, error) {
	p.asked = append(p.asked, changes)
	plans := make([]Plan, len(changes))
	for i, c := range changes {
		switch {
		case c.Key.Kind == "Namespace":
		case c.Desired == nil:
			plans[i] = Plan{Outside: true, ObservedAt: time.Now().Add(-time.Minute),
				Steps: []PlanStep{{Action: "Destroy", Description: "destroy " + c.Key.Name, Effect: "data loss"}}}
		default:
			plans[i] = Plan{Outside: true, Notes: []string{"a note"}, BlockedReason: "Taken", Blocked: "it is taken",
				Steps: []PlanStep{{Action: "Create", Description: "create " + c.Key.Name, Effect: "in place", By: "Appliance a", If: "if needed"}}}
		}
	}
	return Plans{Changes: plans, Affected: p.affected, Note: p.note}, nil
}

// planOver asks over gRPC.
func planOver(t *testing.T, f *fixture, reqs ...*v1alpha1.PlanRequest) ([]*v1alpha1.PlanResult, error) {
	t.Helper()
	stream, err := f.resources().Plan(t.Context(), asAdmin)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reqs {
		if err := stream.Send(r); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	_ = stream.CloseSend()
	var out []*v1alpha1.PlanResult
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
}

func TestPlanWritesNothing(t *testing.T) {
	p := &oneStepPlanner{}
	f := start(t, options{planner: p})
	f.put(namespace("a", "first"), namespace("gone", "x"))
	revision := f.store.Revision()
	got, err := planOver(t, f,
		&v1alpha1.PlanRequest{Json: []byte(namespaceJSON("a", "second")), FieldManager: "m", Force: true},
		&v1alpha1.PlanRequest{Key: &v1alpha1.ObjectKey{Kind: "Namespace", Name: "gone"}, Delete: true},
		&v1alpha1.PlanRequest{Json: []byte(appJSON)},
	)
	if err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	for i, want := range []string{"configured", "deleted", "created"} {
		if got[i].GetResult() != want {
			t.Errorf("result %d: %s, want %s", i, got[i].GetResult(), want)
		}
	}
	if c := got[0].GetChanges(); len(c) != 1 || c[0].GetPath() != "spec.description" || c[0].GetOld() != `"first"` || c[0].GetNew() != `"second"` {
		t.Errorf("changes %v", c)
	}
	if got[0].GetObservation() != "none" || got[2].GetObservation() != "never" || got[2].GetLive() != nil || got[1].GetPlanned() != nil {
		t.Errorf("observations or objects: %v", got)
	}
	if s := got[2].GetSteps(); len(s) != 1 || s[0].GetText() != "create web" || s[0].GetBy() != "Appliance a" || s[0].GetIf() != "if needed" || got[2].GetBlocked().GetReason() != "Taken" {
		t.Errorf("steps %v, blocked %v", s, got[2].GetBlocked())
	}
	if now := f.store.Revision(); now != revision {
		t.Errorf("the revision moved from %d to %d", revision, now)
	}
	// One question for all changes, in the order of the requests, defaults filled in.
	if len(p.asked) != 1 || len(p.asked[0]) != 3 || p.asked[0][1].Desired != nil ||
		p.asked[0][2].Desired.(*v1alpha1.App).GetSpec().GetHostname() != "web" {
		t.Errorf("the planner was asked %v", p.asked)
	}
}

func TestPlanRefusals(t *testing.T) {
	f := start(t, options{planner: &oneStepPlanner{}})
	f.put(namespace("a", "first"))
	doc := func(text string) *v1alpha1.PlanRequest {
		return &v1alpha1.PlanRequest{Json: []byte(text), Source: "x.yaml"}
	}
	key := &v1alpha1.ObjectKey{Kind: "Namespace", Name: "a"}
	for name, tc := range map[string]struct {
		reqs     []*v1alpha1.PlanRequest
		code     codes.Code
		contains string
	}{
		"nothing":              {nil, codes.InvalidArgument, "nothing to plan"},
		"both":                 {[]*v1alpha1.PlanRequest{{Json: []byte(appJSON), Key: key}}, codes.InvalidArgument, "either a document or a key"},
		"neither":              {[]*v1alpha1.PlanRequest{{}}, codes.InvalidArgument, "either a document or a key"},
		"deletion of document": {[]*v1alpha1.PlanRequest{{Json: []byte(appJSON), Delete: true}}, codes.InvalidArgument, "a deletion takes a key"},
		"twice":                {[]*v1alpha1.PlanRequest{doc(namespaceJSON("a", "x")), {Key: key}}, codes.InvalidArgument, "named twice"},
		"not there":            {[]*v1alpha1.PlanRequest{{Key: &v1alpha1.ObjectKey{Kind: "Namespace", Name: "zz"}}}, codes.NotFound, ""},
		"unknown kind":         {[]*v1alpha1.PlanRequest{{Key: &v1alpha1.ObjectKey{Kind: "Nothing", Name: "zz"}}}, codes.NotFound, "unknown kind"},
		"no namespace":         {[]*v1alpha1.PlanRequest{{Key: &v1alpha1.ObjectKey{Kind: "App", Name: "zz"}, Delete: true}}, codes.InvalidArgument, "namespace is needed"},
		"permanent namespace":  {[]*v1alpha1.PlanRequest{{Key: &v1alpha1.ObjectKey{Kind: "Namespace", Name: "default"}, Delete: true}}, codes.InvalidArgument, "metadata.name"},
	} {
		got, err := planOver(t, f, tc.reqs...)
		if len(got) > 0 || err == nil || tc.contains != "" && !strings.Contains(err.Error(), tc.contains) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if c := status.Code(err); c != tc.code {
			t.Errorf("%s: %s, want %s (%v)", name, c, tc.code, err)
		}
	}
	// Errors of all documents at once, each with its index.
	_, err := planOver(t, f, doc(`{"kind":"App"}`), doc(namespaceJSON("ok", "")), doc(strings.Replace(appJSON, "source", "sourc", 1)))
	causes := apistatus.FromGRPC(err).GetDetails().GetCauses()
	seen := map[int32]bool{}
	for _, c := range causes {
		seen[c.GetDocument()] = true
	}
	if !seen[0] || seen[1] || !seen[2] {
		t.Errorf("causes %v", causes)
	}
}

func TestPlanOverREST(t *testing.T) {
	f := start(t, options{planner: &oneStepPlanner{}})
	f.put(namespace("a", "first"))
	created := f.do("POST", apps, appJSON)
	if created.code != 201 {
		t.Fatalf("create: %s", created.body)
	}
	revision := f.store.Revision()
	yaml := []string{"Content-Type: application/yaml"}
	for name, tc := range map[string]struct {
		method, path, body string
		code               int
		contains           string
	}{
		"set":            {"POST", apiRoot + "/plan", named("new") + "\n---\n" + namespaceJSON("a", "second"), 200, `"changes":[{"path":"spec.description","old":"first","new":"second"}]`},
		"steps":          {"POST", apiRoot + "/plan", named("new"), 200, `"steps":[{"action":"Create","text":"create new","effect":"in place","by":"Appliance a","if":"if needed"}]`},
		"object":         {"GET", apps + "/web/plan", "", 200, `"result":"unchanged"`},
		"deletion":       {"GET", apps + "/web/plan?delete=1", "", 200, `"observation":{"state":"observed","at":"`},
		"age":            {"GET", apps + "/web/plan?delete=1", "", 200, `"ageSeconds":6`},
		"cluster-scoped": {"GET", apiRoot + "/namespaces/a/plan?delete=true", "", 200, `"observation":{"state":"none"}`},
		"not there":      {"GET", apps + "/zz/plan", "", 404, `"reason":"NotFound"`},
		"no body":        {"POST", apiRoot + "/plan", "", 400, `"reason":"BadRequest"`},
		"wrong field":    {"POST", apiRoot + "/plan?source=a.yaml", strings.Replace(appJSON, "source", "sourc", 1), 422, `"source":"a.yaml"`},
		"wrong method":   {"POST", apps + "/web/plan", "", 405, `"reason":"MethodNotAllowed"`},
		"system kind":    {"GET", apiRoot + "/namespaces/default/events/x/plan", "", 404, `"reason":"NotFound"`},
	} {
		got := f.do(tc.method, tc.path, tc.body, yaml...)
		if got.code != tc.code || !strings.Contains(got.body, tc.contains) {
			t.Errorf("%s: %d %s, want %d and %s", name, got.code, got.body, tc.code, tc.contains)
		}
		if !json.Valid([]byte(got.body)) {
			t.Errorf("%s: no JSON", name)
		}
	}
	if now := f.store.Revision(); now != revision {
		t.Errorf("the revision moved from %d to %d", revision, now)
	}
}

// A server without a planner tells the changes of fields only.
func TestPlanWithoutPlanner(t *testing.T) {
	f := start(t)
	got, err := planOver(t, f, &v1alpha1.PlanRequest{Json: []byte(appJSON)})
	if err != nil || len(got) != 1 || len(got[0].GetSteps()) != 0 || len(got[0].GetChanges()) == 0 || got[0].GetObservation() != "none" {
		t.Errorf("%v, %v", got, err)
	}
}

// The limits are those of a set that is applied.
func TestPlanLimits(t *testing.T) {
	f := start(t)
	big := fmt.Sprintf(`{"apiVersion":"proximity/v1alpha1","kind":"Namespace","metadata":{"name":"big"},"spec":{"description":%q}}`, strings.Repeat("x", 3<<20))
	reqs := make([]*v1alpha1.PlanRequest, MaxApplyBytes/len(big)+1)
	for i := range reqs {
		reqs[i] = &v1alpha1.PlanRequest{Json: []byte(big)}
	}
	if _, err := planOver(t, f, reqs...); apistatus.FromGRPC(err).GetReason() != apistatus.RequestEntityTooLarge {
		t.Errorf("got %v", err)
	}
}

// Others that are affected come after what was asked about, for those who may see them.
func TestPlanTellsOthersThatAreAffected(t *testing.T) {
	p := &oneStepPlanner{note: "there may be more"}
	f := start(t, options{planner: p})
	p.affected = []PlanAffected{{Object: namespace("other", "x"), Plan: Plan{Outside: true, Steps: []PlanStep{{Action: "Change", Description: "change it", Effect: "restart"}}}}}
	got, err := planOver(t, f, &v1alpha1.PlanRequest{Json: []byte(namespaceJSON("a", "x"))})
	if err != nil || len(got) != 2 || got[1].GetResult() != "affected" || got[1].GetKey().GetName() != "other" ||
		len(got[1].GetSteps()) != 1 || len(got[1].GetChanges()) != 0 || len(got[0].GetNotes()) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}
