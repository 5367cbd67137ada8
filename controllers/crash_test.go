package controllers_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// A daemon is killed right before, and right after, each call of an undisturbed run that
// changes something: requests to Proxmox, commands in guests and on nodes, transactions of
// the store. The next daemon must bring the world to the very state that the undisturbed run
// ends in, with nothing made twice, nothing left and nothing of others touched.

// full, from the environment, tells every story of every family, also under the race detector.
var full = os.Getenv("PROXIMITY_FULL") != ""

// some tells whether the n-th story of a family is told under the race detector, where
// it is one of so many.
func some(n, of int) bool { return full || !underRace || n%of == 0 }

// crashStory is something that a user or an administrator does.
type crashStory struct {
	kind, what string
	peers      int
	// given is how the world is before; nil is the quickstart, ready.
	given func(w *world)
	act   func(w *world)
	done  func(w *world) bool
	// then is done after the crash, before the next daemon comes, and ended tells when it has
	// done its work; nil is nothing and done.
	then  func(w *world)
	ended func(w *world) bool
	// loose stories do not end in the same state each time: at is what holds of all of them.
	loose func(w *world)
}

// crashStories are those of all kinds that have a controller; TestEveryKindIsKilled holds
// that against the list.
func crashStories() []crashStory {
	only := func(kinds ...string) func(w *world) {
		return func(w *world) {
			w.start()
			w.apply(w.documents(kinds...))
			w.until("ready", w.readyOf(kinds...))
		}
	}
	applied := func(kinds ...string) func(w *world) { return func(w *world) { w.apply(w.documents(kinds...)) } }
	ready := func(keys ...resource.Key) func(w *world) bool {
		return func(w *world) bool { return w.ready(keys...)() }
	}
	gone := func(keys ...resource.Key) func(w *world) bool {
		return func(w *world) bool { return w.gone(keys...)() }
	}
	remove := func(keys ...resource.Key) func(w *world) { return func(w *world) { w.remove(keys...) } }
	// An App with a web port has a Vhost of its own while nobody declares one. The collector,
	// which is not in this world, would take it away after the App.
	ownVhostKey := resource.Key{Kind: "Vhost", Namespace: appKey.Namespace, Name: appKey.Name}
	appAndVhostGone := func(w *world) bool {
		if !w.gone(appKey)() {
			return false
		}
		if v := w.get(ownVhostKey); v != nil && !resource.Deleting(v) {
			w.remove(ownVhostKey)
		}
		return w.gone(ownVhostKey)()
	}
	all, lan, second := quickstartKeys, resource.Key{Kind: "Bridge", Name: "lan"}, appKeyOf("second")
	api := func(w *world) { w.start(); w.apply(bridgeYAML("lan", "proxlan")); w.until("ready", w.ready(lan)) }
	return []crashStory{
		{kind: "Bridge", what: "create in the interfaces file", given: (*world).begin, act: applied("Bridge"), done: ready(bridgeKey)},
		{kind: "Bridge", what: "create through the API", given: (*world).begin, act: func(w *world) { w.apply(bridgeYAML("lan", "proxlan")) }, done: ready(lan)},
		{kind: "Bridge", what: "create on three nodes", peers: 2, given: (*world).begin, act: applied("Bridge"), done: ready(bridgeKey)},
		{kind: "Bridge", what: "update through the API", given: api, act: func(w *world) { w.bridgeComment(lan, "changed") },
			done: func(w *world) bool { return w.ready(lan)() && strings.Contains(w.interfaces(), "changed") }},
		{kind: "Bridge", what: "delete through the API", given: api, act: remove(lan), done: gone(lan)},
		{kind: "Bridge", what: "delete from the interfaces file", given: only("Bridge"), act: remove(bridgeKey), done: gone(bridgeKey)},
		{kind: "Bridge", what: "correct drift", given: only("Bridge"), act: (*world).cutInterface,
			done: func(w *world) bool { return w.hasBridge("proximity-lan") && w.ready(bridgeKey)() }},
		{kind: "Bridge", what: "delete after a crash at creation", given: (*world).begin, act: func(w *world) { w.apply(bridgeYAML("lan", "proxlan")) }, done: ready(lan),
			then: remove(lan), ended: gone(lan)},

		{kind: "Appliance", what: "create", given: only("Bridge"), act: applied("Appliance"), done: ready(applianceKey)},
		{kind: "Appliance", what: "update guest and services", given: only("Bridge", "Appliance"), act: (*world).changeAppliance,
			done: func(w *world) bool {
				return w.ready(applianceKey)() && strings.Contains(w.config(applianceID), "memory: 768")
			}},
		{kind: "Appliance", what: "delete", given: only("Bridge", "Appliance"), act: remove(applianceKey), done: gone(applianceKey)},
		{kind: "Appliance", what: "correct drift", given: only("Bridge", "Appliance"), act: func(w *world) { w.spoil(applianceID) },
			done: func(w *world) bool {
				return strings.Contains(w.config(applianceID), "memory: 512") && w.guest(applianceID).Running() && w.ready(applianceKey)()
			}},
		{kind: "Appliance", what: "make again", given: only("Bridge", "Appliance"), act: func(w *world) { w.destroy(applianceID) },
			done: func(w *world) bool { return w.tasks("vzcreate", applianceID) == 2 && w.ready(applianceKey)() }},
		{kind: "Appliance", what: "delete after a crash at creation", given: only("Bridge"), act: applied("Appliance"), done: ready(applianceKey),
			then: remove(applianceKey), ended: gone(applianceKey)},
		{kind: "Appliance", what: "adopt", given: func(w *world) { only("Bridge")(w); w.strangeAppliance(300) },
			act: func(w *world) { w.apply(w.adopting(300, "readOnly: false")) }, done: ready(applianceKey)},

		{kind: "App", what: "create", given: only("Bridge", "Appliance"), act: applied("App"), done: ready(appKey)},
		{kind: "App", what: "update guest and content", act: (*world).changeApp,
			done: func(w *world) bool { return w.ready(appKey)() && strings.Contains(w.config(firstVMID), "memory: 300") }},
		{kind: "App", what: "stop", act: func(w *world) { w.state("Stopped") },
			done: func(w *world) bool { return !w.guest(firstVMID).Running() && w.ready(appKey)() }},
		{kind: "App", what: "delete", act: remove(appKey), done: gone(appKey)},
		{kind: "App", what: "let go", given: func(w *world) { w.deployed(); w.orphan() }, act: remove(appKey), done: gone(appKey)},
		{kind: "App", what: "correct drift", act: func(w *world) { w.spoil(firstVMID) },
			done: func(w *world) bool {
				return strings.Contains(w.config(firstVMID), "memory: 256") && w.guest(firstVMID).Running() && w.ready(appKey)()
			}},
		{kind: "App", what: "make again", act: func(w *world) { w.destroy(firstVMID) },
			done: func(w *world) bool { return w.tasks("vzcreate", firstVMID) == 2 && w.ready(appKey)() }},
		{kind: "App", what: "adopt", given: func(w *world) { w.deployed(); w.stranger(300) },
			act: func(w *world) {
				w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: second}\nspec: {vmid: 300, adopt: true, readOnly: false, resources: {disk: 2Gi}}\n")
			}, done: ready(second)},
		{kind: "App", what: "fall back to the uplink", given: (*world).fallible, act: (*world).loseAppliance, done: (*world).onUplink},
		{kind: "App", what: "delete after a crash at creation", given: only("Bridge", "Appliance"), act: applied("App"), done: ready(appKey),
			then: remove(appKey), ended: appAndVhostGone},

		{kind: "Vhost", what: "create", given: only("Bridge", "Appliance", "App"), act: applied("Vhost"), done: ready(vhostKey)},
		{kind: "Vhost", what: "update", act: (*world).changeVhost, done: func(w *world) bool { return w.ready(vhostKey)() && w.serves("renamed.prox.local") }},
		{kind: "Vhost", what: "delete", act: remove(vhostKey), done: gone(vhostKey)},

		{kind: "Cluster", what: "update", act: (*world).changeCluster, done: func(w *world) bool { return w.ready(clusterKey)() }},
		{kind: "Cluster", what: "delete", given: (*world).begin, act: remove(clusterKey), done: gone(clusterKey)},
		{kind: "Namespace", what: "create", given: (*world).begin, act: func(w *world) { w.apply(namespaceYAML) }, done: ready(namespaceKey)},
		{kind: "Operation", what: "restart a service", act: func(w *world) { w.ask("op", "RestartAppliance", "Appliance", "", dnsmasq) }, done: (*world).operationEnded,
			loose: func(w *world) {
				if n := w.restarts(); n > 1 {
					w.Errorf("it ran %d times", n)
				}
			}},
		{kind: "Operation", what: "test NAT from a guest of its own", given: (*world).lonelyAppliance,
			act: func(w *world) {
				w.ask("nat", "TestNAT", "Appliance", "", map[string]string{"forbidden": "192.168.1.1"})
			},
			done: (*world).operationEnded, loose: (*world).noProbe},
		{kind: "Operation", what: "rebuild a lost database", given: (*world).lostDatabase, act: (*world).askToRebuild,
			done: func(w *world) bool {
				if w.operationEnded() && !w.stalled(bridgeKey, "UIDUnknown")() {
					return w.ready(quickstartKeys...)()
				}
				if w.operationEnded() && len(w.list("Operation")) == 1 { // it was interrupted, and is asked for again
					w.askToRebuild()
				}
				return false
			}},
		{kind: "all", what: "create the quickstart", given: (*world).begin, act: func(w *world) { w.apply(w.quickstart()) }, done: ready(all...)},
		{kind: "all", what: "delete the quickstart", act: remove(all...), done: gone(all...)},
		{kind: "all", what: "create the quickstart by SDN", given: (*world).begin, act: func(w *world) { w.apply(w.sdnQuickstart()) }, done: ready(all...)},
		{kind: "all", what: "delete the quickstart by SDN", given: func(w *world) { w.start(); w.apply(w.sdnQuickstart()); w.until("ready", w.ready(all...)) },
			act: remove(all...), done: gone(all...)},
		{kind: "all", what: "delete after a crash at creation", given: (*world).begin, act: func(w *world) { w.apply(w.quickstart()) }, done: ready(all...),
			then: remove(all...), ended: gone(all...)},
	}
}

