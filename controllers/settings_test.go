package controllers_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/store"
)

// edit changes an App's spec as a user does.
func (w *world) edit(key resource.Key, change func(*v1alpha1.AppSpec)) {
	w.Helper()
	w.change(key, func(o resource.Object) { change(o.(*v1alpha1.App).Spec) })
}

// change updates an object as a user does who tries again when a controller came in between.
func (w *world) change(key resource.Key, how func(o resource.Object)) {
	w.Helper()
	for try := 1; ; try++ {
		o := resource.Clone(w.get(key))
		how(o)
		_, err := w.applier.Update(w.Context(), o)
		if !errors.Is(err, store.ErrConflict) || try == 10 {
			w.must(err)
			return
		}
	}
}

func (w *world) setting(vmid int, key string) string {
	w.Helper()
	cfg, err := w.admin.LXCConfig(w.Context(), nodeName, vmid)
	w.must(err)
	return cfg.Value(key)
}

// What somebody changes by hand is left under the policies warn and ignore, and set again
// when the policy is correct; a change of the spec is carried out in any case.
func TestDriftPolicy(t *testing.T) {
	for _, policy := range []string{"warn", "ignore"} {
		t.Run(policy, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.deployed()
				memory := w.setting(firstVMID, "memory")
				w.edit(appKey, func(s *v1alpha1.AppSpec) { s.DriftPolicy = proto.String(policy) })
				w.until("noted", w.has(appKey, "InSync", "True", "InSync"))
				w.update(firstVMID, "memory", "777", "swap", "5", "tags", "mine")
				w.until("said", w.has(appKey, "InSync", "False", "Drifted"))
				time.Sleep(5 * time.Minute)
				if got := w.setting(firstVMID, "memory"); got != "777" {
					t.Errorf("memory was set to %s", got)
				}
				if got := w.setting(firstVMID, "tags"); !strings.Contains(got, "prx-") {
					t.Errorf("our tags are not put back: %s", got)
				}
				if !w.ready(appKey)() {
					t.Error("it is not ready")
				}
				if m := resource.FindCondition(w.get(appKey), "InSync").GetMessage(); !strings.Contains(m, "memory is 777 instead of "+memory) || !strings.Contains(m, "swap is 5 instead of") {
					t.Errorf("message %q", m)
				}
				if told := w.told(appKey, "Drifted"); told != (policy == "warn") {
					t.Errorf("event: %v", told)
				}
				// The spec asks for another hostname: that is done, the memory stays.
				w.edit(appKey, func(s *v1alpha1.AppSpec) { s.Hostname = proto.String("renamed") })
				w.until("renamed", func() bool { return w.pending(firstVMID, "hostname") || w.setting(firstVMID, "hostname") == "renamed" })
				w.until("ready", w.ready(appKey))
				if got := w.setting(firstVMID, "memory"); got != "777" {
					t.Errorf("memory was set to %s", got)
				}
				w.daemon.stop()
				w.start()
				time.Sleep(time.Minute)
				if got := w.setting(firstVMID, "memory"); got != "777" {
					t.Errorf("another daemon set memory to %s", got)
				}
				w.edit(appKey, func(s *v1alpha1.AppSpec) { s.DriftPolicy = nil })
				w.until("set again", func() bool { return w.setting(firstVMID, "memory") == memory })
				w.until("in sync", w.has(appKey, "InSync", "True", "InSync"))
			})
		})
	}
}

// The same for an appliance: its guest's settings are left, its work goes on.
func TestDriftPolicyOfAnAppliance(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		policy := func(p *string) {
			a := resource.Clone(w.get(applianceKey)).(*v1alpha1.Appliance)
			a.Spec.DriftPolicy = p
			_, err := w.applier.Update(w.Context(), a)
			w.must(err)
		}
		memory := w.setting(applianceID, "memory")
		policy(proto.String("warn"))
		w.until("noted", w.has(applianceKey, "InSync", "True", "InSync"))
		w.update(applianceID, "memory", "777")
		w.until("said", w.has(applianceKey, "InSync", "False", "Drifted"))
		w.mustTell(applianceKey, "Drifted")
		time.Sleep(time.Minute)
		if got := w.setting(applianceID, "memory"); got != "777" || !w.ready(quickstartKeys...)() {
			t.Errorf("memory is %s\n%s", got, w.objects())
		}
		policy(nil)
		w.until("set again", func() bool { return w.setting(applianceID, "memory") == memory })
	})
}

// pending tells whether a setting waits for the guest's next start.
func (w *world) pending(vmid int, key string) bool {
	w.Helper()
	changes, err := w.admin.LXCPending(w.Context(), nodeName, vmid)
	w.must(err)
	for _, c := range changes {
		if c.Key == key && c.IsPending() {
			return true
		}
	}
	return false
}

