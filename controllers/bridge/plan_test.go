package bridge

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	apiName  = "lan"
	hostName = "proximity-lan"
)

// want is the bridge of that name as the tests desire it.
func want(iface string, mtu int) *desired {
	n := nodeBridge{iface: iface, mtu: mtu, comment: "ours", mark: ownership.Mark{Installation: "i-1", Kind: kind, Name: "lan", UID: "u-1"}, conn: &cluster.Connection{}}
	return n.desired()
}

// model is a node's network as the steps change it.
type model struct {
	d       *desired // what our steps write
	staged  nodeSeen
	live    bool
	touched bool // something unmarked was
}

func (m *model) observe() nodeSeen {
	o := m.staged
	o.active = m.live && o.listed
	return o
}

func (m *model) take(action string) {
	mine := !m.staged.listed || m.staged.ours
	switch action {
	case actionWrite:
		m.touched = m.touched || !mine
		m.staged.listed, m.staged.ours, m.staged.mtu, m.staged.comments = true, true, m.d.mtu, m.d.comments+"\n"
		if m.staged.file != nil {
			if file, err := guest.SetBlock(m.staged.file, m.d.block); err == nil {
				m.staged.file = file
			}
		}
	case actionRemove:
		m.touched = m.touched || !mine
		m.staged = nodeSeen{node: m.staged.node, file: guest.RemoveBlock(m.staged.file, m.d.block.Mark)}
	case actionReload:
		m.live, m.staged.owed = m.staged.listed, false
	}
}

