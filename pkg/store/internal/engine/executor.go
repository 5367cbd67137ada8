package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/store"
)

const (
	// queueLength bounds the transactions that wait. More callers wait for a place in the
	// queue, with their context.
	queueLength = 1024
	// A commit takes no further transaction when it has this many of them, changes or
	// bytes. The last one it takes may be as large as MaxTxObjects and MaxTxBytes allow.
	maxBatch       = 256
	maxBatchEvents = 4096
	maxBatchBytes  = 4 << 20
	// outcomeGrace is how long Update waits, after its context has ended, for the outcome
	// of a transaction that is being committed. A healthy disk answers in milliseconds.
	outcomeGrace = 5 * time.Second
)

// request is a transaction in the queue.
type request struct {
	fn     func(store.Tx) error
	origin *audit.Origin // of its changes
	state  atomic.Int32
	done   chan outcome // has room for the one answer

	outcome outcome // sent when the batch is durable
}

// States of a request. The executor takes it or the caller abandons it, never both.
const (
	waiting int32 = iota
	taken
	abandoned
)

type outcome struct {
	revision uint64
	err      error
	panicked *ClosurePanic
}

// ClosurePanic is what Update panics with, in the caller's goroutine, when the closure
// of its transaction panicked in the executor's. The transaction is undone.
type ClosurePanic struct {
	Value any
	Stack []byte // of the executor at the time
}

func (p *ClosurePanic) String() string { return fmt.Sprintf("%v\n\n%s", p.Value, p.Stack) }

// Error makes a ClosurePanic readable to what recovers errors.
func (p *ClosurePanic) Error() string { return p.String() }

var errGoexit = errors.New("a transaction's closure ended the goroutine it ran in")

// Update implements store.Store.
func (e *Engine) Update(ctx context.Context, fn func(store.Tx) error) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if why := e.failure.Load(); why != nil && !e.closed() {
		return 0, readOnly(*why)
	}
	req := &request{fn: fn, origin: audit.OriginFrom(ctx), done: make(chan outcome, 1)}
	select {
	case <-e.closing:
		return 0, store.ErrClosed
	default:
	}
	select {
	case e.queue <- req:
	case <-e.closing:
		return 0, store.ErrClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	out := e.await(ctx, req)
	if out.panicked != nil {
		panic(out.panicked)
	}
	return out.revision, out.err
}

// await waits for the answer. While the request is in the queue the context can take it
// back; later the outcome is worth a little patience, because "unknown" helps nobody.
func (e *Engine) await(ctx context.Context, req *request) outcome {
	select {
	case out := <-req.done:
		return out
	case <-e.stopped:
		return e.lastWord(req)
	case <-ctx.Done():
	}
	if req.state.CompareAndSwap(waiting, abandoned) {
		return outcome{err: ctx.Err()}
	}
	grace := time.NewTimer(outcomeGrace)
	defer grace.Stop()
	select {
	case out := <-req.done:
		return out
	case <-e.stopped:
		return e.lastWord(req)
	case <-grace.C:
		return outcome{err: fmt.Errorf("%w: %w", store.ErrUnknownOutcome, context.Cause(ctx))}
	}
}

// lastWord is for a committer that has ended: it has answered, or never will.
func (e *Engine) lastWord(req *request) outcome {
	select {
	case out := <-req.done:
		return out
	default:
		return outcome{err: store.ErrClosed}
	}
}

// batch is what one commit makes durable: the transactions, their changes and the view
// after the last one.
type batch struct {
	requests []*request
	events   []Event
	bytes    int64
	draft    *draft
	after    *view
}

func newBatch(c *codec, after *view) *batch { return &batch{draft: newDraft(c, after), after: after} }

func (b *batch) full() bool {
	return len(b.requests) >= maxBatch || len(b.events) >= maxBatchEvents || b.bytes >= maxBatchBytes
}

// execute is the executor. It runs closures one after the other and collects them in a
// batch, which goes to the committer as soon as that one is free.
func (e *Engine) execute() {
	orderly := false
	defer func() {
		if orderly {
			close(e.batches)
			return
		}
		go e.execute() // a closure called runtime.Goexit, as t.FailNow does
	}()
	for {
		queue, batches := e.queue, e.batches
		if e.pending.full() {
			queue = nil
		}
		if len(e.pending.requests) == 0 {
			batches = nil
		}
		// What is queued goes into this batch, even when the committer is free.
		select {
		case req := <-queue:
			e.run(req)
			continue
		default:
		}
		e.pending.after = e.pending.draft.view()
		select {
		case req := <-queue:
			e.run(req)
		case batches <- e.pending:
			e.pending = newBatch(e.codec, e.pending.after)
		case <-e.closing:
			orderly = true
			e.batches <- e.pending
			return
		}
	}
}

// run runs the closure of a request on the state after the ones before it.
func (e *Engine) run(req *request) {
	if !req.state.CompareAndSwap(waiting, taken) {
		return
	}
	b := e.pending
	b.requests = append(b.requests, req)
	t := newTransaction(b.draft, time.Now())
	if req.runIn(t) {
		b.events = append(b.events, t.events...)
		b.bytes += t.bytes
		e.noOps.Add(t.noOps)
	}
}

// runIn runs the closure, notes the outcome and tells whether its changes stand.
func (r *request) runIn(t *transaction) (ok bool) {
	r.outcome = outcome{err: errGoexit} // unless the closure returns or panics
	defer func() {
		t.ended = true
		if !ok {
			t.takeBack()
		}
		if p := recover(); p != nil {
			r.outcome = outcome{panicked: &ClosurePanic{Value: p, Stack: debug.Stack()}}
		}
	}()
	err := r.fn(t)
	if err == nil {
		err = t.limit
	}
	if err == nil {
		err = t.addRecords(r.origin)
	}
	if err != nil {
		r.outcome = outcome{err: err}
		return false
	}
	r.outcome = outcome{revision: t.draft.revision}
	return true
}
