package bulk

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	// patience bounds each of the three stages of a look (where, what, audit). Together they
	// take less than what may be relied upon is old.
	patience = 4 * time.Second
	// tasksEvery is with which looks the ended tasks of a node are listed. What tasks change is
	// mostly shown by the lists too, as the guest is locked, stopped or started by it.
	tasksEvery = 6
	// taskRows is how many of them are listed. If more ended since the last time, all guests of
	// the node are looked at again.
	taskRows = 500
)

// look asks once for everything and wakes the objects whose guests changed. Its errors are
// not reported: what is not known is looked at directly, and whoever does so says what is
// wrong.
func (v *View) look(ctx context.Context, wake func(resource.Key)) {
	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.looking = false
	}()
	nodes, err := v.where(ctx, wake)
	if err != nil {
		v.log.Debug("guests could not be listed", "error", err)
		return
	}
	var each sync.WaitGroup
	for i, node := range nodes {
		tasks := v.tasksAreDue(i, node)
		each.Go(func() { v.lookAt(ctx, node, tasks, wake) })
	}
	each.Wait()
	v.audit(ctx, wake)
}

// tasksAreDue tells whether a look lists the ended tasks of the i-th node: of a node that is
// new at once, later in turn.
func (v *View) tasksAreDue(i int, node string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i == 0 {
		v.looks++
	}
	_, before := v.ended[node]
	return !before || (v.looks+i)%tasksEvery == 0
}

// where asks which nodes are online and where guests are. It returns the nodes that have
// guests that matter, or had them.
func (v *View) where(ctx context.Context, wake func(resource.Key)) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begin := time.Now()
	rows, err := v.API.ClusterResources(ctx, proxmox.AllResources)
	if err != nil {
		return nil, err
	}
	v.sawFigures(begin, rows)
	v.mu.Lock()
	defer v.mu.Unlock()
	was, online := v.online, map[string]bool{}
	for _, r := range rows {
		if r.Type == "node" {
			online[r.Node] = r.Status == "online"
		}
	}
	v.online = online
	for node, on := range was { // one that went or came changes what can be done with its guests
		if online[node] != on {
			v.doubtAll(node, wake)
		}
	}
	v.compareCopies(rows, wake)
	ask := map[string]bool{}
	for _, r := range rows {
		if g := v.guests[int(r.VMID)]; g != nil && r.VMID != 0 {
			ask[r.Node] = true
			// Only containers are shown by the nodes' lists below.
			if r.Type != "lxc" || g.shown && g.face.node != r.Node {
				g.hide(wake)
			}
		}
	}
	for _, g := range v.guests {
		if g.shown {
			ask[g.face.node] = true
		}
	}
	var nodes []string
	for node := range ask {
		if online[node] {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes, nil
}

// compareCopies notes which other guests carry the tag of a guest's uid: clones and restored
// backups do. It is called with the lock held.
func (v *View) compareCopies(rows []proxmox.Resource, wake func(resource.Key)) {
	end, tagged := time.Now(), map[string][]int{}
	for _, r := range rows {
		for _, tag := range proxmox.SplitTags(r.Tags) {
			if ownership.IsUIDTag(tag) {
				tagged[tag] = append(tagged[tag], int(r.VMID))
			}
		}
	}
	for vmid, g := range v.guests {
		var copies []int
		for _, tag := range proxmox.SplitTags(g.face.tags) {
			for _, other := range tagged[tag] {
				if other != vmid {
					copies = append(copies, other)
				}
			}
		}
		slices.Sort(copies)
		if !slices.Equal(copies, g.copies) {
			g.copies, g.since = copies, end
			g.tell(wake)
		}
	}
}

// lookAt asks a node for its guests and, sometimes, for the tasks that ended on it.
func (v *View) lookAt(ctx context.Context, node string, withTasks bool, wake func(resource.Key)) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begin := time.Now()
	rows, err := v.API.ListLXC(ctx, node)
	if err != nil {
		v.log.Debug("guests of a node could not be listed", "node", node, "error", err)
	} else {
		v.compare(node, begin, rows, wake)
	}
	if !withTasks {
		return
	}
	tasks, err := v.API.Tasks(ctx, node, proxmox.TaskFilter{Source: "archive", Limit: taskRows})
	if err != nil {
		v.log.Debug("tasks of a node could not be listed", "node", node, "error", err)
	}
	v.compareTasks(node, tasks, err, wake)
}

