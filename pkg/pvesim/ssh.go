package pvesim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// Limits of the ssh server, as OpenSSH has them.
const (
	sshHandshakeTimeout = 30 * time.Second
	maxSSHSessions      = 10 // MaxSessions, per connection
)

// ServeSSH serves ssh for root with the one key of the credentials until the node or l
// is closed. Only exec requests with known commands are carried out; there is no shell,
// no forwarding and no terminal.
func (n *Node) ServeSSH(l net.Listener) error {
	n.serving.Add(1)
	defer n.serving.Done()
	if !n.track(l, nil) {
		_ = l.Close()
		return net.ErrClosed
	}
	cfg := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-OpenSSH_10.0p2 simulated",
		PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if c.User() == n.creds.SSHUser && bytes.Equal(key.Marshal(), n.sshUser.Marshal()) {
				return &ssh.Permissions{}, nil
			}
			return nil, errors.New("unknown key")
		},
	}
	cfg.AddHostKey(n.sshHost)
	l = nodeListener{l, n}
	for {
		conn, err := l.Accept()
		if err != nil {
			if n.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("serve ssh: %w", err)
		}
		n.serving.Go(func() { n.serveSSHConn(conn, cfg) })
	}
}

func (n *Node) serveSSHConn(raw net.Conn, cfg *ssh.ServerConfig) {
	stop := context.AfterFunc(n.ctx, func() { _ = raw.Close() })
	defer stop()
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(sshHandshakeTimeout))
	conn, channels, requests, err := ssh.NewServerConn(raw, cfg)
	if err != nil {
		n.log.Debug("ssh handshake failed", "error", err)
		return
	}
	if d := n.cfg.Latency.Connect; d > 0 && !sleep(n.ctx, d) {
		return
	}
	_ = raw.SetDeadline(time.Time{})
	go ssh.DiscardRequests(requests) // answers keepalives; ends with the connection
	ctx, cancel := context.WithCancel(n.ctx)
	defer cancel()
	sessions := make(chan struct{}, maxSSHSessions)
	for ch := range channels {
		if ch.ChannelType() != "session" {
			_ = ch.Reject(ssh.UnknownChannelType, "only sessions are served")
			continue
		}
		select {
		case sessions <- struct{}{}:
		default:
			_ = ch.Reject(ssh.ResourceShortage, "too many sessions")
			continue
		}
		channel, reqs, err := ch.Accept()
		if err != nil {
			<-sessions
			continue
		}
		n.serving.Go(func() {
			defer func() { <-sessions }()
			n.serveSession(ctx, channel, reqs)
		})
	}
	_ = conn.Close()
}

// serveSession carries out the one exec request of a session.
func (n *Node) serveSession(ctx context.Context, ch ssh.Channel, reqs <-chan *ssh.Request) {
	defer ch.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for req := range reqs {
		switch req.Type {
		case "exec":
			var payload struct{ Command string }
			if err := ssh.Unmarshal(req.Payload, &payload); err != nil {
				_ = req.Reply(false, nil)
				return
			}
			_ = req.Reply(true, nil)
			go watchSignals(reqs, cancel)
			code := n.runCommand(ctx, payload.Command, stdio{in: ch, out: ch, err: ch.Stderr()})
			_ = ch.CloseWrite()
			status := struct{ Code uint32 }{uint32(code)}
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(&status))
			return
		case "env": // as sshd without AcceptEnv: taken, ignored
			_ = req.Reply(true, nil)
		default: // shell, pty-req, subsystem...
			_ = req.Reply(false, nil)
		}
	}
}

// watchSignals ends the command when the client signals it or goes away.
func watchSignals(reqs <-chan *ssh.Request, cancel context.CancelFunc) {
	defer cancel()
	for req := range reqs {
		_ = req.Reply(req.Type == "signal", nil)
		if req.Type == "signal" {
			return
		}
	}
}

// stdio is what a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}
