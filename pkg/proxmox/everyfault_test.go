package proxmox

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// class is what an error says about the request's effect.
type class string

const (
	unknownOutcome class = "unknown outcome"
	unavailable    class = "unavailable"
	refused        class = "refused"
)

func classOf(err error) class {
	_, api := asAPI(err)
	switch {
	case IsUnknownOutcome(err) && !IsUnavailable(err):
		return unknownOutcome
	case IsUnavailable(err) && !IsUnknownOutcome(err):
		return unavailable
	case api && !IsUnavailable(err) && !IsUnknownOutcome(err):
		return refused
	}
	return "of no class"
}

// misbehaviour is what can come instead of an answer, to any request.
type misbehaviour struct {
	name    string
	respond func(w http.ResponseWriter, r *http.Request)
	want    class
	is      func(error) bool // a classifier that must hold, too
	// slow: it lasts until the caller's deadline, which passes when it has begun.
	slow bool
}

func say(status int, text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { refuse(w, status, text, nil) }
}

func write(body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

func isTimeout(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

var misbehaviours = []misbehaviour{
	{"times out", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, unknownOutcome, isTimeout, true},
	{"drips", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, " ")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Millisecond)
		}
	}, unknownOutcome, isTimeout, true},
	{"is reset", func(w http.ResponseWriter, _ *http.Request) { reset(w) }, unknownOutcome, nil, false},
	{"is closed", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		_ = conn.Close()
	}, unknownOutcome, WasCutOff, false},
	{"is cut short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"data":"UPID:pve`)
		panic(http.ErrAbortHandler)
	}, unknownOutcome, nil, false},
	{"truncated JSON", write(`{"data":"UPID:pve`), unknownOutcome, nil, false},
	{"an empty body", write(""), unknownOutcome, nil, false},
	{"HTML", write("<html><body>Bad gateway</body></html>"), unknownOutcome, nil, false},
	{"JSON without data", write(`{"success":1}`), unknownOutcome, nil, false},
	{"401", say(401, "invalid token value!"), refused, IsUnauthorized, false},
	{"403", say(403, "Permission check failed (/vms/100, VM.Allocate)"), refused, func(err error) bool {
		path, privilege := MissingPrivilege(err)
		return IsForbidden(err) && path == "/vms/100" && privilege == "VM.Allocate"
	}, false},
	{"a config lock", say(500, "can't lock file '/run/lock/lxc/pve-config-100.lock' - got timeout"), refused, IsLockTimeout, false},
	{"a storage lock", say(500, "cfs-lock 'storage-local' error: got lock request timeout"), refused, IsLockTimeout, false},
	{"the task list's lock", say(500, "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout"), unknownOutcome, nil, false},
	{"a backup's lock", say(500, "CT is locked (backup)"), refused, func(err error) bool { return LockName(err) == "backup" }, false},
	{"no such guest", say(500, "Configuration file 'nodes/pve/lxc/100.conf' does not exist"), refused, IsNotExist, false},
	{"a digest conflict", say(500, "detected modified configuration - file changed by other user? Try again."), refused, IsDigestConflict, false},
	{"no quorum", say(500, "cluster not ready - no quorum?"), refused, IsNoQuorum, false},
	{"no such node", say(500, "hostname lookup 'pve' failed - failed to get address info for: pve: Name or service not known"), refused, nil, false},
	{"no such method", say(501, "Method 'GET /x' not implemented"), refused, nil, false},
	{"a bad gateway", say(502, "Bad Gateway"), unknownOutcome, nil, false},
	{"503", say(503, "Service Unavailable"), unavailable, nil, false},
	{"504", say(504, "Gateway Timeout"), unknownOutcome, nil, false},
	{"the node is offline", say(595, "No route to host"), unavailable, nil, false},
	{"a hop's timeout", say(596, "Connection timed out"), unknownOutcome, nil, false},
	{"a hop's broken body", say(597, "Broken pipe"), unknownOutcome, nil, false},
	{"a hop's failure", say(599, "Too many redirections"), unknownOutcome, nil, false},
	{"a redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusPermanentRedirect)
	}, refused, nil, false},
}

