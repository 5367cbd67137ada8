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

const (
	// fewAlone is how many ask for something each by itself; from then on one question for all is
	// cheaper.
	fewAlone = 2
	// crowdFor is how long they are taken for many after they were.
	crowdFor = time.Second
)

// crowd counts those who ask at the same time.
type crowd struct {
	mu    sync.Mutex
	alone int
	last  time.Time // when there were many
}

// enter tells how to ask: together with others, or alone until leave is called.
func (c *crowd) enter() (together bool, leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.alone >= fewAlone {
		c.last = now
		return true, func() {}
	} else if now.Sub(c.last) < crowdFor {
		return true, func() {}
	}
	c.alone++
	return false, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.alone--
	}
}

// asking are those who ask for rows of the same list.
type asking[T any] struct {
	crowd
	list shared[T]
}

// askings are those who ask, by what the list is of. There are as many as nodes or appliances.
type askings[K comparable, T any] struct {
	mu sync.Mutex
	of map[K]*asking[T]
}

func (a *askings[K, T]) get(key K) *asking[T] {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.of[key]
	if n == nil {
		if a.of == nil {
			a.of = map[K]*asking[T]{}
		}
		n = &asking[T]{}
		a.of[key] = n
	}
	return n
}

// LXCStatus asks for one guest, or for all of its node when others ask at the same time. The
// answer is never older than the question, and a guest that the list lacks is asked for itself.
func (v *View) LXCStatus(ctx context.Context, node string, vmid int) (proxmox.LXCStatus, error) {
	n := v.statuses.get(node)
	together, leave := n.enter()
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
