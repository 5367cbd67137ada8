package controllers_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// muteEngine has an appliance in which no command can be run while it is mute, and counts
// those that are tried.
type muteEngine struct {
	*mem.Engine
	mute  atomic.Bool
	tries atomic.Int64
}

func (e *muteEngine) Exec(ctx context.Context, vmid int, c engine.Command) (int, error) {
	if vmid == applianceID {
		e.tries.Add(1)
		if e.mute.Load() {
			return 0, errors.New("the guest does not answer")
		}
	}
	return e.Engine.Exec(ctx, vmid, c)
}

// A guest that runs and in which no command can be run is asked more and more rarely, however
// much happens beside it; what is inside is not known then, and as of when it was is told. When
// it answers again, that is seen within the longest pause.
func TestSilentApplianceIsAskedRarely(t *testing.T) {
	var mute *muteEngine
	inWorldOn(t, func(e *mem.Engine) engine.Engine { mute = &muteEngine{Engine: e}; return mute }, func(w *world) {
		w.deployed()
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.Repair = proto.String("Services") }) // booting is another story
		w.settle()
		last := time.Now()
		mute.mute.Store(true)
		for _, c := range []string{"PackagesInstalled", "NetworkReady", "ConfigurationApplied", "DNSReady", "ProxyReady", "NATReady", "DiskSpace", "UpstreamReachable"} {
			w.until(c+" is not known", w.has(applianceKey, c, "Unknown", "GuestUnreachable"))
		}
		told := w.message(applianceKey, "DNSReady")
		_, text, _ := strings.Cut(told, "last looked at ")
		if at, err := time.Parse(time.RFC3339, text); err != nil || at.Before(last.Add(-10*time.Second)) || at.After(time.Now()) {
			t.Errorf("it does not say when it was looked at last: %q", told)
		}
		time.Sleep(time.Minute)
		before := mute.tries.Load()
		requests := w.node.Stats()
		// Something that it serves changes all the time.
		for range 30 {
			w.edit(appKey, func(s *v1alpha1.AppSpec) { s.Resources.Cores = proto.Int32(s.GetResources().GetCores()%3 + 1) })
			time.Sleep(20 * time.Second)
		}
		if n := mute.tries.Load() - before; n > 41 || n < 30 {
			t.Errorf("asked %d times within 10 minutes, allowed are 41", n)
		}
		n := 0
		for what, now := range w.node.Stats().Requests {
			if strings.HasPrefix(what, "GET ") {
				n += int(now - requests.Requests[what])
			}
		}
		t.Logf("%d commands and %d reads within 10 minutes", mute.tries.Load()-before, n)
		if got := w.message(applianceKey, "DNSReady"); got != told {
			t.Errorf("told anew: %q, was %q", got, told)
		}
		mute.mute.Store(false)
		w.within(20*time.Second, "seen", w.ready(applianceKey))
		if l := w.get(applianceKey).(*v1alpha1.Appliance).GetStatus().GetLastLook(); l != "" {
			t.Errorf("lastLook %q", l)
		}
		w.until("everything ready", w.ready(quickstartKeys...))
	})
}

// The node of an appliance goes away, and then the daemon begins anew: what cannot be known is
// Unknown all the while, as of the same time.
func TestConditionsOfAnApplianceWhoseNodeIsAway(t *testing.T) {
	inCluster(t, 2, func(w *world) {
		w.deployed()
		w.migrate(applianceID, "pve", "pve2")
		w.until("followed", func() bool {
			return w.get(applianceKey).(*v1alpha1.Appliance).GetStatus().GetNode() == "pve2"
		})
		time.Sleep(noticed)
		w.peers[0].node.SetOnline(false)
		w.until("told", w.has(applianceKey, "Ready", "False", "NodeOffline"))
		check := func(when string) (told string) {
			for _, c := range []string{"GuestRunning", "NetworkReady", "DNSReady", "ProxyReady", "NATReady"} {
				if !w.has(applianceKey, c, "Unknown", "NodeOffline")() || !strings.Contains(w.message(applianceKey, c), "last looked at 20") {
					t.Errorf("%s: %s\n%s", when, c, w.objects())
				}
			}
			return w.message(applianceKey, "DNSReady")
		}
		told := check("at once")
		w.restart()
		time.Sleep(5 * time.Minute)
		if now := check("with another daemon"); now != told {
			t.Errorf("told anew: %q, was %q", now, told)
		}
		w.peers[0].node.SetOnline(true)
		w.within(time.Minute, "ready when it is back", w.ready(applianceKey))
	})
}

// A guest that is stopped and cannot be started keeps no condition of what ran in it.
func TestConditionsOfAStoppedAppliance(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.settle()
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.ReadOnly = proto.Bool(true) })
		w.done(w.admin.StopLXC(w.Context(), nodeName, applianceID))
		w.until("told", w.has(applianceKey, "GuestRunning", "False", "NotRunning"))
		w.until("what ran in it is not known", w.has(applianceKey, "DNSReady", "Unknown", "NotRunning"))
	})
}
