package controllers_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// engineOf is the engine of a node.
func (w *world) engineOf(node string) *mem.Engine {
	w.Helper()
	if node == nodeName {
		return w.engine
	}
	for _, p := range w.peers {
		if p.name == node {
			return p.engine
		}
	}
	w.Fatalf("no node %s", node)
	return nil
}

// bridgeAt tells which nodes have a bridge of that name in the kernel.
func (w *world) bridgeAt(name string) (nodes []string) {
	w.Helper()
	for _, n := range w.node.Nodes() {
		if have, err := w.engineOf(n.Name()).Bridges(w.Context()); err == nil && slices.Contains(have, name) {
			nodes = append(nodes, n.Name())
		}
	}
	return nodes
}

func (w *world) bridge(key resource.Key) *v1alpha1.Bridge {
	w.Helper()
	o := w.get(key)
	if o == nil {
		w.Fatalf("no %s", key)
	}
	return resource.Clone(o).(*v1alpha1.Bridge)
}

// nodeReason is "Ready" or why the bridge is not ready on a node, "" without an entry.
func (w *world) nodeReason(key resource.Key, node string) string {
	w.Helper()
	for _, n := range w.bridge(key).GetStatus().GetNodes() {
		if n.GetName() == node {
			if n.GetReady() != (n.GetReason() == "Ready") && n.GetReason() != "NotSeen" {
				w.Errorf("node %s: ready %v and %s", node, n.GetReady(), n.GetReason())
			}
			return n.GetReason()
		}
	}
	return ""
}

// updateBridge changes a Bridge's spec as a user does.
func (w *world) updateBridge(key resource.Key, change func(*v1alpha1.BridgeSpec)) {
	w.Helper()
	b := w.bridge(key)
	b.Metadata.ResourceVersion = ""
	change(b.Spec)
	_, err := w.applier.Update(w.Context(), b)
	w.must(err)
}

// A node that cannot be reached by ssh is named, and holds up nothing on the others.
func TestBridgeOnANodeWithoutSSH(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		w.noShell = "pve3"
		w.start()
		w.apply(w.quickstart())
		w.until("everything on the first node works", w.ready(vhostKey, appKey, applianceKey))
		if w.ready(bridgeKey)() {
			t.Error("the Bridge is ready")
		}
		c := resource.FindCondition(w.get(bridgeKey), "Ready")
		if !strings.Contains(c.GetMessage(), "pve3") || strings.Contains(c.GetMessage(), "pve2") {
			t.Errorf("the node is not named: %s", c.GetMessage())
		}
		for node, want := range map[string]string{"pve": "Ready", "pve2": "Ready", "pve3": "NotSeen"} {
			if got := w.nodeReason(bridgeKey, node); got != want {
				t.Errorf("node %s: %s, want %s", node, got, want)
			}
		}
		if at := w.bridgeAt("proximity-lan"); !slices.Equal(at, []string{"pve", "pve2"}) {
			t.Errorf("the bridge is on %v", at)
		}
	})
}

// A guest waits for the Bridge on its own node only, and starts when it comes.
func TestBridgeTakenOnOneNode(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		w.must(w.admin.CreateNetwork(w.Context(), "pve2", proxmox.InterfaceSpec{Iface: "proxlan", Type: "bridge", Autostart: true, Comments: "mine"}))
		w.doneOn("pve2", w.admin.ReloadNetwork)
		w.start()
		w.apply(w.apiQuickstart() + "\n---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: other}\nspec: {node: pve2}\n")
		w.until("the first node works", w.ready(vhostKey, appKey, applianceKey))
		w.until("the Bridge says what is wrong where", w.stalled(bridgeKey, "InterfaceTaken"))
		if got := w.nodeReason(bridgeKey, "pve2"); got != "InterfaceTaken" {
			t.Errorf("pve2: %s", got)
		}
		w.until("the other App waits for its node's bridge", w.has(appKeyOf("other"), "Ready", "False", "BridgeNotOnNode"))
		if m := resource.FindCondition(w.get(appKeyOf("other")), "Ready").GetMessage(); !strings.Contains(m, "not ours") {
			t.Errorf("why is not told: %s", m)
		}
		w.must(w.admin.DeleteNetwork(w.Context(), "pve2", "proxlan"))
		w.doneOn("pve2", w.admin.ReloadNetwork)
		w.until("the Bridge is ready everywhere", w.ready(bridgeKey))
		w.until("the other App says where its appliance is", w.has(appKeyOf("other"), "Placed", "False", "ApplianceOnOtherNode"))
	})
}

// doneOn waits for a task that works on a node.
func (w *world) doneOn(node string, launch func(ctx context.Context, node string) (proxmox.UPID, error)) {
	w.Helper()
	upid, err := launch(w.Context(), node)
	w.must(err)
	_, err = w.admin.WaitTask(w.Context(), node, upid)
	w.must(err)
}

