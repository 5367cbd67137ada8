package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

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
	fn    func(store.Tx) error
	state atomic.Int32
	done  chan outcome // has room for the one answer

	outcome outcome // the committer's, sent when the batch is durable
}

// States of a request. The committer takes it or the caller abandons it, never both.
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
// of its transaction panicked in the committer's. The transaction is undone.
type ClosurePanic struct {
	Value any
	Stack []byte // of the committer at the time
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
	req := &request{fn: fn, done: make(chan outcome, 1)}
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

// run is the committer.
func (e *Engine) run() {
	orderly := false
	defer func() {
		if orderly {
			close(e.stopped)
			return
		}
		// A closure called runtime.Goexit (t.FailNow does). Nothing of its batch has been
		// committed: undo all of it and go on in a new goroutine.
		e.answerAll(errGoexit)
		go e.run()
	}()
	for {
		select {
		case <-e.closing:
			orderly = true
			return
		default:
		}
		select {
		case <-e.closing:
			orderly = true
			return
		case task := <-e.tasks:
			task()
		case req := <-e.queue:
			e.commit(e.gather(req))
		}
	}
}

// gather runs the closures of the first request and of what else is in the queue, each
// on the result of the ones before, and returns all their changes and the last view.
func (e *Engine) gather(req *request) (*view, []Event) {
	at := e.current.Load()
	now := time.Now()
	var events []Event
	var size int64
	for {
		if req.state.CompareAndSwap(waiting, taken) {
			e.batch = append(e.batch, req)
			t := newTransaction(e.reg, at, now)
			if req.execute(t) {
				at = t.view()
				events = append(events, t.events...)
				size += t.bytes
				e.noOps.Add(t.noOps)
			}
		}
		if len(e.batch) >= maxBatch || len(events) >= maxBatchEvents || size >= maxBatchBytes {
			return at, events
		}
		select {
		case req = <-e.queue:
		default:
			return at, events
		}
	}
}

// execute runs the closure, notes the outcome and tells whether its changes stand.
func (r *request) execute(t *transaction) (ok bool) {
	defer func() {
		t.ended = true
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
	r.outcome = outcome{revision: t.revision}
	return true
}

// commit makes the batch durable, publishes it and answers, in this order.
func (e *Engine) commit(next *view, events []Event) {
	if len(events) > 0 {
		if err := e.makeDurable(events); err != nil {
			e.answerAll(err)
			return
		}
		e.current.Store(next)
		e.ring.append(events)
		e.commits.Add(1)
		e.changes.Add(uint64(len(events)))
		e.cutSlowWatchers(next.revision)
	}
	for _, req := range e.batch {
		req.done <- req.outcome
	}
	e.forgetBatch()
}

func (e *Engine) makeDurable(events []Event) error {
	if why := e.failure.Load(); why != nil {
		return readOnly(*why)
	}
	if e.log == nil {
		return nil
	}
	if err := e.log.Commit(events); err != nil {
		return e.fail(err)
	}
	return nil
}

// fail makes the store read-only for the rest of its life. What a failed write or fsync
// has left on the disk is unknown, and a second fsync may report success for pages that
// the kernel has dropped: there is nothing to retry, a restart reads what is there.
func (e *Engine) fail(err error) error {
	why := err.Error()
	e.failure.Store(&why)
	e.opts.Logger.Error("the store has become read-only: a write could not be made durable", "err", why)
	return readOnly(why)
}

func readOnly(why string) error { return fmt.Errorf("%w: %s", store.ErrReadOnly, why) }

// answerAll fails the batch as a whole.
func (e *Engine) answerAll(err error) {
	for _, req := range e.batch {
		req.done <- outcome{err: err}
	}
	e.forgetBatch()
}

func (e *Engine) forgetBatch() {
	clear(e.batch) // closures may hold much
	e.batch = e.batch[:0]
}
