package controllers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Apps that move to the uplink while their appliance does not serve, and return.

// fallible is the quickstart with an App that falls back after 30 seconds.
func (w *world) fallible() {
	w.Helper()
	w.deployed()
	w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.FallbackAfter = proto.String("30s") })
	w.edit(appKey, func(s *v1alpha1.AppSpec) {
		if s.Network == nil {
			s.Network = &v1alpha1.AppNetwork{}
		}
		s.Network.Fallback = proto.String("WAN")
	})
	w.until("ready", w.ready(quickstartKeys...))
}

func (w *world) editAppliance(change func(s *v1alpha1.ApplianceSpec)) {
	w.Helper()
	w.change(applianceKey, func(o resource.Object) { change(o.(*v1alpha1.Appliance).Spec) })
}

// loseAppliance destroys the appliance's guest and what it could be made from again.
func (w *world) loseAppliance() {
	w.Helper()
	w.must(os.Remove(filepath.Join(w.dir, "templates", templates[0])))
	w.destroy(applianceID)
}

// regainAppliance lets it be made again.
func (w *world) regainAppliance() {
	w.Helper()
	w.must(os.WriteFile(filepath.Join(w.dir, "templates", templates[0]), nil, 0o600))
	w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.LogSize = proto.String("64Mi") }) // a stalled one is tried again
}

func (w *world) onUplink() bool {
	w.Helper()
	return w.has(appKey, "NetworkReady", "True", "OnUplink")() && w.has(appKey, "GuestRunning", "True", "Running")()
}

func (w *world) guestRules() (rules []string) {
	w.Helper()
	all, err := w.admin.GuestRules(w.Context(), nodeName, firstVMID)
	w.must(err)
	for _, r := range all {
		rules = append(rules, fmt.Sprintf("%s %s %s%s %s", r.Type, r.Action, r.Dest, r.DPort, r.Comment))
	}
	return rules
}

// startsOfApp counts how often the App's guest was started.
func (w *world) startsOfApp() int { return w.tasks("vzstart", firstVMID) }

func TestAppFallsBackToTheUplink(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fallible()
		w.update(firstVMID, "nameserver", "10.20.0.1")
		w.rest(quickstartKeys...)
		lan, starts := w.guest(firstVMID).Address("eth0"), w.startsOfApp()
		if !strings.HasPrefix(lan, "10.20.0.") || !w.has(appKey, "Fallback", "False", "NotNeeded")() {
			t.Fatalf("before: %s", lan)
		}

		began := time.Now()
		w.loseAppliance()
		w.until("it is said when the guest moves", w.has(appKey, "Fallback", "False", "Waiting"))
		if plan := w.plan("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: nginx-01, labels: {a: b}}\n")[appKey]; !strings.Contains(fmt.Sprint(plan.Notes), "moved to the uplink vmbr0") {
			t.Errorf("plan before the move: %q", plan.Notes)
		}
		if time.Sleep(15 * time.Second); w.startsOfApp() != starts || w.guest(firstVMID).Address("eth0") != lan {
			t.Error("it moved before its time")
		}
		w.until("the guest is on the uplink", w.onUplink)
		if took := time.Since(began); took < 30*time.Second || took > 60*time.Second {
			t.Errorf("it took %s", took)
		}
		wan := w.guest(firstVMID).Address("eth0")
		st := w.app("nginx-01").GetStatus()
		if !strings.HasPrefix(wan, "192.168.50.") || !strings.HasPrefix(wan, st.GetFallback().GetAddress()+"/") || st.GetAddress()+"/24" != lan {
			t.Errorf("address %s, status %v", wan, st)
		}
		config := w.config(firstVMID)
		if !strings.Contains(config, "bridge=vmbr0") || !strings.Contains(config, "firewall=1") || strings.Contains(config, "nameserver") {
			t.Errorf("configuration:\n%s", config)
		}
		if w.startsOfApp() != starts+1 || w.ready(appKey)() {
			t.Errorf("started %d times more; ready: %v", w.startsOfApp()-starts, w.ready(appKey)())
		}
		// The cluster's firewall is off: the rules are there, and that they do nothing is told.
		if !w.has(appKey, "Fallback", "True", "IsolationLost")() {
			t.Error(w.objects())
		}
		rules := w.guestRules()
		if len(rules) != 2 || !strings.HasPrefix(rules[0], "out REJECT ") || !strings.HasPrefix(rules[1], "in ACCEPT 80 ") {
			t.Errorf("rules %q", rules)
		}
		w.must(w.admin.SetClusterFirewall(w.Context(), proxmox.ClusterFirewall{Enable: true, PolicyIn: "ACCEPT"}))
		w.must(w.admin.DeleteGuestRule(w.Context(), nodeName, firstVMID, 0, w.rulesDigest()))
		w.until("isolation holds", w.has(appKey, "Fallback", "True", "OnUplink"))
		if again := w.guestRules(); fmt.Sprint(again) != fmt.Sprint(rules) {
			t.Errorf("rules after one was removed: %q", again)
		}

		// Nothing changes while nothing changes, over a restart of the daemon too.
		w.restart()
		time.Sleep(5 * time.Minute)
		if w.startsOfApp() != starts+1 || !w.onUplink() || w.guest(firstVMID).Address("eth0") != wan {
			t.Error("it does not stay where it is")
		}

		w.regainAppliance()
		w.until("the appliance serves", w.ready(applianceKey))
		served := time.Now()
		w.until("everything ready", w.ready(quickstartKeys...))
		if took := time.Since(served); took < 25*time.Second || took > 90*time.Second {
			t.Errorf("it returned after %s", took)
		}
		if now := w.guest(firstVMID).Address("eth0"); now != lan || w.startsOfApp() != starts+2 {
			t.Errorf("address %s, started %d times more", now, w.startsOfApp()-starts)
		}
		config = w.config(firstVMID)
		if !strings.Contains(config, "bridge=proximity-lan") || strings.Contains(config, "firewall=1") || !strings.Contains(config, "nameserver: 10.20.0.1") {
			t.Errorf("configuration:\n%s", config)
		}
		if rules := w.guestRules(); len(rules) != 0 {
			t.Errorf("rules are left: %q", rules)
		}
		if f, err := w.admin.GuestFirewall(w.Context(), nodeName, firstVMID); err != nil || bool(f.Enable) {
			t.Errorf("the guest's firewall: %+v, %v", f, err)
		}
		w.mustTell(appKey, "FallingBack", "IsolationLost", "Returning")
		w.until("it is said", w.has(appKey, "Fallback", "False", "NotNeeded"))
	})
}

