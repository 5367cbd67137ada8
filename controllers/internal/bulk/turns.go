package bulk

import (
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// How much is done at the same time on one node. Proxmox answers with three workers and
// makes tasks wait ten seconds for locks, then fail; more at once is slower, not faster.
// These are the defaults of cluster.Limits.
const (
	// nodeTasks bounds the guests of one node that tasks of ours work on: creations, starts,
	// shutdowns, removals.
	nodeTasks = 6
	// storageTasks bounds those of them that allocate on one storage, as the client does.
	storageTasks = 4
	// insideWork bounds the guests of one node that are provisioned: packages are fetched and
	// unpacked there.
	insideWork = 8

	// turnHold is how long a turn counts at most, whatever became of the work.
	turnHold = 10 * time.Minute
	// turnKeep is how long the place in the queue of one is kept who does not ask any more.
	turnKeep = 2 * time.Minute
)

// turns are the queues of one connection for one sort of work, one per node: who came first is
// first, whatever else he waits for in between. A turn whose storage is busy is passed over,
// and gets the next place that it can use. Nobody waits in a worker: who has to wait is told
// so, and woken. Turns are of this daemon's life; a task that an earlier one started is waited
// for, but not counted.
type turns struct {
	wake func(resource.Key)
	// most bounds those of one node, perStorage those of them that allocate on one storage.
	most, perStorage int

	mu     sync.Mutex
	queues map[string]*queue
	// waits finds the turn that a guest waits for.
	waits map[int]*turn
}

type queue struct {
	held    map[int]*turn
	waiting []*turn
}

type turn struct {
	queue   *queue
	key     resource.Key
	vmid    int
	storage string // that it allocates on, "" for none
	at      time.Time
}

func newTurns(most, perStorage int, wake func(resource.Key)) *turns {
	return &turns{wake: wake, most: most, perStorage: perStorage, queues: map[string]*queue{}, waits: map[int]*turn{}}
}

// TakeTask takes the guest's turn for tasks on a node that allocate on storage ("": none), if
// it is its turn. Whoever has it keeps it until Release; whoever has not is woken.
func (p Guest) TakeTask(node, storage string) bool {
	return p.view.turns.take(node, turn{key: p.key, vmid: p.vmid, storage: storage})
}

// Queued tells whether the guest waits for that turn. Asking keeps its place.
func (p Guest) Queued() bool { return p.view.turns.queued(p) }

// Release ends that turn, also when it is waited for, and wakes whose turn it is now.
func (p Guest) Release() { p.view.turns.release(p) }

// TakeInside takes the guest's turn for work inside of it, likewise, until ReleaseInside.
func (p Guest) TakeInside(node string) bool {
	return p.view.inside.take(node, turn{key: p.key, vmid: p.vmid})
}

// ReleaseInside ends that turn.
func (p Guest) ReleaseInside() { p.view.inside.release(p) }

func (t *turns) queued(p Guest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.waits[p.vmid]
	if mine == nil || mine.key != p.key || t.isNext(mine) {
		return false
	}
	mine.at = time.Now()
	return true
}

func (t *turns) release(p Guest) {
	t.mu.Lock()
	var left *queue
	if w := t.waits[p.vmid]; w != nil && w.key == p.key {
		left = w.queue
		t.leave(p.vmid)
	}
	var next []*turn
	for name, q := range t.queues {
		if held := q.held[p.vmid]; held != nil && held.key == p.key {
			delete(q.held, p.vmid)
			next = append(next, t.next(q)...)
		} else if q == left {
			next = append(next, t.next(q)...)
		}
		if len(q.held)+len(q.waiting) == 0 {
			delete(t.queues, name)
		}
	}
	t.mu.Unlock()
	for _, n := range next {
		t.wake(n.key)
	}
}

func (t *turns) take(name string, want turn) bool {
	t.mu.Lock()
	ok, next := t.takeLocked(name, want)
	t.mu.Unlock()
	for _, n := range next {
		t.wake(n.key)
	}
	return ok
}

// takeLocked also returns whose turn it is now that a storage is free again.
func (t *turns) takeLocked(name string, want turn) (ok bool, next []*turn) {
	q := t.queues[name]
	if q == nil {
		q = &queue{held: map[int]*turn{}}
		t.queues[name] = q
	}
	now := time.Now()
	if held := q.held[want.vmid]; held != nil && held.key == want.key {
		// The next step of the same work.
		freed := held.storage != want.storage && held.storage != ""
		if held.at, held.storage = now, want.storage; freed {
			next = t.next(q)
		}
		return true, next
	}
	mine := t.waits[want.vmid]
	if mine == nil || mine.queue != q || mine.key != want.key {
		t.leave(want.vmid)
		mine = &turn{queue: q, key: want.key, vmid: want.vmid}
		t.waits[want.vmid] = mine
		q.waiting = append(q.waiting, mine)
	}
	mine.storage, mine.at = want.storage, now
	if !t.isNext(mine) {
		return false, nil
	}
	t.leave(want.vmid)
	q.held[want.vmid] = mine
	return true, nil
}

// leave gives up the place in a queue.
func (t *turns) leave(vmid int) {
	mine := t.waits[vmid]
	if mine == nil {
		return
	}
	delete(t.waits, vmid)
	for i, w := range mine.queue.waiting {
		if w == mine {
			mine.queue.waiting = append(mine.queue.waiting[:i], mine.queue.waiting[i+1:]...)
			return
		}
	}
}

func (t *turns) isNext(mine *turn) bool {
	for _, n := range t.next(mine.queue) {
		if n == mine {
			return true
		}
	}
	return false
}

// next returns those in a queue whose turn it is, first come first. It forgets turns that
// were held or waited for too long. It is called with the lock held.
func (t *turns) next(q *queue) []*turn {
	now, busy := time.Now(), map[string]int{}
	for vmid, h := range q.held {
		if now.Sub(h.at) > turnHold {
			delete(q.held, vmid)
			continue
		}
		busy[h.storage]++
	}
	var next []*turn
	kept := q.waiting[:0]
	free := t.most - len(q.held)
	for i, w := range q.waiting {
		if free <= 0 {
			kept = append(kept, q.waiting[i:]...)
			break
		}
		if now.Sub(w.at) > turnKeep {
			delete(t.waits, w.vmid)
			continue
		}
		kept = append(kept, w)
		if w.storage != "" && busy[w.storage] >= t.perStorage {
			continue
		}
		busy[w.storage]++
		free--
		next = append(next, w)
	}
	clear(q.waiting[len(kept):])
	q.waiting = kept
	return next
}
