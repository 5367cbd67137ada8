package pvesim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// Ports of consoles (next_vnc_port of PVE::Tools) and how long termproxy waits for its
// one client.
const (
	firstConsolePort  = 5900
	lastConsolePort   = 5999
	consoleClientWait = 10 * time.Second
)

// maxConsoleFrame is what pveproxy takes in one websocket frame.
const maxConsoleFrame = 128 << 10

// termproxy is a program that waits for a client on a port.
type termproxy struct {
	vmid   int
	port   int
	user   string
	client chan *websocket.Conn
	ended  chan struct{}
}

// openTermproxy is POST termproxy: it starts the program in a task and answers with what
// the client needs. A guest that does not run is found out by the client.
func openTermproxy(c *call) (result, error) {
	n, vmid := c.node, c.vmid()
	g, err := n.guests.load(n, vmid)
	if err != nil {
		return result{}, err
	}
	p := &termproxy{vmid: vmid, user: c.who.id, client: make(chan *websocket.Conn), ended: make(chan struct{})}
	if err := n.consoles.add(p); err != nil {
		return result{}, err
	}
	port := strconv.Itoa(p.port)
	command := n.termproxyCommand(p, consoleCommand(vmid, g.conf.Values["cmode"]))
	res, err := c.startTask("vncproxy", vmidText(vmid), func(t *tasks.Task) error {
		defer n.consoles.remove(p)
		if err := n.runTermproxy(t, p); err != nil {
			if t.Context().Err() != nil {
				return err
			}
			t.Logf("%v", err)
			return fmt.Errorf("command '%s' failed: exit code 1", command)
		}
		return nil
	})
	if err != nil {
		n.consoles.remove(p)
		return result{}, err
	}
	return result{data: map[string]any{
		"user": c.who.id, "port": port, "upid": res.data,
		"ticket": n.signer.VNCTicket(c.who.id, guestACL(vmid), n.ticketPort(port), time.Now()),
	}}, nil
}

// tokenConsole reports whether consoles take API tokens: pve-container verifies the ticket
// by an endpoint for it since 6.1.3, by a login, for which a token is no user, before.
func (n *Node) tokenConsole() bool {
	var have [3]int
	_, _ = fmt.Sscanf(n.cfg.Packages["pve-container"], "%d.%d.%d", &have[0], &have[1], &have[2]) // what is missing is 0
	return slices.Compare(have[:], []int{6, 1, 3}) >= 0
}

// ticketPort is the port as far as tickets are bound to it: since pve-container 6.1.3.
func (n *Node) ticketPort(port string) string {
	if n.tokenConsole() {
		return port
	}
	return ""
}

// consoleCommand is get_console_command of PVE::LXC.
func consoleCommand(vmid int, cmode string) string {
	switch cmode {
	case "shell":
		return fmt.Sprintf("lxc-attach --clear-env -n %d", vmid)
	case "console":
		return fmt.Sprintf("lxc-console -n %d -e -1 -t 0", vmid)
	default:
		return fmt.Sprintf("lxc-console -n %d -e -1", vmid)
	}
}

// termproxyCommand is the line that the task's error quotes.
func (n *Node) termproxyCommand(p *termproxy, inner string) string {
	verify := ""
	if n.tokenConsole() {
		verify = " --vncticket-endpoint"
	}
	return fmt.Sprintf("/usr/bin/termproxy %d --path %s --perm VM.Console%s -- /usr/bin/dtach -A /var/run/dtach/vzctlconsole%d -r winch -z %s",
		p.port, guestACL(p.vmid), verify, p.vmid, inner)
}

// consoleWebsocket is GET vncwebsocket: with a valid ticket the connection becomes a pipe
// to the port.
func consoleWebsocket(c *call) (result, error) {
	n, port := c.node, c.params["port"]
	if err := n.signer.CheckVNCTicket(c.params["vncticket"], c.who.id, guestACL(c.vmid()), n.ticketPort(port), time.Now()); err != nil {
		return result{}, &apiError{code: http.StatusUnauthorized, message: err.Error()}
	}
	return result{
		data: map[string]any{"port": port},
		upgrade: func(w http.ResponseWriter, r *http.Request) {
			n.serving.Add(1)
			defer n.serving.Done()
			conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"binary"}, InsecureSkipVerify: true})
			if err != nil {
				n.log.Debug("websocket refused", "error", err)
				return
			}
			defer conn.CloseNow() //nolint:errcheck // the client may be gone
			defer context.AfterFunc(n.ctx, func() { _ = conn.CloseNow() })()
			conn.SetReadLimit(maxConsoleFrame)
			n.connectConsole(conn, port)
		},
	}, nil
}

// connectConsole gives a websocket to the program on the port and waits until that lets
// go of it. Nothing listens there: the connection ends at once.
func (n *Node) connectConsole(conn *websocket.Conn, port string) {
	p := n.consoles.find(port)
	if p == nil {
		return
	}
	select {
	case p.client <- conn:
		<-p.ended
	case <-p.ended:
	}
}

// runTermproxy waits for the client, lets it identify itself and connects it with the
// guest's session.
func (n *Node) runTermproxy(t *tasks.Task, p *termproxy) error {
	defer close(p.ended)
	timer := time.NewTimer(consoleClientWait)
	defer timer.Stop()
	var conn *websocket.Conn
	select {
	case conn = <-p.client:
	case <-timer.C:
		return errors.New("failed waiting for client: timed out")
	case <-t.Context().Done():
		return t.Context().Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	t.Logf("client connection: 127.0.0.1:%d", 32768+p.port)
	in := newFrames(ctx, conn)
	user, err := n.identifyClient(in, p)
	if err != nil {
		n.log.Debug("console refused", "user", user, "error", err)
		return errors.New("authentication request failed")
	}
	out := websocketWriter{ctx, conn}
	if _, err := out.Write([]byte("OK")); err != nil {
		return err
	}
	return n.attachConsole(ctx, p.vmid, in, out)
}

// identifyClient reads user:ticket and checks it as termproxy does: by a login with the
// ticket as password, at which an API token is no user, or since pve-container 6.1.3 by
// an endpoint that takes both.
func (n *Node) identifyClient(in *frames, p *termproxy) (user string, err error) {
	line, err := in.line()
	if err != nil {
		return "", err
	}
	user, ticket, ok := strings.Cut(line, ":PVEVNC:")
	if !ok {
		return user, access.ErrVNCTicket
	}
	if strings.Contains(user, "!") && !n.tokenConsole() {
		return user, errors.New("an API token cannot log in")
	}
	if user != p.user {
		return user, access.ErrVNCTicket
	}
	port := n.ticketPort(strconv.Itoa(p.port))
	return user, n.signer.CheckVNCTicket("PVEVNC:"+ticket, user, guestACL(p.vmid), port, time.Now())
}

// websocketWriter sends binary messages.
type websocketWriter struct {
	ctx  context.Context
	conn *websocket.Conn
}

func (w websocketWriter) Write(b []byte) (int, error) {
	if err := w.conn.Write(w.ctx, websocket.MessageBinary, b); err != nil {
		return 0, err
	}
	return len(b), nil
}
