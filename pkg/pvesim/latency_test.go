package pvesim

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/test/bufconn"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// virtual is a node in virtual time, reached without a network.
type virtual struct {
	t      *testing.T
	node   *Node
	client *http.Client
}

// inVirtualTime runs fn on a node with the latency of a real one.
func inVirtualTime(t *testing.T, change func(*Config), fn func(*virtual)) {
	dir := t.TempDir()
	templates := filepath.Join(dir, "templates")
	if err := os.MkdirAll(templates, 0o700); err != nil {
		t.Fatal(err)
	}
	// The archives of the measured node, by their sizes.
	for name, size := range map[string]int64{"tiny_1_amd64.tar.xz": 882116, "debian-12-standard_12.12-1_amd64.tar.zst": 73597138} {
		file := filepath.Join(templates, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, size); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		e, err := mem.New(mem.Config{Dir: filepath.Join(dir, "guests"), TemplateDir: templates})
		if err != nil {
			t.Fatal(err)
		}
		cfg := Config{Dir: filepath.Join(dir, "pve"), Engine: e, TemplateDir: templates, Latency: RealisticLatency()}
		if change != nil {
			change(&cfg)
		}
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
			_ = e.Close()
		}()
		fn(&virtual{t: t, node: n, client: &http.Client{Transport: n.Transport()}})
	})
}

// ask sends a request and returns the status, the data and how long it took.
func (v *virtual) ask(method, path string, kv ...string) (int, any, time.Duration) {
	v.t.Helper()
	form := url.Values{}
	for i := 0; i < len(kv); i += 2 {
		form.Set(kv[i], kv[i+1])
	}
	target, body := "http://pve/api2/json"+path, io.Reader(nil)
	if method == http.MethodGet || method == http.MethodDelete {
		target += "?" + form.Encode()
	} else {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(v.t.Context(), method, target, body)
	if err != nil {
		v.t.Fatal(err)
	}
	c := v.node.Credentials()
	req.Header.Set("Authorization", "PVEAPIToken="+c.TokenID+"="+c.TokenSecret)
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	start := time.Now()
	resp, err := v.client.Do(req)
	if err != nil {
		v.t.Errorf("%s %s: %v", method, path, err)
		return 0, nil, 0
	}
	defer resp.Body.Close()
	var answer struct {
		Data any `json:"data"`
	}
	_ = json.NewDecoder(resp.Body).Decode(&answer) // an error's body is of no interest here
	if resp.StatusCode != http.StatusOK {
		v.t.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return resp.StatusCode, answer.Data, time.Since(start)
}

// task starts a task and returns how long its request and the task itself took.
func (v *virtual) task(method, path string, kv ...string) (request, work time.Duration) {
	v.t.Helper()
	_, data, request := v.ask(method, path, kv...)
	upid, _ := data.(string)
	start := time.Now()
	for {
		i, err := v.node.tasks.Status(upid)
		if err != nil {
			v.t.Errorf("%s: %v", upid, err)
			return request, 0
		}
		if !i.Running {
			if i.Failed() {
				v.t.Errorf("%s: %s", upid, i.Exit)
			}
			return request, time.Since(start)
		}
		time.Sleep(time.Millisecond)
	}
}

// within demands a measured time, give or take a fifth: what the real node's varied by.
func within(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low*4/5 || got > high*6/5 {
		t.Errorf("%s took %v, measured were %v to %v", what, got, low, high)
	}
}

// TestLatencyIsThatOfARealNode compares with the table of a real Proxmox VE 9.1.4.
func TestLatencyIsThatOfARealNode(t *testing.T) {
	const ms = time.Millisecond
	inVirtualTime(t, nil, func(v *virtual) {
		for path, want := range map[string][2]time.Duration{
			"/version": {5 * ms, 5 * ms}, "/cluster/resources": {5 * ms, 5 * ms}, "/nodes/pve/status": {5 * ms, 5 * ms},
			"/nodes/pve/lxc": {8 * ms, 8 * ms}, "/nodes/pve/network": {13 * ms, 13 * ms},
		} {
			_, _, took := v.ask("GET", path)
			within(t, "GET "+path, took, want[0], want[1])
		}
		create := func(vmid, template string) (time.Duration, time.Duration) {
			return v.task("POST", "/nodes/pve/lxc", "vmid", vmid, "ostemplate", "local:vztmpl/"+template, "rootfs", "local-lvm:4", "memory", "128", "features", "nesting=1")
		}
		request, work := create("100", "tiny_1_amd64.tar.xz")
		within(t, "POST create", request, 35*ms, 75*ms)
		within(t, "vzcreate of 0.9 MB", work, 270*ms, 270*ms)
		_, work = create("101", "debian-12-standard_12.12-1_amd64.tar.zst")
		within(t, "vzcreate of Debian", work, 1200*ms, 1400*ms)
		_, _, took := v.ask("GET", "/nodes/pve/lxc/100/config")
		within(t, "GET config", took, 6*ms, 10*ms)
		_, _, took = v.ask("GET", "/nodes/pve/lxc/100/status/current")
		within(t, "GET status/current", took, 25*ms, 37*ms)
		_, _, took = v.ask("PUT", "/nodes/pve/lxc/100/config", "cores", "1")
		within(t, "PUT config", took, 35*ms, 42*ms)
		for _, step := range []struct {
			method, path string
			low, high    time.Duration
		}{
			{"POST", "/nodes/pve/lxc/100/status/start", 1000 * ms, 1200 * ms},
			{"POST", "/nodes/pve/lxc/100/status/stop", 1000 * ms, 1000 * ms},
			{"DELETE", "/nodes/pve/lxc/100", 80 * ms, 140 * ms},
		} {
			request, work := v.task(step.method, step.path)
			within(t, step.method+" "+step.path, request, 25*ms, 25*ms)
			within(t, "task of "+step.path, work, step.low, step.high)
		}
		start := time.Now()
		var wg sync.WaitGroup
		for _, vmid := range []string{"110", "111", "112", "113"} {
			wg.Go(func() { create(vmid, "debian-12-standard_12.12-1_amd64.tar.zst") })
		}
		wg.Wait()
		within(t, "four creates at once", time.Since(start), 3800*ms, 3800*ms)
	})
}

// TestWorkersBoundRequests: a fourth request waits for one of three workers.
func TestWorkersBoundRequests(t *testing.T) {
	inVirtualTime(t, func(c *Config) {
		c.Latency = Latency{Workers: 3, Read: time.Second}
	}, func(v *virtual) {
		start := time.Now()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { v.ask("GET", "/version") })
		}
		wg.Wait()
		if got := time.Since(start); got != 2*time.Second {
			t.Errorf("four requests took %v, want two rounds of a second", got)
		}
	})
}

