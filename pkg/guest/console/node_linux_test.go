package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// node is as much of a Proxmox VE node as consoles need, with shells of this machine for
// guests. Its answers have the shapes of recorded ones.
type node struct {
	*httptest.Server
	t *testing.T
	// tokens: its terminals take API tokens. packages says so; nobody may ask when nil.
	tokens   bool
	packages any
	cmode    string
	// others are tasks of other people's consoles.
	others []string
	// broken answers the request for a console instead.
	broken func(w http.ResponseWriter)

	mu     sync.Mutex
	opened []string // by whom
	// terminals are those that are open.
	terminals sync.WaitGroup
}

const (
	nodePort   = "5905"
	nodeTicket = "PVEVNC:6B040702::abc+/="
)

func newNode(t *testing.T) *node {
	n := &node{t: t, tokens: true, cmode: ShellMode, packages: []map[string]any{{"Package": "pve-container", "OldVersion": "6.1.3", "CurrentState": "Installed"}}}
	n.Server = httptest.NewUnstartedServer(n)
	n.Config.ErrorLog = log.New(io.Discard, "", 0)
	n.StartTLS()
	t.Cleanup(n.Close)
	return n
}

func (n *node) client(change func(*proxmox.Config)) *proxmox.Client {
	n.t.Helper()
	sum := sha256.Sum256(n.Certificate().Raw)
	cfg := proxmox.Config{Endpoints: []string{n.URL}, Fingerprints: []string{proxmox.FormatFingerprint(sum[:])}, TokenID: "proximity@pve!svc", TokenSecret: "s"}
	if change != nil {
		change(&cfg)
	}
	c, err := proxmox.New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(c.Close)
	return c
}

func byPassword(c *proxmox.Config) {
	c.TokenID, c.TokenSecret, c.Username, c.Password = "", "", "proximity@pve", "pw"
}

func (n *node) runner(api, login *proxmox.Client) *Runner {
	n.t.Helper()
	cfg := Config{API: api}
	if login != nil {
		cfg.Login = login
	}
	r, err := New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = r.Close() })
	return r
}

func caller(r *http.Request) string {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "PVEAPIToken="); ok {
		name, _, _ := strings.Cut(token, "=")
		return name
	}
	return "proximity@pve"
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(data any) { _ = json.NewEncoder(w).Encode(map[string]any{"data": data}) }
	refuse := func(status int, text string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"data": nil, "message": text + "\n"})
	}
	who := caller(r)
	n.check(r)
	switch path := strings.TrimPrefix(r.URL.Path, "/api2/json"); {
	case path == "/access/ticket":
		answer(map[string]any{"ticket": "PVE:proximity@pve:6B040702::x", "CSRFPreventionToken": "c"})
	case path == "/nodes/pve/version":
		answer(map[string]any{"version": "9.1.4", "release": "9.1"})
	case path == "/nodes/pve/apt/versions" && n.packages == nil:
		refuse(403, "Permission check failed (/nodes/pve, Sys.Audit)")
	case path == "/nodes/pve/apt/versions":
		answer(n.packages)
	case !strings.HasPrefix(path, "/nodes/pve/lxc/100/") && path != "/nodes/pve/tasks":
		refuse(500, "Configuration file 'nodes/pve/lxc/101.conf' does not exist")
	case strings.HasSuffix(path, "/config"):
		answer(map[string]any{"cmode": n.cmode, "digest": strings.Repeat("0", 40)})
	case strings.HasSuffix(path, "/status/current"):
		answer(map[string]any{"vmid": 100, "status": "running"})
	case path == "/nodes/pve/tasks":
		rows := []map[string]any{}
		for _, user := range append([]string{who}, n.others...) {
			rows = append(rows, map[string]any{"upid": "UPID:pve:00001D06:0005A1C8:6B040702:vncproxy:100:" + user + ":", "type": "vncproxy", "status": "RUNNING"})
		}
		answer(rows)
	case strings.HasSuffix(path, "/termproxy") && n.broken != nil:
		n.broken(w)
	case strings.HasSuffix(path, "/termproxy"):
		answer(map[string]any{"user": who, "ticket": nodeTicket, "port": nodePort, "upid": "UPID:pve:00001D06:0005A1C8:6B040702:vncproxy:100:" + who + ":"})
	case strings.HasSuffix(path, "/vncwebsocket"):
		n.terminal(w, r, who)
	}
}

// check holds a request to the schema, where the simulator has it.
func (n *node) check(r *http.Request) {
	methods, err := pveschema.Load()
	if err != nil {
		n.t.Error(err)
	}
	params := r.URL.Query()
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		if err := r.ParseForm(); err != nil {
			n.t.Error(err)
		}
		params = r.Form
	}
	if errs, _ := pveschema.CheckRequest(methods, r.Method, strings.TrimPrefix(r.URL.Path, "/api2/json"), params); len(errs) > 0 {
		n.t.Errorf("%s %s is refused by the schema: %v", r.Method, r.URL.Path, errs)
	}
}

