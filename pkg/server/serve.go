package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
)

// Serve serves REST and gRPC on the two listeners, over TLS, until the context ends or a
// listener fails. It closes both listeners and returns nil at the end of the context. It
// may be called once.
//
// At the end, watches and waits are ended at once; requests in flight get ShutdownGrace,
// then their connections are closed and their contexts end. A handler that hangs even
// then is left behind: the store answers it when it is closed.
func (s *Server) Serve(ctx context.Context, restListener, grpcListener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	web, rpc := s.newHTTP(), s.newGRPC(s.tls)

	var wg sync.WaitGroup
	failed := make(chan error, 2) // one for each listener
	wg.Go(func() {
		err := web.ServeTLS(netutil.LimitListener(restListener, MaxConnections), "", "")
		if !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve REST: %w", err)
		}
	})
	wg.Go(func() {
		if err := rpc.Serve(netutil.LimitListener(grpcListener, MaxConnections)); err != nil {
			failed <- fmt.Errorf("serve gRPC: %w", err)
		}
	})
	wg.Go(func() { s.health.run(ctx) })
	wg.Go(func() { s.gate.watchTime(ctx) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	s.stop()
	wg.Go(func() { stopHTTP(web) })
	wg.Go(func() { stopGRPC(rpc) })
	wg.Wait()
	return err
}

func (s *Server) newHTTP() *http.Server {
	return &http.Server{
		Handler:           s.rest,
		TLSConfig:         s.tls.Clone(),
		ReadHeaderTimeout: HeaderTimeout,
		ReadTimeout:       BodyTimeout,
		WriteTimeout:      AnswerTimeout,
		IdleTimeout:       IdleTimeout,
		MaxHeaderBytes:    MaxHeaderBytes,
		// Failed handshakes and the like are the doing of callers.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: MaxStreams,
			SendPingTimeout:      PingInterval,
			PingTimeout:          PingInterval,
			WriteByteTimeout:     StallTimeout,
		},
	}
}

func stopHTTP(web *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), ShutdownGrace)
	defer cancel()
	if web.Shutdown(ctx) != nil {
		_ = web.Close() // nothing is left to do about connections that don't close
	}
}

// stopGRPC does not wait for a handler that ignores the end of its context: it would
// wait for whatever the handler hangs on.
func stopGRPC(rpc *grpc.Server) {
	done := make(chan struct{})
	go func() {
		rpc.GracefulStop()
		close(done)
	}()
	grace := time.NewTimer(ShutdownGrace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		rpc.Stop()
	}
}
