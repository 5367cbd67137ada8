package pvesim

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// consoles holds the programs that wait on ports and the sessions of guests. The zero
// value is ready.
type consoles struct {
	mu       sync.Mutex
	ports    map[int]*termproxy
	sessions map[int]*session
}

// add gives a program a port.
func (s *consoles) add(p *termproxy) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ports == nil {
		s.ports = map[int]*termproxy{}
	}
	for port := firstConsolePort; port <= lastConsolePort; port++ {
		if s.ports[port] == nil {
			p.port, s.ports[port] = port, p
			return nil
		}
	}
	return die("unable to find free port (%d-%d)", firstConsolePort, lastConsolePort)
}

func (s *consoles) remove(p *termproxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ports, p.port)
}

func (s *consoles) find(port string) *termproxy {
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ports[number]
}

// session is the one terminal of a guest's console, which dtach keeps: all clients see
// the same shell, and it goes on when they leave.
type session struct {
	typed  *io.PipeWriter
	resize chan engine.Size
	ended  chan struct{}
	exit   int // valid when ended

	mu      sync.Mutex
	clients map[io.Writer]struct{}
}

// Write shows output to every client; one that cannot take it is on its way out.
func (s *session) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		_, _ = c.Write(b)
	}
	return len(b), nil
}

func (s *session) join(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[w] = struct{}{}
}

func (s *session) leave(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, w)
}

// sessionOf returns the guest's session, which is begun if there is none. The first
// client joins before anything is said.
func (n *Node) sessionOf(vmid int, first io.Writer) *session {
	n.consoles.mu.Lock()
	defer n.consoles.mu.Unlock()
	if s := n.consoles.sessions[vmid]; s != nil {
		s.join(first)
		return s
	}
	r, w := io.Pipe()
	s := &session{typed: w, resize: make(chan engine.Size), ended: make(chan struct{}), clients: map[io.Writer]struct{}{first: {}}}
	if n.consoles.sessions == nil {
		n.consoles.sessions = map[int]*session{}
	}
	n.consoles.sessions[vmid] = s
	n.serving.Go(func() {
		defer context.AfterFunc(n.ctx, func() { _ = w.Close() })()
		s.exit = n.runSession(vmid, s, r)
		_ = r.Close() // what is still typed goes nowhere
		n.consoles.mu.Lock()
		delete(n.consoles.sessions, vmid)
		n.consoles.mu.Unlock()
		close(s.ended)
	})
	return s
}

// runSession runs what the guest's cmode says and returns its exit code.
func (n *Node) runSession(vmid int, s *session, in io.Reader) int {
	g, err := n.guests.load(n, vmid)
	if err != nil {
		return 1
	}
	if g.conf.Values["cmode"] != "shell" {
		return loginPrompt(n, g, s, in)
	}
	code, err := n.engine.Console(n.ctx, vmid, engine.Terminal{In: in, Out: s, Resize: s.resize})
	switch {
	case errors.Is(err, engine.ErrNotRunning) || errors.Is(err, engine.ErrNotExist):
		fmt.Fprintf(s, "lxc-attach: %d: ../src/lxc/attach.c: get_attach_context: 478 Connection refused - Failed to get init pid\r\n", vmid)
		return 1
	case err != nil:
		n.log.Debug("console ended", "vmid", vmid, "error", err)
		return 1
	}
	return code
}

// loginPrompt is a getty: without a password nobody gets past it, so that it says no to
// everything.
func loginPrompt(n *Node, g *guestFile, out io.Writer, in io.Reader) int {
	if !n.running(n.ctx, g.vmid) {
		fmt.Fprintf(out, "lxc-console: %d: ../src/lxc/tools/lxc_console.c: main: 129 %d is not running\r\n", g.vmid, g.vmid)
		return 1
	}
	name := guestName(g.vmid, g.conf.Values)
	say := func(text string) { _, _ = io.WriteString(out, text) }
	say("Connected to tty 1\r\nType <Ctrl+a q> to exit the console, <Ctrl+a Ctrl+a> to enter Ctrl+a itself\r\n\r\n")
	r := bufio.NewReader(in)
	for {
		say(name + " login: ")
		user, err := r.ReadString('\r')
		if err != nil {
			return 0
		}
		say(strings.TrimSpace(user) + "\r\nPassword: ")
		if _, err := r.ReadString('\r'); err != nil {
			return 0
		}
		say("\r\n\r\nLogin incorrect\r\n")
	}
}