func TestPlan(t *testing.T) {
	d := want(apiName, 0)
	base := nodeSeen{node: "pve", listed: true, ours: true, active: true, comments: d.comments + "\n"}
	with := func(f func(*nodeSeen)) nodeSeen { o := base; f(&o); return o }
	block := func(mtu int) []byte {
		file, err := guest.SetBlock([]byte("auto lo\niface lo inet loopback\n"), want(hostName, mtu).block)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	onHost := nodeSeen{node: "pve", listed: true, ours: true, active: true, file: block(0)}
	for name, tc := range map[string]struct {
		d       *desired
		iface   string
		o       nodeSeen
		todo    string
		blocked string
	}{
		"absent":                {d, apiName, nodeSeen{node: "pve"}, "Write Reload", ""},
		"as wanted":             {d, apiName, base, "", ""},
		"not active":            {d, apiName, with(func(o *nodeSeen) { o.active = false }), "Reload", ""},
		"other MTU":             {want(apiName, 9000), apiName, base, "Write Reload", ""},
		"other comment":         {d, apiName, with(func(o *nodeSeen) { o.comments = "theirs\n" }), "Write Reload", ""},
		"foreign":               {d, apiName, with(func(o *nodeSeen) { o.ours = false }), "", "InterfaceTaken"},
		"foreign, to be gone":   {nil, apiName, with(func(o *nodeSeen) { o.ours = false }), "", ""},
		"pending of others":     {d, apiName, nodeSeen{node: "pve", pending: "diff"}, "", "ForeignPendingChanges"},
		"pending, nothing todo": {d, apiName, with(func(o *nodeSeen) { o.pending = "diff" }), "", ""},
		"to be gone":            {nil, apiName, base, "Remove Reload", ""},
		"maybe in the kernel":   {nil, apiName, nodeSeen{node: "pve", owed: true}, "Reload", ""},
		"owed, but pending":     {nil, apiName, nodeSeen{node: "pve", owed: true, pending: "diff"}, "", "ForeignPendingChanges"},
		"gone":                  {nil, apiName, nodeSeen{node: "pve"}, "", ""},
		"block as wanted":       {want(hostName, 0), hostName, onHost, "", ""},
		"block was edited":      {want(hostName, 0), hostName, nodeSeen{node: "pve", listed: true, ours: true, active: true, file: bytes.Replace(block(0), []byte("bridge-stp off"), []byte("bridge-stp on"), 1)}, "Write Reload", ""},
		"no way to the host":    {want(hostName, 0), hostName, nodeSeen{node: "pve", noHost: true}, "", "HostAccessMissing"},
		"no way to remove":      {nil, hostName, nodeSeen{node: "pve", listed: true, ours: true, noHost: true}, "", "HostAccessMissing"},
	} {
		steps, blocked := plan(tc.d, observed{tc.iface, []nodeSeen{tc.o}})
		reason := ""
		if blocked != nil {
			reason = blocked.Reason
		}
		if got := actions(steps); got != tc.todo || reason != tc.blocked {
			t.Errorf("%s: %q %q, want %q %q", name, got, reason, tc.todo, tc.blocked)
		}
	}
}

func actions(steps []step) string {
	var names []string
	for _, s := range steps {
		names = append(names, s.Action)
	}
	return strings.Join(names, " ")
}

// TestPlanReachesWhatIsDesired carries plans out on a model: from any state the plan's steps
// lead to one whose plan is empty, that of a deletion to one without anything of ours, and
// nothing that is not marked as ours is ever changed.
func TestPlanReachesWhatIsDesired(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		iface := rapid.SampledFrom([]string{apiName, hostName}).Draw(t, "iface")
		d := want(iface, rapid.SampledFrom([]int{0, 1400, 9000}).Draw(t, "mtu"))
		was := want(iface, rapid.SampledFrom([]int{0, 1400}).Draw(t, "mtu before"))
		var models []*model
		o := observed{iface: iface}
		for i := range rapid.IntRange(1, 3).Draw(t, "nodes") {
			m := &model{d: was, live: rapid.Bool().Draw(t, "live"), staged: nodeSeen{
				node: fmt.Sprint("pve", i), listed: rapid.Bool().Draw(t, "listed"), owed: rapid.Bool().Draw(t, "owed"),
				pending: rapid.SampledFrom([]string{"", "", "diff"}).Draw(t, "pending"), comments: was.comments,
			}}
			m.staged.ours = m.staged.listed && rapid.Bool().Draw(t, "ours")
			if m.staged.mtu = was.mtu; iface == hostName {
				m.staged.file = []byte("auto lo\niface lo inet loopback\n")
				if m.staged.ours {
					m.take(actionWrite)
				}
			}
			models = append(models, m)
			o.nodes = append(o.nodes, m.observe())
		}
		target := d
		if rapid.Bool().Draw(t, "deletion") {
			target = nil
		}
		steps, blocked := plan(target, o)
		for _, s := range steps {
			if s.Effect != runtime.InPlace {
				t.Fatalf("step %s is %s", s.Action, s.Effect)
			}
			for _, m := range models {
				if m.d = d; m.staged.node == s.node {
					m.take(s.Action)
				}
			}
		}
		after := observed{iface: iface}
		for _, m := range models {
			if m.touched {
				t.Fatal("what is not ours was changed")
			}
			after.nodes = append(after.nodes, m.observe())
			if blocked == nil && target == nil && (m.staged.ours || m.live && m.staged.listed && m.staged.ours) {
				t.Fatalf("something of ours is left: %+v", m.staged)
			}
		}
		if left, again := plan(target, after); blocked == nil && (len(left) > 0 || again != nil) {
			t.Fatalf("after the plan there is more to do: %+v, %+v", left, again)
		}
	})
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
		"ours without its name":    {"@@ -20,3 +20,4 @@\n \tbridge-stp off\n \tbridge-fd 0\n+\tmtu 1400\n #proximity: uid: u-1\n \n", false},
		"another without its name": {"@@ -20,3 +20,4 @@\n \tbridge-stp off\n \tbridge-fd 0\n+\tmtu 1400\n #somebody's\n \n", true},
		"beside ours":              {"@@ -20,3 +20,4 @@\n \tbridge-fd 0\n #proximity: uid: u-1\n \n+auto vmbr7\n", true},
		// What Proxmox does to all of the file when ours is written into it.
		"ours, and what names files moved": {"@@ -8,8 +8,12 @@\n #somebody's\n \n-source /etc/network/interfaces.d/*\n-\n-# proximity:begin installation-1/u-2\n auto proximity-lan\n iface proximity-lan inet manual\n \tbridge-fd 0\n # proximity:end installation-1/u-2\n \n" +
			ours[strings.Index(ours, "+auto lan"):] + "+source /etc/network/interfaces.d/*\n", false},
		"ours, and a first comment is gone":     {"@@ -1,4 +1,3 @@\n-# written by hand\n auto lo\n iface lo inet loopback\n \n" + ours, false},
		"ours, and another moved":               {"@@ -3,6 +3,2 @@\n \n-auto vmbr7\n-iface vmbr7 inet manual\n-\tbridge-ports none\n-\n" + ours + foreign, false},
		"ours, and another moved and changed":   {"@@ -3,6 +3,2 @@\n \n-auto vmbr7\n-iface vmbr7 inet manual\n-\tbridge-ports eno1\n-\n" + ours + foreign, true},
		"ours, and a file is named no more":     {"@@ -3,6 +3,2 @@\n \n-source /etc/network/interfaces.d/*\n-\n" + ours, true},
		"ours, and the comment of another":      {"@@ -3,5 +3,4 @@\n \tbridge-stp off\n \tbridge-fd 0\n-#somebody's\n \n" + ours, true},
		"ours, and the comment of another, too": {"@@ -3,5 +3,4 @@\n \n iface vmbr7 inet manual\n \tbridge-fd 0\n-#somebody's\n \n" + ours, true},
		"options moved from one to another":     {ours + "\n auto a\n iface a inet manual\n-\taddress 10.0.0.1/8\n \n auto b\n iface b inet manual\n+\taddress 10.0.0.1/8\n", true},
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
		has := func(line string) bool {
			return slices.ContainsFunc(strings.Split(diff, "\n"), func(l string) bool { return strings.HasPrefix(l, line) })
		}
		if has("+auto other") && !has("-auto other") && got == "" { // it was not there, so it did not move
			t.Errorf("a foreign interface is overlooked in %q", diff)
		}
	})
}

// A change of ours that a crash left staged is listed as if it were live: it is applied.
func TestStagedChangeIsApplied(t *testing.T) {
	d := want(apiName, 1400)
	o := nodeSeen{node: "pve", listed: true, ours: true, active: true, mtu: d.mtu, comments: d.comments, staged: true}
	steps, blocked := planNode(d, apiName, o)
	if blocked != nil || len(steps) != 1 || steps[0].Action != actionReload {
		t.Errorf("steps %v, blocked %v", steps, blocked)
	}
	o.staged = false
	if steps, _ := planNode(d, apiName, o); len(steps) != 0 {
		t.Errorf("steps %v with nothing staged", steps)
	}
}