// TestTransportFollowsTheContext: a client that goes away is not kept waiting.
func TestTransportFollowsTheContext(t *testing.T) {
	inVirtualTime(t, nil, func(v *virtual) {
		v.node.Faults().Add(Fault{Action: ActTimeout})
		ctx, cancel := context.WithTimeout(v.t.Context(), 3*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://pve/api2/json/version", nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := v.client.Do(req); err == nil || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestLatencyOfCommands compares with the rest of that table: the ways into a guest.
func TestLatencyOfCommands(t *testing.T) {
	const ms = time.Millisecond
	inVirtualTime(t, nil, func(v *virtual) {
		t := v.t
		v.task("POST", "/nodes/pve/lxc", "vmid", "100", "ostemplate", "local:vztmpl/tiny_1_amd64.tar.xz", "rootfs", "local-lvm:4")
		v.task("POST", "/nodes/pve/lxc/100/status/start")
		for line, want := range map[string][2]time.Duration{
			"pct exec 100 -- true":                  {510 * ms, 530 * ms},
			"lxc-attach -n 100 --clear-env -- true": {11 * ms, 11 * ms},
		} {
			start := time.Now()
			if code := v.node.runCommand(t.Context(), line, stdio{in: strings.NewReader(""), out: io.Discard, err: io.Discard}); code != 0 {
				t.Errorf("%s: exit code %d", line, code)
			}
			within(t, line, time.Since(start), want[0], want[1])
		}
		key, err := os.ReadFile(v.node.Credentials().SSHPrivateKeyPath)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.ParsePrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		l := bufconn.Listen(64 << 10)
		served := make(chan struct{})
		go func() { _ = v.node.ServeSSH(l); close(served) }()
		start := time.Now()
		client, err := l.Dial()
		if err != nil {
			t.Fatal(err)
		}
		conn, channels, requests, err := ssh.NewClientConn(client, "node", &ssh.ClientConfig{
			User: v.node.Credentials().SSHUser, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		})
		if err != nil {
			t.Fatal(err)
		}
		c := ssh.NewClient(conn, channels, requests)
		session, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Run("pct exec 100 -- true"); err != nil {
			t.Error(err)
		}
		within(t, "a new connection and pct exec", time.Since(start), 660*ms, 720*ms)
		_ = c.Close()
		_ = l.Close()
		<-served
	})
}