// What dtach sends to a client that attaches and to those whose program ended.
const (
	dtachAttach = "\x1b[H\x1b[J"
	dtachEOF    = "\x1b[999H\r\n[EOF - dtach terminating]\r\n\x1b[?25h"
)

// attachConsole connects one client with the guest's session until either ends. A
// program that ended with another code than 0 takes the terminal away before dtach can
// say so, which termproxy calls an input/output error.
func (n *Node) attachConsole(ctx context.Context, vmid int, in *frames, out io.Writer) error {
	if _, err := io.WriteString(out, dtachAttach); err != nil {
		return err
	}
	s := n.sessionOf(vmid, out)
	defer s.leave(out)
	gone := make(chan error, 1)
	go func() { gone <- in.serve(ctx, s) }()
	select {
	case err := <-gone:
		return err // nil: the client closed the connection, dtach detaches
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ended:
		if s.exit == 0 {
			_, _ = io.WriteString(out, dtachEOF)
			return nil
		}
		return errors.New("error reading from pty: Input/output error (os error 5)")
	}
}

// frames reads the protocol of termproxy from a connection: 0:LEN:DATA is what is
// typed, 1:COLS:ROWS: the size of the window, 2 keeps the connection alive. Messages
// are a stream of bytes there, so a frame may span several.
type frames struct{ r *bufio.Reader }

// maxFrameDigits bounds the numbers of a frame.
const maxFrameDigits = 8

func newFrames(ctx context.Context, conn *websocket.Conn) *frames {
	return &frames{bufio.NewReader(&websocketReader{ctx: ctx, conn: conn})}
}

// websocketReader makes a stream of messages.
type websocketReader struct {
	ctx  context.Context
	conn *websocket.Conn
	left *bytes.Reader
}

func (w *websocketReader) Read(b []byte) (int, error) {
	for w.left == nil || w.left.Len() == 0 {
		_, message, err := w.conn.Read(w.ctx)
		if err != nil {
			return 0, io.EOF // however a connection ends
		}
		w.left = bytes.NewReader(message)
	}
	return w.left.Read(b)
}

// line reads the first line, which is bounded by the reader's buffer.
func (f *frames) line() (string, error) {
	raw, err := f.r.ReadSlice('\n')
	return strings.TrimSuffix(string(raw), "\n"), err
}

// number reads digits up to a colon.
func (f *frames) number() (int, error) {
	var digits []byte
	for {
		c, err := f.r.ReadByte()
		switch {
		case err != nil:
			return 0, err
		case c == ':' && len(digits) > 0:
			return strconv.Atoi(string(digits))
		case c < '0' || c > '9' || len(digits) >= maxFrameDigits:
			return 0, fmt.Errorf("unexpected %q in a frame", c)
		}
		digits = append(digits, c)
	}
}

// serve passes frames on until the connection ends (nil) or breaks the protocol.
func (f *frames) serve(ctx context.Context, s *session) error {
	for {
		err := f.next(ctx, s)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (f *frames) next(ctx context.Context, s *session) error {
	kind, err := f.r.ReadByte()
	if err != nil {
		return err
	}
	switch kind {
	case '0', '1':
		if c, err := f.r.ReadByte(); err != nil || c != ':' {
			return errors.Join(err, fmt.Errorf("unexpected %q in a frame", c))
		}
	case '2':
		return nil
	default:
		return fmt.Errorf("unknown frame %q", kind)
	}
	first, err := f.number()
	if err != nil {
		return err
	}
	if kind == '0' {
		_, err := io.CopyN(s.typed, f.r, int64(first))
		return err
	}
	rows, err := f.number()
	if err != nil {
		return err
	}
	select {
	case s.resize <- engine.Size{Columns: first, Rows: rows}:
	case <-s.ended:
	case <-ctx.Done():
	}
	return nil
}
