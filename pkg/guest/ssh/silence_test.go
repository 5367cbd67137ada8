package ssh

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/proximity-pve/proximity/pkg/guest"
	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/test/bufconn"
)

// silentNode is a node in memory, for tests of time: command "hang" never ends, any other
// ends at once. Its connections can fall silent, as when a cable is pulled.
type silentNode struct {
	silent      atomic.Int32 // number of the connection that is, from 1
	connections atomic.Int32
}

// line is the client's side of a connection. When the node is silent, what is written is
// lost, so that nothing comes back either.
type line struct {
	net.Conn
	node *silentNode
	born int32
}

func (l line) Write(p []byte) (int, error) {
	if l.node.silent.Load() == l.born {
		return len(p), nil
	}
	return l.Conn.Write(p)
}

// newSilentNode returns a node with a client for it. It must run in a bubble.
func newSilentNode(t *testing.T) (*silentNode, *Client) {
	n := &silentNode{}
	hostKey, _ := newKey(t)
	_, private := newKey(t)
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(hostKey)
	listener := bufconn.Listen(1 << 16)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveSilent(conn, config)
		}
	}()
	c, err := New(Config{
		Address: func(string) string { return "pve:22" }, PrivateKey: private,
		HostKeys: []string{string(ssh.MarshalAuthorizedKey(hostKey.PublicKey()))}, Sessions: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.dialTCP = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := listener.DialContext(ctx)
		return line{conn, n, n.connections.Add(1)}, err
	}
	t.Cleanup(func() {
		_ = c.Close()
		_ = listener.Close()
	})
	return n, c
}

func serveSilent(raw net.Conn, config *ssh.ServerConfig) {
	defer func() { _ = raw.Close() }()
	_, channels, requests, err := ssh.NewServerConn(raw, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				_ = r.Reply(true, nil)
				if r.Type == "exec" && string(r.Payload[4:]) != "hang" {
					_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
					_ = channel.Close()
				}
			}
		}()
	}
}

func TestSilentPeerIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, c := newSilentNode(t)
		if _, err := c.Exec(t.Context(), "pve", []string{"true"}, nil, 0); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { _, err := c.Exec(t.Context(), "pve", []string{"hang"}, nil, 0); done <- err }()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("a quiet but living connection was given up: %v", err)
		default:
		}
		begin := time.Now()
		n.silent.Store(1)
		if err := <-done; !errors.Is(err, guest.ErrUnreachable) {
			t.Errorf("%v", err)
		}
		if took := time.Since(begin); took > keepaliveEvery+keepaliveWait {
			t.Errorf("noticed after %v", took)
		}
		if _, err := c.Exec(t.Context(), "pve", []string{"true"}, nil, 0); err != nil || n.connections.Load() != 2 {
			t.Errorf("%v, %d connections", err, n.connections.Load())
		}
	})
}

func TestCommandThatCannotBeCancelledGivesItsPlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, c := newSilentNode(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { _, err := c.Exec(ctx, "pve", []string{"hang"}, nil, 0); done <- err }()
		synctest.Wait()
		n.silent.Store(1)
		begin := time.Now()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || time.Since(begin) != 0 {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		// The only place is taken until the connection is given up.
		if _, err := c.Exec(t.Context(), "pve", []string{"true"}, nil, 0); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != abandonGrace || n.connections.Load() != 2 {
			t.Errorf("after %v, %d connections", took, n.connections.Load())
		}
	})
}

// The connection of an abandoned command serves its other commands to their end.
func TestRetiredConnectionServesItsOtherCommands(t *testing.T) {
	c := &connection{client: deadClient()}
	c.enter()
	c.enter()
	c.leave()
	c.retire()
	if closed(c) {
		t.Error("closed with a command under way")
	}
	c.leave()
	if !closed(c) {
		t.Error("not closed after its last command")
	}
}

// watched is a connection that knows whether it was closed.
type watched struct {
	ssh.Conn
	closed atomic.Bool
}

func (w *watched) Close() error { w.closed.Store(true); return nil }

func deadClient() *ssh.Client { return &ssh.Client{Conn: &watched{}} }

func closed(c *connection) bool { return c.client.Conn.(*watched).closed.Load() }