// crashTable is what was tried, for people.
type crashTable struct {
	mu   sync.Mutex
	rows []string
	// lives were to be killed; missed came to their end before it.
	lives, missed int
}

// TestCrashAtEverySideEffect kills at every call of every story, before and after it.
func TestCrashAtEverySideEffect(t *testing.T) {
	table := &crashTable{}
	t.Run("stories", func(t *testing.T) {
		for _, story := range crashStories() {
			t.Run(story.kind+" "+story.what, func(t *testing.T) {
				t.Parallel()
				story.everywhere(t, table)
			})
		}
	})
	for _, row := range table.rows {
		t.Log(row)
	}
	// What comes together in one run may come one by one in another, and the other way round:
	// a story has not always as many calls. Of all lives, few may be missed so.
	if table.missed > table.lives/5 {
		t.Errorf("%d of %d lives came to their end before they were to be killed", table.missed, table.lives)
	}
}

// outcome is what an undisturbed run leaves.
type crashOutcome struct {
	portrait string
	calls    int // that changed something
	created  map[int]int
}

func (c crashStory) everywhere(t *testing.T, table *crashTable) {
	var want crashOutcome
	ok := t.Run("undisturbed", func(t *testing.T) {
		inWorldLike(t, worldLike{peers: c.peers}, func(w *world) { want = c.undisturbed(w) })
	})
	if !ok {
		return
	}
	lives, missed := 0, 0
	for n := 1; n <= want.calls; n++ {
		for _, after := range []bool{false, true} {
			if !some(n+map[bool]int{true: 4}[after], 8) {
				continue
			}
			lives++
			t.Run(fmt.Sprintf("%d after=%v", n, after), func(t *testing.T) {
				inWorldLike(t, worldLike{peers: c.peers}, func(w *world) {
					if !c.killed(w, n, after, want) {
						missed++
					}
				})
			})
		}
	}
	table.mu.Lock()
	defer table.mu.Unlock()
	table.lives, table.missed = table.lives+lives, table.missed+missed
	table.rows = append(table.rows, fmt.Sprintf("%-10s %-34s %3d calls, killed in %3d of %3d lives", c.kind, c.what, want.calls, lives-missed, lives))
}

