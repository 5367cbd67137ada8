package controllers_test

import (
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/controllers/internal/bulk"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// A guest's configuration is not read while it is made. What somebody does to it right then is
// found by the first audit, and set right, with no second guest.
func TestChangedWhileItIsMade(t *testing.T) {
	t.Parallel()
	inSlowWorld(t, cluster.Limits{}, func(w *world) {
		w.start()
		w.apply(w.withoutApp())
		w.until("the network is ready", w.ready(bridgeKey, applianceKey))
		w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: app}\n")
		config := func() proxmox.LXCConfig {
			cfg, err := w.admin.LXCConfig(w.Context(), nodeName, firstVMID)
			w.must(err)
			return cfg
		}
		w.until("it is being started", func() bool { return w.tasks("vzstart", firstVMID) == 1 })
		before := config()
		w.update(firstVMID, "net0", strings.Replace(before.Value("net0"), "bridge=proximity-lan", "bridge=vmbr0", 1))
		w.within(2*bulk.DefaultPeriod+noticed, "bridge corrected", func() bool { return config().Value("net0") == before.Value("net0") })
		w.until("ready", w.ready(appKeyOf("app")))
		if n := w.tasks("vzcreate", firstVMID); n != 1 {
			t.Errorf("it was created %d times", n)
		}
	})
}
