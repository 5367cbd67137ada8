package appliance

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/crypto/bcrypt"
)

// proxied is a real Caddy that runs with what Render made, led to other ports and files.
type proxied struct {
	t          *testing.T
	plain, tls string // addresses
}

// serveProxy starts the Caddy of a dialect with the Vhosts of an Input. Backends of the form
// 10.20.0.N:80 are led to servers of the test.
func serveProxy(t *testing.T, d dialect, in Input, backends map[string]string) *proxied {
	t.Helper()
	return serveProxyAt(t, d, in, backends, freePort(t), freePort(t), "")
}

// serveProxyAt does so at given addresses, with the root of the ACME directory in a file.
func serveProxyAt(t *testing.T, d dialect, in Input, backends map[string]string, plain, secure, root string) *proxied {
	t.Helper()
	caddy := tool(t, "caddy")
	if d == dialectTable && !hasTable(t, caddy) {
		t.Skipf("%s has no table of Vhosts", caddy)
	}
	b := mustRender(t, in)
	if len(b.Rejected) > 0 {
		t.Fatalf("left out: %+v", b.Rejected)
	}
	dir := t.TempDir()
	p := &proxied{t: t, plain: plain, tls: secure}
	pairs := []string{`":80"`, `"` + p.plain + `"`, `":443"`, `"` + p.tls + `"`, CaddyStorage, dir, caddyAdminSocket, dir + "/admin.sock", TablePath, dir + "/table", ACMERootPath, root}
	for address, server := range backends {
		pairs = append(pairs, `"`+address+`"`, `"`+server+`"`)
	}
	led := strings.NewReplacer(pairs...)
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(led.Replace(content)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := write("config.json", contentOf(t, b, map[dialect]string{dialectStock: VhostsPath, dialectTable: ProxyPath}[d]))
	write("table", contentOf(t, b, TablePath))
	cmd := exec.Command(caddy, "run", "--config", config)
	cmd.Env = []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
	out, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		log, _ := os.ReadFile(out.Name())
		if t.Failed() || os.Getenv("PROXIMITY_SHOW_CADDY") != "" {
			t.Logf("Caddy's log:\n%s", log[max(0, len(log)-20000):])
		}
	})
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", p.tls); err == nil {
			_ = conn.Close()
			break
		}
		if time.Since(begin) > time.Minute {
			t.Fatal("Caddy does not listen")
		}
	}
	return p
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ask sends a request for a host and returns status, headers and body.
func (p *proxied) ask(method, host, path string, body io.Reader, change ...func(*http.Request)) (*http.Response, string) {
	p.t.Helper()
	req, err := http.NewRequest(method, "http://"+p.plain+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Host = host
	for _, f := range change {
		f(req)
	}
	client := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp, string(text)
}

// echo answers with what it was asked, and speaks WebSocket at /ws.
func echo(t *testing.T, name string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/ws":
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer c.CloseNow()
			kind, data, err := c.Read(r.Context())
			if err == nil {
				_ = c.Write(r.Context(), kind, append([]byte(name+" heard "), data...))
			}
			return
		case r.URL.Path == "/verify": // of forward authentication
			if r.Header.Get("X-Token") != "good" {
				http.Error(w, "who are you", http.StatusUnauthorized)
				return
			}
			w.Header().Set("Remote-User", "ann")
			return
		}
		w.Header().Set("X-Backend", name)
		w.Header().Set("X-Private", "1")
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s %s %s host=%s site=%s user=%s cookie=%s bytes=%d", name, r.Method, r.URL.Path, r.Host,
			r.Header.Get("X-Site"), r.Header.Get("Remote-User"), r.Header.Get("Cookie"), n)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// served are Vhosts with each of the fields alone, so that what is seen is that field's work.
