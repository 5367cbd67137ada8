package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/store"
)

// errDead is what everything returns that a dead daemon's goroutines still try.
var errDead = errors.New("the daemon is dead")

// errExit is a command that fails.
var errExit = errors.New("no space left on device")

// point names one call to the outside: what is done and the how-manieth of its like.
type point struct {
	what string
	nth  int
}

// ledger lists the calls of all daemons that may change something outside, in the order in
// which they were made: requests to the API other than GET, commands in guests and on the
// node other than reads. It can let some of them go wrong.
type ledger struct {
	mu    sync.Mutex
	calls []point
	count map[string]int
	traps map[point]trap
	// fired counts the traps that went off.
	fired int
	// next are what waits for one of the next calls, whichever it is (soup_test.go).
	next soupTraps
}

// trap replaces a call, or its answer when the call has been made, by an error.
type trap struct {
	after  bool
	spring func() error
}

func newLedger() *ledger { return &ledger{count: map[string]int{}, traps: map[point]trap{}} }

// storeWrite is the name of all transactions. They are counted and can be trapped, but are
// not listed: they change nothing outside.
const storeWrite = "store"

// enter notes a call before it is made and returns its trap, if there is one.
func (l *ledger) enter(what string) (t trap, set bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[what]++
	p := point{what, l.count[what]}
	if what != storeWrite {
		l.calls = append(l.calls, p)
	}
	if t, set = l.traps[p]; set {
		l.fired++
		delete(l.traps, p)
		return t, set
	}
	return l.next.enter(what)
}

// reset counts from here, and sets these traps.
func (l *ledger) reset(traps map[point]trap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls, l.count, l.traps, l.fired = nil, map[string]int{}, traps, 0
}

// storeWrites is how many transactions there were.
func (l *ledger) storeWrites() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[storeWrite]
}

func (l *ledger) sprung() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fired
}

// all returns the calls so far.
func (l *ledger) all() []point {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.calls)
}

// since returns the calls after the first n.
func (l *ledger) since(n int) []point { return l.all()[n:] }

// call makes one call of a daemon that may die before, or right after it.
func (d *daemon) call(what string, do func() error) error {
	if d.dead.Load() {
		return errDead
	}
	var t trap
	var set bool
	if what != "" {
		t, set = d.world.ledger.enter(what)
	}
	if set && !t.after {
		return t.spring()
	}
	err := do()
	if set {
		err = t.spring()
	}
	if d.dead.Load() {
		return errDead
	}
	return err
}

// mortalTransport is the daemon's way to the API.
type mortalTransport struct {
	daemon *daemon
	http   http.RoundTripper
}

func (m *mortalTransport) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	what, err := apiCall(req)
	if err != nil {
		return nil, err
	}
	err = m.daemon.call(what, func() (err error) {
		resp, err = m.http.RoundTrip(req)
		return err
	})
	if err != nil && resp != nil {
		_ = resp.Body.Close()
		resp = nil
	}
	return resp, err
}

// CloseIdleConnections lets the client close what it kept.
func (m *mortalTransport) CloseIdleConnections() {
	if t, ok := m.http.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// apiCall names a request that is not a read, "" for one that is.
func apiCall(req *http.Request) (string, error) {
	if req.Method == http.MethodGet {
		return "", nil
	}
	name := "api " + req.Method + " " + strings.TrimPrefix(req.URL.Path, "/api2/json")
	if req.Body == nil || req.Method == http.MethodDelete {
		return name, nil
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return "", err
	}
	req.Body = io.NopCloser(strings.NewReader(string(body)))
	form, err := url.ParseQuery(string(body))
	if err == nil && strings.HasSuffix(req.URL.Path, "/lxc") {
		name += " " + form.Get("vmid")
	}
	return name, nil
}

// mortalShell is the daemon's way onto the node and into guests.
type mortalShell struct{ daemon *daemon }

// Exec implements guest.NodeExec.
func (m *mortalShell) Exec(ctx context.Context, node string, argv []string, stdin io.Reader, maxOutput int) (res guest.Result, err error) {
	err = m.daemon.call(shellCall(argv), func() (err error) {
		sh := m.daemon.shells[node]
		if sh == nil || node == m.daemon.world.noShell {
			return fmt.Errorf("%w: no way to node %s", guest.ErrUnreachable, node)
		}
		res, err = sh.Exec(ctx, node, argv, stdin, maxOutput)
		return err
	})
	if errors.Is(err, errExit) {
		return guest.Result{ExitCode: 1, Stderr: []byte(err.Error() + "\n")}, nil
	}
	return res, err
}

var randomName = regexp.MustCompile(`[0-9a-f]{16,}`)

// shellCall names a command that is not a read, "" for one that is.
func shellCall(argv []string) string {
	place := "host"
	if argv[0] == "lxc-attach" {
		place = "guest " + argv[2]
		argv = argv[slices.Index(argv, "--")+1:]
	}
	if argv[0] == "flock" {
		argv = argv[4:]
	}
	program := path.Base(argv[0])
	verb := ""
	if program == "sh" && len(argv) > 2 {
		verb = argv[2]
	}
	switch {
	case slices.Contains([]string{"cat", "sha256sum", "curl", "sync", "journalctl", "true", "ip"}, program):
		return ""
	case slices.Contains([]string{"observe", "packages", "logs", "nat-test", "certificates"}, verb):
		return ""
	}
	return place + ": " + randomName.ReplaceAllString(strings.Join(argv, " "), "*")
}

// mortalStore is the daemon's way to write to the database. Its reads are harmless.
type mortalStore struct {
	store.Store
	daemon *daemon
}

func (m mortalStore) Update(ctx context.Context, fn func(store.Tx) error) (uint64, error) {
	var revision uint64
	err := m.daemon.call(storeWrite, func() (err error) {
		revision, err = m.Store.Update(ctx, fn)
		return err
	})
	return revision, err
}