// spec.nodes bounds where the bridge is; a node that is taken out gives it up when nothing
// is plugged into it any more.
func TestBridgeOnSomeNodes(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		key := resource.Key{Kind: "Bridge", Name: "lan"}
		w.start()
		w.apply(strings.Replace(bridgeYAML("lan", "proxlan"), "subnet:", "nodes: [pve, pve2], subnet:", 1))
		w.until("ready", w.ready(key))
		if at := w.bridgeAt("proxlan"); !slices.Equal(at, []string{"pve", "pve2"}) {
			t.Errorf("the bridge is on %v", at)
		}
		done := func(upid proxmox.UPID, err error) {
			w.must(err)
			_, err = w.admin.WaitTask(w.Context(), "pve2", upid)
			w.must(err)
		}
		done(w.admin.CreateLXC(w.Context(), "pve2", proxmox.LXCCreate{
			VMID: 500, Template: "local:vztmpl/" + templates[1], Hostname: "theirs", Unprivileged: true,
			RootFS: proxmox.NewVolume("local-lvm", 2), NICs: map[int]proxmox.NIC{0: {Name: "eth0", Bridge: "proxlan", IP: "dhcp"}},
		}))
		// The node that says once that there is no such guest does not have its bridge taken away.
		w.node.Faults().Add(pvesim.Fault{Method: "GET", Path: "/nodes/pve2/lxc/500/config", Nth: 1, Status: 500, Text: "Configuration file 'nodes/pve2/lxc/500.conf' does not exist"})
		w.updateBridge(key, func(s *v1alpha1.BridgeSpec) { s.Nodes = []string{"pve", "pve3"} })
		w.until("it waits for the guest", w.has(key, "Ready", "False", "GuestsAttached"))
		if at := w.bridgeAt("proxlan"); !slices.Equal(at, []string{"pve", "pve2", "pve3"}) {
			t.Errorf("the bridge is on %v", at)
		}
		done(w.admin.DeleteLXC(w.Context(), "pve2", 500, proxmox.LXCDelete{Purge: true}))
		w.until("ready without it", w.ready(key))
		if at := w.bridgeAt("proxlan"); !slices.Equal(at, []string{"pve", "pve3"}) || w.nodeReason(key, "pve2") != "" {
			t.Errorf("the bridge is on %v", at)
		}
		w.updateBridge(key, func(s *v1alpha1.BridgeSpec) { s.Nodes = []string{"pve", "pve9"} })
		w.until("a node that is not there is told", w.stalled(key, "NodeNotFound"))
		w.remove(key)
		w.until("deleted", w.gone(key))
		if at := w.bridgeAt("proxlan"); len(at) > 0 {
			t.Errorf("left on %v", at)
		}
	})
}

// Settings of a bridge that were changed by hand stay under the policies warn and ignore, a
// change of the spec counts all the same, and correct sets them again.
func TestDriftOfABridge(t *testing.T) {
	inWorld(t, func(w *world) {
		key := resource.Key{Kind: "Bridge", Name: "lan"}
		w.start()
		w.apply(strings.Replace(bridgeYAML("lan", "proxlan"), "subnet:", "mtu: 1400, driftPolicy: warn, subnet:", 1))
		w.until("ready", w.ready(key))
		comments := func() string {
			net, err := w.admin.ListNetwork(w.Context(), nodeName)
			w.must(err)
			i, _ := net.Find("proxlan")
			return fmt.Sprintf("%d %s", i.MTU, i.Comments)
		}
		was := strings.TrimSpace(comments())
		net, err := w.admin.ListNetwork(w.Context(), nodeName)
		w.must(err)
		i, _ := net.Find("proxlan")
		w.must(w.admin.UpdateNetwork(w.Context(), nodeName, proxmox.InterfaceSpec{Iface: "proxlan", Type: "bridge", Autostart: true, MTU: 1300, Comments: strings.TrimSpace(i.Comments)}))
		w.done(w.admin.ReloadNetwork(w.Context(), nodeName))
		w.until("told", w.has(key, "InSync", "False", "Drifted"))
		w.mustTell(key, "Drifted")
		time.Sleep(time.Minute)
		if !w.ready(key)() || !strings.HasPrefix(comments(), "1300 ") {
			t.Errorf("not left alone: %s\n%s", comments(), w.objects())
		}
		// Another setting is set without touching that one.
		w.updateBridge(key, func(s *v1alpha1.BridgeSpec) { s.Comment = proto.String("lab") })
		w.until("the comment is set", func() bool { return strings.HasPrefix(comments(), "1300 lab\n") })
		w.updateBridge(key, func(s *v1alpha1.BridgeSpec) { s.Mtu = proto.Int32(1350) })
		w.until("a change of the spec counts", func() bool { return strings.HasPrefix(comments(), "1350 lab\n") })
		w.until("in sync", w.has(key, "InSync", "True", "InSync"))
		w.updateBridge(key, func(s *v1alpha1.BridgeSpec) { s.Mtu, s.Comment, s.DriftPolicy = proto.Int32(1400), nil, nil })
		w.until("corrected", func() bool { return strings.TrimSpace(comments()) == was })
	})
}

// A Bridge that the API writes lets Proxmox write the whole file anew, with the block of
// another Bridge in it. What a crash leaves staged then is still known as ours, and applied.
func TestStagedBesideABlock(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		key := resource.Key{Kind: "Bridge", Name: "second"}
		w.daemon.stop()
		w.die(point{"api POST /nodes/pve/network", 1}, true, func() { w.apply(bridgeYAML("second", "second")) })
		if !strings.Contains(w.staged(), "proximity:begin") {
			t.Fatalf("the block is not among what is staged:\n%s", w.staged())
		}
		w.start()
		w.until("ready", w.ready(append(quickstartKeys, key)...))
		if n := strings.Count(w.interfaces(), "iface second "); n != 1 {
			t.Errorf("it is defined %d times:\n%s", n, w.interfaces())
		}
	})
}
