package server

import (
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// slots bounds how many of something there are at once. Nobody waits for a slot: a
// queue in front of a server that is too busy only makes it later.
type slots struct {
	what string
	max  int64
	used atomic.Int64
}

// take returns the function that gives the slot back, or a refusal.
func (s *slots) take() (release func(), err error) {
	if s.used.Add(1) > s.max {
		s.used.Add(-1)
		return nil, apistatus.Busy(retryAfterSeconds, "too many %s, at most %d at once: try again later", s.what, s.max)
	}
	return func() { s.used.Add(-1) }, nil
}

// buffer bounds the bytes of all bodies that are in memory.
type buffer struct {
	weighted *semaphore.Weighted
}

func newBuffer(max int64) *buffer { return &buffer{semaphore.NewWeighted(max)} }

// reservation is a part of the buffer that grows and is given back at once.
type reservation struct {
	from  *buffer
	bytes int64
}

func (b *buffer) reserve() *reservation { return &reservation{from: b} }

// grow reserves n more bytes or refuses.
func (r *reservation) grow(n int64) error {
	if !r.from.weighted.TryAcquire(n) {
		return apistatus.Busy(retryAfterSeconds, "too many bodies are being read at once: try again later")
	}
	r.bytes += n
	return nil
}

// release gives everything back.
func (r *reservation) release() {
	if r.bytes > 0 {
		r.from.weighted.Release(r.bytes)
		r.bytes = 0
	}
}
