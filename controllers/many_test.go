package controllers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

func appKeyOf(name string) resource.Key {
	return resource.Key{Kind: "App", Namespace: "default", Name: name}
}

func vhostKeyOf(name string) resource.Key {
	return resource.Key{Kind: "Vhost", Namespace: "default", Name: name}
}

// No two Apps get the same VMID, address or MAC address, also when all come at once and
// some of them on VMIDs that others have already.
func TestManyAppsAtOnce(t *testing.T) {
	const apps = 30
	inWorld(t, func(w *world) {
		w.stranger(firstVMID + 3)
		check := w.untouched(firstVMID + 3)
		w.start()
		set := w.quickstart()
		var keys []resource.Key
		for i := range apps {
			name := fmt.Sprintf("app-%02d", i)
			keys = append(keys, appKeyOf(name))
			set += fmt.Sprintf("\n---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: %s}\n", name)
		}
		w.apply(set)
		w.until("all ready", w.ready(append(keys, quickstartKeys...)...))
		seen := map[string]string{}
		for _, o := range w.list("App") {
			st, name := o.(*v1alpha1.App).GetStatus(), o.GetMetadata().GetName()
			for _, value := range []string{fmt.Sprint(st.GetVmid()), st.GetAddress(), st.GetMac()} {
				if other := seen[value]; other != "" {
					t.Errorf("%s and %s both have %s", other, name, value)
				}
				seen[value] = name
			}
			if n := w.tasks("vzcreate", int(st.GetVmid())); n != 1 {
				t.Errorf("%s was created %d times", name, n)
			}
		}
		check()
		if n := len(w.engine.Guests()); n != apps+3 {
			t.Errorf("%d guests for %d Apps, one appliance and one stranger", n, apps+1)
		}
		before := w.node.Stats()
		time.Sleep(noticed)
		if after := w.node.Stats(); after.Writes != before.Writes {
			t.Errorf("%d writes with nothing to do", after.Writes-before.Writes)
		}
		w.remove(append(keys, quickstartKeys...)...)
		w.until("all gone", w.gone(append(keys, quickstartKeys...)...))
		if n := len(w.engine.Guests()); n != 1 {
			t.Errorf("%d guests are left", n)
		}
	})
}

// Of two that ask for one VMID or address, one gets it and the other is told who has it.
func TestTwoWantTheSame(t *testing.T) {
	for what, tc := range map[string]struct{ spec, reason string }{
		"VMID":    {"{vmid: 300}", "VMIDTaken"},
		"address": {"{network: {address: 10.20.0.77}}", "AddressTaken"},
	} {
		t.Run(what, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.deployed()
				doc := "---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec: %s\n"
				first, second := appKeyOf("first"), appKeyOf("second")
				w.apply(fmt.Sprintf(doc, "first", tc.spec))
				w.until("the first ready", w.ready(first))
				w.apply(fmt.Sprintf(doc, "second", tc.spec))
				w.until("the second stalled", w.stalled(second, tc.reason))
				if c := resource.FindCondition(w.get(second), "Stalled"); !strings.Contains(c.GetMessage(), "first") {
					t.Errorf("who has it is not told: %s", c.GetMessage())
				}
				w.until("the first still ready", w.ready(first))
				w.remove(first)
				w.until("the second gets it", w.ready(second))
			})
		})
	}
}

// Two that come while the daemon is away do not block each other.
func TestTwoWantTheSameAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.daemon.stop()
		for _, name := range []string{"a", "b"} {
			w.apply(appYAML(name, 300))
		}
		w.start()
		a, b := appKeyOf("a"), appKeyOf("b")
		w.until("one ready, one stalled", func() bool {
			return w.ready(a)() && w.stalled(b, "VMIDTaken")() || w.ready(b)() && w.stalled(a, "VMIDTaken")()
		})
	})
}

// One that names no address leaves alone what another names.
func TestNamedAddressIsLeftAlone(t *testing.T) {
	inWorld(t, func(w *world) {
		set := w.quickstart() + "\n---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: zz-fixed}\nspec: {network: {address: 10.20.0.100}}\n"
		w.start()
		w.apply(set)
		w.until("both ready", w.ready(appKey, appKeyOf("zz-fixed")))
	})
}

func vhostYAML(name, host string) string {
	return fmt.Sprintf(`---
apiVersion: proximity/v1alpha1
kind: Vhost
metadata: {name: %s}
spec: {hosts: [%s], rules: [{path: /, backends: [{appRef: {name: nginx-01, port: http}}]}]}
`, name, host)
}

