package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// consoleOpenTimeout bounds dialling a console and proving who we are: its task waits
	// ten seconds.
	consoleOpenTimeout = 15 * time.Second
	// consoleFrame bounds a message to the server. Its terminal reads into 4 KiB and loses its
	// place when a message does not fit there whole (pve-xtermjs, termproxy).
	consoleFrame = 3 << 10
	// consoleMessage bounds a message of the server, whose own bound is 128 KiB.
	consoleMessage = 256 << 10
)

// ErrConsoleRefused: the server took the request for a console and then broke it off. With
// an API token that is what a pve-container before 6.1.3 does: its terminal checks users'
// tickets only. Log in with user and password for consoles, or upgrade.
var ErrConsoleRefused = errors.New("the server refuses the console")

// Console is an open text console: bytes to and from a terminal. Receive is for one
// goroutine at a time; the other methods are safe for concurrent use. Close it.
type Console struct {
	conn *websocket.Conn
	// pending is what came together with the server's greeting.
	pending []byte
	once    sync.Once
}

// DialConsole opens the console that Termproxy started. The caller's credentials must be
// those that Termproxy was called with.
func (c *Client) DialConsole(ctx context.Context, node string, vmid int, t ConsoleTicket) (*Console, error) {
	if err := checkGuest(node, vmid); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, consoleOpenTimeout)
	defer cancel()
	r := route(http.MethodGet, "/nodes/{node}/lxc/{vmid}/vncwebsocket", node, vmid).
		withInt("port", int(t.Port)).with("vncticket", t.Ticket)
	conn, err := c.dialWebsocket(ctx, r)
	if err != nil {
		return nil, err
	}
	out := &Console{conn: conn}
	if err := out.greet(ctx, t); err != nil {
		out.Close()
		return nil, &TransportError{Method: r.method, Path: r.text, Sent: true, Err: err}
	}
	return out, nil
}

func (c *Client) dialWebsocket(ctx context.Context, r request) (*websocket.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, &TransportError{Method: r.method, Path: r.text, Err: err}
	}
	base := c.endpoints[int(c.preferred.Load())%len(c.endpoints)]
	req, err := c.newHTTPRequest(ctx, base, r)
	if err != nil {
		return nil, &TransportError{Method: r.method, Path: r.text, Err: err}
	}
	if _, err := c.auth.authorize(ctx, c, req); err != nil {
		return nil, err
	}
	begin, status := time.Now(), 0
	conn, resp, err := websocket.Dial(ctx, req.URL.String(), &websocket.DialOptions{
		HTTPClient: c.streams, HTTPHeader: req.Header, Subprotocols: []string{"binary"},
	})
	if resp != nil {
		status = resp.StatusCode
	}
	if c.observe != nil {
		c.observe(r.method, r.template, status, time.Since(begin))
	}
	if err == nil {
		conn.SetReadLimit(consoleMessage)
		c.stats.count(r, nil)
		return conn, nil
	}
	if over := ctx.Err(); over != nil && !errors.Is(err, over) {
		// A cancelled handshake may show itself as another answer.
		err, resp = fmt.Errorf("%w: %w", over, err), nil
	}
	err = websocketError(err, resp, r)
	c.stats.count(r, err)
	return nil, err
}

func websocketError(err error, resp *http.Response, r request) error {
	if resp != nil && resp.StatusCode >= http.StatusMultipleChoices {
		return readError(resp, r)
	}
	var d *dialError
	return &TransportError{Method: r.method, Path: r.text, Sent: !errors.As(err, &d), Err: withoutURL(err)}
}

// greet proves who we are to the terminal's own server. It answers OK, or nothing.
func (o *Console) greet(ctx context.Context, t ConsoleTicket) error {
	if strings.ContainsAny(t.User+t.Ticket, "\r\n") {
		return errNoConsole
	}
	if err := o.conn.Write(ctx, websocket.MessageBinary, []byte(t.User+":"+t.Ticket+"\n")); err != nil {
		return fmt.Errorf("%w: %w", ErrConsoleRefused, err)
	}
	var got []byte
	for len(got) < 2 {
		_, data, err := o.conn.Read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w: it closed the connection of %s", ErrConsoleRefused, t.User)
		}
		got = append(got, data...)
	}
	rest, ok := strings.CutPrefix(string(got), "OK")
	if !ok {
		return fmt.Errorf("%w: it answered %.40q", ErrConsoleRefused, got)
	}
	o.pending = []byte(rest)
	return nil
}

// Send writes to the terminal, as if typed. Longer data goes in several messages.
func (o *Console) Send(ctx context.Context, data []byte) error {
	for len(data) > 0 {
		n := min(len(data), consoleFrame)
		message := append([]byte("0:"+strconv.Itoa(n)+":"), data[:n]...)
		if err := o.conn.Write(ctx, websocket.MessageBinary, message); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// Resize tells the terminal's size in characters.
func (o *Console) Resize(ctx context.Context, columns, rows int) error {
	return o.conn.Write(ctx, websocket.MessageBinary, fmt.Appendf(nil, "1:%d:%d:", columns, rows))
}

// KeepAlive tells the server that we are there; send one every half a minute.
func (o *Console) KeepAlive(ctx context.Context) error {
	return o.conn.Write(ctx, websocket.MessageBinary, []byte("2"))
}

// Receive returns what the terminal shows next, escape sequences included, at most 256 KiB.
// A context that ends closes the console. The error is io.EOF when it was closed.
func (o *Console) Receive(ctx context.Context) ([]byte, error) {
	if len(o.pending) > 0 {
		data := o.pending
		o.pending = nil
		return data, nil
	}
	for {
		_, data, err := o.conn.Read(ctx)
		if err != nil || len(data) > 0 {
			return data, err
		}
	}
}

// Close ends the console at once. What runs in it is the guest's business.
func (o *Console) Close() {
	o.once.Do(func() { _ = o.conn.CloseNow() })
}
