package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// What follows are attacks by a client that does its worst. What the server holds meanwhile
// is counted: requests, goroutines, bytes, connections. The network is a pipe and time is
// synctest's, so that no bound depends on how fast the machine is.

// attacker speaks HTTP/2 frame by frame.
type attacker struct {
	conn   *tls.Conn
	framer *http2.Framer
	header bytes.Buffer
	hpack  *hpack.Encoder
	stream uint32
	sent   atomic.Int64 // bytes of frames
	away   atomic.Bool  // it was told to go away
}

// attack connects to one of the listeners; of what the server sends only the end is heard.
func (f *fixture) attack(address string) *attacker {
	f.t.Helper()
	conn, err := f.network.dial(context.Background(), address)
	if err != nil {
		f.t.Fatal(err)
	}
	a := &attacker{conn: tls.Client(conn, &tls.Config{RootCAs: f.roots, ServerName: "127.0.0.1", NextProtos: []string{"h2"}}), stream: 1}
	f.t.Cleanup(func() { conn.Close() })
	if err := a.conn.Handshake(); err != nil {
		f.t.Fatal(err)
	}
	a.hpack = hpack.NewEncoder(&a.header)
	a.framer = http2.NewFramer(a, a.conn)
	go func() {
		for in := http2.NewFramer(nil, a.conn); ; {
			frame, err := in.ReadFrame()
			if err != nil {
				return
			}
			if _, ok := frame.(*http2.GoAwayFrame); ok {
				a.away.Store(true)
			}
		}
	}()
	if _, err := io.WriteString(a.conn, http2.ClientPreface); err != nil {
		f.t.Fatal(err)
	}
	if err := a.framer.WriteSettings(); err != nil {
		f.t.Fatal(err)
	}
	return a
}

func (a *attacker) Write(p []byte) (int, error) {
	n, err := a.conn.Write(p)
	a.sent.Add(int64(n))
	return n, err
}

// heap is what is in memory and not garbage.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// maxHeap is what one attacker may make the server hold.
const maxHeap = 16 << 20

// block encodes headers.
func (a *attacker) block(fields ...string) []byte {
	a.header.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = a.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return a.header.Bytes()
}

// request sends a whole request and takes it back at once.
func (a *attacker) request(body []byte, fields ...string) error {
	id := a.stream
	a.stream += 2
	if err := a.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: a.block(fields...), EndHeaders: true}); err != nil {
		return err
	}
	if err := a.framer.WriteData(id, true, body); err != nil {
		return err
	}
	return a.framer.WriteRSTStream(id, http2.ErrCodeCancel)
}

// stuck is an applier that never answers a Create before it is let go, and counts.
type stuck struct {
	Applier
	entered atomic.Int64
	release chan struct{}
}

func (s *stuck) Create(context.Context, resource.Object, ...apply.Options) (resource.Object, error) {
	s.entered.Add(1)
	<-s.release
	return nil, context.Canceled
}

// listeners are both ways in, with a request that creates something.
func listeners(t *testing.T, f *fixture) map[string]struct {
	address string
	body    []byte
	fields  []string
} {
	t.Helper()
	message, err := proto.Marshal(&v1alpha1.CreateRequest{Object: mustPack(t, namespace("a", ""))})
	if err != nil {
		t.Fatal(err)
	}
	framed := append([]byte{0, 0, 0, byte(len(message) >> 8), byte(len(message))}, message...)
	return map[string]struct {
		address string
		body    []byte
		fields  []string
	}{
		"REST": {f.base, []byte(namespaceJSON("a", "")), []string{":method", "POST", ":scheme", "https", ":authority", "x", ":path", apiRoot + "/namespaces",
			"content-type", "application/json", "authorization", "Bearer " + adminToken}},
		"gRPC": {f.grpcAddr, framed, []string{":method", "POST", ":scheme", "https", ":authority", "x", ":path", v1alpha1.ResourceService_Create_FullMethodName,
			"content-type", "application/grpc", "te", "trailers", "authorization", "Bearer " + adminToken}},
	}
}

// TestRapidReset: streams that are opened and reset as fast as can be do not get more work
// started than streams may be open, though the work of those before goes on.
func TestRapidReset(t *testing.T) {
	for _, name := range []string{"REST", "gRPC"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stuck{release: make(chan struct{})}
				f := start(t, options{network: newPipes(), applier: func(a Applier) Applier { s.Applier = a; return s }})
				way := listeners(t, f)[name]
				a := f.attack(way.address)
				synctest.Wait()
				before, held := runtime.NumGoroutine(), heap()
				const tries = 10 * MaxStreams
				var sent atomic.Int64
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					for range tries {
						if a.request(way.body, way.fields...) != nil {
							return
						}
						sent.Add(1)
					}
				}()
				synctest.Wait() // it was hung up on, or nobody reads any more what it sends
				more := runtime.NumGoroutine() - before
				held = heap() - held
				t.Logf("of %d requests %d were taken off it (told to go away: %t), %d were begun; %d goroutines and %d KiB more",
					tries, sent.Load(), a.away.Load(), s.entered.Load(), more, held>>10)
				if n := s.entered.Load(); n == 0 || n > MaxStreams {
					t.Errorf("%d requests were begun, at most %d streams may be open", n, MaxStreams)
				}
				if n := f.server.gate.short.used.Load(); n > MaxInFlight {
					t.Errorf("%d requests in flight, at most %d", n, MaxInFlight)
				}
				if n := sent.Load(); n > 8*MaxStreams && !a.away.Load() {
					t.Errorf("%d requests were taken off it, and it may go on", n)
				}
				if more > 4*MaxStreams || held > maxHeap {
					t.Errorf("%d goroutines and %d bytes more", more, held)
				}
				a.conn.NetConn().Close()
				<-ended
				close(s.release)
				synctest.Wait()
				if got := f.do("GET", apiRoot+"/namespaces", ""); got.code != 200 {
					t.Errorf("afterwards: %d", got.code)
				}
				if n := f.server.gate.short.used.Load(); n != 0 {
					t.Errorf("%d slots are lost", n)
				}
			})
		})
	}
}

