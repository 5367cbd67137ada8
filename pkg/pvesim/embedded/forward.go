package embedded

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxForwarded bounds the connections of one forwarded port; a browser opens six per
	// host. Two buffers of 32 KiB each make 32 MiB at most.
	maxForwarded = 512
	// forwardIdle ends a connection in which nothing moved in either direction.
	forwardIdle = 5 * time.Minute
	// forwardDial bounds the connect to the appliance, which is on the same machine.
	forwardDial = 5 * time.Second
	// forwardWrite bounds one write to a side that does not read.
	forwardWrite = 30 * time.Second
	// maxRequestHead bounds what is read of a request that can't be forwarded.
	maxRequestHead = 64 << 10
)

// dialFunc opens a connection inside the node.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// forwarder carries connections of one listener to a target inside the node. It knows
// no names and looks nothing up: the target is an address, and dial can't leave the node.
type forwarder struct {
	dial   dialFunc
	log    *slog.Logger
	tls    bool // can't answer by itself: closes instead
	target atomic.Pointer[string]
	slots  chan struct{}

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

func newForwarder(dial dialFunc, tls bool, log *slog.Logger) *forwarder {
	f := &forwarder{dial: dial, log: log, tls: tls, slots: make(chan struct{}, maxForwarded), open: map[net.Conn]struct{}{}}
	f.setTarget("")
	return f
}

func (f *forwarder) setTarget(address string) { f.target.Store(&address) }

// serve accepts until the listener is closed.
func (f *forwarder) serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			f.log.Warn("forwarder can't accept", "error", err)
			time.Sleep(acceptPause)
			continue
		}
		select {
		case f.slots <- struct{}{}:
			go func() {
				defer func() { <-f.slots }()
				f.handle(conn)
			}()
		default:
			_ = conn.Close() // full: the client sees a closed connection and may retry
		}
	}
}

// acceptPause keeps an accept that fails at once (no file descriptors) from spinning.
const acceptPause = 50 * time.Millisecond

// close ends all connections.
func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for c := range f.open {
		_ = c.Close()
	}
}

// track remembers a connection for close; false means that it is too late.
func (f *forwarder) track(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.open[c] = struct{}{}
	}
	return !f.closed
}

func (f *forwarder) drop(c net.Conn) {
	f.mu.Lock()
	delete(f.open, c)
	f.mu.Unlock()
	_ = c.Close()
}

func (f *forwarder) handle(client net.Conn) {
	defer f.drop(client)
	if !f.track(client) {
		return
	}
	address := *f.target.Load()
	if address == "" {
		f.unavailable(client, "no appliance is ready yet")
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), forwardDial)
	defer cancel()
	server, err := f.dial(ctx, "tcp", address)
	if err != nil {
		f.log.Debug("forward target does not answer", "target", address, "error", err)
		f.unavailable(client, "the appliance does not answer")
		return
	}
	defer f.drop(server)
	if f.track(server) {
		splice(client, server)
	}
}

// unavailable answers one HTTP request with a page that says why. The request is read
// first: closing with unread data would reset the connection before the page arrives.
func (f *forwarder) unavailable(client net.Conn, why string) {
	if f.tls {
		return
	}
	_ = client.SetDeadline(time.Now().Add(forwardDial))
	if _, err := http.ReadRequest(bufio.NewReader(io.LimitReader(client, maxRequestHead))); err != nil {
		return
	}
	page := "503: " + why + "\n"
	resp := &http.Response{
		StatusCode: http.StatusServiceUnavailable, ProtoMajor: 1, ProtoMinor: 1, Close: true,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "Retry-After": {"2"}},
		ContentLength: int64(len(page)), Body: io.NopCloser(strings.NewReader(page)),
	}
	_ = resp.Write(client)
}

// splice copies both ways until both directions ended, or nothing moved for forwardIdle.
// A side that finished sending is told so while the other may go on.
func splice(a, b net.Conn) {
	var moved atomic.Int64
	moved.Store(time.Now().UnixNano())
	var both sync.WaitGroup
	both.Go(func() { pump(a, b, &moved) })
	both.Go(func() { pump(b, a, &moved) })
	both.Wait()
}

// pump copies one direction. On an error both connections are closed, which ends the
// other direction; at the end of the stream only the sending half of dst is.
func pump(dst, src net.Conn, moved *atomic.Int64) {
	buf := make([]byte, 32<<10)
	for {
		_ = src.SetReadDeadline(time.Unix(0, moved.Load()).Add(forwardIdle))
		n, err := src.Read(buf)
		if n > 0 {
			moved.Store(time.Now().UnixNano())
			_ = dst.SetWriteDeadline(time.Now().Add(forwardWrite))
			if _, werr := dst.Write(buf[:n]); werr != nil {
				err = io.ErrShortWrite // whatever it was, the stream is broken
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			if half, ok := dst.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				return
			}
			_ = dst.Close()
			return
		case errors.Is(err, os.ErrDeadlineExceeded) && time.Since(time.Unix(0, moved.Load())) < forwardIdle:
			// only this direction was quiet
		default:
			_ = src.Close()
			_ = dst.Close()
			return
		}
	}
}
