package embedded

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

var discard = slog.New(slog.DiscardHandler)

// forwardTo serves a forwarder whose dial is given and returns its address.
func forwardTo(t *testing.T, tls bool, dial dialFunc) (*forwarder, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newForwarder(dial, tls, discard)
	served := make(chan error, 1)
	go func() { served <- f.serve(l) }()
	t.Cleanup(func() {
		_ = l.Close()
		f.close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return f, l.Addr().String()
}

// echo accepts one connection at a time, reads to the end and only then answers: it needs
// half-closed connections.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			text, _ := io.ReadAll(c)
			_, _ = c.Write(append([]byte("all of: "), text...))
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

func TestForwardHalfClose(t *testing.T) {
	f, address := forwardTo(t, false, new(net.Dialer).DialContext)
	f.setTarget(echo(t))
	for range 3 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, strings.Repeat("x", 100_000))
		_ = c.(*net.TCPConn).CloseWrite()
		text, err := io.ReadAll(c)
		if err != nil || len(text) != 100_008 {
			t.Errorf("got %d bytes (%v), want 100008", len(text), err)
		}
		_ = c.Close()
	}
}

func TestForwardUnavailable(t *testing.T) {
	failing := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route") }
	f, address := forwardTo(t, false, failing)
	for target, want := range map[string]string{"": "no appliance is ready yet", "192.0.2.1:80": "the appliance does not answer"} {
		f.setTarget(target)
		resp, err := http.Get("http://" + address + "/path")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), want) {
			t.Errorf("target %q: %d %q", target, resp.StatusCode, body)
		}
	}
	_, tlsAddress := forwardTo(t, true, failing)
	c, err := net.Dial("tcp", tlsAddress)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("TLS without a target: %d bytes, error %v; want a closed connection", n, err)
	}
}

func TestForwardIsBounded(t *testing.T) {
	f, address := forwardTo(t, false, new(net.Dialer).DialContext)
	f.setTarget(echo(t))
	for range cap(f.slots) {
		f.slots <- struct{}{} // as many connections as there may be
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a connection too many: %v, want it closed", err)
	}
	for range cap(f.slots) {
		<-f.slots
	}
}

func TestForwardCloseEndsConnections(t *testing.T) {
	f, address := forwardTo(t, false, new(net.Dialer).DialContext)
	f.setTarget(echo(t))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "x")
	eventually(t, "both sides open", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.open) == 2 })
	f.close()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(c); errors.Is(err, context.DeadlineExceeded) {
		t.Error("the connection outlived the forwarder")
	}
}

func TestForwardTargets(t *testing.T) {
	for target, ok := range map[string]bool{
		"": true, "192.168.50.100:80": true, "[::1]:443": true,
		"appliance:80": false, "192.168.50.100": false, ":80": false, "1.2.3.4:": false,
	} {
		if got := (forwardTargets{HTTP: target}).valid(); got != ok {
			t.Errorf("%q: valid %t, want %t", target, got, ok)
		}
	}
}
