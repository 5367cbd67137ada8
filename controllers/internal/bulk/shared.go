package bulk

import (
	"context"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// sharedPatience bounds a list that is fetched for several: a large cluster takes seconds.
const sharedPatience = 30 * time.Second

// shared fetches a list once for all who ask for it at the same time. Nobody gets one whose
// request went out before they asked.
type shared[T any] struct {
	mu            sync.Mutex
	running, next *flight[T]
}

// flight is a request and its answer, which is there when done is closed.
type flight[T any] struct {
	done chan struct{}
	rows []T
	err  error
}

// get returns the rows, which others have too and which must not be changed.
func (s *shared[T]) get(ctx context.Context, fetch func(context.Context) ([]T, error)) ([]T, error) {
	s.mu.Lock()
	if s.next == nil {
		s.next = &flight[T]{done: make(chan struct{})}
	}
	f := s.next
	if s.running == nil {
		s.running, s.next = f, nil
		go s.run(context.WithoutCancel(ctx), f, fetch)
	}
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.rows, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run fetches, then once more for those who asked meanwhile, until nobody did. It does not
// end with who asked first: others wait for the same answer.
func (s *shared[T]) run(ctx context.Context, f *flight[T], fetch func(context.Context) ([]T, error)) {
	for f != nil {
		rctx, cancel := context.WithTimeout(ctx, sharedPatience)
		f.rows, f.err = fetch(rctx)
		cancel()
		close(f.done)
		s.mu.Lock()
		f, s.next = s.next, nil
		s.running = f
		s.mu.Unlock()
	}
}

// statusesAlone is how many ask for the status of a guest of one node each by itself; from
// then on the node's list is asked for, once for all.
const statusesAlone = 2

// statuses are the questions about guests of each node.
type statuses struct {
	mu    sync.Mutex
	nodes map[string]*asking
}

// asking are those who ask about one node's guests.
type asking struct {
	alone int
	list  shared[proxmox.LXCStatus]
}

// enter tells how to ask: together with others, or alone until leave is called.
func (s *statuses) enter(node string) (n *asking, together bool, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n = s.nodes[node]; n == nil {
		if n = (&asking{}); s.nodes == nil {
			s.nodes = map[string]*asking{}
		}
		s.nodes[node] = n
	}
	if n.alone >= statusesAlone {
		return n, true, func() {}
	}
	n.alone++
	return n, false, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		n.alone--
	}
}

// LXCStatus asks for one guest, or for all of its node when others ask at the same time. The
// answer is never older than the question, and a guest that the list lacks is asked for itself.
func (v *View) LXCStatus(ctx context.Context, node string, vmid int) (proxmox.LXCStatus, error) {
	n, together, leave := v.statuses.enter(node)
	defer leave()
	if !together {
		return v.API.LXCStatus(ctx, node, vmid)
	}
	rows, err := n.list.get(ctx, func(ctx context.Context) ([]proxmox.LXCStatus, error) { return v.API.ListLXC(ctx, node) })
	if err == nil {
		for _, row := range rows {
			if int(row.VMID) == vmid {
				return row, nil
			}
		}
	}
	return v.API.LXCStatus(ctx, node, vmid)
}
