package mem

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func testPair() (client, server net.Conn) {
	return connPair(netip.MustParseAddrPort("10.0.0.2:40000"), "10.0.0.1", 80)
}

// A connection behaves as one of TCP does where a protocol can see it.
func TestConnections(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, a, b net.Conn){
		"what was written before the end is still read": func(t *testing.T, a, b net.Conn) {
			_, _ = a.Write([]byte("hello"))
			_ = a.Close()
			if got, err := io.ReadAll(b); string(got) != "hello" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		},
		"half of it is closed": func(t *testing.T, a, b net.Conn) {
			_ = a.(*conn).CloseWrite()
			if _, err := b.Write([]byte("answer")); err != nil {
				t.Error(err)
			}
			_ = b.Close()
			if got, err := io.ReadAll(a); string(got) != "answer" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
				t.Error(err)
			}
		},
		"the other end has gone": func(t *testing.T, a, b net.Conn) {
			_ = b.Close()
			if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
				t.Error(err)
			}
		},
		"a read that waits ends with a close": func(t *testing.T, a, _ net.Conn) {
			time.AfterFunc(time.Second, func() { _ = a.Close() })
			if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		},
		"deadlines": func(t *testing.T, a, b net.Conn) {
			begin := time.Now()
			_ = a.SetDeadline(begin.Add(3 * time.Second))
			var timeout net.Error
			if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Error(err)
			}
			if waited := time.Since(begin); waited != 3*time.Second {
				t.Errorf("waited %s", waited)
			}
			if _, err := a.Write(make([]byte, 2*streamBuffer)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			_ = a.SetDeadline(time.Time{})
			_, _ = b.Write([]byte("y"))
			if _, err := a.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
		},
		"more than the buffer holds": func(t *testing.T, a, b net.Conn) {
			sent := bytes.Repeat([]byte("0123456789"), streamBuffer/4)
			go func() {
				_, _ = a.Write(sent)
				_ = a.Close()
			}()
			time.Sleep(time.Second) // the writer waits for room
			if got, err := io.ReadAll(b); !bytes.Equal(got, sent) || err != nil {
				t.Errorf("%d bytes of %d, %v", len(got), len(sent), err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := testPair()
				do(t, a, b)
				_, _ = a.Close(), b.Close()
			})
		})
	}
}