// prepare brings the world to where the story begins.
func (c crashStory) prepare(w *world) (check func()) {
	w.Helper()
	w.strangers()
	if c.given != nil {
		c.given(w)
	} else {
		w.deployed()
	}
	w.settle()
	check = w.untouched(500)
	w.ledger.reset(nil)
	return check
}

func (c crashStory) undisturbed(w *world) (o crashOutcome) {
	check := c.prepare(w)
	c.act(w)
	w.until(c.what, func() bool { return c.done(w) })
	w.settle()
	o.calls = len(w.ledger.all()) + w.ledger.storeWrites()
	if c.then != nil {
		c.then(w)
		w.until("then", func() bool { return c.ended(w) })
		w.settle()
	}
	check()
	o.portrait, o.created = w.portrait(), w.createdTimes()
	if o.calls == 0 {
		w.Error("nothing was written: there is nothing to be killed at")
	}
	return o
}

// killed is a life that ends at the n-th call; false when it came to its end before that.
func (c crashStory) killed(w *world, n int, after bool, want crashOutcome) (killed bool) {
	w.Helper()
	check := c.prepare(w)
	d := w.daemon
	w.ledger.killAt(n, after, d)
	c.act(w)
	w.until("killed, or "+c.what, func() bool { return d.dead.Load() || c.done(w) })
	for end := time.Now().Add(20 * time.Second); !d.dead.Load() && time.Now().Before(end); {
		time.Sleep(time.Second)
	}
	killed = d.dead.Load()
	w.ledger.killAt(0, false, nil)
	if !killed {
		d.kill()
	}
	d.bury()
	done := c.done
	if c.then != nil {
		c.then(w)
		done = c.ended
	}
	w.start()
	w.until("as without the crash", func() bool { return done(w) })
	w.settle()
	check()
	if c.loose != nil {
		c.loose(w)
		return killed
	}
	if now := w.portrait(); now != want.portrait {
		w.Errorf("not the same end:\n%s", diffLines(now, want.portrait))
	}
	for vmid, times := range w.createdTimes() {
		if times > want.created[vmid] {
			w.Errorf("guest %d was created %d times, want %d", vmid, times, want.created[vmid])
		}
	}
	return killed
}

