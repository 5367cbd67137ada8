package bulk

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

const (
	// waitEvery is the longest pause between two lists of a node's tasks, waitSoon the
	// shortest: when a task may end at any moment.
	waitEvery = 500 * time.Millisecond
	waitSoon  = 60 * time.Millisecond
	// waitAlone is how many wait for tasks of a node each by itself; from then on a list for
	// all of them is cheaper.
	waitAlone = 2
	// pastTasks is of how many tasks of a type it is remembered how long they took.
	pastTasks = 8
	// maxTypes bounds the types; Proxmox has some sixty.
	maxTypes = 128
)

// waits lets those who wait for tasks of one node ask together: a list of its tasks says
// which ended well, and when it is time to ask for another one itself. How a task ended that
// did not end well is told by its own status, as is all about one that the list lacks, and who
// finds it running goes on waiting alone. Where no list can be had, everybody asks alone at once.
//
// Tasks of a type mostly take as long as the last ones did, so nobody asks much before that.
type waits struct {
	mu    sync.Mutex
	nodes map[string]*waiting
	took  map[string][]time.Duration // by type of the task, the latest last
}

// waiting are those who wait for tasks of one node.
type waiting struct {
	alone    int
	together map[proxmox.UPID]*waiter
	stop     chan struct{} // of the goroutine that lists; nil: there is none
	news     chan struct{} // somebody else waits
}

// waiter waits for one task together with others.
type waiter struct {
	due    time.Time     // when a list may show its end
	ran    time.Time     // when a list showed last that it runs
	pause  time.Duration // until the next one, when it does not
	ended  bool          // the list shows that it ended well
	listed chan struct{} // closed when that is so, or when it is time to ask
}

// lister lists a node's tasks, those that ended lately too.
type lister func(context.Context) ([]proxmox.TaskListEntry, error)

// until returns when a task ended well (done), when it is time to ask for it, or when ctx
// ends. leave is called when the waiting is over.
func (w *waits) until(ctx context.Context, node string, upid proxmox.UPID, list lister) (done bool, leave func()) {
	begin := time.Now()
	w.mu.Lock()
	if w.nodes == nil {
		w.nodes, w.took = map[string]*waiting{}, map[string][]time.Duration{}
	}
	n := w.nodes[node]
	if n == nil {
		n = &waiting{together: map[proxmox.UPID]*waiter{}, news: make(chan struct{}, 1)}
		w.nodes[node] = n
	}
	least := w.least(upid.Type)
	if _, twice := n.together[upid]; twice || n.alone < waitAlone {
		n.alone++
		w.mu.Unlock()
		sleepUntil(ctx, begin.Add(least))
		return false, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			n.alone--
			w.remember(upid.Type, shortened(time.Since(begin)))
		}
	}
	me := &waiter{due: begin.Add(max(least, waitSoon)), pause: waitSoon, listed: make(chan struct{})}
	if least == 0 {
		me.due, me.pause = begin.Add(waitEvery), waitEvery
	}
	n.together[upid] = me
	if n.stop == nil {
		n.stop = make(chan struct{})
		go w.watch(context.WithoutCancel(ctx), n, n.stop, list)
	} else {
		select {
		case n.news <- struct{}{}:
		default:
		}
	}
	w.mu.Unlock()
	select {
	case <-me.listed:
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n.together[upid] == me {
		delete(n.together, upid)
	}
	if n.rest(); me.ended {
		// It took longer than until it was last seen, if it was.
		took := shortened(time.Since(begin))
		if !me.ran.IsZero() {
			took = me.ran.Sub(begin)
		}
		w.remember(upid.Type, took)
	}
	return me.ended, func() {}
}

// shortened allows for that the end was seen late, and for the next one that takes less time.
func shortened(took time.Duration) time.Duration { return took * 15 / 16 }

// least is the shortest time that one of the last tasks of a type took, 0 for not known.
func (w *waits) least(typ string) time.Duration {
	if len(w.took[typ]) == 0 {
		return 0
	}
	return slices.Min(w.took[typ])
}

// remember notes how long a task took at least. It is called with the lock held.
func (w *waits) remember(typ string, took time.Duration) {
	if _, known := w.took[typ]; !known && len(w.took) >= maxTypes {
		return
	}
	past := append(w.took[typ], took)
	w.took[typ] = past[max(0, len(past)-pastTasks):]
}

func sleepUntil(ctx context.Context, at time.Time) {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// rest ends the listing when nobody needs it. It is called with the lock held.
func (n *waiting) rest() {
	if len(n.together) == 0 && n.stop != nil {
		close(n.stop)
		n.stop = nil
	}
}

// watch lists a node's tasks, whenever one may have ended, until stop is closed.
func (w *waits) watch(ctx context.Context, n *waiting, stop chan struct{}, list lister) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		next := time.NewTimer(w.next(n))
		select {
		case <-stop:
			next.Stop()
			return
		case <-n.news: // who came may be due earlier
			next.Stop()
			continue
		case <-next.C:
		}
		rctx, done := context.WithTimeout(ctx, patience)
		rows, err := list(rctx)
		done()
		w.tell(n, rows, err)
	}
}

// next is the pause until the next list.
func (w *waits) next(n *waiting) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, pause := time.Now(), waitEvery
	for _, me := range n.together {
		pause = min(pause, me.due.Sub(now))
	}
	return max(pause, waitSoon/2)
}

// tell lets those go on whose task ended well, and those ask whose task the list does not
// show as running.
func (w *waits) tell(n *waiting, rows []proxmox.TaskListEntry, err error) {
	runs, well := map[proxmox.UPID]bool{}, map[proxmox.UPID]bool{}
	for _, r := range rows {
		runs[r.UPID] = runs[r.UPID] || r.End == 0 && (r.Status == "" || r.Status == "RUNNING")
		well[r.UPID] = well[r.UPID] || r.End != 0 && r.Status == proxmox.TaskOK
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for upid, me := range n.together {
		if err == nil && runs[upid] {
			me.ran = now
			if !me.due.After(now) {
				me.due, me.pause = now.Add(me.pause), min(me.pause*3/2, waitEvery)
			}
			continue
		}
		me.ended = err == nil && well[upid]
		close(me.listed)
		delete(n.together, upid)
	}
	n.rest()
}
