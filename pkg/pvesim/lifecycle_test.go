package pvesim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

func TestNodeSurvivesItsProcess(t *testing.T) {
	dir := t.TempDir()
	templates := filepath.Join(dir, "templates")
	if err := os.MkdirAll(templates, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(templates, testTemplate), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var first Credentials
	t.Run("before", func(t *testing.T) {
		r := openRig(t, filepath.Join(dir, "pve"), templates, nil)
		first = r.node.Credentials()
		r.create("101", "onboot", "1", "net0", "name=eth0,bridge=proxlan,ip=manual")
		r.create("102", "onboot", "1", "startup", "order=1", "net0", "name=eth0,bridge=vmbr0,ip=dhcp")
		r.create("103")
		// Staged only: the boot commits it, so guest 101 finds its bridge.
		r.ok("POST", "/nodes/pve/network", "iface", "proxlan", "type", "bridge", "autostart", "1")
		// The rig's end is not a shutdown: nothing is stopped in order, as after a kill.
	})
	r := openRig(t, filepath.Join(dir, "pve"), templates, nil)
	if got := r.node.Credentials(); got != first {
		t.Errorf("credentials changed: %+v, %+v", first, got)
	}
	if err := r.node.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	var running []string
	for _, g := range r.engine.Guests() {
		if g.Running() {
			running = append(running, fmt.Sprint(g.VMID()))
		}
	}
	if strings.Join(running, " ") != "101 102" {
		t.Errorf("running %v", running)
	}
	var order []string
	for _, row := range r.list("GET", "/nodes/pve/tasks", "typefilter", "vzstart") {
		order = append([]string{row["id"].(string)}, order...)
	}
	if strings.Join(order, " ") != "102 101" {
		t.Errorf("started in the order %v", order)
	}
	g, _ := r.engine.Guest(102)
	since, _ := r.engine.Status(t.Context(), 102)
	if err := r.node.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, _ := r.engine.Status(t.Context(), 102); again.InitPID != since.InitPID {
		t.Error("a second boot restarted a running guest")
	}
	g.HangOnShutdown(true)
	r.ok("PUT", "/nodes/pve/lxc/102/config", "startup", "order=1,down=1")
	if err := r.node.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g.Running() {
		t.Error("a guest that hangs survives the node's shutdown")
	}
}

func TestConcurrentCreatesOfOneVMID(t *testing.T) {
	r := newRig(t, nil)
	const n = 8
	answers := make([]answer, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			answers[i] = r.do("POST", "/nodes/pve/lxc", "vmid", "300", "ostemplate", "local:vztmpl/"+testTemplate, "rootfs", "local-lvm:1", "features", "nesting=1")
		})
	}
	wg.Wait()
	won := 0
	for _, a := range answers {
		switch {
		case a.code == 200:
			won++
			if exit := r.wait(a.body.Data.(string)); exit != "OK" {
				t.Errorf("create: %s", exit)
			}
		case a.reason != "CT 300 already exists on node 'pve'" && a.reason != "unable to create CT 300 - CT 300 already exists on node 'pve'":
			t.Errorf("%d %s", a.code, a.reason)
		}
	}
	if won != 1 {
		t.Errorf("%d creates were accepted", won)
	}
	if a := r.ok("GET", "/cluster/nextid"); a.body.Data != "100" {
		t.Errorf("nextid %v", a.body.Data)
	}
	if a := r.refused(400, "Parameter verification failed.", "GET", "/cluster/nextid", "vmid", "300"); a.body.Errors["vmid"] != "VM 300 already exists" {
		t.Errorf("%v", a.body.Errors)
	}
}

// slowEngine holds Start until it is released.
type slowEngine struct {
	engine.Engine
	gate chan struct{}
}

func (s *slowEngine) Start(ctx context.Context, g engine.Guest) error {
	select {
	case <-s.gate:
		return s.Engine.Start(ctx, g)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestLocksAndInterruptedTasks(t *testing.T) {
	slow := &slowEngine{gate: make(chan struct{})}
	r := newRig(t, func(c *Config) {
		slow.Engine = c.Engine
		c.Engine, c.LockTimeout = slow, 50*time.Millisecond
	})
	r.create("100")
	upid := r.ok("POST", "/nodes/pve/lxc/100/status/start").body.Data.(string)
	for !lockHeld(r.node, 100) {
		time.Sleep(time.Millisecond)
	}
	r.refused(500, "can't lock file '/run/lock/lxc/pve-config-100.lock' - got timeout", "PUT", "/nodes/pve/lxc/100/config", "cores", "2")
	if rows := r.list("GET", "/nodes/pve/tasks", "source", "active"); len(rows) != 1 || rows[0]["status"] != "RUNNING" {
		t.Errorf("active tasks %v", rows)
	}
	r.ok("DELETE", "/nodes/pve/tasks/"+upid)
	if exit := r.wait(upid); exit != "received interrupt" {
		t.Errorf("exit %q", exit)
	}
	close(slow.gate)
	r.done("POST", "/nodes/pve/lxc/100/status/start")
	if rows := r.list("GET", "/nodes/pve/tasks", "errors", "1", "vmid", "100"); len(rows) != 1 || rows[0]["upid"] != upid || rows[0]["tokenid"] != "daemon" {
		t.Errorf("failed tasks %v", rows)
	}
}

func lockHeld(n *Node, vmid int) bool {
	n.guests.mu.Lock()
	defer n.guests.mu.Unlock()
	return len(n.guests.locks[vmid]) == 1
}
