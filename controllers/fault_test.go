package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/access"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// apiQuickstart is the quickstart with a bridge that goes through the API, so that every
// write is a request.
func (w *world) apiQuickstart() string {
	w.Helper()
	return strings.Replace(w.quickstart(), "interfaceName: proximity-lan", "interfaceName: proxlan", 1)
}

// writes are all requests that change something in the life of the quickstart. POST of a
// guest comes twice, one for the appliance and one for the App.
var writes = []pvesim.Fault{
	{Method: "POST", Path: "/nodes/pve/network", Nth: 1},
	{Method: "PUT", Path: "/nodes/pve/network", Nth: 1},
	{Method: "POST", Path: "/nodes/pve/lxc", Nth: 1},
	{Method: "POST", Path: "/nodes/pve/lxc", Nth: 2},
	{Method: "POST", Path: "/nodes/pve/lxc/9999/status/start", Nth: 1},
	{Method: "POST", Path: "/nodes/pve/lxc/20000/status/start", Nth: 1},
	{Method: "POST", Path: "/nodes/pve/lxc/9999/status/shutdown", Nth: 1},
	{Method: "POST", Path: "/nodes/pve/lxc/20000/status/shutdown", Nth: 1},
	{Method: "DELETE", Path: "/nodes/pve/lxc/9999", Nth: 1},
	{Method: "DELETE", Path: "/nodes/pve/lxc/20000", Nth: 1},
	{Method: "DELETE", Path: "/nodes/pve/network/proxlan", Nth: 1},
	{Method: "PUT", Path: "/nodes/pve/network", Nth: 2},
}

// failures are the ways in which a request fails.
var failures = map[string]pvesim.Fault{
	"task list lock, after the effect":  {After: true, Status: 500, Text: "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout"},
	"guest lock, after the effect":      {After: true, Status: 500, Text: "can't lock file '/run/lock/lxc/pve-config-20000.lock' - got timeout"},
	"guest lock, before the effect":     {Status: 500, Text: "can't lock file '/run/lock/lxc/pve-config-20000.lock' - got timeout"},
	"proxy gives up, after the effect":  {After: true, Status: 596, Text: "Connection timed out"},
	"proxy cannot connect":              {Status: 595, Text: "Connection refused"},
	"connection lost, after the effect": {After: true, Drop: true},
	"connection lost before the effect": {Drop: true},
	"forbidden":                         {Status: 403, Text: "Permission check failed (/vms/20000, VM.Allocate)"},
	"slow":                              {Delay: 20 * time.Second},
}

// TestFailingRequests lets each write fail once, in every way: all writes of a life in one
// story, and with PROXIMITY_FULL each in a story of its own.
func TestFailingRequests(t *testing.T) {
	var want, empty string
	t.Run("undisturbed", func(t *testing.T) {
		inWorldNow(t, func(w *world) {
			w.strangers()
			empty = w.portrait()
			w.start()
			w.apply(w.apiQuickstart())
			w.until("quickstart ready", w.ready(quickstartKeys...))
			w.settle()
			want = w.portrait()
		})
	})
	story := func(calls []pvesim.Fault, how pvesim.Fault) func(*testing.T) {
		return func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.strangers()
				for _, f := range calls {
					f.After, f.Delay, f.Status, f.Text, f.Drop = how.After, how.Delay, how.Status, how.Text, how.Drop
					w.node.Faults().Add(f)
				}
				w.start()
				w.apply(w.apiQuickstart())
				w.until("quickstart ready", w.ready(quickstartKeys...))
				w.settle()
				if now := w.portrait(); now != want {
					t.Errorf("not the same end:\n%s", diffLines(now, want))
				}
				w.createdOnce()
				for _, c := range w.ledger.all() {
					if how.After && c.nth > 1 && strings.HasPrefix(c.what, "api POST /nodes/pve/lxc ") {
						t.Errorf("a request whose outcome was not known was repeated: %s", c.what)
					}
				}
				w.remove(quickstartKeys...)
				w.until("everything gone", w.gone(quickstartKeys...))
				if now := w.portrait(); now != empty {
					t.Errorf("left on the node:\n%s", diffLines(now, empty))
				}
				w.createdOnce()
				// A second reload is not needed when the first is known to have worked.
				if fired := w.node.Faults().Fired(); fired == 0 || fired < len(calls)-1 {
					t.Errorf("only %d of %d requests failed", fired, len(calls))
				}
			})
		}
	}
	for name, how := range failures {
		t.Run(name, story(writes, how))
		for _, call := range writes {
			if full {
				t.Run(fmt.Sprintf("%s/%s %s #%d", name, call.Method, call.Path, call.Nth), story([]pvesim.Fault{call}, how))
			}
		}
	}
}

// flakyEngine fails the first attempt at each thing it does, in the middle of a task.
type flakyEngine struct {
	*mem.Engine
	mu     sync.Mutex
	failed map[string]bool
}

func (e *flakyEngine) first(what string, vmid int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := fmt.Sprint(what, " ", vmid)
	if e.failed[key] {
		return nil
	}
	e.failed[key] = true
	return errors.New("input/output error")
}

func (e *flakyEngine) Create(ctx context.Context, g engine.Guest, log io.Writer) error {
	if err := e.first("create", g.VMID); err != nil {
		return err
	}
	return e.Engine.Create(ctx, g, log)
}

func (e *flakyEngine) Start(ctx context.Context, g engine.Guest) error {
	if err := e.first("start", g.VMID); err != nil {
		return err
	}
	return e.Engine.Start(ctx, g)
}