// TestHeadersWithoutEnd: headers that go on and on in CONTINUATION frames end the connection
// after a bounded number of bytes. Frames with nothing in them do not, and nothing is kept of
// them.
func TestHeadersWithoutEnd(t *testing.T) {
	const bound = 64 * MaxHeaderBytes
	for _, name := range []string{"REST", "gRPC"} {
		for what, value := range map[string]string{"large": strings.Repeat("a", 4000), "small": "a", "empty": ""} {
			t.Run(name+" "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := start(t, options{network: newPipes()})
					way := listeners(t, f)[name]
					a := f.attack(way.address)
					held := heap()
					ended := make(chan struct{})
					go func() {
						defer close(ended)
						block, limit := a.block(way.fields...), int64(2*bound)
						if what == "empty" { // nothing else ends it
							limit = bound / 2
						}
						err := a.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block})
						for err == nil && a.sent.Load() < limit {
							block = nil
							if what != "empty" {
								block = a.block("x-more", value)
							}
							err = a.framer.WriteContinuation(1, false, block)
						}
					}()
					synctest.Wait()
					held = heap() - held
					a.conn.NetConn().Close()
					<-ended
					if n := a.sent.Load(); n > bound && what != "empty" {
						t.Errorf("%d bytes of headers were taken, at most %d", n, bound)
					}
					if held > maxHeap {
						t.Errorf("%d bytes are held", held)
					}
					if got := f.do("GET", "/healthz", ""); got.code != 200 {
						t.Errorf("afterwards: %d", got.code)
					}
				})
			})
		}
	}
}

// TestManyConnections: those who only connect get no more than MaxConnections, and these no
// longer than HeaderTimeout.
func TestManyConnections(t *testing.T) {
	const extra = 100
	for _, name := range []string{"REST", "gRPC"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, options{network: newPipes()})
				way := listeners(t, f)[name]
				synctest.Wait()
				before := runtime.NumGoroutine()
				var in, closed atomic.Int64
				var all sync.WaitGroup
				for range MaxConnections + extra {
					all.Go(func() {
						c, err := f.network.dial(context.Background(), way.address)
						if err != nil {
							return
						}
						defer c.Close()
						in.Add(1)
						_, _ = io.Copy(io.Discard, c) // until it is hung up on
						closed.Add(1)
					})
				}
				synctest.Wait()
				if n := in.Load(); n != MaxConnections {
					t.Errorf("%d connections, want %d", n, MaxConnections)
				}
				// Those of the attackers, and a few for each connection.
				if more := runtime.NumGoroutine() - before - (MaxConnections + extra); more > 4*MaxConnections {
					t.Errorf("%d goroutines for %d connections", more, MaxConnections)
				}
				time.Sleep(HeaderTimeout + time.Second)
				synctest.Wait()
				if n := closed.Load(); n < MaxConnections {
					t.Errorf("%d connections were closed after %v", n, HeaderTimeout)
				}
				if got := f.do("GET", "/healthz", ""); got.code != 200 {
					t.Errorf("afterwards: %d", got.code)
				}
				f.shutdown()
				all.Wait()
			})
		})
	}
}

// TestBodiesThatDoNotCome: what is announced is room that is taken, for callers with a
// credential, and no more than MaxBufferedBytes of it.
func TestBodiesThatDoNotCome(t *testing.T) {
	const callers = MaxBufferedBytes/MaxBodyBytes + 20
	for credential, tt := range map[string]struct{ waiting, code int }{
		adminToken: {MaxBufferedBytes / MaxBodyBytes, http.StatusTooManyRequests}, "wrong": {0, http.StatusUnauthorized},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := start(t, options{network: newPipes()})
			var answered atomic.Int64
			var all sync.WaitGroup
			conns := make([]net.Conn, callers)
			for i := range callers {
				c := f.raw()
				conns[i] = c.NetConn()
				all.Go(func() {
					_, _ = fmt.Fprintf(c, "POST %s/namespaces HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{",
						apiRoot, credential, MaxBodyBytes)
					resp, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil {
						return
					}
					if resp.Body.Close(); resp.StatusCode != tt.code {
						t.Errorf("%d, want %d", resp.StatusCode, tt.code)
					}
					answered.Add(1)
				})
			}
			synctest.Wait()
			if n := int(answered.Load()); n != callers-tt.waiting {
				t.Errorf("%d of %d callers were answered, want %d", n, callers, callers-tt.waiting)
			}
			for _, c := range conns {
				c.Close()
			}
			all.Wait()
			synctest.Wait()
			if !f.server.gate.buffer.weighted.TryAcquire(MaxBufferedBytes) {
				t.Error("room for bodies is lost")
			}
		})
	}
}
