package standalone

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cluster is a running program, as a user sees it.
type cluster struct {
	t         *testing.T
	endpoints map[string]string
	token     string
	pins      map[string]bool
	client    *http.Client
}

// boot starts the program and reads what it prints.
func boot(t *testing.T, args ...string) *cluster {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Main(ctx, append([]string{"--listen", "127.0.0.1:0", "--data-dir", t.TempDir()}, args...), out, io.Discard)
		_ = out.CloseWithError(io.EOF)
		ended <- err
	}()
	c := &cluster{t: t, endpoints: map[string]string{}, pins: map[string]bool{}}
	lines := bufio.NewScanner(in)
	for lines.Scan() && lines.Text() != "ready" {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "endpoint":
			node, address, _ := strings.Cut(value, " ")
			c.endpoints[node] = address
		case "fingerprint":
			c.pins[value] = true
		case "token":
			c.token = value
		}
	}
	go func() { _, _ = io.Copy(io.Discard, in) }()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyPeerCertificate: c.pinned}} //nolint:gosec // pinned
	c.client = &http.Client{Transport: tr, Timeout: 10 * time.Second}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if c.token == "" {
		t.Fatal("no token was printed")
	}
	return c
}

// pinned accepts the printed fingerprints only.
func (c *cluster) pinned(raw [][]byte, _ [][]*x509.Certificate) error {
	sum := sha256.Sum256(raw[0])
	if pin := strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":"); !c.pins[pin] {
		return errors.New("another certificate: " + pin)
	}
	return nil
}

// curl sends a request to a node and returns its status line and body.
func (c *cluster) curl(node, method, path string, form url.Values) (string, string) {
	c.t.Helper()
	var body io.Reader
	if method != http.MethodGet {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.endpoints[node]+"/api2/json"+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "PVEAPIToken="+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err.Error(), ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error(), ""
	}
	return resp.Status, string(text)
}

func (c *cluster) want(node, method, path string, form url.Values, status, text string) {
	c.t.Helper()
	if s, body := c.curl(node, method, path, form); s != status || !strings.Contains(body, text) {
		c.t.Errorf("%s %s at %s: %s %s\nwant %s with %s", method, path, node, s, body, status, text)
	}
}

// TestStory is what a tool's author does: start it, look around, make a guest on the
// other node, and meet the faults of a file.
func TestStory(t *testing.T) {
	faults := filepath.Join(t.TempDir(), "faults.yaml")
	script := "faults:\n- {method: GET, path: /nodes/*/status, nth: 2, action: status, status: 596, text: Broken pipe}\n- {path: /cluster/options, action: html}\n"
	if err := os.WriteFile(faults, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	c := boot(t, "--nodes", "2", "--guests", "3", "--faults", faults)
	c.want("pve", "GET", "/version", nil, "200 OK", `"version":"9.1.4"`)
	c.want("pve2", "GET", "/cluster/status", nil, "200 OK", `"quorate":1`)
	c.want("pve2", "GET", "/cluster/resources?type=vm", nil, "200 OK", `"id":"lxc/1002"`)
	c.want("pve", "POST", "/nodes/pve2/lxc", url.Values{
		"vmid": {"200"}, "ostemplate": {"local:vztmpl/" + templates[0]}, "rootfs": {"local-lvm:1"},
	}, "200 OK", "UPID:pve2:")
	c.want("pve", "GET", "/nodes/pve/status", nil, "200 OK", "pveversion")
	c.want("pve", "GET", "/nodes/pve/status", nil, "596 Broken pipe", "")
	c.want("pve", "GET", "/cluster/options", nil, "200 OK", "<html>")
	c.want("pve", "POST", "/nodes/pve/network", url.Values{"iface": {"a-b"}, "type": {"bridge"}}, "400 Parameter verification failed.", "invalid network interface name 'a-b'")
}

func TestOlderVersions(t *testing.T) {
	c := boot(t, "--pve-version", "7.4")
	c.want("pve", "GET", "/version", nil, "200 OK", `"release":"7.4"`)
	c.want("pve", "GET", "/nodes/pve/lxc/100/interfaces", nil, "501 Method 'GET /nodes/pve/lxc/100/interfaces' not implemented", "")
	if _, body := c.curl("pve", "GET", "/nodes/pve/lxc/100/config", nil); strings.Contains(body, "message") {
		t.Errorf("an error of 7.4 has a message in its body: %s", body)
	}
	c.want("pve", "PUT", "/nodes/pve/lxc/100/config", url.Values{"entrypoint": {"/init"}}, "400 Parameter verification failed.", "entrypoint")
}

func TestBadCommandLines(t *testing.T) {
	for args, want := range map[string]string{
		"--listen 0.0.0.0:8006": "want a loopback address",
		"--listen nonsense":     "want address:port",
		"--nodes 17":            "want 1 to 16",
		"--guests -1":           "want 0 to 10000",
		"--latency slow":        "want none or realistic",
		"--pve-version 6.4":     "only 7.4, 8.4 and 9.1 are",
		"extra":                 "unexpected argument",
	} {
		err := Main(t.Context(), strings.Fields(args), io.Discard, io.Discard)
		if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}