// What Proxmox keeps for the next start is told until the guest has been restarted, and
// asked for only when the configuration changed.
func TestRestartPending(t *testing.T) {
	renamed := func(o resource.Object) resource.Object {
		next := resource.Clone(o)
		switch n := next.(type) {
		case *v1alpha1.App:
			n.Spec.Hostname = proto.String("renamed")
		case *v1alpha1.Appliance:
			n.Spec.Hostname = proto.String("renamed")
		}
		return next
	}
	for key, vmid := range map[resource.Key]int{appKey: firstVMID, applianceKey: applianceID} {
		t.Run(key.Kind, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.deployed()
				w.settle()
				plan := w.planned([]runtime.Change{{Key: key, Desired: renamed(w.get(key))}})[key]
				if !slices.ContainsFunc(plan.Steps, func(s runtime.Step) bool {
					return s.Effect == runtime.Restart && s.By == "you" && strings.Contains(s.Text, "hostname")
				}) {
					t.Errorf("the plan does not say that a restart is needed: %+v", plan.Steps)
				}
				w.update(vmid, "features", "nesting=1,keyctl=1") // not ours, and not hot-pluggable
				if !w.pending(vmid, "features") {
					t.Fatal("the simulator applies it at once")
				}
				w.until("told", w.has(key, "RestartPending", "True", "PendingChanges"))
				if m := w.message(key, "RestartPending"); !strings.Contains(m, "features") {
					t.Errorf("message %q", m)
				}
				if !w.ready(key)() {
					t.Error("not ready")
				}
				time.Sleep(noticed)
				before := w.node.Stats()
				time.Sleep(time.Minute)
				for what, n := range w.node.Stats().Requests {
					if strings.Contains(what, "/pending") && n != before.Requests[what] {
						t.Errorf("asked again: %s", what)
					}
				}
				w.done(w.admin.RebootLXC(w.Context(), nodeName, vmid, proxmox.Shutdown{Timeout: 30 * time.Second}))
				w.until("told that it is over", w.has(key, "RestartPending", "False", "NothingPending"))
			})
		})
	}
}

// An adopted guest is looked at first: the App says what would be done, for as long as
// nobody confirms. Then it is marked and made what the spec says, not made anew.
func TestAdopt(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.stranger(300)
		w.done(w.admin.StartLXC(w.Context(), nodeName, 300))
		had, err := w.admin.LXCConfig(w.Context(), nodeName, 300)
		w.must(err)
		nic, _, err := had.NIC(0)
		w.must(err)
		check := w.untouched(300)
		key := appKeyOf("mine")
		w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: mine}\nspec: {vmid: 300, adopt: true}\n")
		w.until("it says what would be done", w.stalled(key, "ReadOnly"))
		m := resource.FindCondition(w.get(key), "Stalled").GetMessage()
		for _, want := range []string{"mark guest 300 (theirs) on node pve", "hostname", "net0", "grow the root file system"} {
			if !strings.Contains(m, want) {
				t.Errorf("%q is not in %q", want, m)
			}
		}
		time.Sleep(5 * time.Minute)
		check()
		w.edit(key, func(s *v1alpha1.AppSpec) { s.ReadOnly = proto.Bool(false) })
		w.until("marked", func() bool { return strings.Contains(w.setting(300, "tags"), "prx-") })
		w.until("made as declared", func() bool {
			return w.setting(300, "memory") == "512" && w.has(key, "GuestRunning", "True", "Running")()
		})
		if got := w.setting(300, "net0"); nic.HWAddr == "" || !strings.Contains(got, nic.HWAddr) || w.app("mine").GetStatus().GetMac() != nic.HWAddr {
			t.Errorf("the MAC address %s was changed: %s", nic.HWAddr, got)
		}
		if got := w.setting(300, "description"); !strings.Contains(got, "somebody's") || !strings.Contains(got, "name: mine") {
			t.Errorf("description %q", got)
		}
		for _, c := range w.ledger.all() {
			if strings.HasPrefix(c.what, "api POST /nodes/pve/lxc 300") || strings.HasPrefix(c.what, "api DELETE") {
				t.Errorf("done: %s", c.what)
			}
		}
		w.mustTell(key, "Adopted")
		// It goes back as it is: deletionPolicy is Orphan.
		w.remove(key)
		w.until("gone", w.gone(key))
		if !w.guest(300).Running() {
			t.Error("the guest was stopped")
		}
	})
}

// What may not be adopted: nothing, a copy of a guest of ours, another installation's.
func TestAdoptRefuses(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		key := appKeyOf("mine")
		w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: mine}\nspec: {vmid: 300, adopt: true, readOnly: false}\n")
		w.until("nothing there", w.stalled(key, "GuestToAdoptMissing"))
		if len(w.engine.Guests()) != 2 {
			t.Error("one was made")
		}
		cfg, err := w.admin.LXCConfig(w.Context(), nodeName, firstVMID)
		w.must(err)
		w.stranger(300)
		w.daemon.stop()
		w.update(300, "description", cfg.Description())
		check := w.untouched(300)
		w.start()
		w.until("not this one", w.stalled(key, "VMIDTaken"))
		time.Sleep(time.Minute)
		check()
		w.done(w.admin.DeleteLXC(w.Context(), nodeName, 300, proxmox.LXCDelete{}))
		w.until("nothing there again", w.stalled(key, "GuestToAdoptMissing"))
	})
}
