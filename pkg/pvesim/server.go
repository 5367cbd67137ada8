package pvesim

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Limits of pveproxy (PVE::APIServer::AnyEvent).
const (
	maxBodyBytes      = 512 << 10
	maxHeaderBytes    = 8 << 10
	idleTimeout       = 5 * time.Second
	requestsPerConn   = 100
	gzipThreshold     = 1024
	serverName        = "pve-api-daemon/3.0"
	jsonContentType   = "application/json;charset=UTF-8"
	drainBeforeClose  = time.Second
	requestReadBudget = time.Minute
)

// connRequests counts the requests of a connection, in its context.
type connRequests struct{}

// ServeAPI serves HTTPS on l until the node or l is closed. Like the real server it
// speaks HTTP/1.1 only.
func (n *Node) ServeAPI(l net.Listener) error {
	n.serving.Add(1)
	defer n.serving.Done()
	srv := &http.Server{
		Handler:           http.HandlerFunc(n.serveHTTP),
		MaxHeaderBytes:    maxHeaderBytes,
		IdleTimeout:       idleTimeout,
		ReadHeaderTimeout: requestReadBudget,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // no HTTP/2
		ErrorLog:          log.New(io.Discard, "", 0),
		BaseContext:       func(net.Listener) context.Context { return n.ctx },
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connRequests{}, new(atomic.Int32))
		},
	}
	tl := tls.NewListener(nodeListener{l, n}, &tls.Config{Certificates: []tls.Certificate{n.cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	if !n.track(tl, srv) {
		_ = l.Close()
		return net.ErrClosed
	}
	err := srv.Serve(tl)
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("serve the API: %w", err)
}

// serveHTTP answers one request: faults of the script around what handle says.
func (n *Node) serveHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{node: n, w: w, r: r}
	if c, ok := r.Context().Value(connRequests{}).(*atomic.Int32); ok && c.Add(1) >= requestsPerConn {
		w.Header().Set("Connection", "close")
	}
	path := strings.TrimPrefix(r.URL.Path, "/api2/json")
	var fault *Fault
	if r.Context().Value(faultless{}) == nil {
		fault = n.faults.next(r.Method, path)
	}
	if !fault.pause(r.Context()) {
		return
	}
	if fault.answers() && !fault.After {
		x.fault(fault)
		return
	}
	if fault != nil {
		n.changeCluster(fault)
		x.spoiled = fault
		x.r = r.WithContext(context.WithValue(r.Context(), faultKey{}, fault))
	}
	res, err := x.handle()
	if fault.answers() {
		x.fault(fault)
		return
	}
	if err != nil {
		x.fail(asAPIError(err))
		return
	}
	if res.upgrade != nil && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		res.upgrade(w, r)
		return
	}
	x.succeed(res)
}

// exchange is one request and its answer.
type exchange struct {
	node  *Node
	w     http.ResponseWriter
	r     *http.Request
	extjs bool
	// spoiled is a fault that changes how the answer is sent.
	spoiled *Fault
}

// result is what a handler answers with.
type result struct {
	data    any
	total   *int   // of a list that was cut
	changes string // pending network changes
	// upgrade takes the connection over when the client asks for a websocket.
	upgrade func(http.ResponseWriter, *http.Request)
}

func (res result) body() map[string]any {
	b := map[string]any{"data": res.data}
	if res.total != nil {
		b["total"] = *res.total
	}
	if res.changes != "" {
		b["changes"] = res.changes
	}
	return b
}

func (x *exchange) succeed(res result) {
	body := res.body()
	if x.extjs {
		body["success"] = 1
	}
	x.write(body)
}

// write sends a 200 with a JSON body.
func (x *exchange) write(body map[string]any) {
	raw, err := json.Marshal(body)
	if err != nil {
		x.fail(asAPIError(fmt.Errorf("encode the answer: %w", err)))
		return
	}
	h := x.w.Header()
	h.Set("Content-Type", jsonContentType)
	h.Set("Server", serverName)
	h.Set("Cache-Control", "max-age=0")
	if f := x.spoiled; f != nil && (f.Action == ActTruncate || f.Action == ActDrip) {
		x.spoil(f, raw)
		return
	}
	if len(raw) > gzipThreshold && strings.Contains(x.r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(x.w)
		_, _ = z.Write(raw) // a client that went away
		_ = z.Close()
		return
	}
	_, _ = x.w.Write(raw)
}

// fail sends an error with its text as the reason phrase and closes the connection, as
// the real server does for every status from 400.
func (x *exchange) fail(e *apiError) {
	if e.code == http.StatusUnauthorized {
		x.node.authPause(x.r.Context())
	}
	if x.extjs && !e.bare {
		x.write(map[string]any{"data": nil, "success": 0, "status": e.code, "message": e.message + "\n"})
		return
	}
	var body []byte
	if !e.bare {
		msg := map[string]any{"data": nil}
		if x.node.cfg.Version.messages() {
			msg["message"] = e.message + "\n"
			if e.line {
				msg["message"] = e.message
			}
		}
		if e.params != nil {
			msg["errors"] = e.params
		}
		body, _ = json.Marshal(msg) // a map of strings
	}
	x.raw(e.code, e.reason(), body)
}

// raw writes an answer that package http cannot: with a reason phrase of its own.
func (x *exchange) raw(code int, reason string, body []byte) {
	if m, ok := x.w.(*memoryWriter); ok {
		m.raw(code, reason, body)
		return
	}
	// What the client still sends is read first: closing a socket with unread data makes
	// the kernel reset it, and the client would lose the answer.
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(drainBeforeClose))
	_, _ = io.CopyN(io.Discard, x.r.Body, maxBodyBytes)
	conn, rw, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.node.log.Error("connection cannot be taken over", "error", err)
		http.Error(x.w, reason, code)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(requestReadBudget))
	writeRaw(rw.Writer, code, reason, body)
	_ = rw.Flush() // a client that went away
}

func writeRaw(w *bufio.Writer, code int, reason string, body []byte) {
	reason = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, reason)
	fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nConnection: close\r\nCache-Control: max-age=0\r\nServer: %s\r\n", code, reason, serverName)
	if body != nil {
		fmt.Fprintf(w, "Content-Type: %s\r\n", jsonContentType)
	}
	fmt.Fprintf(w, "Content-Length: %d\r\nDate: %s\r\n\r\n", len(body), time.Now().UTC().Format(http.TimeFormat))
	_, _ = w.Write(body)
}

// authPause is the delay of a refused authentication.
func (n *Node) authPause(ctx context.Context) {
	if n.cfg.AuthDelay <= 0 {
		return
	}
	sleep(ctx, n.cfg.AuthDelay)
}

// sleep waits for d; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
