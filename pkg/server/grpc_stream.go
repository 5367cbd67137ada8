package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// boundedStream is a stream whose calls end with the request's context, which carries
// the identity and the time limit, and whose sends end when the client takes nothing.
//
// gRPC itself can't interrupt a call on a server's stream; it does so when the handler
// returns. So the handler has a goroutine of its own, and is left behind in a call that has
// to end: that ends as soon as gRPC is told that the stream has.
type boundedStream struct {
	grpc.ServerStream
	ctx  context.Context
	left chan error // why the handler is left behind; has room for it

	mu      sync.Mutex
	calling bool // the handler is in a call
	gone    bool // it was left behind
	// since is when the call began that sends; zero: there is none. stall looks at it, and
	// is stopped only when the stream ends, or it would be set anew with each message.
	since time.Time
	stall *time.Timer // nil: nothing was sent for a while
}

// serveBounded runs a handler on a stream that is bounded.
func (s *Server) serveBounded(ctx context.Context, stream grpc.ServerStream, handle func(grpc.ServerStream) error) error {
	b := &boundedStream{ServerStream: stream, ctx: ctx, left: make(chan error, 1)}
	done := make(chan error, 1)
	go func() {
		err := errHandlerEnded // unless it returns or panics
		defer func() { done <- err }()
		defer s.gate.recovered(ctx, &err)
		err = handle(b)
	}()
	forget := context.AfterFunc(ctx, b.expire)
	defer b.end()
	defer forget()
	select {
	case err := <-done:
		return err
	case err := <-b.left:
		return err
	}
}

var errHandlerEnded = errors.New("the handler of a stream ended its goroutine")

// Context returns the request's context.
func (b *boundedStream) Context() context.Context { return b.ctx }

// RecvMsg waits for a message as long as the request may last.
func (b *boundedStream) RecvMsg(m any) error {
	if err := b.begin(false); err != nil {
		return err
	}
	return b.result(b.ServerStream.RecvMsg(m))
}

// SendMsg waits for the client to take the message, at most StallTimeout.
func (b *boundedStream) SendMsg(m any) error {
	if err := b.begin(true); err != nil {
		return err
	}
	return b.result(b.ServerStream.SendMsg(m))
}

func (b *boundedStream) begin(sending bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ctx.Err(); err != nil { // later, expire finds the call
		return err
	}
	if b.gone {
		return context.Canceled // nobody waits for the outcome
	}
	b.calling = true
	if sending {
		b.since = time.Now()
		if b.stall == nil {
			b.stall = time.AfterFunc(StallTimeout, b.stalled)
		}
	}
	return nil
}

// result ends a call. What fails after the end of the context fails for that.
func (b *boundedStream) result(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calling, b.since = false, time.Time{}
	if ended := b.ctx.Err(); ended != nil && err != nil {
		return ended
	}
	return err
}

// expire is called when the context ends. Between calls the handler sees it by itself.
func (b *boundedStream) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.calling {
		b.leave(b.ctx.Err())
	}
}

// stalled is called from time to time as long as messages are sent.
func (b *boundedStream) stalled() {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.stall == nil: // the stream has ended
	case b.since.IsZero():
		b.stall = nil
	case time.Since(b.since) < StallTimeout:
		b.stall.Reset(StallTimeout - time.Since(b.since))
	default:
		b.leave(apistatus.New(apistatus.TooManyRequests, "nothing was read for %v: watch again from the last resourceVersion", StallTimeout))
	}
}

func (b *boundedStream) leave(err error) {
	if !b.gone {
		b.gone = true
		b.left <- err
	}
}

// end is called when the stream has ended.
func (b *boundedStream) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = true
	if b.stall != nil {
		b.stall.Stop()
		b.stall = nil
	}
}
