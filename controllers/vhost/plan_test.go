package vhost

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

func vhostOf(host, backend string) appliance.Vhost {
	return appliance.Vhost{Key: "default/web", Hosts: []string{host}, Rules: []appliance.Rule{{Path: "/", Backends: []appliance.Backend{{Address: backend}}}}}
}

func TestPlan(t *testing.T) {
	a, b := vhostOf("a.test", "10.0.0.1:80"), vhostOf("b.test", "10.0.0.1:80")
	want := &desired{appliance: "one", vhost: a}
	for name, tc := range map[string]struct {
		d       *desired
		o       observed
		step    string
		blocked string
	}{
		"never looked at":   {want, observed{}, "ServeVhost: serve a.test from 10.0.0.1:80", ""},
		"not served":        {want, observed{appliance: "one"}, "ServeVhost: serve a.test from 10.0.0.1:80", ""},
		"served":            {want, observed{appliance: "one", vhost: &a}, "", ""},
		"otherwise":         {want, observed{appliance: "one", vhost: &b}, "ChangeVhost: serve a.test from 10.0.0.1:80", ""},
		"not live yet":      {want, observed{appliance: "one", vhost: &a, unsettled: true}, "ChangeVhost: serve a.test from 10.0.0.1:80", ""},
		"by another":        {want, observed{appliance: "two", vhost: &a}, "ServeVhost: serve a.test from 10.0.0.1:80", ""},
		"refused":           {want, observed{appliance: "one", vhost: &a, refused: "bad"}, "", "Refused"},
		"corrected":         {want, observed{appliance: "one", vhost: &b, refused: "bad"}, "ChangeVhost: serve a.test from 10.0.0.1:80", ""},
		"conflict":          {&desired{appliance: "one", vhost: a, conflict: "taken"}, observed{}, "", "Conflict"},
		"no backend yet":    {&desired{appliance: "one", vhost: appliance.Vhost{Hosts: []string{"a.test"}}}, observed{}, "ServeVhost: serve a.test from its backends, as soon as one has an address", ""},
		"management UI":     {&desired{appliance: "one", vhost: appliance.Vhost{Hosts: []string{"a.test"}, Rules: []appliance.Rule{{ManagementUI: true}}}}, observed{}, "ServeVhost: serve a.test from the management UI of the appliance", ""},
		"deleted":           {nil, observed{appliance: "one", vhost: &a}, "WithdrawVhost: stop serving a.test", ""},
		"deleted, unserved": {nil, observed{appliance: "one"}, "", ""},
	} {
		steps, blocked := plan(tc.d, tc.o)
		got, reason := "", ""
		for _, s := range steps {
			got += s.Action + ": " + s.Text
			if s.By == "" || s.Effect != runtime.InPlace {
				t.Errorf("%s: %+v", name, s)
			}
		}
		if blocked != nil {
			reason = blocked.Reason
		}
		if got != tc.step || reason != tc.blocked {
			t.Errorf("%s: %q %q, want %q %q", name, got, reason, tc.step, tc.blocked)
		}
	}
}

// TestPlanReachesWhatIsDesired carries plans out: one step at most, and then none is left.
func TestPlanReachesWhatIsDesired(t *testing.T) {
	draw := func(t *rapid.T, name string) appliance.Vhost {
		return vhostOf(rapid.SampledFrom([]string{"a.test", "b.test"}).Draw(t, name+" host"), rapid.SampledFrom([]string{"10.0.0.1:80", "10.0.0.2:80"}).Draw(t, name+" backend"))
	}
	rapid.Check(t, func(t *rapid.T) {
		o := observed{appliance: rapid.SampledFrom([]string{"one", "two"}).Draw(t, "by"), unsettled: rapid.Bool().Draw(t, "unsettled")}
		if rapid.Bool().Draw(t, "served") {
			v := draw(t, "live")
			o.vhost = &v
		}
		d := &desired{appliance: "one", vhost: draw(t, "wanted")}
		if rapid.Bool().Draw(t, "deletion") {
			d = nil
		}
		steps, blocked := plan(d, o)
		if blocked != nil || len(steps) > 1 {
			t.Fatalf("%+v, %+v", steps, blocked)
		}
		if d == nil && slices.ContainsFunc(steps, func(s runtime.Step) bool { return s.Action != ActionWithdraw }) {
			t.Fatalf("a deletion has %+v", steps)
		}
		if len(steps) == 1 { // the appliance carries it out
			switch o = (observed{appliance: "one"}); steps[0].Action {
			case ActionServe, ActionChange:
				o.vhost = &d.vhost
			}
		}
		if left, _ := plan(d, o); len(left) > 0 {
			t.Fatalf("left: %+v", left)
		}
	})
}

func TestLongListsAreCut(t *testing.T) {
	many := []string{"1", "2", "3", "4", "5", "6", "7"}
	if got := listed(many); got != "1, 2, 3, 4, 5 and 2 more" {
		t.Error(got)
	}
}
