package controllers_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// sdnKey is the Bridge of these stories.
var sdnKey = resource.Key{Kind: "Bridge", Name: "lan"}

// sdnYAML is a Bridge by SDN; more is inside its spec.
func sdnYAML(more string) string {
	return fmt.Sprintf(`
apiVersion: proximity/v1alpha1
kind: Bridge
metadata: {name: lan}
spec: {backend: sdn, subnet: 10.20.0.0/24%s}
`, more)
}

// sdnQuickstart is the quickstart with a VXLAN over the nodes as its bridge.
func (w *world) sdnQuickstart() string {
	w.Helper()
	return strings.Replace(w.quickstart(), "interfaceName: proximity-lan", "interfaceName: proxlan\n  backend: sdn", 1)
}

// sdn is the software-defined network as it runs and what is staged, and what each node
// makes of it.
func (w *world) sdn() string {
	w.Helper()
	var b strings.Builder
	for _, view := range []proxmox.SDNView{proxmox.SDNRunning, proxmox.SDNStaged} {
		zones, err := w.admin.SDNZones(w.Context(), view)
		w.must(err)
		vnets, err := w.admin.SDNVNets(w.Context(), view)
		w.must(err)
		fmt.Fprintf(&b, "%q:\n", view)
		for _, z := range zones {
			fmt.Fprintf(&b, "zone %s %s nodes=%q peers=%q mtu=%d dhcp=%q ipam=%q\n", z.Zone, z.Type, z.Nodes, z.Peers, z.MTU, z.DHCP, z.IPAM)
		}
		for _, v := range vnets {
			fmt.Fprintf(&b, "vnet %s zone=%s tag=%d alias=%q\n", v.VNet, v.Zone, v.Tag, v.Alias)
		}
	}
	for _, n := range w.node.Nodes() {
		have, err := w.engineOf(n.Name()).Bridges(w.Context())
		w.must(err)
		fmt.Fprintf(&b, "%s %v\n", n.Name(), have)
	}
	return b.String()
}

func (w *world) zone(name string) proxmox.SDNZone {
	w.Helper()
	z, err := w.admin.SDNZone(w.Context(), name)
	w.must(err)
	return z
}

// applied applies what an administrator staged.
func (w *world) applySDN() {
	w.Helper()
	w.done(w.admin.ApplySDN(w.Context()))
	time.Sleep(time.Second) // the nodes' own reloads
}

// A Bridge by SDN is a zone and a vnet of its own, on every node, and leaves nothing.
func TestSDNBridge(t *testing.T) {
	for _, kind := range []string{"vxlan", "simple"} {
		t.Run(kind, func(t *testing.T) {
			inCluster(t, 3, func(w *world) {
				before := w.sdn()
				w.start()
				w.apply(sdnYAML(", sdn: {type: " + kind + "}"))
				w.until("ready", w.ready(sdnKey))
				w.mustTell(sdnKey, "WriteZone", "WriteVNet", "Apply")
				if at := w.bridgeAt("lan"); len(at) != 3 {
					t.Errorf("the bridge is on %v", at)
				}
				z := w.zone("lan")
				if z.Type != kind || z.DHCP != "" || z.IPAM != "" || (kind == "vxlan") != (len(strings.Split(z.Peers, ",")) == 3 && z.MTU == 1450) {
					t.Errorf("zone %+v", z)
				}
				changes, err := w.admin.SDNChanges(w.Context())
				w.must(err)
				if len(changes) > 0 {
					t.Errorf("left staged: %v", changes)
				}
				w.examined()
				calls, revision := len(w.ledger.all()), w.store.Revision()
				time.Sleep(5 * time.Minute)
				if more := w.ledger.since(calls); len(more) > 0 || w.store.Revision() != revision {
					t.Errorf("not quiet: %v\n%s", more, w.changedSince(revision))
				}
				w.remove(sdnKey)
				w.until("deleted", w.gone(sdnKey))
				if now := w.sdn(); now != before {
					t.Errorf("left:\n%s", diffLines(now, before))
				}
			})
		})
	}
}

