package controllers_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// sixteen is how many nodes there are: half of them under the race detector, which makes
// each dear.
var sixteen = map[bool]int{false: 16, true: 8}[underRace && !full]

// nodeNumber is the name of the n-th node, from 1.
func nodeNumber(n int) string {
	if n == 1 {
		return nodeName
	}
	return fmt.Sprintf("pve%d", n)
}

// siteYAML is an App on a node with a name on the proxy.
func siteYAML(name, node string) string {
	return fmt.Sprintf(`---
apiVersion: proximity/v1alpha1
kind: App
metadata: {name: %[1]s}
spec: {node: %[2]s, packages: [nginx], resources: {disk: 2Gi}, ports: [{name: http, port: 80}], healthCheck: {path: /}}
---
apiVersion: proximity/v1alpha1
kind: Vhost
metadata: {name: %[1]s}
spec: {hosts: [%[1]s.prox.local], rules: [{path: /, backends: [{appRef: {name: %[1]s, port: http}}]}]}
`, name, node)
}

// guestOf is the guest of an App, on the node where its status says it is.
func (w *world) guestOf(name string) *mem.Guest {
	w.Helper()
	st := w.app(name).GetStatus()
	g, ok := w.engineOf(st.GetNode()).Guest(int(st.GetVmid()))
	if !ok {
		w.Fatalf("App %s has no guest %d on %s: %s", name, st.GetVmid(), st.GetNode(), w.where(int(st.GetVmid())))
	}
	return g
}