func served(t *testing.T) Input {
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	in := quickstart()
	one := []Rule{{Backends: []Backend{{Address: "10.20.0.50:80"}}}}
	in.Vhosts = nil
	add := func(name string, change func(*Vhost)) {
		v := Vhost{Key: "default/" + name, UID: name, Hosts: []string{name + ".prox.local"}, Rules: one}
		change(&v)
		in.Vhosts = append(in.Vhosts, v)
	}
	add("auth", func(v *Vhost) { v.BasicAuth = &BasicAuth{Users: []BasicUser{{Name: "ann", Hash: Hidden(hash)}}} })
	add("forward", func(v *Vhost) {
		v.ForwardAuth = &ForwardAuth{Address: "10.20.0.50:80", Path: "/verify", CopyHeaders: []string{"Remote-User"}}
	})
	add("work", func(v *Vhost) {
		v.Maintenance = &Maintenance{Message: "<p style='{x}'>{env.PATH} \\ {http.request.host}</p>"}
	})
	add("workmine", func(v *Vhost) {
		v.Maintenance = &Maintenance{AllowFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	})
	add("small", func(v *Vhost) { v.MaxBody = 1000 })
	add("heads", func(v *Vhost) {
		v.Request = Headers{Set: map[string]string{"X-Site": "edge 1"}, Remove: []string{"Cookie"}}
		v.Response = Headers{Set: map[string]string{"X-Backend": "hidden"}, Remove: []string{"X-Private"}}
	})
	add("rules", func(v *Vhost) {
		v.Rules = []Rule{
			{Path: "/app", StripPath: true, Backends: []Backend{{Address: "10.20.0.50:80"}}, Request: Headers{Set: map[string]string{"Host": "inner.example"}}},
			{Path: "/old", Redirect: &Redirect{To: "https://new.example/base/", Code: 301, KeepPath: true}},
			{Path: "/there", Redirect: &Redirect{To: "/here"}},
			{Path: "/dead", ConnectTimeout: time.Second, Backends: []Backend{{Address: "10.20.0.99:80"}}},
		}
	})
	add("many", func(v *Vhost) {
		v.Rules = []Rule{{Backends: []Backend{{Address: "10.20.0.50:80", Weight: 3}, {Address: "10.20.0.51:80", Weight: 1}}}}
	})
	add("sick", func(v *Vhost) {
		v.Rules = []Rule{{
			Backends: []Backend{{Address: "10.20.0.99:80"}, {Address: "10.20.0.51:80"}},
			Health:   &Health{Path: "/", Interval: time.Second, Timeout: time.Second},
		}}
	})
	add("given", func(v *Vhost) {
		v.Hosts = []string{"given.apps.example.org"}
		v.TLS = TLS{Mode: TLSProvided, Redirect: true, Certificate: givenCertificate, PrivateKey: Hidden(givenKey)}
	})
	add("wild", func(v *Vhost) { v.Hosts = []string{"*.any.prox.local"} })
	add("own", func(v *Vhost) {
		v.Hosts = []string{"own.any.prox.local"}
		v.Rules = []Rule{{Redirect: &Redirect{To: "/own"}}}
	})
	return in
}

// TestProxyBehaves asks a real Caddy for each of the fields of a Vhost, in both dialects.
func TestProxyBehaves(t *testing.T) {
	one, two := echo(t, "one"), echo(t, "two")
	backends := map[string]string{"10.20.0.50:80": one, "10.20.0.51:80": two, "10.20.0.99:80": "127.0.0.1:1"}
	for name, d := range map[string]dialect{"table": dialectTable, "stock": dialectStock} {
		t.Run(name, func(t *testing.T) {
			p := serveProxy(t, d, served(t), backends)
			t.Run("basic auth", p.basicAuth)
			t.Run("forward auth", p.forwardAuth)
			t.Run("maintenance", p.maintenance)
			t.Run("body and headers", p.bodyAndHeaders)
			t.Run("rules", p.rules)
			t.Run("several backends", p.several)
			t.Run("TLS", p.secure)
			t.Run("websocket", p.webSocket)
		})
	}
}

func (p *proxied) expect(t *testing.T, want int, part, method, host, path string, body io.Reader, change ...func(*http.Request)) *http.Response {
	t.Helper()
	resp, text := p.ask(method, host, path, body, change...)
	if resp.StatusCode != want || !strings.Contains(text, part) {
		t.Errorf("%s %s%s: %d %q, want %d with %q", method, host, path, resp.StatusCode, text, want, part)
	}
	return resp
}

func (p *proxied) basicAuth(t *testing.T) {
	const host = "auth.prox.local"
	p.expect(t, 401, "", "GET", host, "/", nil)
	p.expect(t, 401, "", "GET", host, "/", nil, func(r *http.Request) { r.SetBasicAuth("ann", "wrong") })
	p.expect(t, 200, "one GET", "GET", host, "/", nil, func(r *http.Request) { r.SetBasicAuth("ann", "right") })
}

func (p *proxied) forwardAuth(t *testing.T) {
	const host = "forward.prox.local"
	forged := func(r *http.Request) { r.Header.Set("Remote-User", "root") }
	p.expect(t, 401, "who are you", "GET", host, "/x", nil, forged)
	p.expect(t, 200, "user=ann", "POST", host, "/x", strings.NewReader("body"), forged, func(r *http.Request) { r.Header.Set("X-Token", "good") })
}

func (p *proxied) maintenance(t *testing.T) {
	resp := p.expect(t, 503, `<p style='{x}'>{env.PATH} \ {http.request.host}</p>`, "GET", "work.prox.local", "/", nil)
	if got := resp.Header.Get("Content-Type"); got != "text/html; charset=utf-8" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("headers %v", resp.Header)
	}
	p.expect(t, 200, "one GET", "GET", "workmine.prox.local", "/", nil)
}

