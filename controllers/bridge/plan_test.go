package bridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestPlan(t *testing.T) {
	base := observed{node: "pve", listed: true, ours: true, active: true}
	with := func(f func(*observed)) observed { o := base; f(&o); return o }
	for name, tc := range map[string]struct {
		wanted  bool
		mtu     int
		o       observed
		todo    string
		blocked string
	}{
		"absent":                {true, 0, observed{node: "pve"}, "[Write Reload]", ""},
		"as wanted":             {true, 0, base, "[]", ""},
		"not active":            {true, 0, with(func(o *observed) { o.active = false }), "[Reload]", ""},
		"other MTU":             {true, 9000, base, "[Write Reload]", ""},
		"foreign":               {true, 0, with(func(o *observed) { o.ours = false }), "[]", "InterfaceTaken"},
		"foreign, to be gone":   {false, 0, with(func(o *observed) { o.ours = false }), "[]", ""},
		"pending of others":     {true, 0, observed{node: "pve", pending: "diff"}, "[]", "ForeignPendingChanges"},
		"pending, nothing todo": {true, 0, with(func(o *observed) { o.pending = "diff" }), "[]", ""},
		"to be gone":            {false, 0, base, "[Remove Reload]", ""},
		"maybe in the kernel":   {false, 0, observed{node: "pve", owed: true}, "[Reload]", ""},
		"owed, but pending":     {false, 0, observed{node: "pve", owed: true, pending: "diff"}, "[]", "ForeignPendingChanges"},
		"gone":                  {false, 0, observed{node: "pve"}, "[]", ""},
	} {
		todo, blocked := plan("lan", tc.wanted, tc.mtu, tc.o)
		reason := ""
		if blocked != nil {
			reason = blocked.reason
		}
		if got := fmt.Sprint(todo); got != tc.todo || reason != tc.blocked {
			t.Errorf("%s: %s %q, want %s %q", name, got, reason, tc.todo, tc.blocked)
		}
	}
}

func TestMethodAndProposal(t *testing.T) {
	for iface, want := range map[string]string{"proxlan": "API", "vmbr1": "API", "proximity-lan": "HostFile", "a_very_long_name": "HostFile"} {
		if got := methodFor(iface); got != want {
			t.Errorf("%s: %s, want %s", iface, got, want)
		}
	}
	for iface, want := range map[string]string{"proximity-lan": "proximityl", "1-2": "proxlan", "Lan-A": "lana"} {
		if got := legalName(iface); got != want || methodFor(got) != methodAPI {
			t.Errorf("%s: proposed %s, want %s", iface, got, want)
		}
	}
}

func TestForeignChanges(t *testing.T) {
	ours := "--- /etc/network/interfaces\n+++ /etc/network/interfaces.new\n@@ -10,3 +10,11 @@\n \tbridge-fd 0\n \n+auto lan\n+iface lan inet manual\n+\tbridge-ports none\n+\tbridge-stp off\n+\tbridge-fd 0\n+#proximity: uid: u-1\n+\n"
	foreign := "+auto vmbr7\n+iface vmbr7 inet manual\n+\tbridge-ports none\n"
	edit := " iface vmbr0 inet dhcp\n-\tmtu 1500\n+\tmtu 9000\n"
	for name, tc := range map[string]struct {
		diff    string
		foreign bool
	}{
		"none": {"", false}, "ours": {ours, false}, "foreign": {foreign, true}, "both": {ours + foreign, true},
		"both, foreign first": {foreign + "\n" + ours, true}, "edit of another": {edit, true}, "edit after ours": {ours + edit, true},
	} {
		if got := foreignChanges(tc.diff, "lan", "u-1") != ""; got != tc.foreign {
			t.Errorf("%s: foreign %v, want %v", name, got, tc.foreign)
		}
	}
}

func FuzzForeignChanges(f *testing.F) {
	f.Add("+auto lan\n+iface lan inet manual\n")
	f.Fuzz(func(t *testing.T, diff string) {
		got := foreignChanges(diff, "lan", "u-1")
		if got != "" && got != diff {
			t.Error("a part of the diff is lost")
		}
		touches := slices.ContainsFunc(strings.Split(diff, "\n"), func(l string) bool { return strings.HasPrefix(l, "+auto other") })
		if touches && got == "" {
			t.Errorf("a foreign interface is overlooked in %q", diff)
		}
	})
}
