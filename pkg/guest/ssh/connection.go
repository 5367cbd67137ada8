package ssh

import (
	"context"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// connection is one ssh connection with its commands.
type connection struct {
	client *ssh.Client

	mu sync.Mutex
	// live counts the commands that somebody waits for. A retired connection is closed
	// when none is left.
	live    int
	retired bool
}

func newConnection(client *ssh.Client) *connection { return &connection{client: client} }

func (c *connection) close() { _ = c.client.Close() }

// enter and leave bracket a command that somebody waits for.
func (c *connection) enter() {
	c.mu.Lock()
	c.live++
	c.mu.Unlock()
}

func (c *connection) leave() {
	c.mu.Lock()
	c.live--
	last := c.retired && c.live == 0
	c.mu.Unlock()
	if last {
		c.close()
	}
}

// retire closes the connection as soon as nobody waits for a command on it.
func (c *connection) retire() {
	c.mu.Lock()
	c.retired = true
	last := c.live == 0
	c.mu.Unlock()
	if last {
		c.close()
	}
}

// newSession opens a session. A peer that does not answer holds up the asking, but not
// the caller: what comes late is closed.
func (c *connection) newSession(ctx context.Context, background *sync.WaitGroup) (*ssh.Session, error) {
	type opened struct {
		session *ssh.Session
		err     error
	}
	answer := make(chan opened, 1)
	background.Go(func() {
		s, err := c.client.NewSession()
		answer <- opened{s, err}
	})
	select {
	case o := <-answer:
		return o.session, o.err
	case <-ctx.Done():
		background.Go(func() {
			if o := <-answer; o.err == nil {
				_ = o.session.Close()
			}
		})
		return nil, ctx.Err()
	}
}

// keepAlive asks the peer for a sign of life now and then, and closes the connection when
// none comes. It returns when the connection is closed.
func (c *connection) keepAlive() {
	closed := make(chan struct{})
	go func() {
		_ = c.client.Wait()
		close(closed)
	}()
	tick := time.NewTicker(keepaliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-closed:
			return
		case <-tick.C:
		}
		// The answer may be a refusal; that it comes is what counts.
		late := time.AfterFunc(keepaliveWait, c.close)
		_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
		late.Stop()
		if err != nil {
			c.close()
		}
	}
}
