package controllers_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/pvesim"
)

// The wire between the daemon and the node is HTTPS and ssh as in production, but over
// pipes in memory instead of sockets (pipe_test.go): goroutines that wait for a pipe let
// the clock of a synctest bubble run.

// wire serves API and ssh of all nodes; both end with the node.
func (w *world) wire() {
	w.Helper()
	key, err := os.ReadFile(w.node.Credentials().SSHPrivateKeyPath)
	w.must(err)
	w.signer, err = ssh.ParsePrivateKey(key)
	w.must(err)
	w.api = newPipes()
	go func() { _ = w.node.ServeAPI(w.api) }()
	for _, n := range w.node.Nodes() {
		p := newPipes()
		w.ssh = append(w.ssh, p)
		go func() { _ = n.ServeSSH(p) }()
	}
}

// pipes is a net.Listener whose connections come from dial.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return loopback }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	up, down := newFlow(), newFlow()
	select {
	case p.conns <- &pipeEnd{in: up, out: down}:
		return &pipeEnd{in: down, out: up}, nil
	case <-p.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// idleConnTimeout is below the node's five seconds, as the production transport's.
const idleConnTimeout = 3 * time.Second

// newAPITransport speaks HTTPS over the pipes. Who the server is has been proven by
// whoever holds the other end.
func newAPITransport(p *pipes) *http.Transport {
	return &http.Transport{
		IdleConnTimeout: idleConnTimeout,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			raw, err := p.dial(ctx)
			if err != nil {
				return nil, err
			}
			c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a pipe within the process
			if err := c.HandshakeContext(ctx); err != nil {
				_ = raw.Close()
				return nil, err
			}
			return c, nil
		},
	}
}

// nodeShell runs commands on the node over one ssh connection, made when it is needed.
type nodeShell struct {
	pipes  *pipes
	signer ssh.Signer
	user   string
	places chan struct{}

	mu     sync.Mutex
	client *ssh.Client
	closed bool
}

// maxShellSessions is below what the node's sshd allows on one connection.
const maxShellSessions = 8

func newNodeShell(p *pipes, creds pvesim.Credentials, signer ssh.Signer) *nodeShell {
	return &nodeShell{pipes: p, signer: signer, user: creds.SSHUser, places: make(chan struct{}, maxShellSessions)}
}

func (s *nodeShell) connect(ctx context.Context) (*ssh.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, net.ErrClosed
	case s.client != nil:
		return s.client, nil
	}
	raw, err := s.pipes.dial(ctx)
	if err != nil {
		return nil, err
	}
	conn, channels, requests, err := ssh.NewClientConn(raw, "node", &ssh.ClientConfig{
		User: s.user, Auth: []ssh.AuthMethod{ssh.PublicKeys(s.signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // a pipe within the process
	})
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	s.client = ssh.NewClient(conn, channels, requests)
	return s.client, nil
}

// drop forgets a connection that broke, so that the next command makes another.
func (s *nodeShell) drop(broken *ssh.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == broken {
		s.client = nil
	}
	_ = broken.Close()
}

// Exec implements guest.NodeExec.
func (s *nodeShell) Exec(ctx context.Context, _ string, argv []string, stdin io.Reader, maxOutput int) (guest.Result, error) {
	select {
	case s.places <- struct{}{}:
	case <-ctx.Done():
		return guest.Result{}, ctx.Err()
	}
	defer func() { <-s.places }()
	client, err := s.connect(ctx)
	if err != nil {
		return guest.Result{}, fmt.Errorf("%w: %w", guest.ErrUnreachable, err)
	}
	session, err := client.NewSession()
	if err != nil {
		s.drop(client)
		return guest.Result{}, fmt.Errorf("%w: %w", guest.ErrUnreachable, err)
	}
	defer session.Close()
	defer context.AfterFunc(ctx, func() { _ = session.Close() })()
	stdout, stderr := guest.NewCapture(maxOutput), guest.NewCapture(maxOutput)
	session.Stdin, session.Stdout, session.Stderr = stdin, stdout, stderr
	err = session.Run(quoted(argv))
	if ctx.Err() != nil {
		return guest.Result{}, ctx.Err()
	}
	res := guest.Result{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), Truncated: stdout.Truncated() || stderr.Truncated()}
	var exit *ssh.ExitError
	switch {
	case errors.As(err, &exit):
		res.ExitCode = exit.ExitStatus()
	case err != nil:
		return guest.Result{}, fmt.Errorf("%w: %w", guest.ErrUnreachable, err)
	}
	return res, nil
}

// Close implements io.Closer.
func (s *nodeShell) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.client == nil {
		return nil
	}
	return s.client.Close()
}

// quoted is argv as one line for the node's login shell.
func quoted(argv []string) string {
	words := make([]string, len(argv))
	for i, a := range argv {
		words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(words, " ")
}
