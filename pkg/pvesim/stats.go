package pvesim

import (
	"maps"
	"sync"
)

// Stats counts what was asked of the node.
type Stats struct {
	// Requests by method and path template: "GET /nodes/{node}/lxc".
	Requests map[string]int
	// Reads and Writes are their sums (GET, and the other methods without logins).
	Reads, Writes int
	// Commands by name, run over ssh ("pct exec", "tee").
	Commands map[string]int
}

type counters struct {
	mu sync.Mutex
	s  Stats
}

func (c *counters) request(method, path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.s.Requests == nil {
		c.s.Requests = map[string]int{}
	}
	c.s.Requests[method+" "+path]++
	switch {
	case method == "GET":
		c.s.Reads++
	case path != "/access/ticket":
		c.s.Writes++
	}
}

func (c *counters) command(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.s.Commands == nil {
		c.s.Commands = map[string]int{}
	}
	c.s.Commands[name]++
}

func (c *counters) snapshot() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.s
	s.Requests, s.Commands = maps.Clone(s.Requests), maps.Clone(s.Commands)
	return s
}
