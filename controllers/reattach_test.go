package controllers_test

import (
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// A task that is under way when the daemon dies is in the store before anybody waits for it:
// the next daemon waits for the same one, tells how it ended, and asks for no other.
func TestTaskOutlivesTheDaemon(t *testing.T) {
	inWorldOn(t, func(e *mem.Engine) engine.Engine { return &slowEngine{Engine: e} }, func(w *world) {
		w.start()
		w.apply(w.quickstart())
		for _, purpose := range []string{"Create", "Start"} {
			w.until(purpose+" is under way and noted", func() bool {
				a := w.app("nginx-01")
				return a.GetStatus().GetTaskPurpose() == purpose && strings.HasPrefix(a.GetStatus().GetTask(), "UPID:")
			})
			upid := w.app("nginx-01").GetStatus().GetTask()
			w.restart()
			w.until("its end is told", func() bool { return w.toldOf(appKey, purpose+"Done", upid) })
		}
		w.until("ready", w.ready(quickstartKeys...))
		w.createdOnce()
		asked := 0
		for _, c := range w.ledger.all() {
			if c.what == "api POST /nodes/pve/lxc 20000" || c.what == "api POST /nodes/pve/lxc/20000/status/start" {
				asked++
			}
		}
		if asked != 2 {
			t.Errorf("its guest was asked for or started %d times", asked)
		}
	})
}