// What of that name belongs to somebody else is told and left alone, also when the Bridge goes.
func TestSDNNamesOfSomebodyElse(t *testing.T) {
	vnet := func(name, zone, alias string, tag int) func(w *world) {
		return func(w *world) {
			w.must(w.admin.CreateSDNZone(w.Context(), proxmox.SDNZone{Zone: zone, Type: "vxlan", Peers: "192.168.50.2"}))
			w.must(w.admin.CreateSDNVNet(w.Context(), proxmox.SDNVNet{VNet: name, Zone: zone, Tag: proxmox.Int(tag), Alias: alias}))
			w.applySDN()
		}
	}
	for reason, tc := range map[string]struct {
		make func(w *world)
		more string
	}{
		"ZoneTaken": {func(w *world) {
			w.must(w.admin.CreateSDNZone(w.Context(), proxmox.SDNZone{Zone: "lan", Type: "simple"}))
			w.applySDN()
		}, ""},
		"VNetTaken": {vnet("lan", "theirs", "theirs", 5), ""},
		"TagTaken":  {vnet("other", "theirs", "", 77), ", sdn: {tag: 77}"},
		"InterfaceTaken": {func(w *world) {
			w.must(w.admin.CreateNetwork(w.Context(), "pve2", proxmox.InterfaceSpec{Iface: "lan", Type: "bridge", Autostart: true}))
			w.doneOn("pve2", w.admin.ReloadNetwork)
		}, ""},
	} {
		t.Run(reason, func(t *testing.T) {
			inCluster(t, 2, func(w *world) {
				tc.make(w)
				before := w.sdn()
				w.start()
				w.apply(sdnYAML(tc.more))
				w.until("stalled", w.stalled(sdnKey, reason))
				time.Sleep(time.Minute)
				w.remove(sdnKey)
				w.until("deleted", w.gone(sdnKey))
				if now := w.sdn(); now != before {
					t.Errorf("changed:\n%s", diffLines(now, before))
				}
				for _, c := range w.ledger.all() {
					if strings.HasPrefix(c.what, "api ") {
						t.Errorf("done: %s", c.what)
					}
				}
			})
		})
	}
}

// Somebody else's staged changes, of the SDN or of a node's network, are never applied: not
// to make the Bridge, not to change it, and not to remove it.
func TestSDNForeignPendingChanges(t *testing.T) {
	for name, tc := range map[string]struct{ stage, unstage, theirs func(w *world) }{
		"sdn": {
			func(w *world) {
				w.must(w.admin.CreateSDNZone(w.Context(), proxmox.SDNZone{Zone: "theirs", Type: "simple"}))
			},
			func(w *world) { w.must(w.admin.DeleteSDNZone(w.Context(), "theirs")) }, nil,
		},
		"network of a node": {
			func(w *world) {
				w.must(w.admin.CreateNetwork(w.Context(), "pve2", proxmox.InterfaceSpec{Iface: "vmbr7", Type: "bridge", Autostart: true}))
			},
			func(w *world) { w.must(w.admin.RevertNetwork(w.Context(), "pve2")) }, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, 3, func(w *world) {
				held := func(what string) {
					w.until(what, w.stalled(sdnKey, "ForeignPendingChanges"))
					was := w.sdn()
					time.Sleep(time.Minute)
					if now := w.sdn(); now != was {
						t.Errorf("%s: changed:\n%s", what, diffLines(now, was))
					}
					if at := w.bridgeAt("vmbr7"); len(at) > 0 {
						t.Errorf("%s: theirs is live on %v", what, at)
					}
				}
				tc.stage(w)
				w.start()
				w.apply(sdnYAML(""))
				held("it is not made")
				tc.unstage(w)
				w.until("ready when nothing is pending", w.ready(sdnKey))
				tc.stage(w)
				time.Sleep(time.Minute)
				if !w.ready(sdnKey)() {
					t.Errorf("pending changes of others are no reason while nothing is to do:\n%s", w.objects())
				}
				w.updateBridge(sdnKey, func(s *v1alpha1.BridgeSpec) { s.Mtu = proto.Int32(1400) })
				held("it is not changed")
				if w.nodeReason(sdnKey, "pve") != "Ready" {
					t.Errorf("guests cannot use it any more:\n%s", w.objects())
				}
				tc.unstage(w)
				w.until("changed when nothing is pending", func() bool { return w.ready(sdnKey)() && w.zone("lan").MTU == 1400 })
				tc.stage(w)
				w.remove(sdnKey)
				held("it is not removed")
				tc.unstage(w)
				w.until("deleted when nothing is pending", w.gone(sdnKey))
			})
		})
	}
}

