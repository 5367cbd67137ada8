package pvesim

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

const testTemplate = "debian-12-proximity_1.0-1_amd64.tar.zst"

// rig is a node that serves on the loopback, with a client.
type rig struct {
	t      *testing.T
	node   *Node
	engine *mem.Engine
	base   string
	client *http.Client
	token  string // Authorization; "" sends none
	csrf   string // for tickets
}

// newRig starts a node; change may alter its configuration.
func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	dir := t.TempDir()
	templates := filepath.Join(dir, "templates")
	if err := os.MkdirAll(templates, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(templates, testTemplate), []byte("not read"), 0o600); err != nil {
		t.Fatal(err)
	}
	return openRig(t, filepath.Join(dir, "pve"), templates, change)
}

func openRig(t *testing.T, dir, templates string, change func(*Config)) *rig {
	t.Helper()
	e, err := mem.New(mem.Config{Dir: filepath.Join(filepath.Dir(dir), "guests"), TemplateDir: templates})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: dir, Engine: e, TemplateDir: templates}
	if change != nil {
		change(&cfg)
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- n.ServeAPI(l) }()
	r := &rig{t: t, node: n, engine: e, base: "https://" + l.Addr().String() + "/api2/json"}
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the test checks the fingerprint elsewhere
	r.client = &http.Client{Transport: tr}
	c := n.Credentials()
	r.token = "PVEAPIToken=" + c.TokenID + "=" + c.TokenSecret
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		_ = e.Close()
	})
	return r
}

// newCluster starts a node with size-1 others, named pve2, pve3... Requests go to the
// first one.
func newCluster(t *testing.T, size int, change func(*Config)) *rig {
	t.Helper()
	return newRig(t, func(c *Config) {
		for i := 2; i <= size; i++ {
			e, err := mem.New(mem.Config{TemplateDir: c.TemplateDir})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = e.Close() })
			c.Peers = append(c.Peers, Peer{NodeName: fmt.Sprintf("pve%d", i), Engine: e})
		}
		if change != nil {
			change(c)
		}
	})
}

// answer is what came back.
type answer struct {
	code   int
	reason string
	raw    string
	body   struct {
		Data    any               `json:"data"`
		Message string            `json:"message"`
		Errors  map[string]string `json:"errors"`
		Changes string            `json:"changes"`
		Total   int               `json:"total"`
	}
}

// do sends a request; kv are form parameters, key after value.
func (r *rig) do(method, path string, kv ...string) answer {
	r.t.Helper()
	form := url.Values{}
	for i := 0; i < len(kv); i += 2 {
		form.Add(kv[i], kv[i+1])
	}
	target := r.base + path
	var body io.Reader
	if len(form) > 0 && (method == http.MethodGet || method == http.MethodDelete) {
		target += "?" + form.Encode()
	} else if len(form) > 0 {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, target, body)
	if err != nil {
		r.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r.send(req)
}

func (r *rig) send(req *http.Request) answer {
	r.t.Helper()
	if r.token != "" && req.Header.Get("Authorization") == "" && req.Header.Get("Cookie") == "" {
		req.Header.Set("Authorization", r.token)
	}
	if r.csrf != "" {
		req.Header.Set("CSRFPreventionToken", r.csrf)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	_, reason, _ := strings.Cut(resp.Status, " ")
	a := answer{code: resp.StatusCode, reason: reason, raw: string(raw)}
	if len(raw) > 0 && json.Unmarshal(raw, &a.body) != nil && resp.StatusCode == http.StatusOK {
		r.t.Fatalf("%s %s: not JSON: %s", req.Method, req.URL.Path, raw)
	}
	return a
}

// ok demands a 200.
func (r *rig) ok(method, path string, kv ...string) answer {
	r.t.Helper()
	a := r.do(method, path, kv...)
	if a.code != http.StatusOK {
		r.t.Fatalf("%s %s %v: %d %s %v", method, path, kv, a.code, a.reason, a.body.Errors)
	}
	return a
}

// refused demands an error with that status and reason.
func (r *rig) refused(code int, reason, method, path string, kv ...string) answer {
	r.t.Helper()
	a := r.do(method, path, kv...)
	if a.code != code || a.reason != reason {
		r.t.Errorf("%s %s %v:\n got %d %s %v\nwant %d %s", method, path, kv, a.code, a.reason, a.body.Errors, code, reason)
	}
	return a
}

// task demands a UPID and waits for the task's end.
func (r *rig) task(method, path string, kv ...string) (exit string, log []string) {
	r.t.Helper()
	a := r.ok(method, path, kv...)
	upid, ok := a.body.Data.(string)
	if !ok {
		r.t.Fatalf("%s %s: no UPID but %v", method, path, a.body.Data)
	}
	return r.wait(upid), r.log(upid)
}

func (r *rig) wait(upid string) string {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		d := r.ok("GET", "/nodes/"+nodeOf(upid)+"/tasks/"+upid+"/status").body.Data.(map[string]any)
		if d["status"] == "stopped" {
			return d["exitstatus"].(string)
		}
	}
	r.t.Fatalf("%s does not end", upid)
	return ""
}

// nodeOf is the node that a task runs on.
func nodeOf(upid string) string { return strings.Split(upid, ":")[1] }

func (r *rig) log(upid string) []string {
	var out []string
	for _, l := range r.ok("GET", "/nodes/"+nodeOf(upid)+"/tasks/"+upid+"/log", "limit", "0").body.Data.([]any) {
		out = append(out, l.(map[string]any)["t"].(string))
	}
	return out
}

// done runs a task that must succeed.
func (r *rig) done(method, path string, kv ...string) {
	r.t.Helper()
	if exit, log := r.task(method, path, kv...); exit != "OK" {
		r.t.Fatalf("%s %s %v: %s\n%s", method, path, kv, exit, strings.Join(log, "\n"))
	}
}

func (r *rig) data(method, path string, kv ...string) map[string]any {
	r.t.Helper()
	d, ok := r.ok(method, path, kv...).body.Data.(map[string]any)
	if !ok {
		r.t.Fatalf("%s %s: no object", method, path)
	}
	return d
}

func (r *rig) list(method, path string, kv ...string) []map[string]any {
	r.t.Helper()
	var out []map[string]any
	for _, row := range r.ok(method, path, kv...).body.Data.([]any) {
		out = append(out, row.(map[string]any))
	}
	return out
}

// create makes a guest with sensible options; kv adds to them.
func (r *rig) create(vmid string, kv ...string) {
	r.t.Helper()
	r.createOn("pve", vmid, kv...)
}

func (r *rig) createOn(node, vmid string, kv ...string) {
	r.t.Helper()
	r.done("POST", "/nodes/"+node+"/lxc", append([]string{
		"vmid", vmid, "ostemplate", "local:vztmpl/" + testTemplate, "rootfs", "local-lvm:4",
		"hostname", "g" + vmid, "memory", "256", "cores", "1", "features", "nesting=1",
	}, kv...)...)
}

// waitFor waits until something is so.
func waitFor(t *testing.T, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to be so")
		}
	}
}