// compare takes over a node's list that was asked for at begin.
func (v *View) compare(node string, begin time.Time, rows []proxmox.LXCStatus, wake func(resource.Key)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	end := time.Now()
	for _, r := range rows {
		g := v.guests[int(r.VMID)]
		if g == nil {
			continue
		}
		if g.seenAt = begin; g.touched.After(begin) {
			continue // it may be from before our change, or from after it
		}
		f := faceOf(node, r)
		if !g.shown || g.face != f {
			// What a direct look saw after our last change need not be looked at again when the
			// list bears it out: a guest that was started anew has another process.
			borneOut := g.seen != nil && g.looked == f && !g.unsure && !g.from.Before(g.touched)
			g.face, g.shown, g.since = f, true, time.Time{}
			if !borneOut {
				g.since = end
				g.tellFace(wake)
			}
		}
		g.unsure = false
	}
	for _, g := range v.guests {
		if g.shown && g.face.node == node && g.seenAt.Before(begin) {
			g.hide(wake) // not a sign that it is gone, but one to look
		}
	}
}

func faceOf(node string, r proxmox.LXCStatus) face {
	f := face{
		node: node, status: r.Status, lock: r.Lock, tags: r.Tags, name: r.Name,
		pid: int64(r.PID), maxMem: int64(r.MaxMem), maxSwap: int64(r.MaxSwap), cpus: float64(r.CPUs),
	}
	if r.Template {
		f.template = 1
	}
	return f
}

// compareTasks doubts what was seen of guests on which tasks ended since the last look,
// unless the end was waited for here.
func (v *View) compareTasks(node string, tasks []proxmox.TaskListEntry, err error, wake func(resource.Key)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	was, before := v.ended[node]
	if err != nil {
		if before {
			v.ended[node] = nil // the next list has no beginning
		}
		return
	}
	now, overlap := map[proxmox.UPID]bool{}, false
	for _, t := range tasks {
		if !t.UPID.IsZero() { // of a form that is not known: it is about no guest
			now[t.UPID] = true
			overlap = overlap || was[t.UPID]
		}
	}
	v.ended[node] = now
	if before && !overlap && (len(was) > 0 || was == nil || len(tasks) >= taskRows) {
		v.doubtAll(node, wake)
		return
	}
	for _, t := range tasks {
		if !before || was[t.UPID] {
			continue
		}
		if v.awaited[t.UPID] {
			delete(v.awaited, t.UPID)
			continue
		}
		v.doubtTask(t.UPID, wake)
	}
}

// doubtTask doubts what a task may have changed: the guest that it is about, and for those
// about several (vzdump and bulk actions name none, or a list) nobody: these lock or restart
// the guests, which the lists show.
func (v *View) doubtTask(upid proxmox.UPID, wake func(resource.Key)) {
	if vmid, ok := upid.VMID(); ok && v.guests[vmid] != nil && !strings.HasSuffix(upid.Type, "proxy") {
		v.guests[vmid].tell(wake)
	}
}

// doubtAll doubts what was seen of a node's guests. It is called with the lock held.
func (v *View) doubtAll(node string, wake func(resource.Key)) {
	for _, g := range v.guests {
		if g.shown && g.face.node == node {
			g.tell(wake)
		}
	}
}

// tell doubts what was seen, and what the guest was made with, and wakes who relied on it.
func (g *guest) tell(wake func(resource.Key)) {
	g.made = nil
	g.tellFace(wake)
}

// tellFace is tell for another face. As long as nobody has relied on the one before, the guest is
// just being made or started: what it was made with is held against its face at each look.
func (g *guest) tellFace(wake func(resource.Key)) {
	if g.seen != nil {
		g.made = nil
	}
	if key, ok := g.doubt(); ok {
		wake(key)
	}
}

// hide forgets what lists showed.
func (g *guest) hide(wake func(resource.Key)) {
	g.shown, g.face = false, face{}
	g.tell(wake)
}
