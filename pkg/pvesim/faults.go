package pvesim

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Fault makes one request go wrong.
type Fault struct {
	Method string // "" is any
	// Path is the beginning of the path below /api2/json, "/nodes/pve/lxc".
	Path string
	// Nth is which matching request fails, counted from 1 since the fault was added; 0 is
	// every one.
	Nth int
	// After lets the request take effect first: the client is told that it failed, or
	// nothing, though the work is done or under way.
	After bool
	// Delay passes before anything else.
	Delay time.Duration
	// Status and Text are the answer, as 596 or 500 with a lock timeout. Status 0 with Drop
	// false lets the request through (with its Delay).
	Status int
	Text   string
	// Drop closes the connection without an answer.
	Drop bool
}

// maxFaults bounds the script.
const maxFaults = 1000

// FaultScript is the list of faults to inject. The zero value injects none.
type FaultScript struct {
	mu    sync.Mutex
	list  []*scripted
	fired int
}

type scripted struct {
	Fault
	seen int
}

// Add puts a fault behind the others; of several that match, the first counts. It
// reports whether there was room.
func (s *FaultScript) Add(f Fault) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) >= maxFaults {
		return false
	}
	s.list = append(s.list, &scripted{Fault: f})
	return true
}

// Clear removes all faults.
func (s *FaultScript) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

// Fired counts the faults that hit a request.
func (s *FaultScript) Fired() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fired
}

// next returns the fault for this request, or nil.
func (s *FaultScript) next(method, path string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	var hit *Fault
	for _, f := range s.list {
		if f.Method != "" && f.Method != method || !strings.HasPrefix(path, f.Path) {
			continue
		}
		f.seen++
		if hit == nil && (f.Nth == 0 || f.Nth == f.seen) {
			hit = &f.Fault
		}
	}
	if hit != nil {
		s.fired++
	}
	return hit
}

// pause waits; false if the client went away.
func (f *Fault) pause(ctx context.Context) bool {
	return f == nil || f.Delay <= 0 || sleep(ctx, f.Delay)
}

// answers reports whether the fault replaces the answer; one that does not only delays.
func (f *Fault) answers() bool { return f != nil && (f.Drop || f.Status != 0) }

// fault gives the answer that the script demands.
func (x *exchange) fault(f *Fault) {
	if !f.Drop {
		// The pseudo-statuses of a failed proxy hop (595 to 599) come without a body.
		x.fail(&apiError{code: f.Status, message: f.Text, bare: f.Status >= 590})
		return
	}
	if conn, _, err := http.NewResponseController(x.w).Hijack(); err == nil {
		_ = conn.Close()
	}
}
