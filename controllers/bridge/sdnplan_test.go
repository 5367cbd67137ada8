package bridge

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

var (
	sdnMark  = ownership.Mark{Installation: "i-1", Kind: kind, Name: "lan", UID: "u-1"}
	sdnLan   = sdnNames{zone: "zone", vnet: "lan"}
	twoNodes = []sdnNode{
		{name: "pve1", address: "10.0.0.1", online: true, wanted: true, known: true, status: "available"},
		{name: "pve2", address: "10.0.0.2", online: true, wanted: true, known: true, status: "available"},
	}
)

func sdnBridgeOf(kind, policy string, mtu int32) *v1alpha1.Bridge {
	b := &v1alpha1.Bridge{Spec: &v1alpha1.BridgeSpec{
		Backend: proto.String("sdn"), InterfaceName: proto.String("lan"), DriftPolicy: proto.String(policy),
		Sdn: &v1alpha1.BridgeSDN{Zone: proto.String("zone"), Type: proto.String(kind)},
	}}
	if mtu != 0 {
		b.Spec.Mtu = proto.Int32(mtu)
	}
	return b
}

// asDesired is what is seen when everything is as desired and runs.
func asDesired(d *sdnDesired) sdnSeen {
	mtu, _ := strconv.Atoi(d.want["mtu"])
	tag, _ := strconv.Atoi(d.want["tag"])
	return sdnSeen{
		zone:     &proxmox.SDNZone{Zone: d.zone, Type: d.kind, Peers: d.want["peers"], Nodes: d.want["nodes"], MTU: proxmox.Int(mtu)},
		vnet:     &proxmox.SDNVNet{VNet: d.vnet, Zone: d.zone, Tag: proxmox.Int(tag), Alias: d.want["alias"]},
		vnetOurs: true, recorded: true, nodes: slices.Clone(twoNodes), applied: maps.Clone(d.want),
	}
}

