package runtime

import (
	"errors"
	"fmt"
	"time"

	"github.com/proximity-pve/proximity/pkg/store"
)

// Errors of the store that controllers handle; they do not import the store.
var (
	ErrNotFound      = store.ErrNotFound
	ErrAlreadyExists = store.ErrAlreadyExists
	ErrConflict      = store.ErrConflict
)

// WaitingError: something else has to happen first; try again after a time. It is not a
// failure: nothing is logged as one and no backoff builds up.
type WaitingError struct {
	After  time.Duration
	Reason string // CamelCase
	Text   string
	// keep: nothing new is known, so the conditions stay as they are.
	keep bool
}

func (e *WaitingError) Error() string { return e.Text }

// Waiting returns a WaitingError.
func Waiting(after time.Duration, reason, format string, args ...any) error {
	return &WaitingError{After: after, Reason: reason, Text: fmt.Sprintf(format, args...)}
}

// Hold is Waiting for a look at the outside that has not been taken yet, after a start of
// the daemon for instance: conditions keep what they said before.
func Hold(after time.Duration, reason, format string, args ...any) error {
	return &WaitingError{After: after, Reason: reason, Text: fmt.Sprintf(format, args...), keep: true}
}

// StalledError: trying again will not help until a human or the outside changes something.
// The object gets the condition Stalled and is looked at again on the periodic resync only.
type StalledError struct {
	Reason string // CamelCase
	Text   string // what is wrong and what to do next
}

func (e *StalledError) Error() string { return e.Text }

// Stalled returns a StalledError.
func Stalled(reason, format string, args ...any) error {
	return &StalledError{Reason: reason, Text: fmt.Sprintf(format, args...)}
}

// panicError is a recovered panic: a bug of ours.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("internal error: %v", e.value) }

// outcome is the class of a reconcile's result, the label of the metric.
type outcome string

const (
	outcomeSuccess   outcome = "success"
	outcomeRequeue   outcome = "requeue_after"
	outcomeWaiting   outcome = "waiting"
	outcomeStalled   outcome = "stalled"
	outcomeTransient outcome = "error"
	outcomeConflict  outcome = "conflict"
	outcomePanic     outcome = "panic"
)

var outcomes = []outcome{outcomeSuccess, outcomeRequeue, outcomeWaiting, outcomeStalled, outcomeTransient, outcomeConflict, outcomePanic}

// classify is the one function that maps a result to its class.
func classify(res Result, err error) outcome {
	var w *WaitingError
	var s *StalledError
	var p *panicError
	switch {
	case err == nil && res.RequeueAfter > 0:
		return outcomeRequeue
	case err == nil:
		return outcomeSuccess
	case errors.As(err, &p):
		return outcomePanic
	case errors.As(err, &w):
		return outcomeWaiting
	case errors.As(err, &s):
		return outcomeStalled
	case errors.Is(err, ErrConflict):
		return outcomeConflict
	}
	return outcomeTransient
}
