package usage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/bulk"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// fakeNode has guests 1001 and up, one per App, and graphs of them. What it is asked is counted.
type fakeNode struct {
	cluster.API
	mu    sync.Mutex
	apps  int
	asked map[string]int
	fail  bool
	most  int // reads at the same time
	now   int
}

func (n *fakeNode) enter(what string) error {
	n.mu.Lock()
	n.asked[what]++
	n.now++
	n.most = max(n.most, n.now)
	fail := n.fail
	n.mu.Unlock()
	time.Sleep(50 * time.Millisecond)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.now--
	if fail {
		return errors.New("it is away")
	}
	return nil
}

func (n *fakeNode) count(what string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[what]
}

func uid(i int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", i) }

func (n *fakeNode) ClusterResources(context.Context, proxmox.ResourceKind) ([]proxmox.Resource, error) {
	rows := []proxmox.Resource{{Type: "node", Node: "pve", Status: "online", CPU: 0.5, MaxCPU: 8, Mem: 4 << 30, MaxMem: 16 << 30}}
	for i := range n.apps {
		rows = append(rows, proxmox.Resource{Type: "lxc", Node: "pve", VMID: proxmox.Int(1001 + i), Status: "running", CPU: 0.25, MaxCPU: 2, Mem: 100 << 20, MaxMem: 512 << 20, Tags: ownership.UIDTag(uid(i))})
	}
	return rows, n.enter("resources")
}

func (n *fakeNode) LXCSamples(_ context.Context, _ string, vmid int, over proxmox.Timeframe) ([]proxmox.Sample, error) {
	now := time.Now().Unix() / 60 * 60
	var samples []proxmox.Sample
	for i := range 10 {
		samples = append(samples, proxmox.Sample{Time: time.Unix(now-int64(i)*60, 0), Values: map[string]float64{"cpu": 0.5, "maxcpu": 2, "mem": 1 << 20, "maxmem": 1 << 29}})
	}
	return samples, n.enter(fmt.Sprintf("%d %s", vmid, over))
}

func (n *fakeNode) NodeSamples(_ context.Context, node string, over proxmox.Timeframe) ([]proxmox.Sample, error) {
	return []proxmox.Sample{{Time: time.Now(), Values: map[string]float64{"cpu": 0.5, "maxcpu": 8, "memused": 1 << 30}}}, n.enter(node + " " + string(over))
}

// objects is a store that is only read.
type objects struct {
	runtime.Client
	list map[string][]resource.Object
}

func (o objects) List(_ context.Context, kind, namespace string) ([]resource.Object, error) {
	var out []resource.Object
	for _, obj := range o.list[kind] {
		if namespace == "" || obj.GetMetadata().GetNamespace() == namespace {
			out = append(out, obj)
		}
	}
	return out, nil
}

func newObjects(apps int) objects {
	o := objects{list: map[string][]resource.Object{
		"Namespace": {&v1alpha1.Namespace{Metadata: &v1alpha1.ObjectMeta{Name: "a"}}, &v1alpha1.Namespace{Metadata: &v1alpha1.ObjectMeta{Name: "b"}}},
		"Cluster":   {&v1alpha1.Cluster{Metadata: &v1alpha1.ObjectMeta{Name: "default"}, Status: &v1alpha1.ClusterStatus{Nodes: []*v1alpha1.ClusterNode{{Name: proto.String("pve")}}}}},
	}}
	for i := range apps {
		o.list["App"] = append(o.list["App"], &v1alpha1.App{
			Metadata: &v1alpha1.ObjectMeta{Namespace: []string{"a", "b"}[i%2], Name: fmt.Sprintf("app-%03d", i), Uid: uid(i)},
			Status:   &v1alpha1.AppStatus{Vmid: proto.Int32(int32(1001 + i)), Node: proto.String("pve"), Cluster: proto.String("default")},
		})
	}
	return o
}

// atDesk tells a story of a desk that runs.
func atDesk(t *testing.T, apps int, story func(t *testing.T, n *fakeNode, ask func(q *v1alpha1.UsageRequest) *v1alpha1.UsageList)) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNode{apps: apps, asked: map[string]int{}}
		set := cluster.NewSet(&cluster.Connection{Name: "default", API: n})
		log := slog.New(slog.DiscardHandler)
		d, objs := New(set, bulk.New(set, log, 0), log), newObjects(apps)
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { d.Run(ctx) })
		defer run.Wait()
		defer cancel()
		story(t, n, func(q *v1alpha1.UsageRequest) *v1alpha1.UsageList {
			begin := time.Now()
			list, err := d.Report(t.Context(), objs, q)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took > 0 {
				t.Errorf("the answer waited for %s", took)
			}
			return list
		})
	})
}