func TestSDNPlan(t *testing.T) {
	d := sdnDesire(sdnBridgeOf("vxlan", "correct", 0), sdnMark, twoNodes)
	warn := sdnDesire(sdnBridgeOf("vxlan", "warn", 0), sdnMark, twoNodes)
	with := func(f func(*sdnSeen)) sdnSeen { o := asDesired(d); f(&o); return o }
	nothing := sdnSeen{nodes: slices.Clone(twoNodes)}
	theirs := []proxmox.SDNChange{{Kind: "zone", ID: "theirs", State: "new"}}
	for name, tc := range map[string]struct {
		d       *sdnDesired
		o       sdnSeen
		todo    string
		blocked string
	}{
		"nothing there":          {d, nothing, "WriteZone WriteVNet Apply", ""},
		"as desired":             {d, asDesired(d), "", ""},
		"zone only":              {d, with(func(o *sdnSeen) { o.vnet, o.vnetOurs, o.zone.State = nil, false, "new" }), "WriteVNet Apply", ""},
		"both staged":            {d, with(func(o *sdnSeen) { o.zone.State, o.vnet.State = "new", "new" }), "Apply", ""},
		"other MTU":              {d, with(func(o *sdnSeen) { o.zone.MTU = 1300 }), "WriteZone Apply", ""},
		"DHCP switched on":       {d, with(func(o *sdnSeen) { o.zone.DHCP = "dnsmasq" }), "WriteZone Apply", ""},
		"other tag":              {d, with(func(o *sdnSeen) { o.vnet.Tag = 5 }), "WriteVNet Apply", ""},
		"peers in another order": {d, with(func(o *sdnSeen) { o.zone.Peers = "10.0.0.2, 10.0.0.1" }), "", ""},
		"removal of ours staged": {d, with(func(o *sdnSeen) { o.zone.State, o.vnet.State = "deleted", "deleted" }), "WriteZone WriteVNet Apply", ""},
		"a node missed it":       {d, with(func(o *sdnSeen) { o.nodes[1].status = "pending" }), "Reload", ""},
		"a node is reloading":    {d, with(func(o *sdnSeen) { o.nodes[1].status, o.nodes[1].reloading = "pending", true }), "", ""},
		"a node is away":         {d, with(func(o *sdnSeen) { o.nodes[1].status, o.nodes[1].online = "", false }), "", ""},
		"a node is left out":     {d, with(func(o *sdnSeen) { o.nodes[1].wanted, o.nodes[1].written = false, true }), "Reload", ""},

		"zone of others":          {d, with(func(o *sdnSeen) { o.vnet, o.vnetOurs, o.recorded = nil, false, false }), "", "ZoneTaken"},
		"zone that others took":   {d, with(func(o *sdnSeen) { o.vnet, o.vnetOurs, o.tenants = nil, false, []string{"x"} }), "", "ZoneTaken"},
		"zone of another type":    {d, with(func(o *sdnSeen) { o.vnet, o.vnetOurs, o.zone.Type = nil, false, "simple" }), "", "ZoneTaken"},
		"ours beside others'":     {d, with(func(o *sdnSeen) { o.tenants = []string{"x"} }), "", ""},
		"vnet of others":          {d, with(func(o *sdnSeen) { o.vnetOurs = false }), "", "VNetTaken"},
		"vnet of a lost object":   {d, with(func(o *sdnSeen) { o.vnetOurs, o.madeFor = false, "u-0" }), "", "UIDUnknown"},
		"tag of others":           {d, with(func(o *sdnSeen) { o.tagUser = "x" }), "", "TagTaken"},
		"interface of others":     {d, with(func(o *sdnSeen) { o.nodes[0].taken = true }), "", "InterfaceTaken"},
		"pending, nothing to do":  {d, with(func(o *sdnSeen) { o.changes, o.nodes[0].pending = theirs, true }), "", ""},
		"pending of others":       {d, with(func(o *sdnSeen) { o.changes, o.zone.MTU = theirs, 1300 }), "", "ForeignPendingChanges"},
		"pending on a node":       {d, with(func(o *sdnSeen) { o.nodes[0].pending, o.zone.MTU = true, 1300 }), "", "ForeignPendingChanges"},
		"pending on another node": {d, with(func(o *sdnSeen) { o.nodes[0].pending, o.nodes[1].status = true, "pending" }), "Reload", ""},
		"pending where to reload": {d, with(func(o *sdnSeen) { o.nodes[1].pending, o.nodes[1].status = true, "pending" }), "", "ForeignPendingChanges"},
		"pending ours": {d, with(func(o *sdnSeen) {
			o.zone.State, o.changes = "new", []proxmox.SDNChange{{Kind: "zone", ID: "zone", State: "new"}}
		}), "Apply", ""},
		"pending edit of our zone": {d, with(func(o *sdnSeen) {
			o.zone.State, o.zone.Pending, o.zone.MTU, o.changes = "changed", map[string]proxmox.Text{"mtu": "1300"}, 1300, []proxmox.SDNChange{{Kind: "zone", ID: "zone", State: "changed"}}
		}), "WriteZone Apply", ""},
		"what we do not decide": {d, with(func(o *sdnSeen) {
			o.zone.State, o.zone.Pending, o.changes = "changed", map[string]proxmox.Text{"vxlan-port": "8472"}, []proxmox.SDNChange{{Kind: "zone", ID: "zone", State: "changed"}}
		}), "", ""},
		"which others staged, and ours to apply": {d, with(func(o *sdnSeen) {
			o.zone.State, o.zone.Pending, o.vnet.Tag, o.changes = "changed", map[string]proxmox.Text{"vxlan-port": "8472"}, 5, []proxmox.SDNChange{{Kind: "zone", ID: "zone", State: "changed"}}
		}), "", "ForeignPendingChanges"},

		"drift that is left":          {warn, with(func(o *sdnSeen) { o.zone.MTU, o.vnet.Tag = 1300, 5 }), "", ""},
		"drift of which not is known": {warn, with(func(o *sdnSeen) { o.zone.MTU, o.applied = 1300, nil }), "WriteZone Apply", ""},
		"the mark is put back":        {warn, with(func(o *sdnSeen) { o.vnet.Alias += " (edited)" }), "WriteVNet Apply", ""},
		"drift that others staged": {warn, with(func(o *sdnSeen) {
			o.zone.State, o.zone.Pending, o.zone.MTU = "changed", map[string]proxmox.Text{"mtu": "1300"}, 1300
		}), "", ""},

		"to be gone":              {nil, asDesired(d), "RemoveVNet RemoveZone Apply", ""},
		"gone":                    {nil, nothing, "", ""},
		"gone, nodes may have it": {nil, sdnSeen{nodes: []sdnNode{{name: "pve1", online: true, known: true, written: true}, {name: "pve2", known: true, written: true}}}, "Reload", ""},
		"removal staged":          {nil, with(func(o *sdnSeen) { o.zone.State, o.vnet.State = "deleted", "deleted" }), "Apply", ""},
		"never applied":           {nil, with(func(o *sdnSeen) { o.zone.State, o.vnet.State = "new", "new" }), "RemoveVNet RemoveZone", ""},
		"others use the zone":     {nil, with(func(o *sdnSeen) { o.tenants = []string{"x"} }), "RemoveVNet Apply", ""},
		"others' vnet stays":      {nil, with(func(o *sdnSeen) { o.vnetOurs, o.tenants = false, []string{"lan"} }), "", ""},
		"others' zone stays":      {nil, with(func(o *sdnSeen) { o.vnet, o.vnetOurs, o.recorded = nil, false, false }), "", ""},
		"removal, but pending":    {nil, with(func(o *sdnSeen) { o.changes = theirs }), "", "ForeignPendingChanges"},
	} {
		steps, blocked := planSDN(tc.d, tc.o, sdnLan)
		reason := ""
		if blocked != nil {
			reason = blocked.Reason
		}
		if got := actions(steps); got != tc.todo || reason != tc.blocked {
			t.Errorf("%s: %q %q, want %q %q", name, got, reason, tc.todo, tc.blocked)
		}
		for _, s := range steps {
			if s.Effect != runtime.InPlace || s.Text == "" {
				t.Errorf("%s: step %+v", name, s)
			}
		}
	}
}

