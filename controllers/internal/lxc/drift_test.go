package lxc

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/ownership"
)

func TestDrift(t *testing.T) {
	with := func(policy string, f func(*Desired)) *Desired {
		d := testDesired()
		d.DriftPolicy, d.Applied = policy, testDesired().Settings()
		f(d)
		return d
	}
	nothing := func(*Desired) {}
	byHand := asProxmoxKeepsIt(testDesired())
	byHand["memory"], byHand["net0"] = "777", "name=eth0,bridge=vmbr9,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth"
	untagged := asProxmoxKeepsIt(testDesired())
	untagged["tags"] = "web"
	for name, tc := range map[string]struct {
		d      *Desired
		config map[string]string
		steps  string
		left   string
	}{
		"correct":              {with(DriftCorrect, nothing), byHand, "Update", ""},
		"no policy":            {with("", nothing), byHand, "Update", ""},
		"warn":                 {with(DriftWarn, nothing), byHand, "", "memory net0"},
		"ignore":               {with(DriftIgnore, nothing), byHand, "", "memory net0"},
		"not known what was":   {with(DriftWarn, func(d *Desired) { d.Applied = nil }), byHand, "Update", ""},
		"the spec changed too": {with(DriftWarn, func(d *Desired) { d.MemoryMiB = 1024 }), byHand, "Update", "net0"},
		"our tag":              {with(DriftIgnore, nothing), untagged, "Update", ""},
		"stopped":              {with(DriftIgnore, func(d *Desired) { d.Running = false }), byHand, "Shutdown", "memory net0"},
	} {
		t.Run(name, func(t *testing.T) {
			o := observedAs(tc.config, true)
			steps, blocked := Plan(tc.d, testMark, o)
			if blocked != nil || actions(steps) != tc.steps {
				t.Errorf("steps %q, blocked %v", actions(steps), blocked)
			}
			left := ""
			for i, drift := range Drifted(tc.d, o.Config) {
				if i > 0 {
					left += " "
				}
				left += drift.Key
			}
			if left != tc.left {
				t.Errorf("left: %q, want %q", left, tc.left)
			}
			if tc.steps == "Update" && tc.left == "net0" {
				if got := fmt.Sprint(steps[0].Change.Set); got != "map[memory:1024]" {
					t.Errorf("set %s", got)
				}
			}
		})
	}
}

func TestPlanAdoption(t *testing.T) {
	d := testDesired()
	d.Adopt = true
	unmarked := asProxmoxKeepsIt(testDesired())
	unmarked["tags"], unmarked["description"], unmarked["memory"] = "web", "precious", "2048"
	marked := func(f func(*ownership.Mark)) Observed {
		m := testMark
		f(&m)
		c := asProxmoxKeepsIt(testDesired())
		c["description"] = m.Describe("")
		return observedAs(c, true)
	}
	for name, tc := range map[string]struct {
		o              Observed
		steps, blocked string
	}{
		"unmarked":             {observedAs(unmarked, true), "Adopt Update", ""},
		"unmarked, stopped":    {observedAs(unmarked, false), "Adopt Update Start", ""},
		"ours":                 {observedAs(asProxmoxKeepsIt(testDesired()), true), "", ""},
		"absent":               {Observed{}, "", "GuestToAdoptMissing"},
		"of a lost object":     {marked(func(m *ownership.Mark) { m.UID = "gone" }), "Adopt", ""},
		"another object's":     {marked(func(m *ownership.Mark) { m.UID, m.Name = "gone", "other" }), "", "VMIDTaken"},
		"a copy":               {marked(func(m *ownership.Mark) { m.VMID = 4 }), "", "VMIDIsCopy"},
		"another installation": {marked(func(m *ownership.Mark) { m.Installation = "i2" }), "", "VMIDTaken"},
	} {
		t.Run(name, func(t *testing.T) {
			steps, blocked := Plan(d, testMark, tc.o)
			reason := ""
			if blocked != nil {
				reason = blocked.Reason
			}
			if actions(steps) != tc.steps || reason != tc.blocked {
				t.Errorf("steps %q, blocked %q", actions(steps), reason)
			}
			for _, s := range steps {
				_, tags := mapOf(s)["tags"]
				_, text := mapOf(s)["description"]
				if s.Action == ActionAdopt && len(mapOf(s)) == 0 || s.Action == ActionUpdate && (tags || text) {
					t.Errorf("%s sets %v", s.Action, mapOf(s))
				}
			}
		})
	}
	// One that is weaker than ours takes that the spec allows it; until then it may be looked at.
	for what, set := range map[string][2]string{"privileged": {"unprivileged", "0"}, "feature keyctl": {"features", "nesting=1,keyctl=1"}, "mp0": {"mp0", "/srv,mp=/srv"}, "dev0": {"dev0", "/dev/kvm"}} {
		weak := maps.Clone(unmarked)
		weak[set[0]] = set[1]
		o := observedAs(weak, true)
		if steps, blocked := Plan(d, testMark, o); blocked == nil || blocked.Reason != "GuestToAdoptWeaker" || !strings.Contains(blocked.Text, what) || len(steps) > 0 {
			t.Errorf("%s: steps %q, blocked %v", what, actions(steps), blocked)
		}
		look, allowed := *d, *d
		look.ReadOnly, allowed.AdoptWeaker = true, true
		if steps, blocked := Plan(&look, testMark, o); blocked != nil || !strings.Contains(steps[0].Text, "takes spec.adoptWeaker") || !strings.Contains(steps[0].Text, what) {
			t.Errorf("%s, only looked at: steps %v, blocked %v", what, steps, blocked)
		}
		if steps, blocked := Plan(&allowed, testMark, o); blocked != nil || actions(steps) != "Adopt Update" {
			t.Errorf("%s, allowed: steps %q, blocked %v", what, actions(steps), blocked)
		}
	}
	// Without spec.adopt nothing changes.
	if steps, blocked := Plan(testDesired(), testMark, observedAs(unmarked, true)); blocked == nil || len(steps) > 0 {
		t.Errorf("steps %q without being asked", actions(steps))
	}
}

func mapOf(s Step) map[string]string {
	if s.Change == nil {
		return nil
	}
	return s.Change.Set
}
