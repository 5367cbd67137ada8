package client

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
)

// lastFailure remembers why the newest attempt to connect failed: gRPC tells it only as
// part of a text.
type lastFailure struct {
	mu  sync.Mutex
	err error
}

func (f *lastFailure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *lastFailure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// dialer connects to where the daemon is now.
func (c *Client) dialer(ctx context.Context, address string) (net.Conn, error) {
	if c.cfg.Resolve != nil {
		now, err := c.cfg.Resolve()
		if err == nil {
			now, err = hostPort(now)
		}
		if err != nil {
			c.failure.set(err)
			return nil, err
		}
		address = now
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	c.failure.set(err)
	return conn, err
}

// handshakes is the TLS credential with the memory of its last failure.
type handshakes struct {
	credentials.TransportCredentials
	failure *lastFailure
}

func (h handshakes) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, raw)
	h.failure.set(err)
	return conn, info, err
}

func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{h.TransportCredentials.Clone(), h.failure}
}

// bearer sends the token with every call.
type bearer func(context.Context) (string, error)

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b(ctx)
	if err != nil || token == "" {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity makes gRPC refuse to send the token without TLS.
func (bearer) RequireTransportSecurity() bool { return true }
