package pvesim

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestParseFaults: a good script, and what is said of bad ones.
func TestParseFaults(t *testing.T) {
	list, err := ParseFaults("f.yaml", strings.NewReader("faults:\n- {method: GET, path: /nodes/*/lxc, nth: 2, after: true, delay: 2s, action: status, status: 596, text: x}\n"))
	want := Fault{Method: "GET", Path: "/nodes/*/lxc", Nth: 2, After: true, Delay: 2 * time.Second, Action: ActStatus, Status: 596, Text: "x"}
	if err != nil || len(list) != 1 || list[0] != want {
		t.Fatalf("%+v, %v", list, err)
	}
	if list, err = ParseFaults("f.json", strings.NewReader(`{"faults": [{"action": "reset"}]}`)); err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	for text, want := range map[string]string{
		"faults: [1]": "f:1: a fault is a mapping of",
		"faults:\n- {action: reset}\n- {verb: x}":     `f:3: field "verb" is not one of`,
		"faults: [{action: boom}]":                    `f:1: action is "boom", want one of timeout`,
		"faults: [{action: status, status: 200}]":     "f:1: status is 200, want 400 to 599",
		"faults: [{action: drip, delay: soon}]":       `f:1: delay is "soon", want a duration`,
		"faults: [{action: reset, method: get}]":      `f:1: method is "get", want GET`,
		"faults: [{action: reset, path: '/a[*'}]":     "f:1: path is",
		"faults: [{path: /version}]":                  "f:1: neither action, status nor delay",
		"faults: [{action: reset, nth: -1}]":          "f:1: nth is -1",
		"faults: [{action: reset, after: sometimes}]": "f:1: yaml: unmarshal errors",
		"fault: []": "field fault not found",
	} {
		if _, err := ParseFaults("f", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseFaults(f *testing.F) {
	f.Add("faults:\n- {method: GET, path: /nodes/*/lxc, nth: 2, action: reset}\n")
	f.Add(`{"faults": [{"status": 500}]}`)
	f.Add("faults: {a: b}")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseFaults("f", strings.NewReader(text))
		if err != nil {
			return
		}
		for _, fault := range list {
			if err := checkFault(fault); err != nil {
				t.Errorf("%+v was accepted: %v", fault, err)
			}
		}
	})
}

// TestActionsOnAnswers: each action as a client sees it.
func TestActionsOnAnswers(t *testing.T) {
	r := newRig(t, nil)
	get := func(action Fault) (*http.Response, string, error) {
		t.Helper()
		r.node.Faults().Clear()
		action.Path = "/version"
		r.node.Faults().Add(action)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+"/version", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", r.token)
		client := *r.client
		client.Timeout = 2 * time.Second
		if action.Action == ActTimeout {
			client.Timeout = 50 * time.Millisecond
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp, string(body), err
	}
	for _, c := range []struct {
		fault Fault
		code  int
		body  string
	}{
		{Fault{Action: ActUnauthorized}, 401, ""},
		{Fault{Action: ActForbidden, Text: "Permission check failed (/vms/1, VM.Audit)"}, 403, "VM.Audit"},
		{Fault{Action: ActError}, 500, "got timeout"},
		{Fault{Action: ActStatus, Status: 599, Text: "Too many redirections"}, 599, ""},
		{Fault{Action: ActHTML}, 200, "<html>"},
		{Fault{Action: ActDrip, Delay: time.Microsecond}, 200, `"release":"9.1"`},
	} {
		resp, body, err := get(c.fault)
		if err != nil || resp.StatusCode != c.code || !strings.Contains(body, c.body) {
			t.Errorf("%s: %v, %q, %v", c.fault.Action, resp, body, err)
		}
	}
	if _, body, err := get(Fault{Action: ActTruncate}); err == nil || strings.HasSuffix(body, "}") {
		t.Errorf("truncated: %q, %v", body, err)
	}
	for _, a := range []Action{ActTimeout, ActReset} {
		if _, _, err := get(Fault{Action: a}); err == nil {
			t.Errorf("%s: an answer came", a)
		}
	}
}

// TestActionsOnTasks: the task that a request starts ends as the script says.
func TestActionsOnTasks(t *testing.T) {
	r := newRig(t, nil)
	r.create("100")
	fault := func(a Action, after bool) {
		r.node.Faults().Clear()
		r.node.Faults().Add(Fault{Method: "POST", Path: "/nodes/*/lxc/*/status/*", Action: a, After: after, Text: "told so"})
	}
	fault(ActTaskFails, false)
	if exit, _ := r.task("POST", "/nodes/pve/lxc/100/status/start"); exit != "told so" || r.node.running(t.Context(), 100) {
		t.Errorf("fails: %q", exit)
	}
	fault(ActTaskDies, true)
	if exit, log := r.task("POST", "/nodes/pve/lxc/100/status/start"); exit != "unexpected status" || !r.node.running(t.Context(), 100) || strings.HasPrefix(log[len(log)-1], "TASK") {
		t.Errorf("dies: %q, %v", exit, log)
	}
	fault(ActTaskWarns, false)
	if exit, _ := r.task("POST", "/nodes/pve/lxc/100/status/stop"); exit != "WARNINGS: 1" {
		t.Errorf("warns: %q", exit)
	}
	fault(ActTaskVanishes, true)
	upid := r.ok("POST", "/nodes/pve/lxc/100/status/start").body.Data.(string)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		a := r.do("GET", "/nodes/pve/tasks/"+upid+"/status")
		if a.code == 400 && a.body.Errors["upid"] == "no such task" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("vanishes: %+v", a)
		}
	}
	if !r.node.running(t.Context(), 100) {
		t.Error("the work of the task that vanished was not done")
	}
}

// TestQuorumLost: nothing can be made until it is back.
func TestQuorumLost(t *testing.T) {
	r := newRig(t, nil)
	r.node.Faults().Add(Fault{Path: "/version", Nth: 1, Action: ActQuorumLost})
	r.node.Faults().Add(Fault{Path: "/version", Nth: 2, Action: ActQuorumBack})
	r.ok("GET", "/version")
	r.refused(500, "cluster not ready - no quorum?", "POST", "/nodes/pve/lxc", "vmid", "100", "ostemplate", "local:vztmpl/"+testTemplate, "rootfs", "local-lvm:1")
	r.ok("GET", "/version")
	r.create("100")
}
