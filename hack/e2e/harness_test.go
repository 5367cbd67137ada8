package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// readyWithin is the time that a daemon with an empty data directory has until it is ready.
	readyWithin = 10 * time.Second
	// stopWithin is generous: a clean shutdown waits for guests.
	stopWithin = 60 * time.Second
)

var (
	binDir   string // the built programs
	rootDir  string // the repository
	quickDir string // manifests/quickstart
)

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	wd, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	rootDir = filepath.Dir(filepath.Dir(wd))
	quickDir = filepath.Join(rootDir, "manifests/quickstart")
	if os.Getenv("PROXIMITY_E2E") == "" {
		return m.Run()
	}
	if binDir, err = os.MkdirTemp("", "proximity-e2e-bin-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binDir)
	build := exec.Command("go", "build", "-o", binDir+"/", "./cmd/proximityd", "./cmd/proxctl")
	build.Dir, build.Env = rootDir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// story skips a test that was not asked for, or that needs containers where there are none.
func story(t *testing.T, tier string) {
	t.Helper()
	asked := os.Getenv("PROXIMITY_E2E")
	if asked != "all" && asked != tier {
		t.Skipf("PROXIMITY_E2E=%s does not ask for this story", asked)
	}
	cache := os.Getenv("PROXIMITY_CACHE")
	if cache == "" {
		cache = "/var/cache/proximity"
	}
	engine, _ := os.ReadFile(filepath.Join(cache, "engine"))
	if strings.TrimSpace(string(engine)) == "lxc" && os.Getuid() == 0 {
		return
	}
	if os.Getenv("PROXIMITY_REQUIRE_LXC") != "" {
		t.Fatal("real containers are required, and are not possible here: run make setup as root")
	}
	t.Skip("no real containers on this machine: run make setup as root")
}

// endpoint is what a program on the machine reads of endpoint.json.
type endpoint struct {
	REST, GRPC, CA, Forward, Engine string
	TokenFile                       string `json:"token_file"`
	ForwardTLS                      string `json:"forward_tls"`
	Node                            struct {
		PID     int
		LXCPath string `json:"lxc_path"`
	}
}

// daemon is a proximityd under test.
type daemon struct {
	t     *testing.T
	dir   string
	cmd   *exec.Cmd
	done  chan struct{}
	first string // first line of its output
	endpoint
}

// start runs a daemon on a data directory and waits until it is ready. The embedded node
// is destroyed when the test ends, whatever became of the daemon.
func start(t *testing.T, dir string, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, dir: dir, done: make(chan struct{})}
	d.cmd = exec.Command(filepath.Join(binDir, "proximityd"), append([]string{"--embedded", "--data-dir", dir, "--listen", "127.0.0.1:0"}, args...)...)
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	logFile, err := os.OpenFile(filepath.Join(dir, "proximityd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	d.cmd.Stderr = logFile
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.cleanup)
	lines := make(chan string, 16)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	go func() {
		_ = d.cmd.Wait() // the exit code is in ProcessState
		close(d.done)
	}()
	limit := time.After(readyWithin)
	for {
		select {
		case line, ok := <-lines:
			switch {
			case !ok:
				t.Fatalf("daemon ended before it was ready:\n%s", d.log())
			case line == "ready":
				go func() {
					for range lines { // drain
					}
				}()
				d.readEndpoint()
				return d
			case d.first == "":
				d.first = line
			}
		case <-limit:
			t.Fatalf("daemon is not ready within %s:\n%s", readyWithin, d.log())
		}
	}
}

func (d *daemon) readEndpoint() {
	d.t.Helper()
	data, err := os.ReadFile(filepath.Join(d.dir, "endpoint.json"))
	if err != nil {
		d.t.Fatal(err)
	}
	if err := json.Unmarshal(data, &d.endpoint); err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) log() string {
	data, _ := os.ReadFile(filepath.Join(d.dir, "proximityd.log"))
	lines := strings.Split(string(data), "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}

func (d *daemon) cleanup() {
	_ = d.cmd.Process.Kill() // it may have ended
	<-d.done
	out, err := exec.Command(filepath.Join(binDir, "proximityd"), "--destroy-node", "--embedded", "--data-dir", d.dir).CombinedOutput()
	if err != nil {
		d.t.Errorf("destroy the embedded node: %v\n%s", err, out)
	}
	if d.t.Failed() {
		d.t.Logf("the daemon's log ends:\n%s", d.log())
	}
}

// kill9 ends the daemon as a crash does.
func (d *daemon) kill9() {
	d.t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		d.t.Fatal(err)
	}
	<-d.done
}

// stop ends the daemon as systemctl stop does, and expects exit code 0.
func (d *daemon) stop() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	select {
	case <-d.done:
	case <-time.After(stopWithin):
		d.t.Fatalf("daemon does not stop within %s:\n%s", stopWithin, d.log())
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		d.t.Fatalf("daemon stopped with exit code %d:\n%s", code, d.log())
	}
}

// run is the result of a program.
type run struct {
	out, err string
	code     int
}

// proxctl runs the command line with some input.
func (d *daemon) proxctlIn(stdin string, args ...string) run {
	d.t.Helper()
	cmd := exec.Command(filepath.Join(binDir, "proxctl"), append([]string{"--endpoint-file", filepath.Join(d.dir, "endpoint.json")}, args...)...)
	cmd.Dir, cmd.Stdin = rootDir, strings.NewReader(stdin)
	return finish(d.t, cmd)
}

func (d *daemon) proxctl(args ...string) run {
	d.t.Helper()
	return d.proxctlIn("", args...)
}

// must runs the command line and expects exit code 0.
func (d *daemon) must(args ...string) string {
	d.t.Helper()
	r := d.proxctl(args...)
	if r.code != 0 {
		d.t.Fatalf("proxctl %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

func finish(t *testing.T, cmd *exec.Cmd) run {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return run{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// inNode runs a program in the embedded node's namespaces, from outside.
func (d *daemon) inNode(args ...string) run {
	d.t.Helper()
	return finish(d.t, exec.Command("nsenter", append([]string{"-t", strconv.Itoa(d.Node.PID), "-n", "-m", "-p", "--"}, args...)...))
}

// inGuest runs a program in a guest.
func (d *daemon) inGuest(vmid int, args ...string) run {
	d.t.Helper()
	return d.inNode(append([]string{"lxc-attach", "-P", d.Node.LXCPath, "-n", strconv.Itoa(vmid), "--clear-env", "--"}, args...)...)
}

// object reads one object as JSON.
func (d *daemon) object(ref string) map[string]any {
	d.t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(d.must("get", ref, "-o", "json")), &o); err != nil {
		d.t.Fatal(err)
	}
	return o
}

// field follows a path of keys.
func field(o map[string]any, path ...string) any {
	var v any = o
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

func (d *daemon) vmid(ref string) int {
	d.t.Helper()
	n, ok := field(d.object(ref), "status", "vmid").(float64)
	if !ok {
		d.t.Fatalf("%s has no VMID", ref)
	}
	return int(n)
}

// condition returns status, reason and message of a condition.
func (d *daemon) condition(ref, typ string) (status, reason, message string) {
	d.t.Helper()
	conds, _ := field(d.object(ref), "status", "conditions").([]any)
	for _, c := range conds {
		if m, ok := c.(map[string]any); ok && m["type"] == typ {
			text := func(k string) string { s, _ := m[k].(string); return s }
			return text("status"), text("reason"), text("message")
		}
	}
	return "", "", ""
}

// web asks for a name through the forwarder, as a browser on the machine does.
func (d *daemon) web(host string) (code int, body string, err error) {
	return fetch(&http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+d.Forward+"/", host, "")
}

// webTLS does the same over HTTPS and verifies the chain against the proxy's own CA.
func (d *daemon) webTLS(host string, root []byte) (code int, body string, err error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, d.ForwardTLS)
	}
	tr := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: host}, DisableKeepAlives: true}
	return fetch(&http.Client{Timeout: 5 * time.Second, Transport: tr}, "https://"+host+"/", host, "")
}

// api asks the REST API.
func (d *daemon) api(path, token string) (code int, body string, err error) {
	ca, err := os.ReadFile(d.CA)
	if err != nil {
		d.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
	return fetch(&http.Client{Timeout: 90 * time.Second, Transport: tr}, d.REST+path, "", token)
}

// adminToken is the local administrator's token.
func (d *daemon) adminToken() string {
	d.t.Helper()
	data, err := os.ReadFile(d.TokenFile)
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func fetch(c *http.Client, url, host, token string) (int, string, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return resp.StatusCode, string(body), err
}

// eventually waits for something that the daemon does by itself. The bound is there to end
// a broken test; how long it took is logged, not judged.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const bound = 90 * time.Second
	begin := time.Now()
	for time.Since(begin) < bound {
		if ok() {
			t.Logf("%s: %.1f s", what, time.Since(begin).Seconds())
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Fatalf("%s: not within %s", what, bound)
}
