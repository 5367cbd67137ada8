package pvesim

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
)

func (r *rig) request(method, path string, body io.Reader, headers ...string) *http.Request {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.base+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

func TestTransportRefusals(t *testing.T) {
	r := newRig(t, nil)
	chunked := r.request("POST", "/nodes/pve/lxc", iotest.OneByteReader(strings.NewReader("a=b")))
	deleteBody := r.request("DELETE", "/nodes/pve/network", strings.NewReader("a=b"))
	text := r.request("POST", "/nodes/pve/network", strings.NewReader("x"), "Content-Type", "text/plain")
	for _, c := range []struct {
		req    *http.Request
		code   int
		reason string
	}{
		{r.request("PATCH", "/version", nil), 501, "method 'PATCH' not available"},
		{r.request("HEAD", "/version", nil), 501, "method 'HEAD' not available"},
		{chunked, 501, "chunked transfer encoding not supported"},
		{deleteBody, 501, "Unexpected content for method 'DELETE'"},
		{text, 506, "upload 'Content-Type 'text/plain' not implemented"},
		{r.request("GET", "/nope", nil), 501, "Method 'GET /nope' not implemented"},
		{r.request("DELETE", "/version", nil), 501, "Method 'DELETE /version' not implemented"},
	} {
		a := r.send(c.req)
		if a.code != c.code || a.reason != c.reason {
			t.Errorf("%s %s: %d %s, want %d %s", c.req.Method, c.req.URL.Path, a.code, a.reason, c.code, c.reason)
		}
	}
	a := r.send(r.request("POST", "/nodes/pve/network", strings.NewReader(`{"iface":"vmbr88","type":"bridge","autostart":true,"mtu":1400}`), "Content-Type", "application/json"))
	if a.code != 200 {
		t.Errorf("JSON body: %d %s %v", a.code, a.reason, a.body.Errors)
	}
	r.refused(500, "hostname lookup 'nope' failed - failed to get address info for: nope: Temporary failure in name resolution", "GET", "/nodes/nope/network")
	r.refused(403, "Permission check failed (, Sys.Audit)", "GET", "/nodes/no_pe!/status")
	r.ok("GET", "/nodes/localhost/status")
}

func TestErrorsCloseTheConnectionAndHTTP2IsNotOffered(t *testing.T) {
	r := newRig(t, nil)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(strings.TrimSuffix(r.base, "/api2/json"), "https://"),
		&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}) //nolint:gosec // compared below
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != "http/1.1" {
		t.Errorf("protocol %q", state.NegotiatedProtocol)
	}
	if got := fingerprint(state.PeerCertificates[0].Raw); got != r.node.Credentials().Fingerprint {
		t.Errorf("fingerprint %s", got)
	}
	ask := func(path string) {
		_, _ = io.WriteString(conn, "GET /api2/json"+path+" HTTP/1.1\r\nHost: x\r\nAuthorization: "+r.token+"\r\n\r\n")
	}
	ask("/version")
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200 OK\r\n")) {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	ask("/nodes/pve/lxc/100/config")
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	rest, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(rest, []byte("HTTP/1.1 500 Configuration file 'nodes/pve/lxc/100.conf' does not exist\r\n")) {
		t.Errorf("%q, %v", rest, err)
	}
	if !bytes.Contains(rest, []byte(`"message":"Configuration file 'nodes/pve/lxc/100.conf' does not exist\n"`)) {
		t.Errorf("body %q", rest)
	}
}