// TestEveryKindIsKilled: a kind that gets a controller has to get stories.
func TestEveryKindIsKilled(t *testing.T) {
	inWorld(t, func(w *world) {
		has := map[string]bool{}
		for _, s := range crashStories() {
			has[s.kind] = true
		}
		for _, kind := range w.controllerKinds() {
			if !has[kind] {
				t.Errorf("kind %s has a controller and no story in crashStories", kind)
			}
		}
	})
}

// What the stories do.

var (
	clusterKey    = resource.Key{Kind: "Cluster", Name: "default"}
	namespaceKey  = resource.Key{Kind: "Namespace", Name: "project"}
	namespaceYAML = "apiVersion: proximity/v1alpha1\nkind: Namespace\nmetadata: {name: project}\n"
)

func (w *world) begin() { w.Helper(); w.start(); w.until("connected", w.ready(clusterKey)) }

// documents are those of the quickstart of these kinds.
func (w *world) documents(kinds ...string) string {
	w.Helper()
	var docs []string
	for _, doc := range strings.Split(w.quickstart(), "\n---\n") {
		for _, kind := range kinds {
			if strings.Contains(doc, "kind: "+kind+"\n") {
				docs = append(docs, doc)
			}
		}
	}
	return strings.Join(docs, "\n---\n")
}

func (w *world) readyOf(kinds ...string) func() bool {
	var keys []resource.Key
	for _, key := range quickstartKeys {
		for _, kind := range kinds {
			if key.Kind == kind {
				keys = append(keys, key)
			}
		}
	}
	return w.ready(keys...)
}

// createdTimes counts, by VMID, the creations that ended well.
func (w *world) createdTimes() map[int]int {
	w.Helper()
	n := map[int]int{}
	for _, o := range append(w.list("App"), w.list("Appliance")...) {
		vmid := applianceID
		if a, ok := o.(*v1alpha1.App); ok {
			vmid = int(a.GetStatus().GetVmid())
		}
		n[vmid] = w.tasks("vzcreate", vmid)
	}
	return n
}

