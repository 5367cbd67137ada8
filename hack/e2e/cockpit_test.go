package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// cockpitByName leads a name to Cockpit and uses it from the uplink as a browser does: it logs in,
// and has a program run in a terminal, over a websocket that no page of another name may open.
func (d *daemon) cockpitByName(t *testing.T, user, password string) {
	const name = "cockpit.prox.local"
	vhost := strings.Replace(vhostYAML("cockpit", name), `{address: "10.30.0.9:80"}`, "{managementUI: true}", 1)
	if r := d.proxctlIn(vhost, "apply", "-f", "-"); r.code != 0 {
		t.Fatalf("apply: %s", r.err)
	}
	d.must("wait", "--for=condition=Ready", "vhost/cockpit", "--timeout=60s")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(d.must("ca")))
	client := &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool},
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				to := d.ForwardTLS
				if strings.HasSuffix(address, ":80") {
					to = d.Forward
				}
				return (&net.Dialer{}).DialContext(ctx, network, to)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	get := func(url, password string) *http.Response {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			req.SetBasicAuth(user, password)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		return resp
	}
	if resp := get("http://"+name+"/", ""); resp.StatusCode != 308 || resp.Header.Get("Location") != "https://"+name+"/" {
		t.Errorf("over HTTP: %s, %s", resp.Status, resp.Header.Get("Location"))
	}
	if resp := get("https://"+name+"/", ""); resp.StatusCode != 200 || !strings.Contains(resp.Header.Get("Content-Type"), "text/html") {
		t.Errorf("page of the login: %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	if resp := get("https://"+name+"/cockpit/login", "another"); resp.StatusCode != 401 {
		t.Errorf("login with a wrong password: %s", resp.Status)
	}
	login := get("https://"+name+"/cockpit/login", password)
	if login.StatusCode != 200 || len(login.Cookies()) != 1 || !login.Cookies()[0].Secure {
		t.Fatalf("login: %s, %s", login.Status, login.Header)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dial := func(origin string) (*websocket.Conn, *http.Response, error) {
		options := &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"cockpit1"}, HTTPHeader: http.Header{
			"Origin": {origin}, "Cookie": {login.Cookies()[0].Name + "=" + login.Cookies()[0].Value},
		}}
		return websocket.Dial(ctx, "wss://"+name+"/cockpit/socket", options)
	}
	if conn, resp, err := dial("https://" + host); err == nil {
		conn.CloseNow()
		t.Error("a page of another name opens the websocket")
	} else if resp == nil || resp.StatusCode != 403 {
		t.Errorf("a page of another name: %v", err)
	}
	conn, _, err := dial("https://" + name)
	if err != nil {
		t.Fatalf("websocket: %v", err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	const terminal = `{"command": "open", "channel": "t", "payload": "stream", "pty": true, "environ": ["TERM=xterm"], "spawn": ["/bin/sh", "-c", "tty; id -un"]}`
	for _, control := range []string{`{"command": "init", "version": 1, "host": "localhost"}`, terminal} {
		if err := conn.Write(ctx, websocket.MessageText, []byte("\n"+control)); err != nil {
			t.Fatalf("%s: %v", control, err)
		}
	}
	var said strings.Builder
	for !strings.Contains(said.String(), "/dev/pts/") || !strings.Contains(said.String(), user+"\r\n") {
		_, data, err := conn.Read(ctx)
		if err != nil {
			t.Fatalf("the terminal said %q: %v", said.String(), err)
		}
		if text, ok := strings.CutPrefix(string(data), "t\n"); ok {
			said.WriteString(text)
		} else if strings.Contains(string(data), `"problem"`) {
			t.Fatalf("the terminal: %s", data)
		}
	}
	// Who comes to the LAN address is served as before.
	if r := d.inGuest(d.vmid(app), "curl", "-sk", "--max-time", "30", "-u", user+":"+password, "-o", "/dev/null", "-w", "%{http_code}", "https://"+lanIP+":9090/cockpit/login"); r.out != "200" {
		t.Errorf("login at the LAN address: %s %s", r.out, r.err)
	}
	d.must("delete", "vhost/cockpit")
	eventually(t, "Cockpit is as it was before", func() bool {
		return d.inGuest(9999, "sh", "-c", "! test -e /etc/cockpit/cockpit.conf && ! test -e /etc/proximity/cockpit.conf && systemctl is-active -q cockpit.socket").code == 0
	})
}