// fetch fetches a page from within a guest, by name.
func (w *world) fetch(from *mem.Guest, url string) string {
	w.Helper()
	tr := &http.Transport{DialContext: from.Dial, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(w.Context(), http.MethodGet, url, nil)
	w.must(err)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	w.must(err)
	return fmt.Sprintf("%d %.20s", resp.StatusCode, body)
}

// served demands that an App has its lease, its name and its place on the proxy, seen from
// the guest of another App, which may be on any node.
func (w *world) served(name, from string) {
	w.Helper()
	a, g := w.app(name), w.guestOf(name)
	if got := g.Address("eth0"); got != a.GetStatus().GetAddress()+"/24" || a.GetStatus().GetAddress() == "" {
		w.Errorf("%s on %s: the guest has %q, reserved is %s", name, a.GetStatus().GetNode(), got, a.GetStatus().GetAddress())
	}
	if nic := g.Spec().NICs[0]; nic.MTU != 1450 || nic.Bridge != "proxlan" {
		w.Errorf("%s: interface %+v", name, nic)
	}
	asker := w.guestOf(from)
	if ips, err := asker.Resolve(name + ".lan.prox.local"); err != nil || len(ips) != 1 || ips[0] != a.GetStatus().GetAddress() {
		w.Errorf("%s.lan.prox.local is %v, %v for the guest of %s", name, ips, err, from)
	}
	if got := w.fetch(asker, "http://"+name+".prox.local/"); !strings.HasPrefix(got, "200 ") {
		w.Errorf("http://%s.prox.local/ gives the guest of %s %s", name, from, got)
	}
}

// creations counts the guests that were ever asked for.
func (w *world) creations() (n int) {
	for _, c := range w.ledger.all() {
		if strings.HasPrefix(c.what, "api POST /nodes/") && strings.Contains(c.what, "/lxc ") {
			n++
		}
	}
	return n
}

// untouchedBut demands that since the n-th call nothing outside was changed, but for what
// contains one of these.
func (w *world) untouchedBut(n int, allowed ...string) {
	w.Helper()
calls:
	for _, c := range w.ledger.since(n) {
		for _, a := range allowed {
			if strings.Contains(c.what, a) {
				continue calls
			}
		}
		w.Errorf("touched: %s", c.what)
	}
}

// On sixteen nodes with a VXLAN Bridge an App on any of them is served by the one appliance;
// what goes wrong on one node is told there, and nothing else is touched.
func TestSixteenNodes(t *testing.T) {
	inCluster(t, sixteen, func(w *world) {
		w.start()
		set, keys := w.sdnQuickstart(), append([]resource.Key{}, quickstartKeys...)
		// The appliance is on a node that can go away: the API is that of the first one.
		set = strings.Replace(set, "vmid: 9999\n", "vmid: 9999\n  node: pve2\n", 1)
		site := func(n int) string { return fmt.Sprintf("site-%02d", n) }
		for n := 1; n <= sixteen; n++ {
			set += siteYAML(site(n), nodeNumber(n))
			keys = append(keys, appKeyOf(site(n)), vhostKeyOf(site(n)))
		}
		w.apply(set)
		w.within(5*time.Minute, "everything ready", w.ready(keys...))
		w.settle()
		for n := 1; n <= sixteen; n++ {
			if got := w.app(site(n)).GetStatus().GetNode(); got != nodeNumber(n) {
				t.Errorf("%s is on %s", site(n), got)
			}
			w.served(site(n), site(n%sixteen+1))
		}
		if n := w.creations(); n != sixteen+2 {
			t.Errorf("%d guests were asked for", n)
		}
		calls, revision := len(w.ledger.all()), w.store.Revision()
		time.Sleep(2 * time.Minute)
		w.untouchedBut(calls)
		if now := w.store.Revision(); now != revision {
			t.Errorf("%d writes to the store with nothing to do:\n%s", now-revision, w.changedSince(revision))
		}

		w.nodeGoesAway(site(5), "pve5", 4)
		w.nodeGoesAway("", "pve2", 1) // with the appliance on it
		w.until("everything ready", w.ready(keys...))
		w.settle()
		w.served(site(5), site(8))

		// A guest that is moved by hand is followed; it keeps its address and its names.
		calls = len(w.ledger.all())
		before := w.app(site(3)).GetStatus()
		w.migrate(int(before.GetVmid()), "pve3", "pve7")
		w.until("followed", func() bool { return w.app(site(3)).GetStatus().GetNode() == "pve7" })
		w.until("everything ready", w.ready(keys...))
		w.settle()
		if now := w.app(site(3)).GetStatus(); now.GetAddress() != before.GetAddress() || now.GetVmid() != before.GetVmid() {
			t.Errorf("it had %s, and has %s", before.GetAddress(), now.GetAddress())
		}
		w.served(site(3), site(sixteen))
		w.untouchedBut(calls)

		w.storageFillsUp(6, keys)

		w.remove(keys...)
		w.within(5*time.Minute, "everything gone", w.gone(keys...))
		for n := 1; n <= sixteen; n++ {
			if left := len(w.engineOf(nodeNumber(n)).Guests()); left != 0 {
				t.Errorf("%d guests are left on %s", left, nodeNumber(n))
			}
		}
		if at := w.bridgeAt("proxlan"); len(at) > 0 {
			t.Errorf("the bridge is left on %v", at)
		}
	})
}

// nodeGoesAway takes a node's network away for minutes: what is on it is told, nothing is
// made elsewhere, and nothing outside is changed. app is the App on it, "" for the appliance.
func (w *world) nodeGoesAway(app, node string, peer int) {
	w.Helper()
	key := applianceKey
	if app != "" {
		key = appKeyOf(app)
	}
	calls := len(w.ledger.all())
	p := w.peers[peer-1]
	if p.name != node {
		w.Fatalf("the peer is %s", p.name)
	}
	p.node.SetOnline(false)
	w.until("told where the guest is", w.has(key, "Ready", "False", "NodeOffline"))
	w.until("told of the bridge", func() bool { return w.nodeReason(bridgeKey, node) == "NodeOffline" })
	time.Sleep(2 * time.Minute)
	if !w.ready(bridgeKey)() || w.nodeReason(bridgeKey, "pve4") != "Ready" {
		w.Errorf("the Bridge suffers on others:\n%s", w.objects())
	}
	if app != "" && !w.ready(appKey, applianceKey, appKeyOf("site-06"), vhostKeyOf("site-06"))() {
		w.Errorf("others suffer:\n%s", w.objects())
	}
	w.untouchedBut(calls)
	p.node.SetOnline(true)
	w.within(time.Minute, "ready when it is back", w.ready(key, bridgeKey))
	w.settle()
	if n := w.creations(); n != sixteen+2 {
		w.Errorf("%d guests were asked for", n)
	}
}

// storageFillsUp fills a node's storage: an App that needs some of it says so and waits, with
// nothing asked of Proxmox, and comes when there is room again.
func (w *world) storageFillsUp(n int, others []resource.Key) {
	w.Helper()
	node := w.node.Nodes()[n-1]
	node.FillStorage("local-lvm", 340*gib, 0)
	time.Sleep(time.Minute)
	calls := len(w.ledger.all())
	late := appKeyOf("late")
	w.apply(siteYAML("late", node.Name()))
	w.until("told", w.has(late, "Ready", "False", "StorageFull"))
	time.Sleep(2 * time.Minute)
	if !w.ready(others...)() {
		w.Errorf("others suffer:\n%s", w.objects())
	}
	w.untouchedBut(calls, "guest 9999: ") // a name on its proxy
	node.FillStorage("local-lvm", 0, 0)
	w.until("there when there is room", w.ready(late, vhostKeyOf("late")))
	if at := w.app("late").GetStatus().GetNode(); at != node.Name() {
		w.Errorf("it is on %s", at)
	}
	w.served("late", "site-01")
	w.remove(vhostKeyOf("late"), late)
	w.until("gone", w.gone(vhostKeyOf("late"), late))
}