// The older of two Vhosts keeps a host name; the younger gets it when the older goes.
func TestOlderVhostKeepsTheName(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		time.Sleep(time.Second) // ages are told apart by seconds
		young := vhostKeyOf("a-young-one")
		w.apply(vhostYAML("a-young-one", "nginx-01.prox.local"))
		w.until("conflict", w.has(young, "Conflict", "True", "Conflict"))
		w.until("stalled", w.stalled(young, "Conflict"))
		time.Sleep(time.Minute)
		if !w.ready(quickstartKeys...)() {
			t.Errorf("the older one suffers:\n%s", w.objects())
		}
		w.remove(vhostKey)
		w.within(noticed, "the younger has the name", w.ready(young))
		if c := resource.FindCondition(w.get(young), "Conflict"); c != nil {
			t.Errorf("still a conflict: %v", c)
		}
	})
}

// One Vhost that cannot be served does not hurt another.
func TestVhostWithoutBackend(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		bad := vhostKeyOf("bad")
		w.apply(strings.ReplaceAll(vhostYAML("bad", "bad.prox.local"), "nginx-01, port", "nobody, port"))
		w.until("told", w.has(bad, "ResolvedRefs", "False", "BackendsNotFound"))
		time.Sleep(time.Minute)
		if !w.ready(quickstartKeys...)() {
			t.Errorf("the good one suffers:\n%s", w.objects())
		}
		w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: nobody}\nspec: {packages: [nginx], ports: [{name: http, port: 80}]}\n")
		w.until("served when its App is there", w.ready(bad))
	})
}

// An appliance that is in use stays and works until its last user has gone.
func TestApplianceWaitsForItsUsers(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.remove(applianceKey, bridgeKey)
		w.until("told", w.has(applianceKey, "Ready", "False", "InUse"))
		w.until("told", w.has(bridgeKey, "Ready", "False", "InUse"))
		w.settle()
		revision, calls := w.store.Revision(), len(w.ledger.all())
		time.Sleep(time.Minute)
		if now := w.store.Revision(); now != revision {
			t.Errorf("%d writes while it waits:\n%s", now-revision, w.changedSince(revision))
		}
		if more := w.ledger.since(calls); len(more) > 0 {
			t.Errorf("written outside while it waits: %v", more)
		}
		// A new name is served, a dead guest is started.
		w.apply(vhostYAML("late", "late.prox.local"))
		w.within(noticed, "served", w.ready(vhostKeyOf("late")))
		w.done(w.admin.StopLXC(w.Context(), nodeName, applianceID))
		w.within(noticed, "started again", func() bool { return w.guest(applianceID).Running() })
		w.remove(vhostKey, vhostKeyOf("late"))
		w.within(noticed, "Vhosts gone", w.gone(vhostKey, vhostKeyOf("late")))
		if w.get(applianceKey) == nil {
			t.Fatal("the appliance went before its App")
		}
		w.remove(appKey)
		w.until("everything gone", w.gone(quickstartKeys...))
	})
}

// A change of what is in the guest is carried out there, and only then.
func TestProvisionedAgainWhenTheSpecChanges(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		calls := len(w.ledger.all())
		a := resource.Clone(w.app("nginx-01"))
		a.Spec.Files = append(a.Spec.Files, &v1alpha1.AppFile{Path: proto.String("/etc/motd"), Content: proto.String("hello\n")})
		_, err := w.applier.Update(w.Context(), a)
		w.must(err)
		w.until("ready again", w.ready(appKey))
		if got, err := w.guest(firstVMID).FS().ReadFile("/etc/motd"); err != nil || string(got) != "hello\n" {
			t.Errorf("the file: %q, %v", got, err)
		}
		for _, c := range w.ledger.since(calls) {
			if strings.HasPrefix(c.what, "api ") {
				t.Errorf("the guest itself was changed: %s", c.what)
			}
		}
		calls = len(w.ledger.all())
		labelled := resource.Clone(w.app("nginx-01"))
		labelled.Metadata.Labels = map[string]string{"a": "b"}
		_, err = w.applier.Update(w.Context(), labelled)
		w.must(err)
		time.Sleep(time.Minute)
		if more := w.ledger.since(calls); len(more) > 0 {
			t.Errorf("a label changed the outside: %v", more)
		}
	})
}
