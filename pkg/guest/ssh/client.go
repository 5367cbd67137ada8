package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/guest"
	"golang.org/x/crypto/ssh"
)

// Client runs programs on nodes. It implements [guest.NodeExec] and is safe for
// concurrent use.
type Client struct {
	address  func(node string) string
	dialTCP  func(ctx context.Context, network, address string) (net.Conn, error)
	user     string
	auth     []ssh.AuthMethod
	keys     hostKeys
	sessions int
	log      *slog.Logger

	mu     sync.Mutex
	nodes  map[string]*node
	closed bool
	// background are the goroutines that serve connections and abandoned commands.
	background sync.WaitGroup
}

var _ guest.NodeExec = (*Client)(nil)

var errClosed = errors.New("ssh client is closed")

// New makes a client. It contacts nobody. Close it.
func New(cfg Config) (*Client, error) {
	keys, err := cfg.hostKeys()
	if err != nil {
		return nil, err
	}
	auth, err := cfg.authMethods()
	if err != nil {
		return nil, err
	}
	sessions, err := cfg.sessions()
	if err != nil {
		return nil, err
	}
	c := &Client{
		address: cfg.Address, user: cfg.User, auth: auth, keys: keys, sessions: sessions, log: cfg.Log,
		dialTCP: (&net.Dialer{Timeout: dialTimeout}).DialContext,
		nodes:   map[string]*node{},
	}
	if c.address == nil {
		c.address = func(node string) string { return net.JoinHostPort(node, "22") }
	}
	if c.user == "" {
		c.user = "root"
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Close ends all connections and, with them, all runs. It waits for what the client had
// in the background.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	nodes := c.nodes
	c.nodes = map[string]*node{}
	c.mu.Unlock()
	for _, n := range nodes {
		n.close()
	}
	c.background.Wait()
	return nil
}

// node is the connection to one node, present or future.
type node struct {
	name string
	// places bounds the commands under way.
	places chan struct{}
	// dialling is held while a connection is made; a channel, so that waiting for it ends
	// with the waiter's context.
	dialling chan struct{}

	mu   sync.Mutex
	conn *connection
	// open are all connections that live, also those that take no new commands.
	open map[*connection]bool
	// refused and refusedAt remember why the node or we would not talk.
	refused   error
	refusedAt time.Time
	closed    bool
}

func (c *Client) node(name string) (*node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if n, ok := c.nodes[name]; ok {
		return n, nil
	}
	if len(c.nodes) >= maxNodes {
		return nil, fmt.Errorf("connections to %d nodes are open already", maxNodes)
	}
	n := &node{name: name, places: make(chan struct{}, c.sessions), dialling: make(chan struct{}, 1), open: map[*connection]bool{}}
	c.nodes[name] = n
	return n, nil
}

// Exec implements [guest.NodeExec].
func (c *Client) Exec(ctx context.Context, name string, argv []string, stdin io.Reader, maxOutput int) (guest.Result, error) {
	line, err := commandLine(argv)
	if err != nil {
		return guest.Result{}, err
	}
	n, err := c.node(name)
	if err != nil {
		return guest.Result{}, fmt.Errorf("%w: %w", guest.ErrUnreachable, err)
	}
	select {
	case n.places <- struct{}{}:
	case <-ctx.Done():
		return guest.Result{}, ctx.Err()
	}
	conn, session, err := c.open(ctx, n)
	if err != nil {
		<-n.places
		return guest.Result{}, err
	}
	// From here the run gives the place back, when the command's end was seen: for an
	// abandoned one that is after Exec has returned.
	r := &run{client: c, node: n, conn: conn, session: session, stdin: stdin,
		stdout: guest.NewCapture(maxOutput), stderr: guest.NewCapture(maxOutput)}
	return r.do(ctx, line)
}

// open returns a fresh session, on a new connection if need be. A kept connection may have
// died unnoticed: then one more attempt is made on a new one.
func (c *Client) open(ctx context.Context, n *node) (*connection, *ssh.Session, error) {
	for attempt := 0; ; attempt++ {
		conn, fresh, err := c.connect(ctx, n)
		if err != nil {
			return nil, nil, err
		}
		session, err := conn.newSession(ctx, &c.background)
		if err == nil {
			return conn, session, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		n.drop(conn)
		if fresh || attempt > 0 {
			return nil, nil, fmt.Errorf("%w: open a session: %w", guest.ErrUnreachable, err)
		}
	}
}

// connect returns the node's connection, dialling when there is none. fresh says that it
// was made just now.
func (c *Client) connect(ctx context.Context, n *node) (conn *connection, fresh bool, err error) {
	if conn, err := n.current(); conn != nil || err != nil {
		return conn, false, err
	}
	select {
	case n.dialling <- struct{}{}:
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	defer func() { <-n.dialling }()
	if conn, err := n.current(); conn != nil || err != nil {
		return conn, false, err
	}
	client, err := c.dial(ctx, n.name)
	if err != nil {
		n.refuse(err)
		return nil, false, err
	}
	conn = newConnection(client)
	if !n.adopt(conn) {
		conn.close()
		return nil, false, fmt.Errorf("%w: %w", guest.ErrUnreachable, errClosed)
	}
	c.log.Debug("connected to node", "node", n.name)
	c.background.Go(func() { conn.keepAlive(); n.drop(conn) })
	return conn, true, nil
}

func (c *Client) dial(ctx context.Context, name string) (*ssh.Client, error) {
	address := c.address(name)
	raw, err := c.dialTCP(ctx, "tcp", address)
	if err != nil {
		return nil, reachError(ctx, err)
	}
	// The handshake has no context of its own: closing the connection ends it.
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	_ = raw.SetDeadline(time.Now().Add(handshakeTimeout))

	var wrongKey error
	cfg := &ssh.ClientConfig{
		User: c.user, Auth: c.auth, HostKeyAlgorithms: c.keys.algorithms(address, raw.RemoteAddr()),
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			wrongKey = c.keys.check(host, remote, key)
			return wrongKey
		},
	}
	conn, channels, requests, err := ssh.NewClientConn(raw, address, cfg)
	switch {
	case err == nil:
		_ = raw.SetDeadline(time.Time{})
		return ssh.NewClient(conn, channels, requests), nil
	case wrongKey != nil, strings.Contains(err.Error(), "no common algorithm for host key"):
		err = fmt.Errorf("%w: %w", guest.ErrHostKey, err)
	case strings.Contains(err.Error(), "unable to authenticate"):
		err = fmt.Errorf("%w: %w", guest.ErrAuth, err)
	default:
		err = reachError(ctx, err)
	}
	_ = raw.Close()
	return nil, err
}

// reachError says that the node cannot be reached, unless the caller gave up.
func reachError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", guest.ErrUnreachable, err)
}

func (n *node) current() (*connection, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refused != nil && time.Since(n.refusedAt) < refusalPause {
		return nil, n.refused
	}
	return n.conn, nil
}

func (n *node) refuse(err error) {
	if errors.Is(err, guest.ErrAuth) || errors.Is(err, guest.ErrHostKey) {
		n.mu.Lock()
		n.refused, n.refusedAt = err, time.Now()
		n.mu.Unlock()
	}
}

func (n *node) adopt(conn *connection) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.conn, n.refused = conn, nil
	n.open[conn] = true
	return true
}

// drop closes a connection that is dead or useless.
func (n *node) drop(conn *connection) {
	n.forget(conn)
	n.mu.Lock()
	delete(n.open, conn)
	n.mu.Unlock()
	conn.close()
}

// forget makes the next command use another connection. This one serves those it has.
func (n *node) forget(conn *connection) {
	n.mu.Lock()
	if n.conn == conn {
		n.conn = nil
	}
	n.mu.Unlock()
}

func (n *node) close() {
	n.mu.Lock()
	n.closed, n.conn = true, nil
	open := n.open
	n.open = map[*connection]bool{}
	n.mu.Unlock()
	for conn := range open {
		conn.close()
	}
}
