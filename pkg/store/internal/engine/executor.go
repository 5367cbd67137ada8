package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
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

// newRequest makes a request, of one that was answered if there is one.
func (e *Engine) newRequest(ctx context.Context, fn func(store.Tx) error) *request {
	r, ok := e.answered.Get().(*request)
	if !ok {
		r = &request{done: make(chan outcome, 1)}
	}
	r.fn, r.origin = fn, audit.OriginFrom(ctx)
	return r
}

// release gives back a request whose answer was taken: nobody else knows of it any more.
// One that was given up is not used again.
func (e *Engine) release(r *request) {
	r.fn, r.origin, r.outcome = nil, nil, outcome{}
	r.state.Store(waiting)
	e.answered.Put(r)
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
	if e.closed() {
		return 0, store.ErrClosed
	}
	req := e.newRequest(ctx, fn)
	select {
	case e.queue <- req:
	default: // it is full
		select {
		case e.queue <- req:
		case <-e.closing:
			return 0, store.ErrClosed
		case <-ctx.Done():
			return 0, ctx.Err()
		}
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
		e.release(req)
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
// after the last one. It has a draft while it is the executor's, and then the view.
type batch struct {
	requests []*request
	events   []Event
	used     int // of the room for events, those of transactions that failed too
	bytes    int64
	draft    *draft
	after    *view
}

// next is the batch after this one, in the room of one that was committed before if there
// is one.
func (b *batch) next(spare *batch) *batch {
	if spare == nil {
		spare = &batch{}
	}
	spare.draft = b.draft.next()
	b.after, b.draft = spare.draft.base, nil
	return spare
}

// empty clears a batch that was committed.
func (b *batch) empty() {
	clear(b.requests)
	if cap(b.events) > maxBatchEvents {
		b.events = nil
	}
	clear(b.events[:min(b.used, cap(b.events))])
	*b = batch{requests: b.requests[:0], events: b.events[:0]}
}

func (b *batch) full() bool {
	return len(b.requests) >= maxBatch || len(b.events) >= maxBatchEvents || b.bytes >= maxBatchBytes
}

// execute is the executor. It runs closures one after the other and collects them in a
// batch, which goes to the committer as soon as that one is ready.
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
		queue, ready := e.queue, e.ready
		if e.pending.full() {
			queue = nil
		}
		if len(e.pending.requests) == 0 {
			ready = nil
		}
		// What is queued goes into this batch, even when the committer is ready.
		select {
		case req := <-queue:
			e.run(req)
			continue
		default:
		}
		if e.commitAlone() {
			continue
		}
		select {
		case req := <-queue:
			e.run(req)
		case <-ready:
			e.handOver()
		case <-e.closing:
			orderly = true
			e.handOver()
			return
		}
	}
}

// handOver gives the committer the batch and begins the next one.
func (e *Engine) handOver() {
	var spare *batch
	select {
	case spare = <-e.spare:
	default:
	}
	b := e.pending
	e.pending = b.next(spare)
	e.alone = len(b.requests) == 1
	e.batches <- b
}

// commitAlone does the committer's work where one writer makes one transaction after the
// other: waking another goroutine would take it longer than all the rest but the disk. It
// answers false when that is not so, or not known yet. With more writers, what comes while
// this batch is on its way to the disk is executed after it, all of it for the next batch.
func (e *Engine) commitAlone() bool {
	if !e.alone || len(e.pending.requests) != 1 || len(e.queue) > 0 {
		return false
	}
	select {
	case <-e.ready:
	default:
		return false
	}
	defer func() { e.ready <- struct{}{} }() // there is room: nobody else puts one in
	select {
	case e.committing <- struct{}{}:
	default:
		return false
	}
	defer func() { <-e.committing }()
	b := e.pending
	e.pending = b.next(e.lone)
	e.commit(b)
	b.empty()
	e.lone = b
	runtime.Gosched() // see commitAll
	return true
}

// run runs the closure of a request on the state after the ones before it.
func (e *Engine) run(req *request) {
	if !req.state.CompareAndSwap(waiting, taken) {
		return
	}
	b := e.pending
	b.requests = append(b.requests, req)
	t := newTransaction(b.draft, time.Now())
	t.events = b.events[len(b.events):] // the room behind the others
	before := len(b.events)
	defer func() {
		b.used = max(b.used, before+len(t.events))
		t.end()
	}()
	if req.runIn(t) {
		for i := range t.events {
			t.events[i].origin, t.events[i].was = req.origin, t.undo[i]
		}
		b.events = append(b.events, t.events...) // where they are, or where there was room
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
	if err != nil {
		r.outcome = outcome{err: err}
		return false
	}
	r.outcome = outcome{revision: t.draft.revision}
	return true
}
