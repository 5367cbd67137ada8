package proxmox

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// perStorage is how many tasks that allocate on one storage a client lets run at once by
	// default.
	// Allocations wait ten seconds for the storage's lock and then fail; four creations at
	// once take about as long as four in a row.
	perStorage = 4
	// storageHold is how long a task counts at most, whatever became of it.
	storageHold = 10 * time.Minute
	// storageWait is how long a request waits for others' tasks before it gives up, unsent.
	storageWait = time.Minute
	// maxStorages bounds the table; requests for further storages are not held back.
	maxStorages = 1024
)

// storageGate bounds the tasks under way that allocate on a storage. A task counts from its
// request until somebody sees that it ended: whoever needs its place looks.
type storageGate struct {
	most int

	mu sync.Mutex
	// tasks are those that count, by node and storage. A shared storage has several nodes;
	// its lock is waited for longer, so counting by node is strict enough.
	tasks map[string][]*allocation
}

// allocation is a task that allocates, or the request for one (upid zero).
type allocation struct {
	node string
	upid UPID
	at   time.Time
}

func newStorageGate(most int) *storageGate {
	return &storageGate{most: most, tasks: map[string][]*allocation{}}
}

// enter waits for a place and returns what to call with the started task, or with none.
func (g *storageGate) enter(ctx context.Context, c *Client, r request) (began func(UPID), err error) {
	if r.storage == "" {
		return func(UPID) {}, nil
	}
	key := r.node + "/" + r.storage
	wait, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	mine := &allocation{node: r.node}
	for pause := pollFirst / 2; ; pause = min(pause*2, pollLongest) {
		oldest, entered := g.claim(key, mine)
		if entered {
			return func(upid UPID) { g.began(key, mine, upid) }, nil
		}
		if oldest != nil && g.ended(wait, c, key, oldest) {
			continue
		}
		if err := sleep(wait, pause); err != nil {
			return nil, fmt.Errorf("%d tasks allocate on storage %s of node %s already: %w", g.most, r.storage, r.node, err)
		}
	}
}

// claim takes a place, or returns the oldest started task, which may have ended.
func (g *storageGate) claim(key string, mine *allocation) (oldest *allocation, entered bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	var live []*allocation
	for _, a := range g.tasks[key] {
		if now.Sub(a.at) < storageHold {
			live = append(live, a)
		}
	}
	if len(live) < g.most {
		mine.at = now
		if len(live) > 0 || len(g.tasks) < maxStorages {
			g.tasks[key] = append(live, mine)
		}
		return nil, true
	}
	g.tasks[key] = live
	for _, a := range live {
		if !a.upid.IsZero() {
			return &allocation{node: a.node, upid: a.upid, at: a.at}, false
		}
	}
	return nil, false
}

// ended asks about a task, and gives its place back when it is over or lost. One that still
// runs goes behind the others, so that the next look is at another one.
func (g *storageGate) ended(ctx context.Context, c *Client, key string, task *allocation) bool {
	s, err := c.TaskStatus(ctx, task.node, task.upid)
	_, lost := err.(*TaskLostError)
	over := lost || err == nil && !s.Running()
	g.mu.Lock()
	defer g.mu.Unlock()
	list := g.tasks[key]
	for i, a := range list {
		if a.upid == task.upid {
			list = append(list[:i:i], list[i+1:]...)
			if !over {
				list = append(list, a)
			}
			break
		}
	}
	g.set(key, list)
	return over
}

// began notes which task came of a request; none frees the place.
func (g *storageGate) began(key string, mine *allocation, upid UPID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !upid.IsZero() {
		mine.upid = upid
		return
	}
	g.remove(func(a *allocation) bool { return a == mine }, key)
}

// finished frees the place of a task that was seen to have ended.
func (g *storageGate) finished(upid UPID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range g.tasks {
		g.remove(func(a *allocation) bool { return a.upid == upid }, key)
	}
}

func (g *storageGate) remove(which func(*allocation) bool, key string) {
	var kept []*allocation
	for _, a := range g.tasks[key] {
		if !which(a) {
			kept = append(kept, a)
		}
	}
	g.set(key, kept)
}

func (g *storageGate) set(key string, list []*allocation) {
	if len(list) == 0 {
		delete(g.tasks, key)
		return
	}
	g.tasks[key] = list
}
