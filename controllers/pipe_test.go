package controllers_test

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

var loopback = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}

// flow is one direction of a connection: like a socket it takes what is written without
// waiting for a reader, and what was written before a close is still read.
type flow struct {
	mu     sync.Mutex
	news   *sync.Cond
	data   []byte
	closed bool
	// deadline ends waiting readers; late fires it.
	deadline time.Time
	late     *time.Timer
}

func newFlow() *flow {
	f := &flow{}
	f.news = sync.NewCond(&f.mu)
	return f
}

func (f *flow) write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, io.ErrClosedPipe
	}
	f.data = append(f.data, b...)
	f.news.Broadcast()
	return len(b), nil
}

func (f *flow) read(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case !f.deadline.IsZero() && !time.Now().Before(f.deadline):
			return 0, os.ErrDeadlineExceeded
		case len(f.data) > 0:
			n := copy(b, f.data)
			f.data = f.data[n:]
			return n, nil
		case f.closed:
			return 0, io.EOF
		}
		f.news.Wait()
	}
}

func (f *flow) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.late != nil {
		f.late.Stop()
	}
	f.news.Broadcast()
}

func (f *flow) setDeadline(t time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.late != nil {
		f.late.Stop()
		f.late = nil
	}
	f.deadline = t
	if left := time.Until(t); !t.IsZero() && left > 0 {
		f.late = time.AfterFunc(left, f.news.Broadcast)
	}
	f.news.Broadcast()
}

// pipeEnd is one end of a connection. Writes never wait, so they need no deadline.
type pipeEnd struct{ in, out *flow }

func (p *pipeEnd) Read(b []byte) (int, error)  { return p.in.read(b) }
func (p *pipeEnd) Write(b []byte) (int, error) { return p.out.write(b) }

func (p *pipeEnd) Close() error {
	p.out.close()
	p.in.close()
	return nil
}

func (p *pipeEnd) LocalAddr() net.Addr  { return loopback }
func (p *pipeEnd) RemoteAddr() net.Addr { return loopback }

func (p *pipeEnd) SetDeadline(t time.Time) error      { return p.SetReadDeadline(t) }
func (p *pipeEnd) SetReadDeadline(t time.Time) error  { p.in.setDeadline(t); return nil }
func (p *pipeEnd) SetWriteDeadline(_ time.Time) error { return nil }