// A zone may be what is left of the Bridge when it has no vnet: then it may be removed, and one that
// others use may not.
func TestWhatToDoAboutAZone(t *testing.T) {
	d := sdnDesire(sdnBridgeOf("vxlan", "correct", 0), sdnMark, twoNodes)
	for name, tc := range map[string]struct {
		tenants []string
		kind    string
		remove  bool
	}{
		"without a vnet":  {nil, d.kind, true},
		"of others":       {[]string{"x"}, d.kind, false},
		"of another type": {nil, "simple", false},
	} {
		o := asDesired(d)
		o.vnet, o.vnetOurs, o.recorded, o.tenants, o.zone.Type = nil, false, false, tc.tenants, tc.kind
		blocked := d.taken(o)
		if blocked == nil || blocked.Reason != "ZoneTaken" || strings.Contains(blocked.Text, "remove it") != tc.remove {
			t.Errorf("%s: %+v, want to be told to remove it: %v", name, blocked, tc.remove)
		}
	}
}

// sdnModel is the SDN of a cluster as the steps change it.
type sdnModel struct {
	runningZone, runningVNet *sdnDesired // what runs of ours
	stagedZone, stagedVNet   *sdnDesired
	nodes                    map[string]bool // has it
}

func (m *sdnModel) see(nodes []sdnNode, recorded bool) sdnSeen {
	o := sdnSeen{recorded: recorded}
	state := func(running, staged *sdnDesired) string {
		switch {
		case staged == nil:
			return "deleted"
		case running == nil:
			return "new"
		case fmt.Sprint(running.want) != fmt.Sprint(staged.want):
			return "changed"
		}
		return ""
	}
	if d := or(m.stagedZone, m.runningZone); d != nil {
		full := asDesired(d)
		o.zone = full.zone
		if o.zone.State = state(m.runningZone, m.stagedZone); o.zone.State != "" {
			o.changes = append(o.changes, proxmox.SDNChange{Kind: "zone", ID: "zone", State: o.zone.State})
		}
	}
	if d := or(m.stagedVNet, m.runningVNet); d != nil {
		full := asDesired(d)
		o.vnet, o.vnetOurs = full.vnet, true
		if o.vnet.State = state(m.runningVNet, m.stagedVNet); o.vnet.State != "" {
			o.changes = append(o.changes, proxmox.SDNChange{Kind: "vnet", ID: "lan", State: o.vnet.State})
		}
	}
	for _, n := range nodes {
		n.status = ""
		if m.runningVNet != nil {
			n.status = map[bool]string{true: "available", false: "pending"}[m.nodes[n.name]]
		}
		n.written = m.nodes[n.name]
		o.nodes = append(o.nodes, n)
	}
	return o
}