func (w *world) bridgeComment(key resource.Key, text string) {
	w.Helper()
	b := resource.Clone(w.get(key)).(*v1alpha1.Bridge)
	b.Spec.Comment = proto.String(text)
	_, err := w.applier.Update(w.Context(), b)
	w.must(err)
}

// cutInterface takes our block out of the node's file.
func (w *world) cutInterface() {
	w.Helper()
	w.editInterfaces(func(was []byte) []byte {
		head, _, _ := strings.Cut(string(was), "# proximity:begin")
		return []byte(strings.TrimSpace(head) + "\n")
	})
}

func (w *world) changeAppliance() {
	w.Helper()
	a := resource.Clone(w.get(applianceKey)).(*v1alpha1.Appliance)
	a.Spec.Resources.Memory = proto.String("768Mi")
	a.Spec.Dns.Upstreams = []string{"9.9.9.9"}
	_, err := w.applier.Update(w.Context(), a)
	w.must(err)
}

func (w *world) changeApp() {
	w.Helper()
	w.edit(appKey, func(s *v1alpha1.AppSpec) {
		s.Resources.Memory = proto.String("300Mi")
		s.Files = append(s.Files, &v1alpha1.AppFile{Path: proto.String("/etc/motd"), Content: proto.String("hello\n")})
		s.Commands = []*v1alpha1.AppCommand{{Argv: []string{"true"}}}
	})
}

func (w *world) state(want string) {
	w.Helper()
	w.edit(appKey, func(s *v1alpha1.AppSpec) { s.State = proto.String(want) })
}

func (w *world) orphan() {
	w.Helper()
	w.edit(appKey, func(s *v1alpha1.AppSpec) { s.DeletionPolicy = proto.String("Orphan") })
	w.until("ready", w.ready(appKey))
}

// spoil changes what an administrator can change of a guest, and stops it.
func (w *world) spoil(vmid int) {
	w.Helper()
	w.update(vmid, "memory", "333", "hostname", "other", "tags", "mine")
	w.done(w.admin.StopLXC(w.Context(), nodeName, vmid))
}

func (w *world) destroy(vmid int) {
	w.Helper()
	w.done(w.admin.DeleteLXC(w.Context(), nodeName, vmid, proxmox.LXCDelete{Purge: true, Force: true}))
}

func (w *world) changeVhost() {
	w.Helper()
	v := resource.Clone(w.get(vhostKey)).(*v1alpha1.Vhost)
	v.Spec.Hosts = []string{"renamed.prox.local"}
	_, err := w.applier.Update(w.Context(), v)
	w.must(err)
}

// serves tells whether the appliance's table has a name.
func (w *world) serves(host string) bool {
	w.Helper()
	return strings.Contains(fmt.Sprint(w.get(vhostKey).(*v1alpha1.Vhost).GetStatus().GetUrls()), host)
}

func (w *world) changeCluster() {
	w.Helper()
	c := resource.Clone(w.get(clusterKey)).(*v1alpha1.Cluster)
	c.Spec.VmidEnd = proto.Int32(lastVMID + 100)
	_, err := w.applier.Update(w.Context(), c)
	w.must(err)
}

func (w *world) lostDatabase() {
	w.Helper()
	w.deployed()
	w.loseDatabase()
	w.start()
	w.apply(w.quickstart())
	w.until("stalled", w.stalled(bridgeKey, "UIDUnknown"))
}

func (w *world) askToRebuild() {
	w.Helper()
	_, err := w.applier.Create(w.Context(), &v1alpha1.Operation{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Operation"),
		Metadata: &v1alpha1.ObjectMeta{Name: fmt.Sprintf("rebuild-%d", len(w.list("Operation"))), Namespace: resource.SystemNamespace},
		Spec: &v1alpha1.OperationSpec{
			Action: proto.String("Rebuild"), Target: &v1alpha1.ObjectReference{Kind: proto.String("Cluster"), Name: proto.String("default")},
			Arguments: map[string]string{"dryRun": "false"},
		},
	})
	w.must(err)
}

// operationEnded tells whether all that were asked for came to an end.
func (w *world) operationEnded() bool {
	w.Helper()
	for _, o := range w.list("Operation") {
		if p := o.(*v1alpha1.Operation).GetStatus().GetPhase(); p != "Succeeded" && p != "Failed" {
			return false
		}
	}
	return len(w.list("Operation")) > 0
}
