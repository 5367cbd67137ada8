package mem

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// connPair makes the two ends of an in-process connection, which has buffers, deadlines and
// half-close as TCP has, and no address on any network. There is no socket beneath it, so that
// who waits for it waits in virtual time, too (testing/synctest).
func connPair(from netip.AddrPort, host string, port int) (client, server net.Conn) {
	up, down := newStream(), newStream()
	here := net.TCPAddrFromAddrPort(from)
	there := &net.TCPAddr{IP: net.ParseIP(host), Port: port}
	return &conn{in: down, out: up, local: here, remote: there}, &conn{in: up, out: down, local: there, remote: here}
}

// conn is one end, with the address that it would have on the guests' network.
type conn struct {
	in, out       *stream
	local, remote net.Addr
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	return n, c.told("read", err)
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	return n, c.told("write", err)
}

func (c *conn) Close() error {
	c.in.abandon()
	c.out.leave()
	return nil
}

// CloseWrite ends what this end says; it still hears the other one.
func (c *conn) CloseWrite() error {
	c.out.end()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.reading, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writing, t)
	return nil
}

// told words an error as the net package does.
func (c *conn) told(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// streamBuffer bounds what was written and is not read yet; who writes more waits.
const streamBuffer = 256 << 10

// stream is one direction of a connection.
type stream struct {
	mu   sync.Mutex
	news *sync.Cond // what readers or writers wait for has changed
	data []byte
	// ended: nothing more is written, what there is can be read. abandoned: nobody reads.
	// left: the end that writes is closed altogether.
	ended, abandoned, left bool
	reading, writing       deadline
}

// deadline ends the waits of one side.
type deadline struct {
	at   time.Time // zero for none
	fire *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newStream() *stream {
	s := &stream{}
	s.news = sync.NewCond(&s.mu)
	return s
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.abandoned:
			return 0, net.ErrClosed
		case s.reading.passed():
			return 0, os.ErrDeadlineExceeded
		case len(s.data) > 0:
			n := copy(b, s.data)
			if s.data = s.data[n:]; len(s.data) == 0 {
				s.data = nil // a connection that rests keeps no buffer
			}
			s.news.Broadcast()
			return n, nil
		case s.ended:
			return 0, io.EOF
		case len(b) == 0:
			return 0, nil
		}
		s.news.Wait()
	}
}

func (s *stream) write(b []byte) (written int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.left:
			return written, net.ErrClosed
		case s.ended, s.abandoned:
			return written, syscall.EPIPE
		case s.writing.passed():
			return written, os.ErrDeadlineExceeded
		case len(b) == 0:
			return written, nil
		}
		if room := min(streamBuffer-len(s.data), len(b)); room > 0 {
			s.data = append(s.data, b[:room]...)
			b, written = b[room:], written+room
			s.news.Broadcast()
			continue
		}
		s.news.Wait()
	}
}

// end lets nothing more be written; leave does, because its end is closed; abandon lets nothing
// more be read.
func (s *stream) end() { s.change(func() { s.ended = true; s.writing.stop() }) }

func (s *stream) leave() { s.change(func() { s.ended, s.left = true, true; s.writing.stop() }) }

func (s *stream) abandon() {
	s.change(func() { s.abandoned, s.data = true, nil; s.reading.stop() })
}

func (s *stream) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	s.news.Broadcast()
}

func (d *deadline) stop() {
	if d.fire != nil {
		d.fire.Stop()
		d.fire = nil
	}
}

func (s *stream) setDeadline(d *deadline, t time.Time) {
	s.change(func() {
		d.stop()
		d.at = t
		if left := time.Until(t); !t.IsZero() && left > 0 {
			d.fire = time.AfterFunc(left, s.news.Broadcast)
		}
	})
}