// The first answer says that nothing is known yet; each graph is read once for all who ask,
// and again when it is too old. Current figures cost one read.
func TestReadOnceForAll(t *testing.T) {
	atDesk(t, 5, func(t *testing.T, n *fakeNode, ask func(*v1alpha1.UsageRequest) *v1alpha1.UsageList) {
		q := &v1alpha1.UsageRequest{Of: Apps, Range: "hour"}
		for range 10 {
			if list := ask(q); list.Pending != 5 || list.Items[0].ObservedAt != "" || len(list.Items[0].History) != 0 {
				t.Fatalf("known before it was read: %v", list)
			}
		}
		time.Sleep(5 * time.Second)
		list := ask(q)
		if list.Pending != 0 || len(list.Items) != 5 || list.Note != "" {
			t.Fatalf("%v", list)
		}
		r := list.Items[3]
		if r.Name != "app-001" || r.Current.Cpu != 0.5 || r.Current.Memory != 100<<20 || r.Current.MemoryLimit != 512<<20 || r.AgeSeconds != 4 && r.AgeSeconds != 5 {
			t.Errorf("now: %v", r)
		}
		if len(r.History) != 10 || r.History[0].Cpu != 1 || r.History[0].Memory != 1<<20 || r.StepSeconds != 60 || r.HistoryAgeSeconds < 4 {
			t.Errorf("history: %v", r)
		}
		if got := n.count("1001 hour"); got != 1 || n.count("resources") != 1 || n.most > readers {
			t.Errorf("asked %v, %d at once", n.asked, n.most)
		}
		time.Sleep(2 * time.Minute)
		if list = ask(q); list.Pending != 0 || len(list.Items[0].History) == 0 {
			t.Errorf("what is old is not told: %v", list)
		}
		time.Sleep(5 * time.Second)
		ask(q)
		if got := n.count("1001 hour"); got != 2 {
			t.Errorf("read %d times within two minutes", got)
		}
	})
}

// A namespace is the sum of its Apps, a node what Proxmox says of it.
func TestSums(t *testing.T) {
	atDesk(t, 5, func(t *testing.T, n *fakeNode, ask func(*v1alpha1.UsageRequest) *v1alpha1.UsageList) {
		for range 2 {
			ask(&v1alpha1.UsageRequest{Of: Namespaces, Range: "hour"})
			ask(&v1alpha1.UsageRequest{Of: Nodes, Range: "week"})
			time.Sleep(5 * time.Second)
		}
		list := ask(&v1alpha1.UsageRequest{Of: Namespaces, Range: "hour"})
		if r := list.Items[0]; r.Name != "a" || r.Guests != 3 || r.Current.Cpu != 1.5 || r.History[0].Cpu != 3 {
			t.Errorf("a: %v", r)
		}
		if r := list.Items[1]; r.Name != "b" || r.Guests != 2 || r.Current.Memory != 200<<20 {
			t.Errorf("b: %v", r)
		}
		list = ask(&v1alpha1.UsageRequest{Of: Nodes, Range: "week"})
		if r := list.Items[0]; r.Name != "pve" || r.Guests != 5 || r.Current.Cpu != 4 || r.Current.MemoryLimit != 16<<30 || len(r.History) != 1 || r.History[0].Memory != 1<<30 {
			t.Errorf("node: %v", r)
		}
	})
}

// What cannot be read is said, and not tried again at once; a guest that does not carry the
// object's mark is not counted.
func TestWhatCannotBeTold(t *testing.T) {
	atDesk(t, 2, func(t *testing.T, n *fakeNode, ask func(*v1alpha1.UsageRequest) *v1alpha1.UsageList) {
		n.fail = true
		q := &v1alpha1.UsageRequest{Of: Apps, Range: "year"}
		for range 20 {
			ask(q)
			time.Sleep(time.Second)
		}
		if list := ask(q); list.Pending != 0 || list.Note != "2 graphs could not be read: it is away" {
			t.Errorf("%v", list)
		}
		if got := n.count("1001 year"); got != 1 {
			t.Errorf("tried %d times within 20 s", got)
		}
		n.mu.Lock()
		n.fail = false
		n.mu.Unlock()
		time.Sleep(retryAfter)
		ask(q)
		time.Sleep(time.Second)
		if list := ask(q); list.Note != "" || len(list.Items[0].History) == 0 {
			t.Errorf("%v", list)
		}
	})
}

// However much is asked for, what is kept, waits and is asked is bounded.
func TestBounds(t *testing.T) {
	atDesk(t, 3000, func(t *testing.T, n *fakeNode, ask func(*v1alpha1.UsageRequest) *v1alpha1.UsageList) {
		for _, r := range Ranges {
			list := ask(&v1alpha1.UsageRequest{Of: Apps, Range: r})
			if list.Pending > maxHistory || list.Note == "" || len(list.Items) != 3000 {
				t.Errorf("%d pending of %d, %q", list.Pending, len(list.Items), list.Note)
			}
		}
		time.Sleep(5 * time.Minute)
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.most > readers {
			t.Errorf("%d reads at once", n.most)
		}
	})
}

// Averages over whole steps: nothing is lost or made up, and graphs add up.
func TestCondense(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var samples []proxmox.Sample
		steps := map[int64]bool{}
		for range rapid.IntRange(0, 60).Draw(t, "rows") {
			s := proxmox.Sample{Time: time.Unix(rapid.Int64Range(0, 5000).Draw(t, "at"), 0), Values: map[string]float64{"maxmem": 1}}
			if rapid.Bool().Draw(t, "there") {
				s.Values["cpu"], s.Values["maxcpu"], s.Values["mem"] = rapid.Float64Range(0, 1).Draw(t, "cpu"), 2, rapid.Float64Range(1, 9).Draw(t, "mem")
				steps[s.Time.Unix()/60] = true
			}
			samples = append(samples, s)
		}
		points := condense(samples, time.Minute, guestPoint)
		if len(points) != len(steps) {
			t.Fatalf("%d points of %d steps", len(points), len(steps))
		}
		for i, p := range points {
			if p.cpu < 0 || p.cpu > 2 || p.memory < 0.999 || p.memory > 9.001 || p.at.Unix()%60 != 0 || i > 0 && !points[i-1].at.Before(p.at) {
				t.Fatalf("%+v", points)
			}
		}
		if twice := add([][]point{points, points}); len(twice) != len(points) || len(points) > 0 && twice[0].memory != 2*points[0].memory {
			t.Fatalf("%+v", twice)
		}
	})
}
