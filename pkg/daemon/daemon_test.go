package daemon_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/admin"
	"github.com/proximity-pve/proximity/pkg/daemon"
	"github.com/proximity-pve/proximity/pkg/pvesim/embedded"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "embedded-node" {
		os.Exit(embedded.NodeMain(os.Args[2:]))
	}
	if admin.IsChild(os.Args[1:]) {
		os.Exit(admin.ChildMain(context.Background(), os.Args[1:]))
	}
	if dir := os.Getenv(crashChildEnv); dir != "" {
		os.Exit(crashChild(dir))
	}
	os.Exit(m.Run())
}

// buffer is a writer that a test reads while the daemon writes.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// running is a daemon in this process, with its node in another one.
type running struct {
	t        *testing.T
	dir      string
	out, err buffer
	stop     func() error
	daemon.Endpoint
	client *http.Client
	token  string
}

// start runs a daemon with in-memory guests until the test stops it.
func start(t *testing.T, dir string) *running {
	t.Helper()
	return startWith(t, daemon.Config{DataDir: dir, Embedded: true, Engine: "mem"})
}

// startWith runs a daemon until the test stops it.
func startWith(t *testing.T, cfg daemon.Config) *running {
	t.Helper()
	dir := cfg.DataDir
	r := &running{t: t, dir: dir}
	cfg.Listen, cfg.Stdout, cfg.Stderr, cfg.LogLevel = "127.0.0.1:0", &r.out, &r.err, "debug"
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, cfg)
	}()
	r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("the daemon ended with: %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.err.String())
		}
	})
	r.until("ready", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the daemon ended before it was ready: %v\n%s", err, r.err.String())
		default:
		}
		return strings.Contains("\n"+r.out.String(), "\nready\n")
	})
	data, err := os.ReadFile(filepath.Join(dir, "endpoint.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &r.Endpoint); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(r.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	r.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	token, err := os.ReadFile(r.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	r.token = strings.TrimSpace(string(token))
	return r
}

// until waits for what the daemon does by itself; the bound only ends a broken test.
func (r *running) until(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: never", what)
		}
	}
}

func (r *running) call(method, path, body string) (int, map[string]any) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.REST+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	req.Header.Set("Content-Type", "application/yaml")
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		r.t.Fatalf("%s %s: %d: %s", method, path, resp.StatusCode, data)
	}
	return resp.StatusCode, out
}

func (r *running) ready(path string) bool {
	_, obj := r.call("GET", "/apis/proximity/v1alpha1/"+path, "")
	status, _ := obj["status"].(map[string]any)
	conds, _ := status["conditions"].([]any)
	for _, c := range conds {
		if m := c.(map[string]any); m["type"] == "Ready" {
			return m["status"] == "True"
		}
	}
	return false
}

func quickstartYAML(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("../../manifests/quickstart/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no quickstart: %v", err)
	}
	var all []string
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(data))
	}
	return strings.Join(all, "\n---\n")
}

var quickstartObjects = []string{
	"namespaces/default/vhosts/nginx-01.prox.local", "namespaces/default/apps/nginx-01", "appliances/proximity", "bridges/proximity-lan",
}

// TestQuickstartInMemory runs the whole daemon with simulated guests: the way of the four
// documents is the same as with real ones.
func TestQuickstartInMemory(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir)
	if first, _, _ := strings.Cut(r.out.String(), "\n"); !strings.Contains(first, "SIMULATED") {
		t.Errorf("the first line does not say that guests are simulated: %q", first)
	}
	if code, out := r.call("POST", "/apis/proximity/v1alpha1/apply", quickstartYAML(t)); code != 200 {
		t.Fatalf("apply: %d %v", code, out)
	}
	for _, path := range quickstartObjects {
		r.until(path+" ready", func() bool { return r.ready(path) })
	}
	page := func() (int, string) {
		req, _ := http.NewRequest("GET", "http://"+r.Forward+"/", nil)
		req.Host = "nginx-01.prox.local"
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if code, body := page(); code != 200 || !strings.Contains(body, "Welcome to nginx") {
		t.Errorf("page: %d %s", code, body)
	}

	// A restart of everything brings the same objects back.
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "endpoint.json")); err == nil {
		t.Error("endpoint.json is left after the end")
	}
	r = start(t, dir)
	for _, path := range quickstartObjects {
		r.until(path+" ready again", func() bool { return r.ready(path) })
	}
	for _, path := range quickstartObjects {
		if code, out := r.call("DELETE", "/apis/proximity/v1alpha1/"+path, ""); code != 200 {
			t.Errorf("delete %s: %d %v", path, code, out)
		}
	}
	for _, path := range quickstartObjects {
		r.until(path+" gone", func() bool { code, _ := r.call("GET", "/apis/proximity/v1alpha1/"+path, ""); return code == 404 })
	}
}

func TestConfigErrorsNameTheField(t *testing.T) {
	dir := t.TempDir()
	file := func(content string) string {
		path := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tc := range map[string]struct{ yaml, want string }{
		"unknown key":   {"dataDirr: /x\n", "line 1"},
		"wrong type":    {"proxmox:\n  endpoints: 7\n", "line 2"},
		"nothing":       {"", "proxmox.endpoints"},
		"token without": {"proxmox:\n  endpoints: [https://192.0.2.1:8006]\n  tokenID: me\n", "proxmox.tokenID"},
		"bad mode":      {"proxmox:\n  endpoints: [https://192.0.2.1:8006]\n  tokenID: a@pve!b\n  tokenSecretFile: /x\n  guestAccess: {mode: magic}\n", "guestAccess.mode"},
		"half a login":  {"proxmox:\n  endpoints: [https://192.0.2.1:8006]\n  tokenID: a@pve!b\n  tokenSecretFile: /x\n  guestAccess: {mode: console, user: a@pve}\n", "guestAccess.user and passwordFile"},
		"too many":      {"proxmox:\n  limits: {storageTasks: 1000}\n", "proxmox.limits: storageTasks 1000"},
		"impatient":     {"repair: {after: 1s}\n", "repair: after 1s: allowed is 5s to 24h"},
		"no realm":      {"proxmox:\n  endpoints: [https://192.0.2.1:8006]\n  tokenID: a@pve!b\n  tokenSecretFile: /x\n  guestAccess: {mode: console, user: a, passwordFile: /y}\n", "guestAccess.user"},
	} {
		cfg := daemon.Config{}
		err := daemon.LoadConfig(file(tc.yaml), &cfg)
		if err == nil {
			cfg.DataDir = filepath.Join(dir, "data")
			err = daemon.Run(t.Context(), cfg)
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	if err := daemon.LoadConfig("../../manifests/config/config.yaml", &daemon.Config{}); err != nil {
		t.Errorf("the installed configuration: %v", err)
	}
}
