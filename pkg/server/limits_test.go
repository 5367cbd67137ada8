package server

import (
	"context"
	"fmt"
	"io"
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
	"github.com/proximity-pve/proximity/pkg/apply"
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

func (h *hanging) Create(ctx context.Context, obj resource.Object, opts ...apply.Options) (resource.Object, error) {
	h.entered <- struct{}{}
	done := ctx.Done()
	if !h.heeds {
		done = nil
	}
	select {
	case <-h.release:
		return h.Applier.Create(ctx, obj, opts...)
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
