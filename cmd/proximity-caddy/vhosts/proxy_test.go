package vhosts

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// proxy is a running Caddy with a table.
type proxy struct {
	testing.TB
	file        string
	http, https string
	client      *http.Client
	version     int
}

const patience = 30 * time.Second

func startProxy(t testing.TB) *proxy {
	t.Helper()
	dir := t.TempDir()
	p := &proxy{TB: t, file: filepath.Join(dir, "etc", "table"), http: freeAddress(t), https: freeAddress(t)}
	if err := os.Mkdir(filepath.Dir(p.file), 0o700); err != nil {
		t.Fatal(err)
	}
	handlers := []any{map[string]any{"handle": []any{map[string]any{"handler": "proximity_vhosts"}}},
		map[string]any{"handle": []any{map[string]any{"handler": "static_response", "status_code": 404, "body": "unknown"}}}}
	server := func(listen string, more map[string]any) map[string]any {
		s := map[string]any{"listen": []string{listen}, "routes": handlers, "automatic_https": map[string]any{"disable": true}, "protocols": []string{"h1", "h2"}}
		for k, v := range more {
			s[k] = v
		}
		return s
	}
	config := map[string]any{
		"admin":   map[string]any{"disabled": true, "config": map[string]any{"persist": false}},
		"storage": map[string]any{"module": "file_system", "root": filepath.Join(dir, "storage")},
		"logging": map[string]any{"logs": map[string]any{"default": map[string]any{"writer": map[string]any{"output": "discard"}}}},
		"apps": map[string]any{
			"proximity_vhosts": map[string]any{"file": p.file},
			"http": map[string]any{"servers": map[string]any{
				"plain":  server(p.http, nil),
				"secure": server(p.https, map[string]any{"tls_connection_policies": []any{map[string]any{}}}),
			}},
			"tls": map[string]any{"automation": map[string]any{
				"policies":  []any{map[string]any{"on_demand": true, "issuers": []any{map[string]any{"module": "internal"}}}},
				"on_demand": map[string]any{"permission": map[string]any{"module": "proximity_vhosts"}},
			}},
			"pki": map[string]any{"certificate_authorities": map[string]any{"local": map[string]any{"install_trust": false}}},
		},
	}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(raw, true); err != nil {
		t.Fatal(err)
	}
	p.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: patience}
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// put replaces the table by rename and waits until it is served.
func (p *proxy) put(lines ...string) {
	p.Helper()
	p.version++
	want := fmt.Sprint(p.version)
	p.write(text(want, lines...))
	p.until("table "+want, func() bool { return strings.HasPrefix(p.report(), want+"\n") })
}

func (p *proxy) write(data []byte) {
	p.Helper()
	temp := p.file + ".new"
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		p.Fatal(err)
	}
	if err := os.Rename(temp, p.file); err != nil {
		p.Fatal(err)
	}
}

func (p *proxy) until(what string, ok func() bool) {
	p.Helper()
	for begin := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > patience {
			p.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func (p *proxy) report() string {
	_, body := p.get("check.invalid", "/")
	return body
}

func (p *proxy) get(host, path string) (int, string) {
	p.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+p.http+path, nil)
	if err != nil {
		p.Fatal(err)
	}
	req.Host = host
	resp, err := p.client.Do(req)
	if err != nil {
		p.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func (p *proxy) serves(host string, status int, body string) {
	p.Helper()
	if s, b := p.get(host, "/"); s != status || b != body {
		p.Errorf("%s answers %d %q, want %d %q", host, s, b, status, body)
	}
}

// says is a line whose hosts answer with a text.
func says(id, host, text string) string {
	return fmt.Sprintf(`{"id":%q,"hosts":[%q],"http":[{"handle":[{"handler":"static_response","body":%q}]}]}`, id, host, text)
}

// leads is a line that leads to a backend.
func leads(id, host, backend string) string {
	route := fmt.Sprintf(`[{"handle":[{"handler":"reverse_proxy","upstreams":[{"dial":%q}]}]}]`, backend)
	return fmt.Sprintf(`{"id":%q,"hosts":[%q],"http":%s,"https":%s,"tls":true}`, id, host, route, route)
}

func theApp(t testing.TB) *App {
	t.Helper()
	app, err := caddy.ActiveContext().App("proximity_vhosts")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*App)
}
