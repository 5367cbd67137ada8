package vhosts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const (
	// drainTime bounds how long the handlers of a line that is gone live for requests that
	// do not end, such as WebSockets.
	drainTime = 10 * time.Minute
	// idleTime is how long handlers live that no request needs.
	idleTime = 10 * time.Minute
)

// Schemes of an entry's routes.
const (
	plain  = 0
	secure = 1
)

// entry is one virtual host with its handlers, as long as it has some.
type entry struct {
	raw   string
	id    string
	hosts []string
	tls   bool
	// eager: it has active health checks, which have to run without requests too.
	eager bool

	mu    sync.Mutex
	chain [2]*chain
	// broken is why the handlers of a scheme cannot be made. The line would have to change.
	broken [2]error
	gone   bool // the table has it no more; no handlers are made
}

// chain is the handlers of an entry for one scheme.
type chain struct {
	routes caddyhttp.RouteList
	end    func() // cleans up
	// in is the number of requests under way, used when the last one came or went, ended
	// whether end was called. The entry's mu guards them.
	in    int
	used  time.Time
	ended bool
}

// trouble is why requests for it fail, nil when they do not.
func (e *entry) trouble() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken[plain] != nil {
		return e.broken[plain]
	}
	return e.broken[secure]
}

func newEntry(raw string, l line) *entry {
	return &entry{
		raw: raw, id: l.ID, hosts: l.Hosts, tls: l.TLS,
		eager: bytes.Contains(l.HTTP, []byte(`"active":`)) || bytes.Contains(l.HTTPS, []byte(`"active":`)),
	}
}

// enter returns the handlers for a request, made if there are none yet, and what to call
// when it is over.
func (e *entry) enter(scheme int, make func(json.RawMessage) (caddyhttp.RouteList, func(), error)) (*chain, func(), error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.chain[scheme]
	if c == nil {
		if e.broken[scheme] != nil {
			return nil, nil, e.broken[scheme]
		}
		var err error
		if c, err = e.build(scheme, make); err != nil {
			e.broken[scheme] = err
			return nil, nil, err
		}
		if e.gone {
			// It was found in a table that was replaced meanwhile: for this request only.
			c.in++
			return c, func() { c.end() }, nil
		}
		e.chain[scheme] = c
	}
	c.in++
	return c, func() { e.leave(c) }, nil
}

func (e *entry) build(scheme int, make func(json.RawMessage) (caddyhttp.RouteList, func(), error)) (*chain, error) {
	l, err := parseLine([]byte(e.raw)) // kept as text: most are never asked for
	if err != nil {
		return nil, err
	}
	raw := l.HTTP
	if scheme == secure {
		raw = l.HTTPS
	}
	routes, end, err := make(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.id, err)
	}
	return &chain{routes: routes, end: end, used: time.Now()}, nil
}

func (e *entry) leave(c *chain) {
	e.mu.Lock()
	c.in--
	c.used = time.Now()
	// Handlers that are no longer the entry's end with their last request.
	last := c.in == 0 && !c.ended && c != e.chain[plain] && c != e.chain[secure]
	c.ended = c.ended || last
	e.mu.Unlock()
	if last {
		c.end()
	}
}

// retire lets the handlers go: those without requests now, the others with their last one,
// or after drainTime.
func (e *entry) retire() {
	e.mu.Lock()
	e.gone = true
	old := e.chain
	e.chain = [2]*chain{}
	e.mu.Unlock()
	for _, c := range old {
		if c == nil {
			continue
		}
		if e.endIf(c, func() bool { return c.in == 0 }) {
			continue
		}
		time.AfterFunc(drainTime, func() { e.endIf(c, func() bool { return true }) })
	}
}

// endIf ends handlers once.
func (e *entry) endIf(c *chain, ok func() bool) bool {
	e.mu.Lock()
	now := !c.ended && ok()
	c.ended = c.ended || now
	ended := c.ended
	e.mu.Unlock()
	if now {
		c.end()
	}
	return ended
}

// rest lets handlers go that were not used for a while.
func (e *entry) rest(now time.Time) {
	if e.eager {
		return
	}
	for scheme := range e.chain {
		e.mu.Lock()
		c := e.chain[scheme]
		idle := c != nil && c.in == 0 && now.Sub(c.used) > idleTime
		if idle {
			e.chain[scheme] = nil
			c.ended = true
		}
		e.mu.Unlock()
		if idle {
			c.end()
		}
	}
}

// provision makes handlers of routes in a life of their own.
func provision(ctx caddy.Context, raw json.RawMessage) (caddyhttp.RouteList, func(), error) {
	var routes caddyhttp.RouteList
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &routes); err != nil {
			return nil, nil, err
		}
	}
	own, cancel := caddy.NewContext(ctx)
	if err := routes.Provision(own); err != nil {
		cancel()
		return nil, nil, err
	}
	return routes, cancel, nil
}
