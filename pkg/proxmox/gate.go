package proxmox

import (
	"context"
	"sync"
)

// maxGates bounds the table of per-node gates. A cluster has at most a few dozen nodes;
// further names share one gate.
const maxGates = 256

// semaphore counts free places.
type semaphore chan struct{}

func (s semaphore) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s <- struct{}{}:
		return nil
	default:
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s semaphore) release() { <-s }

// gate bounds how many requests are under way: in all, for one node, and writes for one
// node. Places are always taken in the order write, node, all, so no two requests wait
// for each other.
type gate struct {
	all  semaphore
	most bounds

	mu    sync.Mutex
	nodes map[string]*nodeGate
}

type nodeGate struct{ writes, calls semaphore }

func newGate(most bounds) *gate {
	return &gate{all: make(semaphore, most.calls), most: most, nodes: map[string]*nodeGate{}}
}

// enter waits for a place and returns how to leave it.
func (g *gate) enter(ctx context.Context, node string, write bool) (leave func(), err error) {
	n := g.node(node)
	wanted := []semaphore{n.calls, g.all}
	if write {
		wanted = []semaphore{n.writes, n.calls, g.all}
	}
	for i, s := range wanted {
		if err := s.acquire(ctx); err != nil {
			releaseAll(wanted[:i])
			return nil, err
		}
	}
	return func() { releaseAll(wanted) }, nil
}

func releaseAll(held []semaphore) {
	for _, s := range held {
		s.release()
	}
}

func (g *gate) node(name string) *nodeGate {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n, ok := g.nodes[name]; ok {
		return n
	}
	if len(g.nodes) >= maxGates {
		name = ""
	}
	n, ok := g.nodes[name]
	if !ok {
		n = &nodeGate{writes: make(semaphore, g.most.nodeWrites), calls: make(semaphore, g.most.nodeCalls)}
		g.nodes[name] = n
	}
	return n
}
