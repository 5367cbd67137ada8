package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

func TestBodyLimits(t *testing.T) {
	f := start(t)
	huge := namespaceJSON("a", strings.Repeat("x", MaxBodyBytes))
	if got := f.do("POST", apiRoot+"/namespaces", huge); got.code != 413 || got.reason() != "RequestEntityTooLarge" {
		t.Errorf("with a length: %d %.200s", got.code, got.body)
	}
	req, err := http.NewRequest("POST", f.base+apiRoot+"/apply", io.MultiReader(strings.NewReader(huge))) // no length known
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := f.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("without a length: %s", resp.Status)
	}
	if got := f.do("DELETE", apiRoot+"/namespaces/a", huge); got.code != 413 {
		t.Errorf("body of a DELETE: %d", got.code)
	}
	if got := f.do("POST", "/api/v1/system/infrastructure/test-nat", huge); got.code != 413 {
		t.Errorf("body of a system route: %d", got.code)
	}
	f.server.gate.buffer = newBuffer(10)
	if got := f.do("POST", apiRoot+"/namespaces", namespaceJSON("a", "")); got.code != 429 {
		t.Errorf("no room for bodies: %d %s", got.code, got.body)
	}
}

// hanging is an applier whose Create hangs until it is let go.
type hanging struct {
	Applier
	entered chan struct{}
	release chan struct{}
	heeds   bool // whether it heeds its context
}

func newHanging(heeds bool) *hanging {
	return &hanging{entered: make(chan struct{}, 16), release: make(chan struct{}), heeds: heeds}
}

func (h *hanging) wrap(a Applier) Applier {
	h.Applier = a
	return h
}

func (h *hanging) Create(ctx context.Context, obj resource.Object) (resource.Object, error) {
	h.entered <- struct{}{}
	done := ctx.Done()
	if !h.heeds {
		done = nil
	}
	select {
	case <-h.release:
		return h.Applier.Create(ctx, obj)
	case <-done:
		return nil, ctx.Err()
	}
}

func TestRequestsInFlightAreBounded(t *testing.T) {
	h := newHanging(true)
	f := start(t, options{applier: h.wrap})
	f.server.gate.short.max = 2
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			if got := f.do("POST", apiRoot+"/namespaces", namespaceJSON(fmt.Sprint("n", i), "")); got.code != 201 {
				t.Errorf("request in flight: %d %s", got.code, got.body)
			}
		})
		<-h.entered
	}
	if got := f.do("GET", apiRoot+"/namespaces", ""); got.code != 429 || got.header.Get("Retry-After") == "" {
		t.Errorf("one too many: %d %s", got.code, got.body)
	}
	_, err := f.resources().Kinds(t.Context(), &v1alpha1.KindsRequest{}, asAdmin)
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one too many over gRPC: %v", err)
	}
	close(h.release)
	wg.Wait()
	if got := f.do("GET", apiRoot+"/namespaces", ""); got.code != 200 {
		t.Errorf("afterwards: %d", got.code)
	}
}

func TestRequestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, options{applier: newHanging(true).wrap, network: newPipes()})
		began := time.Now()
		if got := f.do("POST", apiRoot+"/namespaces", namespaceJSON("a", "")); got.code != 504 || got.reason() != "Timeout" {
			t.Errorf("%d %s", got.code, got.body)
		}
		if took := time.Since(began); took != RequestTimeout {
			t.Errorf("after %v, want %v", took, RequestTimeout)
		}
	})
}

func TestShutdownIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHanging(false)
		f := start(t, options{applier: h.wrap, network: newPipes()})
		failed := make(chan error, 2)
		go func() {
			_, err := f.resources().Create(context.Background(), &v1alpha1.CreateRequest{Object: mustPack(t, namespace("a", ""))}, asAdmin)
			failed <- err
		}()
		go func() {
			req, _ := http.NewRequest("POST", f.base+apiRoot+"/namespaces", strings.NewReader(namespaceJSON("b", "")))
			req.Header.Set("Authorization", "Bearer "+adminToken)
			_, err := f.client.Do(req)
			failed <- err
		}()
		<-h.entered
		<-h.entered
		began := time.Now()
		f.shutdown()
		if took := time.Since(began); took < ShutdownGrace || took > ShutdownGrace+time.Second {
			t.Errorf("took %v, want about %v", took, ShutdownGrace)
		}
		for range 2 {
			if <-failed == nil {
				t.Error("a request that never ended was answered")
			}
		}
		if took := time.Since(began); took > ShutdownGrace+time.Second {
			t.Errorf("connections were open for %v", took)
		}
		close(h.release)
	})
}

func TestShutdownLetsRequestsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHanging(true)
		f := start(t, options{applier: h.wrap, network: newPipes()})
		code := make(chan int, 1)
		go func() { code <- f.do("POST", apiRoot+"/namespaces", namespaceJSON("a", "")).code }()
		<-h.entered
		f.stop()
		synctest.Wait()
		close(h.release)
		if got := <-code; got != 201 {
			t.Errorf("request in flight at shutdown: %d", got)
		}
		f.shutdown()
	})
}

// closedWithin reads until the server closes the connection.
func closedWithin(t *testing.T, c net.Conn, limit time.Duration) {
	t.Helper()
	began := time.Now()
	_ = c.SetReadDeadline(began.Add(10 * limit))
	_, err := io.Copy(io.Discard, c)
	if took := time.Since(began); took > limit {
		t.Errorf("the connection was open for %v, want at most %v (%v)", took, limit, err)
	}
}

func TestSlowClientsLoseTheirConnection(t *testing.T) {
	header := fmt.Sprintf("POST %s/namespaces HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n", apiRoot, adminToken)
	for name, tt := range map[string]struct {
		text  string
		limit time.Duration
	}{
		"headers that never end": {header, HeaderTimeout},
		"headers, byte by byte":  {"GET /healthz HTTP/1.1\r\nX: " + strings.Repeat("a", 1000), HeaderTimeout + time.Second},
		"body, byte by byte":     {header + "Content-Length: 1000\r\n\r\n" + strings.Repeat(" ", 999), BodyTimeout + 2*time.Second},
		"nothing more to say":    {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", IdleTimeout + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, options{network: newPipes()})
				c := f.raw()
				var writer sync.WaitGroup
				writer.Go(func() {
					head, rest, dribbled := strings.Cut(tt.text, strings.Repeat("a", 1000))
					if strings.Contains(tt.text, "Content-Length") {
						head, rest, dribbled = strings.TrimRight(tt.text, " "), "", true
					}
					_, _ = io.WriteString(c, head+rest)
					for dribbled {
						time.Sleep(time.Second)
						if _, err := c.Write([]byte(" ")); err != nil {
							return
						}
					}
				})
				closedWithin(t, c, tt.limit)
				c.NetConn().Close()
				writer.Wait()
			})
		})
	}
	t.Run("no handshake", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := start(t, options{network: newPipes()})
			for _, address := range []string{f.base, f.grpcAddr} {
				c, err := f.network.dial(t.Context(), address)
				if err != nil {
					t.Fatal(err)
				}
				closedWithin(t, c, HeaderTimeout+time.Second)
				c.Close()
			}
		})
	})
}

func TestLargeHeadersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, options{network: newPipes()})
		c := f.raw()
		go func() {
			_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("a", 4*MaxHeaderBytes)+"\r\n\r\n")
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%v, %v", resp, err)
		}
	})
}

func TestStalledWatcherLosesItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, options{network: newPipes()})
		c := f.raw()
		go fmt.Fprintf(c, "GET %s/namespaces?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", apiRoot, adminToken)
		in := bufio.NewReader(c)
		if _, err := in.ReadString('\n'); err != nil { // it stands; nothing more is read
			t.Fatal(err)
		}
		for i := range 100 {
			f.put(namespace("a", fmt.Sprint(i, strings.Repeat("x", 1000)))) // a writer never waits for it
		}
		synctest.Wait()
		if got := f.server.gate.long.used.Load(); got != 1 {
			t.Fatalf("%d long requests, want 1", got)
		}
		time.Sleep(StallTimeout + 6*time.Second) // TLS tries to say goodbye for 5 s
		if got := f.server.gate.long.used.Load(); got != 0 {
			t.Errorf("%d long requests after %v without a read", got, StallTimeout)
		}
	})
}

func TestStalledGRPCWatcherLosesItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, options{network: newPipes()})
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		stream, err := f.resources().Watch(ctx, &v1alpha1.WatchRequest{}, asAdmin)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		for i := range 1000 { // far more than flow control lets through; the client reads none
			f.put(namespace("a", fmt.Sprint(i, strings.Repeat("x", 1000))))
		}
		synctest.Wait()
		if got := f.server.gate.long.used.Load(); got != 1 {
			t.Fatalf("%d long requests, want 1", got)
		}
		time.Sleep(StallTimeout + time.Second)
		if got := f.server.gate.long.used.Load(); got != 0 {
			t.Errorf("%d long requests after %v without a read", got, StallTimeout)
		}
	})
}

func TestApplySetThatNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, options{network: newPipes()})
		stream, err := f.resources().ApplySet(context.Background(), asAdmin)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(document(namespaceJSON("a", ""), "")); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err = stream.RecvMsg(new(v1alpha1.ApplySetResponse))
		if took := time.Since(began); status.Code(err) != codes.DeadlineExceeded || took != ApplyTimeout {
			t.Errorf("%v after %v, want DeadlineExceeded after %v", err, took, ApplyTimeout)
		}
	})
}

func TestWatchTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, options{network: newPipes()})
		began := time.Now()
		w := f.watch(apiRoot + "/namespaces?watch=1&timeoutSeconds=600")
		w.want("ADDED default", "ADDED proximity-system")
		time.Sleep(9 * time.Minute) // far beyond the times of short requests
		f.put(namespace("a", ""))
		w.want("ADDED a", "")
		if took := time.Since(began); took != 10*time.Minute {
			t.Errorf("ended after %v", took)
		}
	})
}

func TestServerSentEventsStayAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, options{network: newPipes()})
		w := f.watch(apiRoot+"/bridges?watch=1", "Accept: text/event-stream")
		began := time.Now()
		for range 3 {
			for w.lines.Scan() && w.lines.Text() != ": alive" {
				continue
			}
		}
		if took := time.Since(began); took != 3*PingInterval {
			t.Errorf("three signs of life in %v", took)
		}
	})
}

func TestHealthWatchFollowsReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, options{network: newPipes()})
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		stream, err := healthpb.NewHealthClient(f.conn).Watch(ctx, &healthpb.HealthCheckRequest{}, asAdmin)
		if err != nil {
			t.Fatal(err)
		}
		want := func(want healthpb.HealthCheckResponse_ServingStatus) {
			t.Helper()
			if resp, err := stream.Recv(); err != nil || resp.GetStatus() != want {
				t.Fatalf("%v, %v, want %v", resp, err, want)
			}
		}
		want(healthpb.HealthCheckResponse_SERVING)
		f.mu.Lock()
		f.unready = io.ErrUnexpectedEOF
		f.mu.Unlock()
		want(healthpb.HealthCheckResponse_NOT_SERVING)
	})
}

func TestConcurrentWritersAndReaders(t *testing.T) {
	f := start(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				name := fmt.Sprintf("n%d-%d", i, j)
				if got := f.do("POST", apiRoot+"/namespaces", namespaceJSON(name, "1")); got.code != 201 {
					t.Errorf("create: %d %s", got.code, got.body)
				}
				if got := f.do("PUT", apiRoot+"/namespaces/"+name, namespaceJSON(name, "2")); got.code != 200 {
					t.Errorf("update: %d %s", got.code, got.body)
				}
				if got := f.do("GET", apiRoot+"/namespaces", ""); got.code != 200 {
					t.Errorf("list: %d %s", got.code, got.body)
				}
				// Everybody writes this one with a version: conflicts are refusals, never errors.
				shared := f.do("GET", apiRoot+"/namespaces/default", "")
				body := strings.Replace(shared.body, `"name":"default"`, fmt.Sprintf(`"name":"default","labels":{"by":"w%d-%d"}`, i, j), 1)
				if strings.Contains(shared.body, `"labels"`) {
					body = shared.body
				}
				if got := f.do("PUT", apiRoot+"/namespaces/default", body); got.code != 200 && got.code != 409 {
					t.Errorf("shared: %d %s", got.code, got.body)
				}
			}
		})
	}
	wg.Wait()
	if n := f.store.Stats().Objects; n != 82 {
		t.Errorf("%d objects, want 82", n)
	}
	metrics := f.do("GET", "/metrics", "").body
	if !strings.Contains(metrics, `route="POST /apis/proximity/v1alpha1/{plural}",surface="rest"} 80`) {
		t.Errorf("metrics do not count: %s", metrics)
	}
}
