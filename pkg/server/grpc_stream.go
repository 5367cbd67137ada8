package server

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// boundedStream is a stream whose calls end with the request's context, which carries
// the identity and the time limit, and whose sends end when the client takes nothing.
//
// gRPC itself can't interrupt a call on a server's stream; it does so when the handler
// returns. So each call runs beside the handler, and an abandoned one ends with it.
type boundedStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the request's context.
func (s *boundedStream) Context() context.Context { return s.ctx }

// RecvMsg waits for a message as long as the request may last.
func (s *boundedStream) RecvMsg(m any) error {
	done := make(chan error, 1)
	go func() { done <- s.ServerStream.RecvMsg(m) }()
	select {
	case err := <-done:
		return err
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// SendMsg waits for the client to take the message, at most StallTimeout.
func (s *boundedStream) SendMsg(m any) error {
	done := make(chan error, 1)
	go func() { done <- s.ServerStream.SendMsg(m) }()
	stall := time.NewTimer(StallTimeout)
	defer stall.Stop()
	select {
	case err := <-done:
		return err
	case <-s.ctx.Done():
		return s.ctx.Err()
	case <-stall.C:
		return apistatus.New(apistatus.TooManyRequests, "nothing was read for %v: watch again from the last resourceVersion", StallTimeout)
	}
}
