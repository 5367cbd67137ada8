package proxmox

import (
	"context"
	"net/http"
)

// ConsoleTicket is what opens a console: the answer of termproxy and vncproxy. It is good
// for some 40 s, once, for this user and this guest.
type ConsoleTicket struct {
	User   string `json:"user"` // user@realm, or user@realm!token
	Ticket string `json:"ticket"`
	Port   Int    `json:"port"`
	UPID   UPID   `json:"upid"` // the task that serves it
}

// Termproxy starts a text console of a guest; it needs VM.Console. What it shows is the
// guest's key cmode: with "shell" a root shell, otherwise a login. The task waits ten
// seconds for [Client.DialConsole].
func (c *Client) Termproxy(ctx context.Context, node string, vmid int) (ConsoleTicket, error) {
	return c.console(ctx, node, vmid, route(http.MethodPost, "/nodes/{node}/lxc/{vmid}/termproxy", node, vmid))
}

// VNCProxy starts a graphical console of a guest for a VNC client in a browser.
func (c *Client) VNCProxy(ctx context.Context, node string, vmid int) (ConsoleTicket, error) {
	r := route(http.MethodPost, "/nodes/{node}/lxc/{vmid}/vncproxy", node, vmid).withBool("websocket", true)
	return c.console(ctx, node, vmid, r)
}

func (c *Client) console(ctx context.Context, node string, vmid int, r request) (ConsoleTicket, error) {
	if err := checkGuest(node, vmid); err != nil {
		return ConsoleTicket{}, err
	}
	t, err := fetch[ConsoleTicket](ctx, c, r)
	if err == nil && (t.Ticket == "" || t.Port <= 0 || t.Port > 65535) {
		err = &TransportError{Method: r.method, Path: r.text, Sent: true, Err: errNoConsole}
	}
	return t, err
}

// ByToken reports whether the client proves who it is by an API token, not by a login.
func (c *Client) ByToken() bool {
	_, ok := c.auth.(tokenAuth)
	return ok
}
