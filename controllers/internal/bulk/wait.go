package bulk

import (
	"context"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

const (
	// waitEvery is the pause between two lists of a node's running tasks.
	waitEvery = 500 * time.Millisecond
	// waitAlone is how many wait for tasks of a node each by itself; from then on a list for
	// all of them is cheaper.
	waitAlone = 2
)

// waits lets those who wait for tasks of one node ask together: a list of what runs says
// when it is time to ask for a task itself. That is all that it says: how a task ended, and
// whether it did, is told by its own status, and who finds it running goes on waiting alone.
// Where no list can be had, everybody asks alone at once.
type waits struct {
	mu    sync.Mutex
	nodes map[string]*waiting
}

// waiting are those who wait for tasks of one node.
type waiting struct {
	alone    int
	together map[proxmox.UPID]chan struct{} // closed when it is time to ask
	stop     chan struct{}                  // of the goroutine that lists; nil: there is none
}

// until returns when it is time to ask for the task, or ctx ends. leave is called when the
// waiting is over.
func (w *waits) until(ctx context.Context, node string, upid proxmox.UPID, list func(context.Context) ([]proxmox.TaskListEntry, error)) (leave func()) {
	w.mu.Lock()
	if w.nodes == nil {
		w.nodes = map[string]*waiting{}
	}
	n := w.nodes[node]
	if n == nil {
		n = &waiting{together: map[proxmox.UPID]chan struct{}{}}
		w.nodes[node] = n
	}
	if _, twice := n.together[upid]; twice || n.alone < waitAlone {
		n.alone++
		w.mu.Unlock()
		return func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			n.alone--
		}
	}
	news := make(chan struct{})
	n.together[upid] = news
	if n.stop == nil {
		n.stop = make(chan struct{})
		go w.watch(context.WithoutCancel(ctx), n, n.stop, list)
	}
	w.mu.Unlock()
	select {
	case <-news:
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n.together[upid] == news {
		delete(n.together, upid)
	}
	n.rest()
	return func() {}
}

// rest ends the listing when nobody needs it. It is called with the lock held.
func (n *waiting) rest() {
	if len(n.together) == 0 && n.stop != nil {
		close(n.stop)
		n.stop = nil
	}
}

// watch lists what runs until stop is closed.
func (w *waits) watch(ctx context.Context, n *waiting, stop chan struct{}, list func(context.Context) ([]proxmox.TaskListEntry, error)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		rctx, done := context.WithTimeout(ctx, patience)
		rows, err := list(rctx)
		done()
		w.tell(n, rows, err)
	}
}

// tell lets those ask whose task the list does not show as running.
func (w *waits) tell(n *waiting, rows []proxmox.TaskListEntry, err error) {
	runs := map[proxmox.UPID]bool{}
	for _, r := range rows {
		if r.End == 0 && (r.Status == "" || r.Status == "RUNNING") {
			runs[r.UPID] = true
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for upid, news := range n.together {
		if err != nil || !runs[upid] {
			close(news)
			delete(n.together, upid)
		}
	}
	n.rest()
}