// Between our staging and our apply somebody stages, too: theirs waits for them, and so do we.
func TestSDNPendingMeanwhile(t *testing.T) {
	inCluster(t, 2, func(w *world) {
		w.ledger.reset(map[point]trap{{"api POST /cluster/sdn/vnets", 1}: {after: true, spring: func() error {
			w.must(w.admin.CreateSDNZone(w.Context(), proxmox.SDNZone{Zone: "theirs", Type: "simple"}))
			return nil
		}}})
		w.start()
		w.apply(sdnYAML(""))
		w.until("stalled", w.stalled(sdnKey, "ForeignPendingChanges"))
		time.Sleep(time.Minute)
		if at := w.bridgeAt("lan"); len(at) > 0 {
			t.Errorf("applied: %v", at)
		}
		w.must(w.admin.DeleteSDNZone(w.Context(), "theirs"))
		w.until("ready", w.ready(sdnKey))
	})
}

// Who holds the lock of the configuration is waited for.
func TestSDNLocked(t *testing.T) {
	inCluster(t, 2, func(w *world) {
		w.sdnLock()
		w.start()
		w.apply(sdnYAML(""))
		w.until("told", w.has(sdnKey, "Ready", "False", "SDNLocked"))
		w.sdnUnlock()
		w.until("ready", w.ready(sdnKey))
	})
}

// Settings that were changed by hand are set again, or left and told.
func TestSDNDrift(t *testing.T) {
	for _, policy := range []string{"correct", "warn", "ignore"} {
		t.Run(policy, func(t *testing.T) {
			inCluster(t, 2, func(w *world) {
				w.start()
				w.apply(sdnYAML(", mtu: 1400, driftPolicy: " + policy))
				w.until("ready", w.ready(sdnKey))
				time.Sleep(15 * time.Second)
				was := w.sdn()
				w.must(w.admin.UpdateSDNZone(w.Context(), "lan", proxmox.SDNUpdate{Set: map[string]string{"mtu": "1300", "peers": "192.168.50.2"}}))
				w.applySDN()
				hand := w.sdn()
				if policy == "correct" {
					w.until("set again", func() bool { return w.sdn() == was })
					w.until("ready", w.ready(sdnKey))
					return
				}
				w.until("told", w.has(sdnKey, "InSync", "False", "Drifted"))
				time.Sleep(time.Minute)
				if now := w.sdn(); now != hand || !w.ready(sdnKey)() {
					t.Errorf("not left alone:\n%s", diffLines(now, hand))
				}
				if w.told(sdnKey, "Drifted") != (policy == "warn") {
					t.Errorf("an event: %v", w.told(sdnKey, "Drifted"))
				}
				// A change of the spec counts; the rest stays by hand.
				w.updateBridge(sdnKey, func(s *v1alpha1.BridgeSpec) { s.Mtu = proto.Int32(1350) })
				w.until("changed", func() bool { return w.ready(sdnKey)() && w.zone("lan").MTU == 1350 })
				if z := w.zone("lan"); z.Peers != "192.168.50.2" {
					t.Errorf("the peers were set, too: %+v", z)
				}
				w.updateBridge(sdnKey, func(s *v1alpha1.BridgeSpec) { s.Mtu, s.DriftPolicy = proto.Int32(1400), proto.String("correct") })
				w.until("corrected", func() bool { return w.sdn() == was })
			})
		})
	}
}

// A pending edit of our zone that the policy leaves to whoever made it is not applied by us.
func TestSDNPendingDriftIsNotApplied(t *testing.T) {
	inCluster(t, 2, func(w *world) {
		w.start()
		w.apply(sdnYAML(", driftPolicy: warn"))
		w.until("ready", w.ready(sdnKey))
		time.Sleep(15 * time.Second)
		w.must(w.admin.UpdateSDNZone(w.Context(), "lan", proxmox.SDNUpdate{Set: map[string]string{"mtu": "1300"}}))
		was := w.sdn()
		w.until("told", w.has(sdnKey, "InSync", "False", "Drifted"))
		w.updateBridge(sdnKey, func(s *v1alpha1.BridgeSpec) { s.Sdn.Tag = proto.Int32(99) })
		w.until("held", w.stalled(sdnKey, "ForeignPendingChanges"))
		time.Sleep(time.Minute)
		if now := w.sdn(); now != was {
			t.Errorf("changed:\n%s", diffLines(now, was))
		}
	})
}

