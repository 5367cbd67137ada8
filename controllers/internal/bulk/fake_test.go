package bulk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const period = DefaultPeriod

// fakeNodes are two nodes with guests. What is asked of them is counted.
type fakeNodes struct {
	cluster.API
	mu      sync.Mutex
	asked   map[string]int
	guests  map[int]*fakeGuest
	offline map[string]bool
	tasks   map[string][]proxmox.TaskListEntry
	fail    map[string]bool // requests that fail, by name
	slow    time.Duration
	able    bool // to change guests
}

type fakeGuest struct {
	node     string
	row      proxmox.LXCStatus
	digest   string
	address  string
	hidden   bool // lists lack it
	emulated bool // it is a virtual machine
}

var errAway = errors.New("away")

func (f *fakeNodes) enter(ctx context.Context, what string) error {
	f.mu.Lock()
	f.asked[what]++
	fail, slow := f.fail[what], f.slow
	f.mu.Unlock()
	if fail {
		return errAway
	}
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (f *fakeNodes) ClusterResources(ctx context.Context, _ proxmox.ResourceKind) ([]proxmox.Resource, error) {
	rows := f.resources() // as they are when the request arrives
	return rows, f.enter(ctx, "resources")
}

func (f *fakeNodes) resources() (rows []proxmox.Resource) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range []string{"a", "b"} {
		status := map[bool]string{true: "offline", false: "online"}[f.offline[n]]
		rows = append(rows, proxmox.Resource{Type: "node", Node: n, Status: status})
	}
	for id, g := range f.guests {
		if !g.hidden {
			typ := map[bool]string{true: "qemu", false: "lxc"}[g.emulated]
			rows = append(rows, proxmox.Resource{Type: typ, Node: g.node, VMID: proxmox.Int(id), Tags: g.row.Tags})
		}
	}
	return rows
}

func (f *fakeNodes) ListLXC(ctx context.Context, node string) ([]proxmox.LXCStatus, error) {
	if err := f.enter(ctx, "list "+node); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var rows []proxmox.LXCStatus
	for id, g := range f.guests {
		if g.node == node && !g.hidden && !g.emulated {
			row := g.row
			row.VMID = proxmox.Int(id)
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func (f *fakeNodes) Tasks(ctx context.Context, node string, t proxmox.TaskFilter) ([]proxmox.TaskListEntry, error) {
	if err := f.enter(ctx, "tasks "+node); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tasks[node][:min(len(f.tasks[node]), t.Limit)]), nil
}

func (f *fakeNodes) LXCConfig(ctx context.Context, _ string, vmid int) (proxmox.LXCConfig, error) {
	if err := f.enter(ctx, "config"); err != nil {
		return proxmox.LXCConfig{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return proxmox.LXCConfig{Digest: f.guests[vmid].digest}, nil
}

func (f *fakeNodes) LXCInterfaces(ctx context.Context, _ string, vmid int) ([]proxmox.GuestInterface, error) {
	if err := f.enter(ctx, "interfaces"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return []proxmox.GuestInterface{{Name: "eth0", HWAddr: "bc:24:11:00:00:01", Inet: f.guests[vmid].address}}, nil
}

func (f *fakeNodes) WaitTask(context.Context, string, proxmox.UPID) (proxmox.TaskStatus, error) {
	return proxmox.TaskStatus{}, nil
}

func (f *fakeNodes) TaskStatus(context.Context, string, proxmox.UPID) (proxmox.TaskStatus, error) {
	return proxmox.TaskStatus{}, nil
}

// ended notes a task that ended on a node.
func (f *fakeNodes) ended(node, typ string, vmid, n int) proxmox.UPID {
	upid := proxmox.UPID{Node: node, PID: uint32(n), Type: typ, ID: fmt.Sprint(vmid), User: "root@pam"}
	f.tasks[node] = append([]proxmox.TaskListEntry{{UPID: upid}}, f.tasks[node]...)
	return upid
}

func (f *fakeNodes) count() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.asked)
}

// observed is an observer of the nodes with n guests, and what it woke.
type observed struct {
	*testing.T
	nodes *fakeNodes
	conn  *cluster.Connection
	set   *cluster.Set
	obs   *Observer
	mu    sync.Mutex
	woken []string
}

func keyOf(vmid int) resource.Key {
	return resource.Key{Kind: "App", Namespace: "default", Name: fmt.Sprint(vmid)}
}

// watch tells a story in which the guests 100.. have been looked at directly once and are
// relied upon.
func watch(t *testing.T, guests int, story func(o *observed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNodes{asked: map[string]int{}, guests: map[int]*fakeGuest{}, offline: map[string]bool{}, tasks: map[string][]proxmox.TaskListEntry{}, fail: map[string]bool{}}
		for i := range guests {
			f.guests[100+i] = &fakeGuest{node: []string{"a", "b"}[i%2], digest: "d1", address: "10.0.0.5/24",
				row: proxmox.LXCStatus{Status: "running", PID: proxmox.Int(1000 + i), Tags: fmt.Sprintf("proximity;prx-%016d", i), Name: "g", MaxMem: 512}}
		}
		o := &observed{T: t, nodes: f, conn: &cluster.Connection{Name: "default", API: f}}
		o.set = cluster.NewSet(o.conn)
		o.obs = New(o.set, slog.New(slog.DiscardHandler), 0)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			o.obs.Source(ctx, nil, func(key resource.Key) {
				o.mu.Lock()
				defer o.mu.Unlock()
				o.woken = append(o.woken, key.Name)
			})
		}()
		for id := range f.guests {
			o.guest(id) // somebody is interested
		}
		time.Sleep(period + time.Second)
		for id := range f.guests {
			o.directLook(id)
		}
		for id := range f.guests {
			if !o.relied(id) {
				t.Fatalf("guest %d is not relied upon", id)
			}
		}
		story(o)
		cancel()
		<-ended
	})
}

func (o *observed) view() *View          { return o.obs.Of(o.conn) }
func (o *observed) guest(vmid int) Guest { return o.view().Guest(keyOf(vmid), vmid) }

// directLook is what a controller does that looks for itself.
func (o *observed) directLook(vmid int) {
	o.nodes.mu.Lock()
	g := *o.nodes.guests[vmid]
	o.nodes.mu.Unlock()
	o.guest(vmid).Saw(time.Now(), g.node, g.digest, g.row, vmid)
	o.guest(vmid).SawAddresses(time.Now(), []proxmox.GuestInterface{{Name: "eth0", HWAddr: "bc:24:11:00:00:01", Inet: g.address}})
}

func (o *observed) relied(vmid int) bool {
	seen, ok := o.guest(vmid).Recall()
	return ok && seen == vmid
}

// change does something outside.
func (o *observed) change(do func(f *fakeNodes)) {
	o.nodes.mu.Lock()
	defer o.nodes.mu.Unlock()
	do(o.nodes)
}

func (o *observed) wokenUp() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	slices.Sort(o.woken)
	return slices.Compact(slices.Clone(o.woken))
}
