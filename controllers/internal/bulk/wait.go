package bulk

import (
	"context"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

const (
	// waitEvery is the longest pause between two lists of a node's tasks, waitSoon the
	// shortest: when a task may end at any moment.
	waitEvery = 500 * time.Millisecond
	waitSoon  = 20 * time.Millisecond
	// waitAlone is how many tasks of a node are asked for one by one; from then on a list for all
	// of them is cheaper.
	waitAlone = 2
	// pastTasks is of how many tasks of a type it is remembered how long they took.
	pastTasks = 8
	// maxTypes bounds the types; Proxmox has some sixty.
	maxTypes = 128
)

// waits lets those who wait for tasks of one node ask together: a list of its tasks says which
// ended well; a few are asked for one by one. How a task ended that did not end well is told by
// its own status, as is all about one that the list lacks, and who finds it running goes on
// waiting alone. Where no list can be had, everybody asks alone at once.
//
// Tasks of a type mostly take as long as the last ones did, so nobody asks before that. Then they
// ask often, the oftener the better it is known, and less and less for one that takes longer.
type waits struct {
	mu    sync.Mutex
	nodes map[string]*waiting
	took  map[string][]span // by type of the task, the latest last
}

// span is how long a task took: longer than least, until it was seen to run last, and at most
// until its end was seen.
type span struct{ least, most time.Duration }

// waiting are those who wait for tasks of one node.
type waiting struct {
	all  map[*waiter]bool
	stop chan struct{} // of the goroutine that asks; nil: there is none
	news chan struct{} // somebody else waits
}

// waiter waits for one task.
type waiter struct {
	upid   proxmox.UPID
	ask    asker
	due    time.Time     // when it may have ended
	ran    time.Time     // when it was seen to run last
	pause  time.Duration // until the next one, when it does not
	steady time.Time     // until then it is the same each time
	over   bool          // it is known to have ended
	ended  bool          // and that it ended well
	told   chan struct{} // closed when that is so, or when it is time to ask
}

// lister lists a node's tasks, those that ended lately too, and asker asks for one task.
type (
	lister func(context.Context) ([]proxmox.TaskListEntry, error)
	asker  func(context.Context) (proxmox.TaskStatus, error)
)

// until returns when a task ended well (done), when it is time to ask how it ended, or when
// ctx ends.
func (w *waits) until(ctx context.Context, node string, upid proxmox.UPID, list lister, ask asker) (done bool) {
	begin := time.Now()
	w.mu.Lock()
	if w.nodes == nil {
		w.nodes, w.took = map[string]*waiting{}, map[string][]span{}
	}
	n := w.nodes[node]
	if n == nil {
		n = &waiting{all: map[*waiter]bool{}, news: make(chan struct{}, 1)}
		w.nodes[node] = n
	}
	me := w.expect(upid.Type, begin)
	me.upid, me.ask = upid, ask
	n.all[me] = true
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
	case <-me.told:
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(n.all, me)
	n.rest()
	if me.over {
		w.remember(upid.Type, begin, me.ran)
	}
	return me.ended
}

// runs notes that the task ran, and when to ask again.
func (me *waiter) runs(at time.Time) {
	me.ran = at
	now := time.Now()
	if !me.isDue(now) {
		return
	}
	me.due = now.Add(me.pause)
	if !now.Before(me.steady) {
		me.pause = min(me.pause*3/2, waitEvery)
	}
}

// isDue: almost due is due, for the same list tells others.
func (me *waiter) isDue(now time.Time) bool { return me.due.Sub(now) <= me.pause/8 }

// steps is in how many steps the time is looked through within which the last tasks of a type
// ended.
const steps = 12

// expect is who waits for a task of a type, from begin on. It is called with the lock held.
func (w *waits) expect(typ string, begin time.Time) *waiter {
	me := &waiter{due: begin.Add(waitSoon), pause: waitSoon, told: make(chan struct{})}
	if past := w.took[typ]; len(past) > 0 {
		all := past[0]
		for _, s := range past {
			all = span{min(all.least, s.least), max(all.most, s.most)}
		}
		me.due, me.steady = begin.Add(max(all.least, waitSoon)), begin.Add(all.most)
		me.pause = min(max((all.most-all.least)/steps, waitSoon), waitEvery/2)
	}
	return me
}

// remember notes how long a task took that has just been seen to have ended. One that nobody saw
// running may have ended some time ago. It is called with the lock held.
func (w *waits) remember(typ string, begin, ran time.Time) {
	if _, known := w.took[typ]; !known && len(w.took) >= maxTypes {
		return
	}
	took := span{ran.Sub(begin), time.Since(begin)}
	if ran.IsZero() {
		took.least = took.most * 15 / 16
	}
	past := append(w.took[typ], took)
	w.took[typ] = past[max(0, len(past)-pastTasks):]
}

// rest ends the asking when nobody needs it. It is called with the lock held.
func (n *waiting) rest() {
	if len(n.all) == 0 && n.stop != nil {
		close(n.stop)
		n.stop = nil
	}
}

// watch asks about a node's tasks, whenever one may have ended, until stop is closed.
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
	for last := time.Now(); ; {
		next := time.NewTimer(w.next(n, last))
		select {
		case <-stop:
			next.Stop()
			return
		case <-n.news: // who came may be due earlier
			next.Stop()
			continue
		case <-next.C:
		}
		last = time.Now()
		rctx, done := context.WithTimeout(ctx, patience)
		w.look(rctx, n, list)
		done()
	}
}

