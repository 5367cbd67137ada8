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
	"google.golang.org/grpc/status"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

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
