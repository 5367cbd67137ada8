package controllers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem/appliancesim"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// peer is another node of the cluster, with guests of its own.
type peer struct {
	name   string
	engine *mem.Engine
	node   *pvesim.Node
}

// inCluster tells a story in a cluster of so many nodes: pve, pve2, pve3... The API is
// that of the first one, which must stay online.
func inCluster(t *testing.T, nodes int, story func(w *world)) {
	t.Helper()
	t.Parallel()
	inClusterNow(t, nodes, story)
}

// inClusterNow tells it before the test goes on.
func inClusterNow(t *testing.T, nodes int, story func(w *world)) {
	t.Helper()
	inWorldLike(t, worldLike{peers: nodes - 1}, story)
}

func (w *world) addPeers(n int, templateDir string) (peers []pvesim.Peer) {
	w.Helper()
	for i := range n {
		p := &peer{name: fmt.Sprintf("pve%d", i+2)}
		var err error
		p.engine, err = mem.New(mem.Config{TemplateDir: templateDir, Fabric: w.fabric})
		w.must(err)
		appliancesim.Install(p.engine)
		w.peers = append(w.peers, p)
		peers = append(peers, pvesim.Peer{NodeName: p.name, Engine: p.engine})
	}
	return peers
}

func (w *world) bootPeers() {
	w.Helper()
	for i, p := range w.peers {
		p.node = w.node.Nodes()[i+1]
		w.must(p.node.Boot(w.Context()))
	}
}

// migrate moves a guest by a human's hand and waits until it is there and has started.
func (w *world) migrate(vmid int, from, to string) {
	w.Helper()
	upid, err := w.admin.MigrateLXC(w.Context(), from, vmid, proxmox.LXCMigrate{Target: to, Restart: true})
	w.must(err)
	_, err = w.admin.WaitTask(w.Context(), from, upid)
	w.must(err)
}

// where lists the nodes that have a guest of that VMID, and whether it runs there.
func (w *world) where(vmid int) string {
	var at []string
	for i, n := range w.node.Nodes() {
		e := w.engine
		if i > 0 {
			e = w.peers[i-1].engine
		}
		if g, ok := e.Guest(vmid); ok {
			at = append(at, fmt.Sprintf("%s running %v", n.Name(), g.Running()))
		}
	}
	return fmt.Sprint(at)
}

// followed demands that nobody made, destroyed or lost the guest.
func (w *world) followed(vmid int, at string) {
	w.Helper()
	if got := w.where(vmid); got != fmt.Sprintf("[%s running true]", at) {
		w.Errorf("guest %d is at %s", vmid, got)
	}
	created := 0
	for _, c := range w.ledger.all() {
		if strings.HasPrefix(c.what, "api POST /nodes/pve") && strings.Contains(c.what, "/lxc ") {
			created++
		}
	}
	if created != 2 { // the appliance and the App
		w.Errorf("%d guests were made", created)
	}
}

// An App whose guest is migrated by hand is followed. On another node than its appliance
// it says why it has no address; when the appliance has come after it, both work there.
func TestMigratedGuestIsFollowed(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		w.deployed()
		w.migrate(firstVMID, "pve", "pve2")
		w.until("the App says where its appliance is", w.has(appKey, "NetworkReady", "False", "ApplianceOnOtherNode"))
		if got := w.app("nginx-01").GetStatus().GetNode(); got != "pve2" {
			t.Errorf("status.node is %s", got)
		}
		time.Sleep(time.Minute)
		w.followed(firstVMID, "pve2")
		w.migrate(applianceID, "pve", "pve2")
		w.until("both work on the new node", w.ready(quickstartKeys...))
		w.followed(firstVMID, "pve2")
		w.followed(applianceID, "pve2")
		w.restart()
		w.until("also with another daemon", w.ready(quickstartKeys...))
		w.remove(quickstartKeys...)
		w.until("deleted where they are", w.gone(quickstartKeys...))
		if got := w.where(firstVMID) + w.where(applianceID); got != "[][]" {
			t.Errorf("left: %s", got)
		}
	})
}

