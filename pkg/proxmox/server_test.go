package proxmox

import (
	"crypto/sha256"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// seen is one request as the server got it.
type seen struct {
	method, path string
	params       url.Values
	header       http.Header
	length       int64
	encoding     []string
}

// server is a TLS server that keeps what it was asked and answers as told, request by
// request.
type server struct {
	*httptest.Server
	mu   sync.Mutex
	seen []seen
}

// newServer answers with respond, which gets the number of the request, from 0.
func newServer(t *testing.T, respond func(n int, w http.ResponseWriter, r *http.Request)) *server {
	t.Helper()
	return newServerWith(t, respond, nil)
}

// newServerWith tells connState of its connections.
func newServerWith(t *testing.T, respond func(n int, w http.ResponseWriter, r *http.Request), connState func(net.Conn, http.ConnState)) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		params := r.URL.Query()
		form, _ := url.ParseQuery(string(body))
		for k, v := range form {
			params[k] = append(params[k], v...)
		}
		s.mu.Lock()
		n := len(s.seen)
		noteRequest(r.Method, strings.TrimPrefix(r.URL.Path, "/api2/json"), params)
		s.seen = append(s.seen, seen{r.Method, strings.TrimPrefix(r.URL.Path, "/api2/json"), params, r.Header, r.ContentLength, r.TransferEncoding})
		s.mu.Unlock()
		respond(n, w, r)
	}))
	s.Config.ErrorLog, s.Config.ConnState = discardLog(), connState
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *server) requests() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.seen...)
}

func (s *server) fingerprint() string {
	sum := sha256.Sum256(s.Certificate().Raw)
	return FormatFingerprint(sum[:])
}

// config is for a client with an API token that trusts the server.
func (s *server) config() Config {
	return Config{
		Endpoints: []string{s.URL}, TokenID: "proximity@pve!svc", TokenSecret: "not-a-real-secret",
		Fingerprints: []string{s.fingerprint()},
	}
}

func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func answer(w http.ResponseWriter, data any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
}

// refuse answers as Proxmox VE does: the message is in the reason phrase and the body.
func refuse(w http.ResponseWriter, status int, message string, params map[string]string) {
	conn, buf, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	body, _ := json.Marshal(map[string]any{"data": nil, "message": message + "\n", "errors": params})
	if status == http.StatusUnauthorized {
		body = nil
	}
	_, _ = buf.WriteString("HTTP/1.1 " + itoa(status) + " " + message + "\r\nConnection: close\r\nContent-Length: " + itoa(len(body)) + "\r\n\r\n")
	_, _ = buf.Write(body)
	_ = buf.Flush()
	_ = conn.Close()
}

// reset cuts the connection without a word.
func reset(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	type tcp interface{ NetConn() net.Conn }
	if t, ok := conn.(tcp); ok {
		if c, ok := t.NetConn().(*net.TCPConn); ok {
			_ = c.SetLinger(0)
			_ = c.Close()
			return
		}
	}
	_ = conn.Close()
}

const someUPID = "UPID:pve:0000162B:00056DC6:6B04067D:vzstart:200:proximity@pve!svc:"
