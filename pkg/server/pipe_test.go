package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
)

// pipes is a network inside the process, for tests whose time is testing/synctest's.
// Nothing is buffered: a peer that does not read stops the writer at once.
type pipes struct {
	web, rpc *pipeListener
}

func newPipes() *pipes {
	return &pipes{web: newPipeListener("127.0.0.1:1"), rpc: newPipeListener("127.0.0.1:2")}
}

func (p *pipes) listen(*testing.T) (web, rpc net.Listener) { return p.web, p.rpc }

func (p *pipes) dial(ctx context.Context, address string) (net.Conn, error) {
	if address == p.rpc.address {
		return p.rpc.dial(ctx)
	}
	return p.web.dial(ctx)
}

type pipeListener struct {
	address string
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newPipeListener(address string) *pipeListener {
	return &pipeListener{address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, errors.New("nobody listens")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.address) }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

// raw is a TLS connection to the REST listener without an HTTP client on it.
func (f *fixture) raw() *tls.Conn {
	f.t.Helper()
	conn, err := f.network.dial(context.Background(), f.base)
	if err != nil {
		f.t.Fatal(err)
	}
	c := tls.Client(conn, &tls.Config{RootCAs: f.roots, ServerName: "127.0.0.1"})
	f.t.Cleanup(func() { conn.Close() })
	if err := c.Handshake(); err != nil {
		f.t.Fatal(err)
	}
	return c
}
