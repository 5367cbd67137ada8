package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const somePort = 5901

// consoleServer hands every termproxy the same ticket and serves its websocket with talk.
func consoleServer(t *testing.T, talk func(ctx context.Context, ws *websocket.Conn)) *server {
	return newServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/termproxy") {
			answer(w, map[string]any{"user": "a@pve!t", "ticket": "PVEVNC:6B040702::q+/=", "port": "5901", "upid": someUPID})
			return
		}
		if r.URL.Query().Get("vncticket") != "PVEVNC:6B040702::q+/=" || r.URL.Query().Get("port") != "5901" {
			refuse(w, 401, "permission denied - invalid PVEVNC ticket", nil)
			return
		}
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"binary"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = ws.CloseNow() }()
		talk(r.Context(), ws)
	})
}

func openConsole(t *testing.T, s *server) (*Console, error) {
	t.Helper()
	c := newClient(t, s.config())
	ticket, err := c.Termproxy(t.Context(), "pve", 100)
	if err != nil {
		t.Fatal(err)
	}
	return c.DialConsole(t.Context(), "pve", 100, ticket)
}

func TestConsole(t *testing.T) {
	heard := make(chan string, 10)
	s := consoleServer(t, func(ctx context.Context, ws *websocket.Conn) {
		_, first, _ := ws.Read(ctx)
		heard <- string(first)
		_ = ws.Write(ctx, websocket.MessageBinary, []byte("O"))
		_ = ws.Write(ctx, websocket.MessageBinary, []byte("K\x1b[H# "))
		for range 5 {
			_, m, err := ws.Read(ctx)
			if err != nil {
				heard <- err.Error()
				return
			}
			heard <- string(m)
		}
		_ = ws.Write(ctx, websocket.MessageBinary, nil)
		_ = ws.Write(ctx, websocket.MessageBinary, []byte(strings.Repeat("x", 128<<10)))
		_ = ws.Close(websocket.StatusNormalClosure, "")
	})
	o, err := openConsole(t, s)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if got := <-heard; got != "a@pve!t:PVEVNC:6B040702::q+/=\n" {
		t.Errorf("greeting %q", got)
	}
	if data, err := o.Receive(t.Context()); err != nil || string(data) != "\x1b[H# " {
		t.Errorf("what came with the greeting is lost: %q %v", data, err)
	}
	ctx := t.Context()
	if err := errors.Join(o.Send(ctx, []byte(strings.Repeat("y", consoleFrame+1))), o.Resize(ctx, 80, 24), o.KeepAlive(ctx), o.Send(ctx, nil), o.Send(ctx, []byte("ü"))); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{fmt.Sprintf("0:%d:%s", consoleFrame, strings.Repeat("y", consoleFrame)), "0:1:y", "1:80:24:", "2", "0:2:ü"} {
		if got := <-heard; got != want {
			t.Errorf("the server heard %.60q, want %.60q", got, want)
		}
	}
	if data, err := o.Receive(ctx); err != nil || len(data) != 128<<10 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if _, err := o.Receive(ctx); err == nil {
		t.Error("a closed console says more")
	}
}

// Recorded: a token's console opens, and is closed before it says OK.
func TestConsoleRefusesATokenOnOlderVersions(t *testing.T) {
	s := consoleServer(t, func(ctx context.Context, ws *websocket.Conn) { _, _, _ = ws.Read(ctx) })
	if _, err := openConsole(t, s); !errors.Is(err, ErrConsoleRefused) || !strings.Contains(err.Error(), "a@pve!t") || strings.Contains(err.Error(), "PVEVNC") {
		t.Errorf("%v", err)
	}
}

func TestConsoleErrors(t *testing.T) {
	s := consoleServer(t, func(ctx context.Context, ws *websocket.Conn) {
		_, _, _ = ws.Read(ctx)
		_ = ws.Write(ctx, websocket.MessageBinary, []byte("who?"))
	})
	if _, err := openConsole(t, s); !errors.Is(err, ErrConsoleRefused) {
		t.Errorf("another greeting: %v", err)
	}
	c := newClient(t, s.config())
	bad := ConsoleTicket{User: "a@pve", Ticket: "PVEVNC:0::x", Port: somePort}
	if _, err := c.DialConsole(t.Context(), "pve", 100, bad); !IsUnauthorized(err) || !strings.Contains(err.Error(), "invalid PVEVNC ticket") {
		t.Errorf("a wrong ticket: %v", err)
	}
	s.Close()
	if _, err := c.DialConsole(t.Context(), "pve", 100, bad); !IsUnavailable(err) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestConsoleEndsWithContext(t *testing.T) {
	s := consoleServer(t, func(ctx context.Context, ws *websocket.Conn) {
		_, _, _ = ws.Read(ctx)
		_, _, _ = ws.Read(ctx)
	})
	c := newClient(t, s.config())
	ticket, err := c.Termproxy(t.Context(), "pve", 100)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.DialConsole(ctx, "pve", 100, ticket); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that says nothing: %v", err)
	}
}

// Consoles live long: they take no places of requests.
func TestConsolesLeaveRoomForRequests(t *testing.T) {
	s := consoleServer(t, func(ctx context.Context, ws *websocket.Conn) {
		_, _, _ = ws.Read(ctx)
		_ = ws.Write(ctx, websocket.MessageBinary, []byte("OK"))
		_, _, _ = ws.Read(ctx)
	})
	cfg := s.config()
	cfg.Concurrency = 1
	c := newClient(t, cfg)
	for range 3 {
		ticket, err := c.Termproxy(t.Context(), "pve", 100)
		if err != nil {
			t.Fatal(err)
		}
		o, err := c.DialConsole(t.Context(), "pve", 100, ticket)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
	}
}