func (e *flakyEngine) Shutdown(ctx context.Context, vmid int, timeout time.Duration) error {
	if err := e.first("shutdown", vmid); err != nil {
		return err
	}
	return e.Engine.Shutdown(ctx, vmid, timeout)
}

func (e *flakyEngine) Destroy(ctx context.Context, vmid int) error {
	if _, made := e.Guest(vmid); made { // a failed creation tidies up, too
		if err := e.first("destroy", vmid); err != nil {
			return err
		}
	}
	return e.Engine.Destroy(ctx, vmid)
}

// Every kind of task fails once; that is told, and then done.
func TestFailingTasks(t *testing.T) {
	inWorldOn(t, func(e *mem.Engine) engine.Engine { return &flakyEngine{Engine: e, failed: map[string]bool{}} }, func(w *world) {
		before := w.traces()
		w.deployed()
		w.mustTell(appKey, "CreateFailed", "StartFailed")
		w.mustTell(applianceKey, "CreateFailed", "StartFailed")
		w.createdOnce()
		w.remove(quickstartKeys...)
		w.unlock(appKey, firstVMID)
		w.unlock(applianceKey, applianceID)
		w.until("everything gone", w.gone(quickstartKeys...))
		w.mustTell(appKey, "ShutdownFailed", "DestroyFailed")
		if now := w.traces(); now != before {
			t.Errorf("left on the node:\n%s", diffLines(now, before))
		}
	})
}

// unlock does what a human is told to do about a guest whose destruction failed half-way:
// Proxmox leaves it locked.
func (w *world) unlock(key resource.Key, vmid int) {
	w.Helper()
	w.until("told of the lock", w.has(key, "Ready", "False", "Locked"))
	command := fmt.Sprintf("pct unlock %d", vmid)
	if c := resource.FindCondition(w.get(key), "Ready"); !strings.Contains(c.GetMessage(), command) {
		w.Fatalf("no way out is told: %s", c.GetMessage())
	}
	shell := w.shellOf(0)
	defer shell.Close()
	_, err := shell.Exec(w.Context(), nodeName, strings.Fields(command), nil, 0)
	w.must(err)
}

// While the API is away nothing is concluded from that, and it is told where it is looked for.
func TestAPIAway(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.settle()
		want, calls := w.portrait(), len(w.ledger.all())
		w.node.Faults().Add(pvesim.Fault{Status: 595, Text: "Connection refused"})
		key := resource.Key{Kind: "Cluster", Name: cluster.DefaultName}
		w.within(30*time.Second, "told", w.has(key, "Ready", "False", "Retrying"))
		time.Sleep(10 * time.Minute)
		w.node.Faults().Clear()
		w.within(time.Minute, "everything ready", w.ready(append(quickstartKeys, key)...))
		w.settle()
		if more := w.ledger.since(calls); len(more) > 0 {
			t.Errorf("written outside: %v", more)
		}
		if now := w.portrait(); now != want {
			t.Errorf("not the same end:\n%s", diffLines(now, want))
		}
	})
}

// A list that lacks what the token may no longer see is no proof of absence.
func TestPermissionTakenAway(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.settle()
		var taken []access.ACL
		for _, a := range w.node.Access().ACLs() {
			if a.Path == "/vms" {
				taken = append(taken, a)
				w.must(w.node.Access().SetACL(a, true))
			}
		}
		if len(taken) == 0 {
			t.Fatal("there is no permission to take away")
		}
		w.ledger.reset(nil)
		w.within(noticed, "told", func() bool {
			return w.stalled(appKey, "Forbidden")() && w.stalled(applianceKey, "Forbidden")()
		})
		time.Sleep(time.Minute)
		if c := resource.FindCondition(w.get(appKey), "Stalled"); !strings.Contains(c.GetMessage(), "VM.Audit") {
			t.Errorf("the missing privilege is not named: %s", c.GetMessage())
		}
		for _, a := range taken {
			w.must(w.node.Access().SetACL(a, false))
		}
		w.within(noticed, "everything ready", w.ready(quickstartKeys...))
		for _, c := range w.ledger.all() {
			if strings.HasPrefix(c.what, "api ") {
				t.Errorf("written: %s", c.what)
			}
		}
		w.createdOnce()
	})
}

// One answer that says that a guest does not exist is no proof while the list of guests has
// it: nothing is forgotten, and nothing made again.
func TestGuestThatIsSaidNotToExist(t *testing.T) {
	inWorld(t, func(w *world) {
		empty := w.traces()
		w.deployed()
		gone := pvesim.Fault{Method: "GET", Path: "/nodes/pve/lxc/20000/config", Status: 500, Text: "Configuration file 'nodes/pve/lxc/20000.conf' does not exist"}
		w.node.Faults().Add(gone)
		w.restart()
		w.until("told", w.has(appKey, "Ready", "False", "ChangedMeanwhile"))
		w.remove(appKey)
		time.Sleep(time.Minute)
		if w.get(appKey) == nil {
			t.Error("it was forgotten")
		}
		w.node.Faults().Clear()
		w.until("gone", w.gone(appKey))
		w.remove(vhostKey, applianceKey, bridgeKey)
		w.until("everything gone", w.gone(quickstartKeys...))
		if now := w.traces(); strings.TrimSpace(now) != strings.TrimSpace(empty) {
			t.Errorf("left on the node:\n%s", diffLines(now, empty))
		}
		w.createdOnce()
	})
}