// troubled is a server that answers every request as told at the moment, counts what it
// gets by method, and knows its open connections.
type troubled struct {
	*server
	respond atomic.Pointer[func(http.ResponseWriter, *http.Request)]
	mu      sync.Mutex
	conns   map[net.Conn]bool
}

func newTroubled(t *testing.T) *troubled {
	s := &troubled{conns: map[net.Conn]bool{}}
	s.server = newServerWith(t, func(_ int, w http.ResponseWriter, r *http.Request) { (*s.respond.Load())(w, r) },
		func(c net.Conn, state http.ConnState) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.conns[c] = state != http.StateClosed && state != http.StateHijacked
		})
	return s
}

func (s *troubled) open() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, open := range s.conns {
		if open {
			n++
		}
	}
	return n
}

func (s *troubled) set(respond func(http.ResponseWriter, *http.Request)) { s.respond.Store(&respond) }

// Every call meets everything that can go wrong: the error is of the right class, a write
// reaches the server once, and nothing is left behind.
func TestEveryCallMeetsEveryFault(t *testing.T) {
	for _, m := range misbehaviours {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			s := newTroubled(t)
			c := newClient(t, s.config())
			for _, tc := range requests {
				meet(t, s, c, tc, m)
			}
			c.Close()
			awaitNone(t, s)
		})
	}
}

// deadline is a context whose deadline passes when over is closed.
type deadline struct {
	context.Context
	over chan struct{}
}

func (d deadline) Done() <-chan struct{} { return d.over }

func (d deadline) Err() error {
	select {
	case <-d.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func meet(t *testing.T, s *troubled, c *Client, tc requestCase, m misbehaviour) {
	t.Helper()
	before, writes := len(s.requests()), c.Stats().Writes
	ctx := deadline{Context: t.Context(), over: make(chan struct{})}
	var once sync.Once
	s.set(func(w http.ResponseWriter, r *http.Request) {
		if m.slow {
			once.Do(func() { close(ctx.over) })
		}
		m.respond(w, r)
	})
	err := tc.call(ctx, c)
	switch {
	case err == nil:
		t.Errorf("%s: no error", tc.name)
		return
	case tc.name == "Capabilities" && m.want == refused:
		// Some of what it asks may be refused.
	case tc.name == "DialConsole" && classOf(err) == unknownOutcome:
		// A handshake that fails in whatever way has opened nothing that matters.
	case classOf(err) != m.want:
		t.Errorf("%s: %q instead of %q: %v", tc.name, classOf(err), m.want, err)
	case m.is != nil && !m.is(err):
		t.Errorf("%s: not classified: %v", tc.name, err)
	}
	if strings.Contains(err.Error(), "not-a-real-secret") {
		t.Errorf("%s: the error shows the secret: %v", tc.name, err)
	}
	got := s.requests()[before:]
	sent := 0
	for _, r := range got {
		if r.method != http.MethodGet {
			sent++
		}
	}
	want := 1
	if tc.method == http.MethodGet {
		want = 0
	}
	if sent != want || c.Stats().Writes-writes != uint64(want) {
		t.Errorf("%s: the server got %d writes, the client counted %d, want %d", tc.name, sent, c.Stats().Writes-writes, want)
	}
	// net/http repeats a read once when a kept connection turns out closed.
	if len(got) > 3 {
		t.Errorf("%s: %d requests", tc.name, len(got))
	}
}

// awaitNone waits for the server to have no connection left: it notices a moment later.
func awaitNone(t *testing.T, s *troubled) {
	t.Helper()
	for range 1000 {
		if s.open() == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d connections are left open", s.open())
}

// A cancelled call returns while the server still hangs.
func TestEveryCallNoticesACancelledContext(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := newTroubled(t)
	arrived := make(chan struct{}, 10)
	s.set(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	c := newClient(t, s.config())
	for _, tc := range requests {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- tc.call(ctx, c) }()
		<-arrived
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || classOf(err) != unknownOutcome {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	c.Close()
	awaitNone(t, s)
	s.Close()
}

// The same before anything was sent: nobody is asked.
func TestEveryCallWithAContextThatIsOver(t *testing.T) {
	r, c := recorded(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range requests {
		if err := tc.call(ctx, c); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if r.method != "" {
		t.Errorf("the server was asked: %s %s", r.method, r.path)
	}
}