// A node that was away when it was applied, or whose reload failed, takes it over by a reload
// of its own; the others work meanwhile, and the Bridge names the node.
func TestSDNNodeThatDidNotTakeItOver(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		w.peers[0].node.SetOnline(false)
		w.failReloads("pve3", 3)
		w.start()
		w.apply(sdnYAML(""))
		w.until("the first node works", func() bool { return w.nodeReason(sdnKey, "pve") == "Ready" })
		w.until("the Bridge says which reload failed", w.has(sdnKey, "Ready", "False", "ReloadFailed"))
		if m := resource.FindCondition(w.get(sdnKey), "Ready").GetMessage(); !strings.Contains(m, "pve3") {
			t.Errorf("the node is not named: %s", m)
		}
		if a, b := w.nodeReason(sdnKey, "pve2"), w.nodeReason(sdnKey, "pve3"); a != "NodeOffline" || b != "ReloadFailed" {
			t.Errorf("pve2 %s, pve3 %s", a, b)
		}
		w.until("ready without the one that is away", w.ready(sdnKey))
		if at := w.bridgeAt("lan"); !slices.Equal(at, []string{"pve", "pve3"}) {
			t.Errorf("the bridge is on %v", at)
		}
		w.peers[0].node.SetOnline(true)
		w.until("there when it is back", func() bool { return w.nodeReason(sdnKey, "pve2") == "Ready" })
		if !w.ready(sdnKey)() || len(w.bridgeAt("lan")) != 3 {
			t.Errorf("the bridge is on %v\n%s", w.bridgeAt("lan"), w.objects())
		}
		// The same with its removal.
		w.peers[1].node.SetOnline(false)
		w.remove(sdnKey)
		w.until("deletion waits for the node", w.has(sdnKey, "Ready", "False", "NodeOffline"))
		if at := w.bridgeAt("lan"); !slices.Equal(at, []string{"pve3"}) {
			t.Errorf("the bridge is on %v", at)
		}
		w.peers[1].node.SetOnline(true)
		w.until("deleted", w.gone(sdnKey))
		if at := w.bridgeAt("lan"); len(at) > 0 {
			t.Errorf("left on %v", at)
		}
	})
}

// failReloads lets the next reloads of a node's network fail.
func (w *world) failReloads(node string, n int) {
	for i := range n {
		w.node.Faults().Add(pvesim.Fault{Method: "PUT", Path: "/nodes/" + node + "/network", Nth: i + 1, Action: pvesim.ActTaskFails, Text: "command 'ifreload -a' failed: exit code 1"})
	}
}

// sdnLock takes the lock of the SDN configuration as another tool does.
func (w *world) sdnLock() { w.Helper(); w.sdnRequest("POST", "/cluster/sdn/lock") }

func (w *world) sdnUnlock() { w.Helper(); w.sdnRequest("DELETE", "/cluster/sdn/lock?force=1") }

func (w *world) sdnRequest(method, path string) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), method, "https://node/api2/json"+path, nil)
	w.must(err)
	creds := w.node.Credentials()
	req.Header.Set("Authorization", "PVEAPIToken="+creds.TokenID+"="+creds.TokenSecret)
	resp, err := w.adminTransport().RoundTrip(req)
	w.must(err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		w.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}

// What is planned for a Bridge by SDN is what is done: to make it, to change it, to delete it.
func TestSDNPlanIsDone(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		w.start()
		time.Sleep(time.Second) // the Cluster is looked at: its nodes are known
		for i, doc := range []string{sdnYAML(""), sdnYAML(", mtu: 1400"), sdnYAML(", mtu: 1400, nodes: [pve, pve2]")} {
			w.steps.reset()
			plan := w.plan(doc)[sdnKey]
			if len(plan.Steps) < 2 || plan.ObservedAt.IsZero() != (i == 0) {
				t.Errorf("%d: %+v", i, plan)
			}
			w.apply(doc)
			w.rest(sdnKey)
			w.mustHaveTaken(sdnKey, plan, i > 0)
			if left := w.plan(doc)[sdnKey]; len(left.Steps) > 0 {
				t.Errorf("%d: there is left %+v", i, left)
			}
		}
		if at := w.bridgeAt("lan"); !slices.Equal(at, []string{"pve", "pve2"}) {
			t.Errorf("the bridge is on %v", at)
		}
		w.steps.reset()
		plan := w.planDeletion(sdnKey)[sdnKey]
		w.remove(sdnKey)
		w.until("gone", w.gone(sdnKey))
		w.mustHaveTaken(sdnKey, plan, true)
		if at := w.bridgeAt("lan"); len(at) > 0 {
			t.Errorf("the bridge is on %v", at)
		}
	})
}