// When the appliance moves away the App keeps its address and is cut off all the same: it
// says why, rather than that nothing answers.
func TestApplianceMovesAway(t *testing.T) {
	inCluster(t, 2, func(w *world) {
		w.deployed()
		w.migrate(applianceID, "pve", "pve2")
		w.until("the App says where its appliance is", w.has(appKey, "Ready", "False", "ApplianceOnOtherNode"))
		w.migrate(applianceID, "pve2", "pve")
		w.until("ready again", w.ready(quickstartKeys...))
	})
}

// A node that goes away takes its guests with it: they are waited for.
func TestNodeOffline(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		w.deployed()
		w.migrate(firstVMID, "pve", "pve2")
		w.migrate(applianceID, "pve", "pve2")
		w.peers[0].node.SetOnline(false)
		w.until("the App says so", w.has(appKey, "Ready", "False", "NodeOffline"))
		w.until("the appliance says so", w.has(applianceKey, "Ready", "False", "NodeOffline"))
		time.Sleep(10 * time.Minute)
		w.followed(firstVMID, "pve2")
		w.followed(applianceID, "pve2")
		if got := w.app("nginx-01").GetStatus().GetNode(); got != "pve2" {
			t.Errorf("status.node is %s", got)
		}
		w.peers[0].node.SetOnline(true)
		w.within(time.Minute, "ready when it is back", w.ready(quickstartKeys...))
		w.followed(firstVMID, "pve2")
	})
}

// The guest moves away while its daemon waits for a task on the old node, which then goes
// offline for good: the task is let go, the guest followed.
func TestMigratedWhileATaskIsAwaited(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		w.deployed()
		w.migrate(firstVMID, "pve", "pve2")
		w.migrate(applianceID, "pve", "pve3")
		w.until("followed", func() bool { return w.app("nginx-01").GetStatus().GetNode() == "pve2" })
		w.daemon.stop()
		upid, err := w.admin.StopLXC(w.Context(), "pve2", firstVMID)
		w.must(err)
		_, err = w.admin.WaitTask(w.Context(), "pve2", upid)
		w.must(err)
		// The daemon that was killed had asked for that task.
		w.journalTask(upid.String(), "Shutdown")
		up, err := w.admin.MigrateLXC(w.Context(), "pve2", firstVMID, proxmox.LXCMigrate{Target: "pve3"})
		w.must(err)
		_, err = w.admin.WaitTask(w.Context(), "pve2", up)
		w.must(err)
		w.peers[0].node.SetOnline(false)
		w.start()
		w.until("ready on the third node", w.ready(appKey))
		w.followed(firstVMID, "pve3")
		w.mustTell(appKey, "ShutdownLost")
	})
}

// journalTask writes into the App's status that a task is awaited.
func (w *world) journalTask(upid, purpose string) {
	w.Helper()
	a := resource.Clone(w.get(appKey)).(*v1alpha1.App)
	a.Status.Task, a.Status.TaskPurpose = proto.String(upid), proto.String(purpose)
	_, err := runtime.NewClient(w.store).UpdateStatus(w.Context(), a)
	w.must(err)
}

// A node that goes away in the middle of the reload of its network holds up none of the
// others.
func TestNodeGoesAwayWhileItReloads(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		w.deployed()
		upid, err := w.admin.ReloadNetwork(w.Context(), "pve2")
		w.must(err)
		w.daemon.stop()
		b := resource.Clone(w.get(bridgeKey)).(*v1alpha1.Bridge)
		b.Status.Task = proto.String(upid.String())
		_, err = runtime.NewClient(w.store).UpdateStatus(w.Context(), b)
		w.must(err)
		w.peers[0].node.SetOnline(false)
		w.start()
		w.until("the task is let go", func() bool { return w.get(bridgeKey).(*v1alpha1.Bridge).GetStatus().GetTask() == "" })
		w.until("ready", w.ready(quickstartKeys...))
		w.peers[0].node.SetOnline(true)
		time.Sleep(time.Minute)
		if !w.ready(quickstartKeys...)() {
			t.Errorf("not ready when it is back:\n%s", w.objects())
		}
	})
}