func TestAuthentication(t *testing.T) {
	r := newRig(t, nil)
	c := r.node.Credentials()
	if err := r.node.Access().SetToken(seedUser, "old", "x", access.Token{Expire: 1}); err != nil {
		t.Fatal(err)
	}
	login := r.data("POST", "/access/ticket", "username", "root@pam", "password", c.RootPassword)
	ticket, csrf := login["ticket"].(string), login["CSRFPreventionToken"].(string)
	cookie := "PVEAuthCookie=" + url.QueryEscape(ticket)
	for _, h := range []struct {
		name   string
		method string
		header []string
		code   int
		reason string
	}{
		{"nothing", "GET", []string{"Authorization", "Bearer x"}, 401, "No ticket"},
		{"no token id", "GET", []string{"Authorization", "PVEAPIToken=root@pam=x"}, 401, "no tokenid specified"},
		{"unknown token", "GET", []string{"Authorization", "PVEAPIToken=proximity@pve!no=x"}, 401, "no such token 'no' for user 'proximity@pve'"},
		{"wrong secret", "GET", []string{"Authorization", "PVEAPIToken=proximity@pve!daemon=x"}, 401, "invalid token value!"},
		{"expired", "GET", []string{"Authorization", "PVEAPIToken=proximity@pve!old=x"}, 401, "token 'old' access expired"},
		{"garbage ticket", "GET", []string{"Cookie", "PVEAuthCookie=PVE:root@pam:00::x"}, 401, "permission denied - invalid PVE ticket"},
		{"ticket", "GET", []string{"Cookie", cookie}, 200, "OK"},
		{"write without CSRF", "DELETE", []string{"Cookie", cookie}, 401, "Permission denied - invalid csrf token"},
		{"write with wrong CSRF", "DELETE", []string{"Cookie", cookie, "CSRFPreventionToken", "AAAA:BBBB"}, 401, "Permission denied - invalid csrf token"},
		{"write with CSRF", "DELETE", []string{"Cookie", cookie, "CSRFPreventionToken", csrf}, 200, "OK"},
	} {
		a := r.send(r.request(h.method, "/nodes/pve/network", nil, h.header...))
		if a.code != h.code || a.reason != h.reason || a.code == 401 && a.raw != "" {
			t.Errorf("%s: %d %s %q, want %d %s", h.name, a.code, a.reason, a.raw, h.code, h.reason)
		}
	}
	a := r.refused(401, "authentication failure", "POST", "/access/ticket", "username", "root@pam", "password", "wrong")
	if a.body.Message != "authentication failure\n" {
		t.Errorf("a refused login has body %q", a.raw)
	}
	r.ok("POST", "/access/ticket", "username", "root@pam", "password", ticket)
	r.refused(401, "authentication failure", "POST", "/access/ticket", "username", seedUser, "password", ticket)
}

func TestTokenLimits(t *testing.T) {
	r := newRig(t, nil)
	base := []string{"vmid", "200", "ostemplate", "local:vztmpl/" + testTemplate, "rootfs", "local-lvm:1"}
	const only = "Permission check failed ("
	for _, c := range []struct {
		reason string
		kv     []string
	}{
		{only + "changing feature flags (except nesting) is only allowed for root@pam)", []string{"features", "nesting=1,keyctl=1"}},
		{only + "mount point type bind is only allowed for root@pam)", []string{"mp0", "/srv,mp=/srv"}},
		{only + "changing the hookscript is only allowed for root@pam)", []string{"hookscript", "local:snippets/x.sh"}},
		{only + "configuring device passthrough is only allowed for root@pam)", []string{"dev0", "/dev/net/tun"}},
		{only + "pool 'nope' does not exist)", []string{"pool", "nope"}},
		{only + "/, Sys.Modify)", []string{"unprivileged", "0"}},
	} {
		r.refused(403, c.reason, "POST", "/nodes/pve/lxc", append(base, c.kv...)...)
	}
	if err := r.node.Access().SetUser("low@pve", "password1", "", true); err != nil {
		t.Fatal(err)
	}
	if err := r.node.Access().SetToken("low@pve", "t", "s", access.Token{}); err != nil {
		t.Fatal(err)
	}
	r.create("100")
	r.token = "PVEAPIToken=low@pve!t=s"
	r.refused(403, "Permission check failed", "POST", "/nodes/pve/lxc", base...)
	r.refused(403, "Permission check failed (/vms/100, VM.Audit)", "GET", "/nodes/pve/lxc/100/config")
	r.refused(403, "Permission check failed (/nodes/pve, Sys.Modify)", "POST", "/nodes/pve/network", "iface", "vmbr9", "type", "bridge")
	if rows := r.list("GET", "/nodes/pve/lxc"); len(rows) != 0 {
		t.Errorf("guests shown: %v", rows)
	}
	if rows := r.list("GET", "/nodes/pve/network"); len(rows) != 0 {
		t.Errorf("bridges shown: %v", rows)
	}
	must := func(role, path string, privs ...string) {
		t.Helper()
		if err := r.node.Access().SetRole(role, privs); err != nil {
			t.Fatal(err)
		}
		if err := r.node.Access().SetACL(access.ACL{Path: path, Subject: "low@pve", Role: role, Propagate: true}, false); err != nil {
			t.Fatal(err)
		}
	}
	must("net", "/vms/100", "VM.Config.Network", "VM.Audit")
	r.refused(403, "Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)", "PUT", "/nodes/pve/lxc/100/config", "net0", "name=eth0,bridge=vmbr0")
	r.refused(403, "Permission check failed (/vms/100, VM.Config.Memory)", "PUT", "/nodes/pve/lxc/100/config", "memory", "64")
	must("use", "/sdn/zones/localnetwork/vmbr0", "SDN.Use")
	r.ok("PUT", "/nodes/pve/lxc/100/config", "net0", "name=eth0,bridge=vmbr0")
}

