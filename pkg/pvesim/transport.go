package pvesim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// Transport reaches the node's API without a network: for tests in virtual time
// (testing/synctest), where sockets cannot be waited for. The host of a request does not
// matter. Answers, faults and latency are those of ServeAPI; what belongs to connections
// (keep-alive, gzip, TLS) is left out.
func (n *Node) Transport() http.RoundTripper { return memoryTransport{node: n} }

// FaultlessTransport is Transport for what is not to be hit by the fault script, nor to be
// counted by its faults: the hand of an administrator in a test.
func (n *Node) FaultlessTransport() http.RoundTripper {
	return memoryTransport{node: n, faultless: true}
}

type memoryTransport struct {
	node      *Node
	faultless bool
}

// faultless marks the context of a request that the fault script does not see.
type faultless struct{}

// errDropped is what a client sees of a connection that was closed.
var errDropped = errors.New("connection reset by peer")

func (m memoryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !m.node.Online() {
		drain(req)
		return nil, errors.New("no route to host")
	}
	ctx, cancel := context.WithCancel(req.Context())
	if m.faultless {
		ctx = context.WithValue(ctx, faultless{}, true)
	}
	r := req.Clone(ctx)
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := &memoryWriter{header: http.Header{}, ready: make(chan struct{}), req: req}
	w.reader, w.pipe = io.Pipe()
	go func() {
		defer cancel()
		m.node.serveHTTP(w, r)
		w.finish()
		drain(req)
	}()
	select {
	case <-w.ready:
		if w.dropped {
			cancel()
			return nil, errDropped
		}
		return w.response(cancel), nil
	case <-req.Context().Done():
		cancel()
		_ = w.reader.CloseWithError(req.Context().Err())
		return nil, req.Context().Err()
	}
}

// drain does what RoundTrip owes the body of a request.
func drain(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// memoryWriter is the other end of memoryTransport.
type memoryWriter struct {
	header http.Header
	req    *http.Request
	once   sync.Once
	ready  chan struct{} // closed when status and header are known

	status  int
	reason  string
	dropped bool
	reader  *io.PipeReader
	pipe    *io.PipeWriter
}

func (w *memoryWriter) Header() http.Header { return w.header }

func (w *memoryWriter) WriteHeader(code int) {
	w.once.Do(func() {
		w.status, w.reason = code, http.StatusText(code)
		close(w.ready)
	})
}

func (w *memoryWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(b)
}

// Flush is for slow answers: everything is written through anyway.
func (w *memoryWriter) Flush() {}

// raw answers with a reason phrase of its own.
func (w *memoryWriter) raw(code int, reason string, body []byte) {
	w.once.Do(func() {
		w.status, w.reason = code, reason
		if body != nil {
			w.header.Set("Content-Type", jsonContentType)
		}
		close(w.ready)
	})
	_, _ = io.Copy(w.pipe, bytes.NewReader(body)) // a client that went away
}

// drop ends the answer as a closed connection does.
func (w *memoryWriter) drop() {
	w.once.Do(func() {
		w.dropped = true
		close(w.ready)
	})
	_ = w.pipe.CloseWithError(io.ErrUnexpectedEOF)
}

func (w *memoryWriter) finish() {
	w.WriteHeader(http.StatusOK)
	_ = w.pipe.Close()
}

func (w *memoryWriter) response(cancel func()) *http.Response {
	length := int64(-1)
	if n, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64); err == nil {
		length = n
	}
	return &http.Response{
		Status: strconv.Itoa(w.status) + " " + w.reason, StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: &memoryBody{w.reader, cancel}, ContentLength: length, Request: w.req,
	}
}

// memoryBody ends the exchange when the client closes it.
type memoryBody struct {
	*io.PipeReader
	cancel func()
}

func (b *memoryBody) Close() error {
	err := b.PipeReader.Close()
	b.cancel()
	return err
}