func (p *proxied) bodyAndHeaders(t *testing.T) {
	p.expect(t, 200, "bytes=1000", "POST", "small.prox.local", "/", strings.NewReader(strings.Repeat("x", 1000)))
	resp, _ := p.ask("POST", "small.prox.local", "/", strings.NewReader(strings.Repeat("x", 200_000)))
	if resp.StatusCode < 400 {
		t.Errorf("a body that is too large: %d", resp.StatusCode)
	}
	resp = p.expect(t, 200, "site=edge 1 user= cookie= ", "GET", "heads.prox.local", "/", nil, func(r *http.Request) { r.Header.Set("Cookie", "a=b") })
	if resp.Header.Get("X-Backend") != "hidden" || resp.Header.Get("X-Private") != "" {
		t.Errorf("headers %v", resp.Header)
	}
}

func (p *proxied) rules(t *testing.T) {
	const host = "rules.prox.local"
	p.expect(t, 200, "one GET /x host=inner.example", "GET", host, "/app/x", nil)
	p.expect(t, 404, "", "GET", host, "/apple", nil)
	for path, want := range map[string]string{"/old/x?y=1": "https://new.example/base/old/x?y=1", "/there": "/here"} {
		if resp, _ := p.ask("GET", host, path, nil); resp.Header.Get("Location") != want {
			t.Errorf("%s leads to %q, want %q", path, resp.Header.Get("Location"), want)
		}
	}
	p.expect(t, 502, "502", "GET", host, "/dead", nil)
	p.expect(t, 302, "", "GET", "own.any.prox.local", "/", nil)
	p.expect(t, 200, "one GET", "GET", "other.any.prox.local", "/", nil)
	p.expect(t, 404, "", "GET", "deep.other.any.prox.local", "/", nil)
}

func (p *proxied) several(t *testing.T) {
	count := map[string]int{}
	for range 40 {
		resp, _ := p.ask("GET", "many.prox.local", "/", nil)
		count[resp.Header.Get("X-Backend")]++
	}
	if count["one"] != 30 || count["two"] != 10 {
		t.Errorf("weights 3 and 1: %v of 40", count)
	}
	for range 10 {
		p.expect(t, 200, "two GET", "GET", "sick.prox.local", "/", nil)
	}
}

func (p *proxied) secure(t *testing.T) {
	const host = "given.apps.example.org"
	if resp, _ := p.ask("GET", host, "/a?b=c", nil); resp.StatusCode != 308 || resp.Header.Get("Location") != "https://"+host+"/a?b=c" {
		t.Errorf("plain HTTP: %d %v", resp.StatusCode, resp.Header)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(givenCertificate))
	conn, err := tls.Dial("tcp", p.tls, &tls.Config{ServerName: host, RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("over TLS: %v, %v", resp, err)
	}
}

func (p *proxied) webSocket(t *testing.T) {
	dial := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", p.plain)
	}}}
	c, _, err := websocket.Dial(t.Context(), "ws://rules.prox.local/app/ws", &websocket.DialOptions{HTTPClient: dial})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, data, err := c.Read(t.Context()); err != nil || string(data) != "one heard hello" {
		t.Errorf("got %q, %v", data, err)
	}
}
