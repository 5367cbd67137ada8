package controllers_test

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// lifted are limits that hold nothing back here.
var lifted = cluster.Limits{Requests: 64, NodeRequests: 64, NodeTasks: 512, StorageTasks: 512, NodeWork: 512}

// Many Apps that come at once take little longer than a client does that knows nothing but
// creations and starts, under the same limits, and each costs a bounded number of requests,
// however many there are: with nothing held back two of its own, and else what all share. Each of the two tasks takes
// 2 s of simulated time, and a request 5 ms. COST_APPS is another number of Apps (hack/bench).
func TestWhatAnAppCosts(t *testing.T) {
	apps := 40
	if n, err := strconv.Atoi(os.Getenv("COST_APPS")); err == nil {
		apps = n
	}
	for name, tc := range map[string]struct {
		limits   cluster.Limits
		requests int     // for each App
		times    float64 // the time of the ideal client
	}{"default": {cluster.Limits{}, 18, 1.03}, "lifted": {lifted, 4, 1.10}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ideal time.Duration
			inSlowWorld(t, tc.limits, func(w *world) { ideal = w.idealClient(apps) })
			inSlowWorld(t, tc.limits, func(w *world) {
				took, requests := w.many(apps)
				t.Logf("cost: limits=%s apps=%d took=%.3f ideal=%.3f requests=%d", name, apps, took.Seconds(), ideal.Seconds(), requests)
				if took.Seconds() > ideal.Seconds()*tc.times {
					t.Errorf("took %s, and an ideal client %s", took, ideal)
				}
				if requests > apps*tc.requests {
					t.Errorf("%d requests, allowed are %d", requests, apps*tc.requests)
				}
				if n := w.node.Stats().Requests["GET /nodes/{node}/lxc/{vmid}/pending"]; n > 1 {
					t.Errorf("%d times asked what is pending, of guests as they were started", n)
				}
			})
		})
	}
}

// inSlowWorld tells a story of tasks that take 2 s and of requests that take a little.
func inSlowWorld(t *testing.T, limits cluster.Limits, story func(w *world)) {
	t.Helper()
	const ms = time.Millisecond
	inWorldLike(t, worldLike{
		limits: limits, wrap: func(e *mem.Engine) engine.Engine { return &slowEngine{Engine: e} },
		node: func(c *pvesim.Config) { c.Latency = pvesim.Latency{Read: 5 * ms, Write: 10 * ms, Fork: 10 * ms} },
	}, story)
}

// many lets so many Apps come at once into a network that is wide enough. It returns how long it
// takes until all are ready, and the requests of that time.
func (w *world) many(apps int) (took time.Duration, requests int) {
	w.Helper()
	o, err := w.store.Get(w.Context(), clusterKey)
	w.must(err)
	cl := resource.Clone(o).(*v1alpha1.Cluster)
	cl.Spec.VmidEnd = proto.Int32(firstVMID + 9999)
	_, err = w.applier.Update(w.Context(), cl)
	w.must(err)
	w.start()
	w.apply(strings.NewReplacer("10.20.0.0/24", "10.20.0.0/16", "end: 10.20.0.250", "end: 10.20.100.250").Replace(w.quickstart()))
	w.until("the network is ready", w.ready(quickstartKeys...))
	set := ""
	var keys []resource.Key
	for i := range apps {
		name := fmt.Sprintf("app-%04d", i)
		keys = append(keys, appKeyOf(name))
		set += fmt.Sprintf("---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec: {resources: {disk: 1Gi}}\n", name)
	}
	begin, before := time.Now(), w.node.Stats()
	w.apply(set)
	w.within(time.Hour, "all ready", w.ready(keys...))
	after := w.node.Stats()
	return time.Since(begin), after.Reads + after.Writes - before.Reads - before.Writes
}

// idealClient creates and starts so many guests, as fast as the limits let it, and returns how
// long that takes. It looks at nothing but its tasks.
func (w *world) idealClient(guests int) time.Duration {
	w.Helper()
	places := make(chan struct{}, cmp.Or(w.limits.NodeTasks, 6))
	storage := make(chan struct{}, cmp.Or(w.limits.StorageTasks, 4))
	creds := w.node.Credentials()
	api, err := proxmox.New(proxmox.Config{
		Endpoints: []string{"https://node"}, TokenID: creds.TokenID, TokenSecret: creds.TokenSecret, Transport: w.node.Transport(),
		Concurrency: proxmox.MaxConcurrency, NodeConcurrency: proxmox.MaxConcurrency, StorageTasks: proxmox.MaxStorageTasks,
	})
	w.must(err)
	defer api.Close()
	wait := func(upid proxmox.UPID, err error) {
		for err == nil {
			var s proxmox.TaskStatus
			if s, err = api.TaskStatus(w.Context(), nodeName, upid); err == nil && !s.Running() {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		w.Errorf("the ideal client: %v", err)
	}
	var all sync.WaitGroup
	begin := time.Now()
	for i := range guests {
		all.Go(func() {
			storage <- struct{}{}
			places <- struct{}{}
			defer func() { <-places }()
			wait(api.CreateLXC(w.Context(), nodeName, proxmox.LXCCreate{
				VMID: firstVMID + i, Template: "local:vztmpl/" + templates[1], Hostname: "ideal", Unprivileged: true,
				RootFS: proxmox.NewVolume("local-lvm", 1), NICs: map[int]proxmox.NIC{0: {Name: "eth0", Bridge: "vmbr0", IP: "dhcp"}},
			}))
			<-storage
			wait(api.StartLXC(w.Context(), nodeName, firstVMID+i))
		})
	}
	all.Wait()
	return time.Since(begin)
}