// terminal is what termproxy does: it checks the ticket, then passes bytes both ways.
func (n *node) terminal(w http.ResponseWriter, r *http.Request, who string) {
	if r.URL.Query().Get("port") != nodePort || r.URL.Query().Get("vncticket") != nodeTicket {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"binary"}})
	if err != nil {
		n.t.Error(err)
		return
	}
	defer func() { _ = ws.CloseNow() }()
	_, greeting, err := ws.Read(r.Context())
	if err != nil || string(greeting) != who+":"+nodeTicket+"\n" || strings.Contains(who, "!") && !n.tokens {
		return
	}
	shell := startShell(n.t, "bash", "--norc", "-i")
	defer shell.Close()
	n.mu.Lock()
	n.opened = append(n.opened, who)
	n.terminals.Add(1)
	n.mu.Unlock()
	defer n.terminals.Done()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	_ = ws.Write(ctx, websocket.MessageBinary, []byte("OK"))
	go func() {
		defer cancel()
		for {
			data, err := shell.Receive(ctx)
			if err != nil {
				// As a real one: the shell's end is the connection's.
				_ = ws.CloseNow()
				return
			}
			if ws.Write(ctx, websocket.MessageBinary, data) != nil {
				return
			}
		}
	}()
	for {
		_, frame, err := ws.Read(ctx)
		if err != nil {
			return
		}
		if err := n.typed(ctx, shell, frame); err != nil {
			n.t.Error(err)
			return
		}
	}
}

// typed takes a frame apart. It must fit into the real one's buffer of 4 KiB.
func (n *node) typed(ctx context.Context, shell *ptyTerminal, frame []byte) error {
	if string(frame) == "2" {
		return nil
	}
	parts := bytes.SplitN(frame, []byte(":"), 3)
	if len(parts) != 3 || string(parts[0]) != "0" || len(frame) > 4096 {
		return fmt.Errorf("a frame of %d bytes: %.40q", len(frame), frame)
	}
	if length, err := strconv.Atoi(string(parts[1])); err != nil || length != len(parts[2]) {
		return fmt.Errorf("a frame that says %s and has %d bytes", parts[1], len(parts[2]))
	}
	_ = shell.Send(ctx, parts[2]) // a shell that has just ended takes nothing; its end is the connection's
	return nil
}

// From a command to a shell on a terminal and back, over TLS, HTTP and a websocket.
func TestThroughTheAPI(t *testing.T) {
	n := newNode(t)
	r := n.runner(n.client(nil), nil)
	input := bytes.Repeat([]byte("0123456789abcdef"), 2000)
	res := run(t, r, guest.Command{Argv: []string{"sh", "-c", "cat; echo err >&2; exit 7"}, Stdin: bytes.NewReader(input)})
	if res.ExitCode != 7 || !bytes.Equal(res.Stdout, input) || string(res.Stderr) != "err\n" {
		t.Errorf("%d, %d bytes, %q", res.ExitCode, len(res.Stdout), res.Stderr)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	n.terminals.Wait() // for ever, if one was left open
	if fmt.Sprint(n.opened) != "[proximity@pve!svc]" {
		t.Errorf("opened by %v", n.opened)
	}
}

func TestWhoOpensConsoles(t *testing.T) {
	old := []map[string]any{{"Package": "pve-container", "OldVersion": "6.0.18", "CurrentState": "Installed"}}
	for _, tc := range []struct {
		name     string
		tokens   bool
		packages any
		login    bool
		want     string // who opened it
		err      error
		says     string
	}{
		{"tokens may", true, []map[string]any{{"Package": "pve-container", "OldVersion": "6.1.10", "CurrentState": "Installed"}}, true, "proximity@pve!svc", nil, ""},
		{"tokens may not, there is a login", false, old, true, "proximity@pve", nil, ""},
		{"tokens may not, no login", false, old, false, "", guest.ErrAuth, "passwordFile"},
		{"not known, a login is safe", true, nil, true, "proximity@pve", nil, ""},
		{"not known, tokens may", true, nil, false, "proximity@pve!svc", nil, ""},
		{"not known, tokens may not", false, nil, false, "", guest.ErrAuth, "pve-container 6.1.3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNode(t)
			n.tokens, n.packages = tc.tokens, tc.packages
			var login *proxmox.Client
			if tc.login {
				login = n.client(byPassword)
			}
			_, err := n.runner(n.client(nil), login).Run(t.Context(), target, guest.Command{Argv: []string{"true"}})
			if !errors.Is(err, tc.err) || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v", err)
			}
			if tc.want != "" && fmt.Sprint(n.opened) != "["+tc.want+"]" {
				t.Errorf("opened by %v, want %s", n.opened, tc.want)
			}
		})
	}
}

func TestConsoleErrorsAreTold(t *testing.T) {
	reason := func(status int, text string) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(map[string]any{"data": nil, "message": text})
		}
	}
	for _, tc := range []struct {
		name   string
		change func(n *node)
		vmid   int
		want   error
		says   string
	}{
		{"no such guest", func(*node) {}, 101, guest.ErrNoGuest, ""},
		{"its console is a login", func(n *node) { n.cmode = "" }, 100, guest.ErrNoShell, "cmode"},
		{"somebody else has it open", func(n *node) { n.others = []string{"admin@pam"} }, 100, guest.ErrUnreachable, "admin@pam"},
		{"a missing right", func(n *node) { n.broken = reason(403, "Permission check failed (/vms/100, VM.Console)") }, 100, guest.ErrAuth, "VM.Console"},
		{"the node is away", func(n *node) { n.broken = reason(595, "No route to host") }, 100, guest.ErrUnreachable, ""},
		{"nobody knows", func(n *node) { n.broken = reason(596, "Connection timed out") }, 100, guest.ErrUnreachable, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNode(t)
			tc.change(n)
			_, err := n.runner(n.client(nil), nil).Run(t.Context(), guest.Target{Node: "pve", VMID: tc.vmid}, guest.Command{Argv: []string{"true"}})
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v", err)
			}
			if len(n.opened) != 0 {
				t.Errorf("it was opened by %v", n.opened)
			}
		})
	}
}
