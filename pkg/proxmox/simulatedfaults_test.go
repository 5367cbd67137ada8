package proxmox_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
)

// The faults of the simulator's script, with what the client must say of them.
var scripted = []struct {
	name  string
	fault pvesim.Fault
	// unknown: nobody can tell whether the request took effect; otherwise is must hold.
	unknown bool
	is      func(error) bool
}{
	{"timeout", pvesim.Fault{Action: pvesim.ActTimeout}, true, nil},
	{"drip", pvesim.Fault{Action: pvesim.ActDrip, Delay: 50 * time.Millisecond}, true, nil},
	{"reset", pvesim.Fault{Action: pvesim.ActReset}, true, proxmox.WasCutOff},
	{"truncated", pvesim.Fault{Action: pvesim.ActTruncate}, true, nil},
	{"HTML", pvesim.Fault{Action: pvesim.ActHTML}, true, nil},
	{"401", pvesim.Fault{Action: pvesim.ActUnauthorized}, false, proxmox.IsUnauthorized},
	{"403", pvesim.Fault{Action: pvesim.ActForbidden, Text: "Permission check failed (/vms/200, VM.PowerMgmt)"}, false, proxmox.IsForbidden},
	{"lock timeout", pvesim.Fault{Action: pvesim.ActError, Text: "can't lock file '/run/lock/lxc/pve-config-200.lock' - got timeout"}, false, proxmox.IsLockTimeout},
	{"task list's lock", pvesim.Fault{Action: pvesim.ActError, Text: "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout"}, true, nil},
	{"595", pvesim.Fault{Action: pvesim.ActStatus, Status: 595, Text: "No route to host"}, false, proxmox.IsUnavailable},
	{"596", pvesim.Fault{Action: pvesim.ActStatus, Status: 596, Text: "Connection timed out"}, true, nil},
	{"599", pvesim.Fault{Action: pvesim.ActStatus, Status: 599, Text: "Too many redirections"}, true, nil},
}

// A write meets each fault before and after it takes effect. It is sent once, the error is of
// the right class, and looking shows what became of it.
func TestWritesMeetTheFaultScript(t *testing.T) {
	node, c := startNode(t, false)
	done(t, c)(c.CreateLXC(t.Context(), "pve", proxmox.LXCCreate{
		VMID: 200, Template: "local:vztmpl/" + templateFile, Unprivileged: true, RootFS: proxmox.NewVolume("local-lvm", 1),
	}))
	const request = "PUT /nodes/{node}/lxc/{vmid}/config"
	for _, f := range scripted {
		for _, after := range []bool{false, true} {
			name := f.name + map[bool]string{false: ", before its effect", true: ", after its effect"}[after]
			t.Run(name, func(t *testing.T) {
				fault := f.fault
				fault.Method, fault.Path, fault.Nth, fault.After = "PUT", "/nodes/pve/lxc/200/config", 1, after
				if !node.Faults().Add(fault) {
					t.Fatal("the script is full")
				}
				defer node.Faults().Clear()
				before, writes, fired := node.Stats().Requests[request], c.Stats().Writes, node.Faults().Fired()
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				err := c.UpdateLXC(ctx, "pve", 200, proxmox.LXCUpdate{Set: map[string]string{"description": name}})
				if err == nil || proxmox.IsUnknownOutcome(err) != f.unknown || f.is != nil && !f.is(err) {
					t.Errorf("%v", err)
				}
				if fault.Action == pvesim.ActTimeout && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v", err)
				}
				if n := c.Stats().Writes - writes; n != 1 {
					t.Errorf("%d requests were sent, want 1", n)
				}
				if n := node.Faults().Fired() - fired; n != 1 {
					t.Errorf("the fault hit %d times, want 1", n)
				}
				// The simulator counts what reaches a handler.
				if n := node.Stats().Requests[request] - before; after && n != 1 || n > 1 {
					t.Errorf("the request was handled %d times", n)
				}
				config, err := c.LXCConfig(t.Context(), "pve", 200)
				if err != nil || (config.Description() == name) != after && !drips(fault) {
					t.Errorf("the description is %q, %v", config.Description(), err)
				}
			})
		}
	}
}

// drips reports whether the answer only comes slowly: the work is done before in any case.
func drips(f pvesim.Fault) bool {
	switch f.Action {
	case pvesim.ActDrip, pvesim.ActTruncate:
		return true
	}
	return false
}

// What can become of a task.
func TestTasksMeetTheFaultScript(t *testing.T) {
	node, c := startNode(t, false)
	vmid := 200
	for _, tc := range []struct {
		name  string
		fault pvesim.Fault
		check func(t *testing.T, s proxmox.TaskStatus, err error)
	}{
		{"dies", pvesim.Fault{Action: pvesim.ActTaskDies}, wantLost},
		{"dies when all is done", pvesim.Fault{Action: pvesim.ActTaskDies, After: true}, wantLost},
		{"vanishes", pvesim.Fault{Action: pvesim.ActTaskVanishes}, wantLost},
		{"warns", pvesim.Fault{Action: pvesim.ActTaskWarns, Text: "Systemd 252 detected. You may need to enable nesting.", After: true},
			func(t *testing.T, s proxmox.TaskStatus, err error) {
				if err != nil || s.Warnings() == 0 || !s.Succeeded() {
					t.Errorf("%+v %v", s, err)
				}
			}},
		{"fails", pvesim.Fault{Action: pvesim.ActTaskFails, Text: "unable to create CT - out of luck"},
			func(t *testing.T, s proxmox.TaskStatus, err error) {
				var failed *proxmox.TaskError
				if !errors.As(err, &failed) || proxmox.IsUnknownOutcome(err) || failed.Exit == "" || len(failed.Log) == 0 {
					t.Errorf("%+v %v", s, err)
				}
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			vmid++
			tc.fault.Method, tc.fault.Path, tc.fault.Nth = "POST", "/nodes/pve/lxc", 1
			node.Faults().Add(tc.fault)
			defer node.Faults().Clear()
			upid, err := c.CreateLXC(t.Context(), "pve", proxmox.LXCCreate{
				VMID: vmid, Template: "local:vztmpl/" + templateFile, Unprivileged: true, RootFS: proxmox.NewVolume("local-lvm", 1),
			})
			if err != nil {
				t.Fatal(err)
			}
			s, err := c.WaitTask(t.Context(), "pve", upid)
			tc.check(t, s, err)
		})
	}
}

func wantLost(t *testing.T, s proxmox.TaskStatus, err error) {
	t.Helper()
	var lost *proxmox.TaskLostError
	if !errors.As(err, &lost) || !proxmox.IsUnknownOutcome(err) {
		t.Errorf("%+v %v", s, err)
	}
}

func TestQuorumIsLostAndComesBack(t *testing.T) {
	node, c := startNode(t, false)
	spec := proxmox.LXCCreate{VMID: 200, Template: "local:vztmpl/" + templateFile, Unprivileged: true, RootFS: proxmox.NewVolume("local-lvm", 1)}
	node.Faults().Add(pvesim.Fault{Method: "GET", Path: "/version", Nth: 1, Action: pvesim.ActQuorumLost})
	node.Faults().Add(pvesim.Fault{Method: "GET", Path: "/version", Nth: 2, Action: pvesim.ActQuorumBack})
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateLXC(t.Context(), "pve", spec); !proxmox.IsNoQuorum(err) || proxmox.IsUnknownOutcome(err) {
		t.Errorf("without quorum: %v", err)
	}
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	done(t, c)(c.CreateLXC(t.Context(), "pve", spec))
}