// A node is not taken out of a Bridge by SDN while a guest on it is plugged in.
func TestSDNNodeLeftOutWithAGuest(t *testing.T) {
	inCluster(t, 2, func(w *world) {
		w.start()
		w.apply(sdnYAML(""))
		w.until("ready", w.ready(sdnKey))
		done := func(upid proxmox.UPID, err error) {
			w.must(err)
			_, err = w.admin.WaitTask(w.Context(), "pve2", upid)
			w.must(err)
		}
		done(w.admin.CreateLXC(w.Context(), "pve2", proxmox.LXCCreate{
			VMID: 500, Template: "local:vztmpl/" + templates[1], Hostname: "theirs", Unprivileged: true,
			RootFS: proxmox.NewVolume("local-lvm", 2), NICs: map[int]proxmox.NIC{0: {Name: "eth0", Bridge: "lan", IP: "dhcp"}},
		}))
		w.updateBridge(sdnKey, func(s *v1alpha1.BridgeSpec) { s.Nodes = []string{"pve"} })
		w.until("it waits for the guest", w.has(sdnKey, "Ready", "False", "GuestsAttached"))
		time.Sleep(time.Minute)
		w.applySDN() // of somebody else
		if at := w.bridgeAt("lan"); len(at) != 2 {
			t.Errorf("the bridge is on %v", at)
		}
		done(w.admin.DeleteLXC(w.Context(), "pve2", 500, proxmox.LXCDelete{Purge: true}))
		w.until("without the node", func() bool { return w.ready(sdnKey)() && len(w.bridgeAt("lan")) == 1 })
		if got := w.nodeReason(sdnKey, "pve2"); got != "" {
			t.Errorf("pve2 is still told of: %s", got)
		}
	})
}

// A setting that Proxmox takes and does not keep is asked for a few times, then told.
func TestSDNSettingThatDoesNotStay(t *testing.T) {
	inCluster(t, 2, func(w *world) {
		w.start()
		w.apply(sdnYAML(""))
		w.until("ready", w.ready(sdnKey))
		w.node.Faults().Add(pvesim.Fault{Method: "PUT", Path: "/cluster/sdn/zones/lan", Status: 200, Text: "OK"})
		w.ledger.reset(nil)
		w.updateBridge(sdnKey, func(s *v1alpha1.BridgeSpec) { s.Mtu = proto.Int32(1400) })
		time.Sleep(time.Minute)
		if n := len(w.ledger.all()); n == 0 || n > 60 {
			t.Errorf("%d requests in a minute", n)
		}
		if !w.has(sdnKey, "Ready", "False", "NotSettling")() {
			t.Errorf("not told:\n%s", w.objects())
		}
		w.node.Faults().Clear()
		w.until("ready when it is kept", func() bool { return w.ready(sdnKey)() && w.zoneMTU("lan") == 1400 })
	})
}

// A node that takes requests and never answers holds up none of the others.
func TestSDNNodeThatHangs(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		for _, path := range []string{"/nodes/pve2/sdn", "/nodes/pve2/tasks"} {
			w.node.Faults().Add(pvesim.Fault{Method: "GET", Path: path, Action: pvesim.ActTimeout})
		}
		w.start()
		w.apply(sdnYAML(""))
		w.until("the others have it", func() bool { return w.nodeReason(sdnKey, "pve") == "Ready" && w.nodeReason(sdnKey, "pve3") == "Ready" })
		w.until("told", func() bool {
			c := resource.FindCondition(w.get(sdnKey), "Ready")
			return c.GetStatus() == "False" && strings.Contains(c.GetMessage(), "pve2")
		})
		if got := w.nodeReason(sdnKey, "pve2"); got != "NotSeen" {
			t.Errorf("pve2: %s", got)
		}
		w.node.Faults().Clear()
		w.until("ready when it answers", w.ready(sdnKey))
	})
}
