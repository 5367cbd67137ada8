package engine

import (
	"fmt"
	"runtime"
	"time"

	"github.com/proximity-pve/proximity/pkg/store"
)

// commitAll is the committer. It ends after the executor.
func (e *Engine) commitAll() {
	defer close(e.stopped)
	e.ready <- struct{}{}
	for {
		select {
		case b, ok := <-e.batches:
			if !ok {
				return
			}
			e.committing <- struct{}{}
			e.commit(b)
			<-e.committing
			b.empty()
			select {
			case e.spare <- b:
			default:
			}
			// Those who were just answered may have their next transaction at hand. Let
			// them run first, or they will miss this commit and all writers will end up in
			// two halves that take turns. It is not a wait: an idle machine is back at once.
			runtime.Gosched()
			select {
			case e.ready <- struct{}{}:
			default: // the last batch came unasked
			}
		case task := <-e.tasks:
			e.committing <- struct{}{}
			task()
			<-e.committing
		}
	}
}

// commit makes a batch durable, publishes it and answers, in this order.
func (e *Engine) commit(b *batch) {
	if err := e.makeDurable(b.events); err != nil {
		for _, req := range b.requests {
			req.done <- outcome{err: err}
		}
		return
	}
	if len(b.events) > 0 {
		if e.log == nil {
			e.memory.append(recordsOf(b.events))
		}
		e.current.Store(b.after)
		e.ring.append(b.events)
		e.commits.Add(1)
		e.changes.Add(uint64(len(b.events)))
		e.cutSlowWatchers(b.after.revision)
		e.pins.expire(time.Now())
	}
	for _, req := range b.requests {
		req.done <- req.outcome
	}
}

// makeDurable fails for every batch after one that failed: they were executed on a state
// that never came to be.
func (e *Engine) makeDurable(events []Event) error {
	if why := e.failure.Load(); why != nil {
		return readOnly(*why)
	}
	if len(events) == 0 {
		return nil
	}
	addRecords(events)
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
