package controllers_test

import (
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// A bridge with an API-legal name goes through Proxmox' staging area, which outlives a
// crash: what is staged must be applied by the next daemon, and by nobody else's doing.
func TestCrashAroundStagedBridge(t *testing.T) {
	key := resource.Key{Kind: "Bridge", Name: "lan"}
	create := func(w *world) func() { return func() { w.apply(bridgeYAML("lan", "proxlan")) } }
	remove := func(w *world) func() { return func() { w.remove(key) } }
	never := func() bool { return false }
	clean := func(w *world, empty string) {
		w.until("gone", w.gone(key))
		if now := w.traces(); now != empty {
			w.Errorf("left on the node:\n%s", diffLines(now, empty))
		}
	}
	creating := []point{{"api POST /nodes/pve/network", 1}, {"api PUT /nodes/pve/network", 1}}
	deleting := []point{{"api DELETE /nodes/pve/network/proxlan", 1}, {"api PUT /nodes/pve/network", 1}}

	t.Run("creating", func(t *testing.T) {
		eachPoint(t, creating, func(w *world, p point, after bool) {
			empty := w.traces()
			w.die(p, after, create(w), never)
			w.start()
			w.until("ready", w.ready(key))
			if changes := w.staged(); changes != "" || !w.hasBridge("proxlan") || strings.Count(w.interfaces(), "iface proxlan") != 1 {
				w.Errorf("staged %q in\n%s", changes, w.interfaces())
			}
			w.remove(key)
			clean(w, empty)
		})
	})
	t.Run("deleted after it", func(t *testing.T) {
		eachPoint(t, creating, func(w *world, p point, after bool) {
			empty := w.traces()
			w.die(p, after, create(w), never)
			w.remove(key)
			w.start()
			clean(w, empty)
		})
	})
	t.Run("deleting", func(t *testing.T) {
		eachPoint(t, deleting, func(w *world, p point, after bool) {
			empty := w.traces()
			w.start()
			create(w)()
			w.until("ready", w.ready(key))
			w.daemon.stop()
			w.die(p, after, remove(w), never)
			w.start()
			clean(w, empty)
			if changes := w.staged(); changes != "" {
				w.Errorf("still staged: %s", changes)
			}
		})
	})
}