// next is the pause until somebody is due, when asked last at last.
func (w *waits) next(n *waiting, last time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, pause := time.Now(), waitEvery
	for me := range n.all {
		pause = min(pause, me.due.Sub(now))
	}
	return max(pause, last.Add(waitSoon).Sub(now))
}

// look asks about the tasks of those who are due, or for a list when there are more.
func (w *waits) look(ctx context.Context, n *waiting, list lister) {
	begin := time.Now()
	var due []*waiter
	w.mu.Lock()
	few := len(n.all) <= waitAlone
	for me := range n.all {
		if few && me.isDue(begin) {
			due = append(due, me)
		}
	}
	w.mu.Unlock()
	if !few {
		rows, err := list(ctx)
		w.tell(n, begin, rows, err)
		return
	}
	var each sync.WaitGroup
	for _, me := range due {
		each.Go(func() {
			s, err := me.ask(ctx)
			w.mu.Lock()
			defer w.mu.Unlock()
			if err == nil && s.Running() {
				me.runs(begin)
				return
			}
			n.tell(me, err == nil, err == nil && s.Exit == proxmox.TaskOK)
		})
	}
	each.Wait()
}

// tell lets those go on whose task ended well, and those ask whose task the list does not
// show as running.
func (w *waits) tell(n *waiting, begin time.Time, rows []proxmox.TaskListEntry, err error) {
	runs, over, well := map[proxmox.UPID]bool{}, map[proxmox.UPID]bool{}, map[proxmox.UPID]bool{}
	for _, r := range rows {
		over[r.UPID] = over[r.UPID] || r.End != 0
		runs[r.UPID] = runs[r.UPID] || r.End == 0 && (r.Status == "" || r.Status == "RUNNING")
		well[r.UPID] = well[r.UPID] || r.End != 0 && r.Status == proxmox.TaskOK
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for me := range n.all {
		if err == nil && runs[me.upid] {
			me.runs(begin)
		} else {
			n.tell(me, err == nil && over[me.upid], err == nil && well[me.upid])
		}
	}
}

// tell lets one go on. It is called with the lock held.
func (n *waiting) tell(me *waiter, over, well bool) {
	if n.all[me] {
		me.over, me.ended = over, well
		close(me.told)
		delete(n.all, me)
		n.rest()
	}
}