func (w *world) rulesDigest() string {
	w.Helper()
	all, err := w.admin.GuestRules(w.Context(), nodeName, firstVMID)
	w.must(err)
	return all[0].Digest
}

// TestFallbackDoesNotFlap: an appliance that comes and goes moves an App a few times an hour at
// most, and short failures do not move it at all.
func TestFallbackDoesNotFlap(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fallible()
		w.rest(quickstartKeys...)
		starts := w.startsOfApp()
		for range 4 { // shorter than the grace time
			w.loseAppliance()
			time.Sleep(15 * time.Second)
			w.regainAppliance()
			w.until("the appliance serves", w.ready(applianceKey))
			time.Sleep(5 * time.Second)
		}
		if n := w.startsOfApp() - starts; n != 0 {
			t.Fatalf("failures of 15 s moved it: %d starts", n)
		}
		began := time.Now()
		for time.Since(began) < 16*time.Minute {
			w.loseAppliance()
			time.Sleep(time.Minute)
			w.regainAppliance()
			time.Sleep(time.Minute)
		}
		if n := w.startsOfApp() - starts; n != 4 {
			t.Errorf("started %d times within the hour, want 4", n)
		}
		w.until("everything ready", w.ready(quickstartKeys...))
	})
}

// TestFallbackIsAskedFor: an App that does not ask for it stays where it is, unless its appliance
// says otherwise; one that does not want it any more returns as soon as it is served.
func TestFallbackIsAskedFor(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fallible()
		w.edit(appKey, func(s *v1alpha1.AppSpec) { s.Network.Fallback = nil })
		w.rest(quickstartKeys...)
		starts := w.startsOfApp()
		w.loseAppliance()
		time.Sleep(3 * time.Minute)
		if w.startsOfApp() != starts || resource.FindCondition(w.get(appKey), "Fallback") != nil {
			t.Error("it moved although nobody asked for that")
		}
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) {
			s.Fallback = proto.String("WAN")
			s.FallbackAfter = proto.String("1h")
		})
		w.until("it waits", w.has(appKey, "Fallback", "False", "Waiting"))
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.FallbackAfter = proto.String("30s") })
		w.until("the guest is on the uplink", w.onUplink)
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.FallbackAfter = proto.String("1h") })
		w.edit(appKey, func(s *v1alpha1.AppSpec) { s.Network.Fallback = proto.String("None") })
		time.Sleep(time.Minute)
		if !w.onUplink() {
			t.Error("it went back to a network that nobody serves")
		}
		w.regainAppliance()
		w.until("everything ready", w.ready(quickstartKeys...))
	})
}

// TestCrashWhileReturning kills the daemon at calls of the way back. It is long: a life of several
// is lived, each of them with PROXIMITY_FULL.
func TestCrashWhileReturning(t *testing.T) {
	story := crashStory{
		kind: "App", what: "return from the uplink",
		given: func(w *world) { w.fallible(); w.loseAppliance(); w.until("on the uplink", w.onUplink) }, act: (*world).regainAppliance,
		done: func(w *world) bool {
			return w.ready(quickstartKeys...)() && w.has(appKey, "Fallback", "False", "NotNeeded")()
		},
	}
	t.Parallel()
	var want crashOutcome
	if !t.Run("undisturbed", func(t *testing.T) { inWorldLike(t, worldLike{}, func(w *world) { want = story.undisturbed(w) }) }) {
		return
	}
	step := 7
	if full {
		step = 1
	}
	for n := 1; n <= 2*want.calls; n += step { // before and after each call
		t.Run(fmt.Sprintf("%d after=%v", (n+1)/2, n%2 == 0), func(t *testing.T) {
			inWorldLike(t, worldLike{}, func(w *world) { story.killed(w, (n+1)/2, n%2 == 0, want) })
		})
	}
}