func or(a, b *sdnDesired) *sdnDesired {
	if a != nil {
		return a
	}
	return b
}

// take takes a step; failing are nodes whose next reload fails.
func (m *sdnModel) take(s step, d *sdnDesired, nodes []sdnNode, failing map[string]bool) {
	reload := func(node string) {
		if !failing[node] {
			m.nodes[node] = m.runningVNet != nil
		}
		failing[node] = false
	}
	switch s.Action {
	case actionWriteZone:
		m.stagedZone = d
	case actionWriteVNet:
		m.stagedVNet = d
	case actionRemoveVNet:
		m.stagedVNet = nil
	case actionRemoveZone:
		m.stagedZone = nil
	case actionApply:
		m.runningZone, m.runningVNet = m.stagedZone, m.stagedVNet
		for _, n := range nodes {
			if n.online {
				reload(n.name)
			}
		}
	case actionReload:
		reload(s.node)
	}
}

// From whatever a crash or a hand left, the first step of each plan in turn leads to what is
// desired on every node that is online, or to nothing, in few steps.
func TestSDNPlanReachesWhatIsDesired(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kinds := rapid.SampledFrom([]string{"vxlan", "simple"}).Draw(t, "kind")
		make := func(label string) *sdnDesired {
			return sdnDesire(sdnBridgeOf(kinds, "correct", rapid.SampledFrom([]int32{0, 1400, 9000}).Draw(t, label)), sdnMark, twoNodes)
		}
		maybe := func(label string) *sdnDesired {
			if rapid.Bool().Draw(t, label) {
				return make(label + " mtu")
			}
			return nil
		}
		nodes := slices.Clone(twoNodes)
		nodes[1].online = rapid.Bool().Draw(t, "second node online")
		m := &sdnModel{runningZone: maybe("running zone"), stagedZone: maybe("staged zone"), nodes: map[string]bool{}}
		if m.runningZone != nil && rapid.Bool().Draw(t, "running vnet") {
			m.runningVNet = m.runningZone
		}
		if m.stagedZone != nil && rapid.Bool().Draw(t, "staged vnet") {
			m.stagedVNet = m.stagedZone
		}
		for _, n := range nodes {
			m.nodes[n.name] = rapid.Bool().Draw(t, n.name+" has it")
		}
		failing := map[string]bool{"pve1": rapid.Bool().Draw(t, "a reload fails")}
		target := make("desired")
		if rapid.Bool().Draw(t, "deletion") {
			target = nil
			for i := range nodes {
				nodes[i].wanted = false
			}
		}
		for i := 0; ; i++ {
			steps, blocked := planSDN(target, m.see(nodes, true), sdnLan)
			if blocked != nil {
				t.Fatalf("blocked: %+v", blocked)
			}
			if len(steps) == 0 {
				break
			}
			if i == 10 {
				t.Fatalf("not done after %d steps: %s", i, actions(steps))
			}
			m.take(steps[0], target, nodes, failing)
		}
		for _, n := range nodes {
			if n.online && m.nodes[n.name] != (target != nil) {
				t.Errorf("node %s has it: %v", n.name, m.nodes[n.name])
			}
		}
		if (m.runningZone == nil) != (target == nil) || (m.runningVNet == nil) != (target == nil) || target != nil && m.runningZone.want["mtu"] != target.want["mtu"] {
			t.Errorf("%+v", m)
		}
	})
}

// The tag of a uid is always the same, and one that Proxmox takes.
func TestTagOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uid := rapid.String().Draw(t, "uid")
		if tag := tagOf(uid); tag < 1 || tag > 1<<24-1 || tag != tagOf(uid) {
			t.Errorf("%q: %d", uid, tag)
		}
	})
}
