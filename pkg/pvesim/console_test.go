package pvesim

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// terminal is a client of a console.
type terminal struct {
	t      *testing.T
	conn   *websocket.Conn
	screen string
	upid   string
}

// openTerminal asks for a console in the rig's identity and identifies as who.
func (r *rig) openTerminal(vmid, who string) *terminal {
	r.t.Helper()
	d := r.data("POST", "/nodes/pve/lxc/"+vmid+"/termproxy")
	if who == "" {
		who = d["user"].(string)
	}
	conn := r.dialConsole(vmid, d["port"].(string), d["ticket"].(string))
	term := &terminal{t: r.t, conn: conn, upid: d["upid"].(string)}
	term.send(who + ":" + d["ticket"].(string) + "\n")
	return term
}

func (r *rig) dialConsole(vmid, port, ticket string) *websocket.Conn {
	r.t.Helper()
	u := strings.Replace(r.base, "https:", "wss:", 1) + "/nodes/pve/lxc/" + vmid + "/vncwebsocket?port=" + port + "&vncticket=" + url.QueryEscape(ticket)
	conn, _, err := websocket.Dial(r.t.Context(), u, &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}, //nolint:gosec // a test
		HTTPHeader:   http.Header{"Authorization": {r.token}},
		Subprotocols: []string{"binary"},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if conn.Subprotocol() != "binary" {
		r.t.Errorf("sub-protocol %q", conn.Subprotocol())
	}
	r.t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

func (x *terminal) send(s string) {
	x.t.Helper()
	if err := x.conn.Write(x.t.Context(), websocket.MessageBinary, []byte(s)); err != nil {
		x.t.Fatal(err)
	}
}

func (x *terminal) typed(s string) {
	x.t.Helper()
	x.send(fmt.Sprintf("0:%d:%s", len(s), s))
}

// wait reads until the text is on the screen; "" waits for the end of the connection.
func (x *terminal) wait(want string) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), 5*time.Second)
	defer cancel()
	for want == "" || !strings.Contains(x.screen, want) {
		_, b, err := x.conn.Read(ctx)
		if err != nil && ctx.Err() == nil && want == "" {
			return
		}
		if err != nil {
			x.t.Fatalf("no %q: %v\n%q", want, err, x.screen)
		}
		x.screen += string(b)
	}
}

func TestConsoleOfAGuest(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Packages = map[string]string{"pve-container": "6.1.3"} })
	r.create("100", "cmode", "shell")
	r.done("POST", "/nodes/pve/lxc/100/status/start")
	x := r.openTerminal("100", "")
	x.wait("OK\x1b[H\x1b[J\x1b[?2004hroot@g100:/# ")
	x.send("2")
	x.send("1:100:30:0:10:stty ")
	x.send("size\r") // a frame over two messages
	x.wait("30 100\r\r\n")
	x.typed("X=kept\r")
	x.wait("X=kept\r\r\n")

	// A second client is in the same session, and the first one's end does not end it.
	y := r.openTerminal("100", "")
	_ = x.conn.Close(websocket.StatusNormalClosure, "")
	if exit := r.wait(x.upid); exit != "OK" {
		t.Errorf("exit %s", exit)
	}
	y.typed("echo $X-$((6*7))\r")
	y.wait("kept-42\r\r\n")
	y.typed("exit\r")
	y.wait("[EOF - dtach terminating]")
	y.wait("")
	if exit, log := r.wait(y.upid), r.log(y.upid); exit != "OK" || len(log) == 0 || !strings.HasPrefix(log[0], "client connection: 127.0.0.1:") {
		t.Errorf("exit %s, log %v", exit, log)
	}
	z := r.openTerminal("100", "")
	z.wait("# ")
	z.typed("echo [$X]; exit 3\r")
	z.wait("[]\r\r\n")
	z.wait("")
	want := "command '/usr/bin/termproxy 5900 --path /vms/100 --perm VM.Console --vncticket-endpoint -- /usr/bin/dtach -A /var/run/dtach/vzctlconsole100 -r winch -z lxc-attach --clear-env -n 100' failed: exit code 1"
	if exit := r.wait(z.upid); exit != want {
		t.Errorf("exit %s", exit)
	}
	bad := r.openTerminal("100", "")
	bad.wait("OK")
	bad.send("9")
	bad.wait("")
	r.wait(bad.upid) // the program writes its last words after it has hung up
	if log := r.log(bad.upid); len(log) < 2 || log[1] != "unknown frame '9'" {
		t.Errorf("log %v", log)
	}
}

func TestConsoleRefusals(t *testing.T) {
	r := newRig(t, nil) // like 9.1.4, which knows users only
	r.create("100", "cmode", "shell")
	r.done("POST", "/nodes/pve/lxc/100/status/start")
	x := r.openTerminal("100", "")
	x.wait("")
	if x.screen != "" {
		t.Errorf("a token got %q", x.screen)
	}
	if exit := r.wait(x.upid); !strings.HasSuffix(exit, "' failed: exit code 1") {
		t.Errorf("exit %s", exit)
	}
	if log := r.log(x.upid); len(log) < 2 || log[1] != "authentication request failed" {
		t.Errorf("log %v", log)
	}
	r.refused(401, "permission denied - invalid PVEVNC ticket", "GET", "/nodes/pve/lxc/100/vncwebsocket", "port", "5900", "vncticket", "PVEVNC:0::x")
	r.refused(400, "Parameter verification failed.", "GET", "/nodes/pve/lxc/100/vncwebsocket", "port", "80", "vncticket", "PVEVNC:0::x")

	// Nothing listens on a port whose program has ended: the connection ends at once.
	d := r.data("POST", "/nodes/pve/lxc/100/termproxy")
	r.ok("DELETE", "/nodes/pve/tasks/"+d["upid"].(string))
	r.wait(d["upid"].(string))
	gone := &terminal{t: t, conn: r.dialConsole("100", d["port"].(string), d["ticket"].(string))}
	gone.wait("")

	// Without cmode=shell there is a login that nobody passes.
	r.asRootUser()
	r.create("101")
	r.done("POST", "/nodes/pve/lxc/101/status/start")
	y := r.openTerminal("101", "")
	y.wait("g101 login: ")
	y.typed("root\rsecret\r")
	y.wait("Login incorrect")
	r.done("POST", "/nodes/pve/lxc/100/status/stop")
	z := r.openTerminal("100", "")
	z.wait("Failed to get init pid")
}

// asRootUser makes requests those of root@pam with a ticket, as an authorization header.
func (r *rig) asRootUser() {
	r.t.Helper()
	r.token = "PVEAuthCookie=" + url.PathEscape(r.node.signer.Ticket("root@pam", time.Now()))
	r.csrf = r.node.signer.CSRF("root@pam", time.Now())
}
