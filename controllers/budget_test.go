package controllers_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// lifted are limits that hold nothing back here.
var lifted = cluster.Limits{Requests: 64, NodeRequests: 64, NodeTasks: 512, StorageTasks: 512, NodeWork: 512}

// Many Apps that come at once take little longer than their tasks do, and each costs a bounded
// number of requests, however many there are: nobody looks because another one changed. The two
// tasks of each take 2 s, and a request 5 ms.
func TestWhatAnAppCosts(t *testing.T) {
	const apps = 40
	for name, tc := range map[string]struct {
		limits   cluster.Limits
		ideal    time.Duration // as the limits let the tasks be
		requests int           // for each App
	}{
		"by default": {cluster.Limits{}, apps * 2 * 2 * time.Second / 6, 26},
		"lifted":     {lifted, 4 * time.Second, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			like := worldLike{
				limits: tc.limits, wrap: func(e *mem.Engine) engine.Engine { return &slowEngine{Engine: e} },
				node: func(c *pvesim.Config) {
					c.Latency = pvesim.Latency{Read: 5 * time.Millisecond, Write: 10 * time.Millisecond, Fork: 10 * time.Millisecond}
				},
			}
			inWorldLike(t, like, func(w *world) {
				w.deployed()
				set := ""
				var keys []resource.Key
				for i := range apps {
					name := fmt.Sprintf("app-%02d", i)
					keys = append(keys, appKeyOf(name))
					set += fmt.Sprintf("---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: %s}\n", name)
				}
				begin, before := time.Now(), w.node.Stats()
				w.apply(set)
				w.until("all ready", w.ready(keys...))
				took, after := time.Since(begin), w.node.Stats()
				requests := after.Reads + after.Writes - before.Reads - before.Writes
				t.Logf("%d Apps within %s (their tasks take %s) and by %d requests, %d a piece", apps, took, tc.ideal, requests, requests/apps)
				if took > tc.ideal*5/4 {
					t.Errorf("took %s, and the tasks take %s", took, tc.ideal)
				}
				if requests > apps*tc.requests {
					t.Errorf("%d requests, allowed are %d", requests, apps*tc.requests)
				}
				if n := after.Requests["GET /nodes/{node}/lxc/{vmid}/pending"] - before.Requests["GET /nodes/{node}/lxc/{vmid}/pending"]; n > 0 {
					t.Errorf("%d times asked what is pending, of guests as they were started", n)
				}
			})
		})
	}
}