func TestSeededTokenReachesWhatItNeeds(t *testing.T) {
	r := newRig(t, nil)
	perms := r.data("GET", "/access/permissions")
	for path, privs := range map[string][]string{
		"/": {"Sys.Audit"}, "/nodes": {"Sys.Audit", "Sys.Modify"}, "/vms": {"VM.Allocate", "VM.PowerMgmt", "VM.Config.Options"},
		"/storage": {"Datastore.AllocateSpace"}, "/sdn": {"SDN.Use", "SDN.Allocate"},
	} {
		have, _ := perms[path].(map[string]any)
		for _, p := range privs {
			if _, ok := have[p]; !ok {
				t.Errorf("%s lacks %s", path, p)
			}
		}
	}
	for _, path := range []string{"/version", "/cluster/status", "/cluster/resources", "/cluster/nextid", "/nodes", "/nodes/pve/status", "/nodes/pve/version",
		"/nodes/pve/network", "/nodes/pve/storage", "/nodes/pve/storage/local-lvm/status", "/nodes/pve/storage/local/content", "/nodes/pve/aplinfo",
		"/nodes/pve/lxc", "/nodes/pve/tasks"} {
		r.ok("GET", path)
	}
	tmpl := r.list("GET", "/nodes/pve/storage/local/content", "content", "vztmpl")
	if len(tmpl) != 1 || tmpl[0]["volid"] != "local:vztmpl/"+testTemplate || tmpl[0]["format"] != "tzst" {
		t.Errorf("templates %v", tmpl)
	}
}

func TestAuthDelay(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AuthDelay = 50 * time.Millisecond })
	start := time.Now()
	r.send(r.request("GET", "/version", nil, "Authorization", "x"))
	if d := time.Since(start); d < 50*time.Millisecond {
		t.Errorf("refused after %v", d)
	}
}

func TestFaults(t *testing.T) {
	r := newRig(t, nil)
	f := r.node.Faults()
	f.Add(Fault{Method: "POST", Path: "/nodes/pve/network", Nth: 1, After: true, Status: 596, Text: "Broken pipe"})
	f.Add(Fault{Method: "POST", Path: "/nodes/pve/network", Nth: 2, Status: 500, Text: "cluster not ready - no quorum?"})
	f.Add(Fault{Method: "GET", Path: "/version", Nth: 1, Drop: true})
	f.Add(Fault{Method: "GET", Path: "/nodes", Delay: time.Millisecond})
	bridge := func(name string) []string { return []string{"iface", name, "type", "bridge"} }
	r.refused(596, "Broken pipe", "POST", "/nodes/pve/network", bridge("vmbr1")...)
	r.refused(500, "cluster not ready - no quorum?", "POST", "/nodes/pve/network", bridge("vmbr2")...)
	r.ok("POST", "/nodes/pve/network", bridge("vmbr3")...)
	names := ""
	for _, row := range r.list("GET", "/nodes/pve/network") {
		names += row["iface"].(string) + " "
	}
	if names != "vmbr0 vmbr1 vmbr3 " {
		t.Errorf("bridges %s", names)
	}
	if resp, err := r.client.Do(r.request("GET", "/version", nil, "Authorization", r.token)); err == nil {
		_ = resp.Body.Close()
		// The client repeats an idempotent request on a connection that was in use before.
		if resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	if f.Fired() < 4 {
		t.Errorf("%d faults fired", f.Fired())
	}
	f.Clear()
	r.ok("GET", "/version")
	s := r.node.Stats()
	if s.Requests["POST /nodes/{node}/network"] != 2 || s.Writes != 2 || s.Reads == 0 {
		t.Errorf("stats %+v", s)
	}
}

var _ net.Listener = (*closedListener)(nil)

type closedListener struct{}

func (*closedListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (*closedListener) Close() error              { return nil }
func (*closedListener) Addr() net.Addr            { return &net.TCPAddr{} }

func TestClosedNodeServesNothing(t *testing.T) {
	r := newRig(t, nil)
	r.ok("GET", "/version") // it serves by now
	if err := r.node.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.node.ServeAPI(&closedListener{}); err == nil {
		t.Error("a closed node serves the API")
	}
	if err := r.node.ServeSSH(&closedListener{}); err == nil {
		t.Error("a closed node serves ssh")
	}
}
