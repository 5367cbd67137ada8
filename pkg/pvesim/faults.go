package pvesim

import (
	"context"
	"path"
	"strings"
	"sync"
	"time"
)

// Action is what a fault does to a request. "" answers with Status and Text, or drops the
// connection, or only delays, as the other fields say.
type Action string

// The actions of faults.
const (
	// ActTimeout never answers; the client's patience ends it.
	ActTimeout Action = "timeout"
	// ActReset closes the connection without an answer.
	ActReset Action = "reset"
	// ActUnauthorized, ActForbidden and ActError answer 401, 403 and 500; Text is the text.
	ActUnauthorized Action = "unauthorized"
	ActForbidden    Action = "forbidden"
	ActError        Action = "error"
	// ActStatus answers with Status and Text: 595, 596, 599...
	ActStatus Action = "status"
	// ActTruncate answers with half of the body, as long as the whole one was announced.
	ActTruncate Action = "truncate"
	// ActHTML answers 200 with a page, as a captive portal or a login page in between does.
	ActHTML Action = "html"
	// ActDrip answers byte by byte, with Delay between them (100 ms).
	ActDrip Action = "drip"
	// ActTaskDies, ActTaskVanishes, ActTaskWarns and ActTaskFails are about the task that the
	// request starts: its worker is killed and leaves no outcome, its UPID is forgotten, it
	// ends with a warning (Text), with an error (Text). With After its work is done first.
	ActTaskDies     Action = "task-dies"
	ActTaskVanishes Action = "task-vanishes"
	ActTaskWarns    Action = "task-warns"
	ActTaskFails    Action = "task-fails"
	// ActOffline and ActOnline take the network of Node away ("" is the one that was asked)
	// and give it back; the request is answered by what is left.
	ActOffline Action = "node-offline"
	ActOnline  Action = "node-online"
	// ActQuorumLost and ActQuorumBack make the cluster read-only and writable again.
	ActQuorumLost Action = "quorum-lost"
	ActQuorumBack Action = "quorum-back"
)

// Fault makes one request go wrong.
type Fault struct {
	Method string // "" is any
	// Path is the beginning of the path below /api2/json, "/nodes/pve/lxc", or with * in it
	// a pattern of the whole path, in which * is within one element: "/nodes/*/lxc".
	Path string
	// Nth is which matching request fails, counted from 1 since the fault was added; 0 is
	// every one.
	Nth int
	// After lets the request take effect first: the client is told that it failed, or
	// nothing, though the work is done or under way.
	After bool
	// Delay passes before anything else.
	Delay time.Duration
	// Action is what happens.
	Action Action
	// Status and Text are the answer, as 596 or 500 with a lock timeout. Status 0 with Drop
	// false and no Action lets the request through (with its Delay).
	Status int
	Text   string
	// Drop closes the connection without an answer.
	Drop bool
	// Node is whom ActOffline and ActOnline are about.
	Node string
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
		if f.Method != "" && f.Method != method || !f.matches(path) {
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

func (f *Fault) matches(p string) bool {
	if !strings.Contains(f.Path, "*") {
		return strings.HasPrefix(p, f.Path)
	}
	ok, err := path.Match(f.Path, p)
	return ok && err == nil // a bad pattern matches nothing
}

// pause waits; false if the client went away.
func (f *Fault) pause(ctx context.Context) bool {
	return f == nil || f.Delay <= 0 || f.Action == ActDrip || sleep(ctx, f.Delay)
}

// answers reports whether the fault replaces the whole answer; one that does not changes
// how it is sent, a task, or the cluster.
func (f *Fault) answers() bool {
	if f == nil {
		return false
	}
	switch f.Action {
	case "":
		return f.Drop || f.Status != 0
	case ActTimeout, ActReset, ActUnauthorized, ActForbidden, ActError, ActStatus, ActHTML:
		return true
	}
	return false
}
