package bulk

import (
	"cmp"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	// maxGuests bounds the guests that a view knows of: five times the largest cluster that
	// the platform is made for.
	maxGuests = 50_000
	// keepFor is how long a guest is kept that nobody asks about: an object that is gone, or
	// suspended.
	keepFor = 10 * time.Minute
	// staleAfter is how many periods old what is relied upon may be: one look may fail.
	staleAfter = 3
	// freshFor is how many periods what was looked at directly holds without a list: the next
	// one may fail.
	freshFor = 2
	// takenFor is how long a guest is taken for what it was made with while nobody has read its
	// configuration: until it has been started, and been seen to run.
	takenFor = time.Minute
)

// View is what is known of one connection's guests. It is the connection's API too (see
// Connection), which notes what is changed through it.
type View struct {
	cluster.API // the connection's own

	inner, outer *cluster.Connection
	log          *slog.Logger
	period       time.Duration
	lists        shared[proxmox.Resource]
	statuses     askings[string, proxmox.LXCStatus] // by node
	leases       askings[int, appliance.Lease]      // by the appliance's VMID
	turns        *turns                             // for tasks on guests
	inside       *turns                             // for work in guests
	waits        waits
	inventories  inventories
	fetches      fetches
	figures      atomic.Pointer[Figures]

	mu      sync.Mutex
	looking bool
	looked  bool
	looks   int // so far, for whose turn it is to tell its tasks
	guests  map[int]*guest
	online  map[string]bool // nodes, as the last look saw them
	// ended are the ended tasks that the last look saw, by node.
	ended map[string]map[proxmox.UPID]bool
	// awaited are tasks whose end was waited for here: what they did has been looked at.
	awaited map[proxmox.UPID]bool
}

// guest is what is known of one guest.
type guest struct {
	asked time.Time // when somebody last asked
	// touched is when it was last changed through the view; with unsure, what came of that is
	// not known, and may still come.
	touched time.Time
	unsure  bool
	face    face
	shown   bool      // face is set
	seenAt  time.Time // begin of the last look that showed it
	since   time.Time // end of the look that first showed this face, or these copies
	copies  []int     // VMIDs of other guests with its uid's tag

	key  resource.Key // whom a change wakes
	seen any          // what a direct look saw, nil when that may not hold any more
	// from is when that look, or the last audit that confirmed it, began.
	from   time.Time
	digest string
	looked face // as that look saw it
	// accept is there when that look read no configuration: it tells of the first that is read
	// whether it is the one that was taken for granted.
	accept func(proxmox.LXCConfig) (seen any, ok bool)
	// made is what the guest was made with, as long as that can be taken for granted.
	made     any
	madeFor  resource.Key
	madeFrom time.Time

	addresses     []proxmox.GuestInterface // nil: not known
	addressesFrom time.Time
	leased        bool // they are those of leases
}

// face is what a node's list shows of a guest and what changes only when something was done
// to it. Sizes of disks are not part of it: on some storages they move by themselves.
type face struct {
	node, status, lock, tags, name string
	pid, maxMem, maxSwap, template int64
	cpus                           float64
}

func newView(conn *cluster.Connection, log *slog.Logger, period time.Duration, wake func(resource.Key)) *View {
	v := &View{
		API: conn.API, inner: conn, log: log, period: period,
		turns:   newTurns(cmp.Or(conn.Limits.NodeTasks, nodeTasks), cmp.Or(conn.Limits.StorageTasks, storageTasks), wake),
		inside:  newTurns(cmp.Or(conn.Limits.NodeWork, insideWork), storageTasks, wake),
		fetches: fetches{wake: wake},
		guests:  map[int]*guest{}, ended: map[string]map[proxmox.UPID]bool{}, awaited: map[proxmox.UPID]bool{},
	}
	outer := *conn
	outer.API = v
	v.outer = &outer
	return v
}

// Connection is the connection with the view in its API's place: what is changed through it
// is looked at directly afterwards, and lists that many ask for at once are fetched once.
func (v *View) Connection() *cluster.Connection { return v.outer }

// Guest is the place for what the controller of an object sees of its guest.
type Guest struct {
	view *View
	key  resource.Key
	vmid int
}

// Guest returns the place for an object's guest.
func (v *View) Guest(key resource.Key, vmid int) Guest {
	v.mu.Lock()
	defer v.mu.Unlock()
	if g := v.guests[vmid]; g != nil {
		g.asked = time.Now()
	} else if len(v.guests) < maxGuests {
		v.guests[vmid] = &guest{asked: time.Now()}
	}
	return Guest{view: v, key: key, vmid: vmid}
}

// Saw leaves what a direct look saw that began at from, with the digest of the configuration
// that it read and the status that node told. It must not be changed any more.
func (p Guest) Saw(from time.Time, node, digest string, status proxmox.LXCStatus, seen any) {
	v := p.view
	v.mu.Lock()
	defer v.mu.Unlock()
	if g := v.guests[p.vmid]; g != nil && !from.Before(g.touched) {
		g.key, g.seen, g.from, g.digest, g.looked = p.key, seen, from, digest, faceOf(node, status)
		g.accept, g.made = nil, nil
	}
}

// SawAsMade is Saw for a look that took for granted what Made left, and read no configuration.
// The first audit asks accept whether the one that it reads is that, and keeps what it returns.
func (p Guest) SawAsMade(from time.Time, node string, status proxmox.LXCStatus, seen any, accept func(proxmox.LXCConfig) (seen any, ok bool)) {
	v := p.view
	v.mu.Lock()
	defer v.mu.Unlock()
	if g := v.guests[p.vmid]; g != nil && !from.Before(g.touched) {
		g.key, g.seen, g.from, g.digest, g.looked = p.key, seen, from, "", faceOf(node, status)
		g.accept = accept
	}
}

// Untouched tells that nothing was ever changed of the guest through the view, nor tried to be.
func (p Guest) Untouched() bool {
	v := p.view
	v.mu.Lock()
	defer v.mu.Unlock()
	g := v.guests[p.vmid]
	return g != nil && g.touched.IsZero()
}

// Made leaves what the guest was made with by a task of ours that has just ended well.
func (p Guest) Made(with any) {
	v := p.view
	v.mu.Lock()
	defer v.mu.Unlock()
	if g := v.guests[p.vmid]; g != nil && !g.unsure {
		g.made, g.madeFor, g.madeFrom = with, p.key, time.Now()
	}
}

// AsMade returns it for at most takenFor, as long as nothing was changed through the view but
// that the guest was started, and nothing says that anybody else has done anything to it.
func (p Guest) AsMade() (with any, ok bool) {
	v := p.view
	v.mu.Lock()
	defer v.mu.Unlock()
	g := v.guests[p.vmid]
	if g == nil || g.made == nil || g.madeFor != p.key || g.unsure || time.Since(g.madeFrom) > takenFor {
		return nil, false
	}
	return g.made, true
}

// Recall returns what was left by this object's Saw, as long as nothing says that it may not
// hold any more.
func (p Guest) Recall() (seen any, ok bool) {
	v := p.view
	v.mu.Lock()
	defer v.mu.Unlock()
	g := v.guests[p.vmid]
	if g == nil || g.key != p.key || g.seen == nil || !v.fresh(g, g.from) && (!v.holds(g, g.from) || g.looked.running() != g.face.running()) {
		return nil, false
	}
	return g.seen, true
}

// SawAddresses leaves the interfaces that the guest was asked for at from.
func (p Guest) SawAddresses(from time.Time, list []proxmox.GuestInterface) {
	p.sawAddresses(from, list, false)
}

func (p Guest) sawAddresses(from time.Time, list []proxmox.GuestInterface, leased bool) {
	v := p.view
	v.mu.Lock()
	defer v.mu.Unlock()
	if g := v.guests[p.vmid]; g != nil && !from.Before(g.touched) {
		g.addresses, g.addressesFrom, g.leased = list, from, leased
	}
}

// Addresses returns what was left by SawAddresses, likewise. It must not be changed.
func (p Guest) Addresses() (list []proxmox.GuestInterface, ok bool) {
	v := p.view
	v.mu.Lock()
	defer v.mu.Unlock()
	g := v.guests[p.vmid]
	if g == nil || g.key != p.key || g.addresses == nil || !v.fresh(g, g.addressesFrom) && !v.holds(g, g.addressesFrom) {
		return nil, false
	}
	return g.addresses, true
}

// holds tells whether lists bear out what was read at from. It is called with the lock held.
func (v *View) holds(g *guest, from time.Time) bool {
	return g.shown && time.Since(g.seenAt) <= staleAfter*v.period && g.seenAt.After(g.touched) && from.After(g.since)
}

// fresh tells whether what was read at from holds by itself, until the next list is due: it was
// read after our last change, which had come to its end, and no list has said since that
// anything is different.
func (v *View) fresh(g *guest, from time.Time) bool {
	if g.shown && g.seenAt.After(g.touched) && g.looked.running() != g.face.running() {
		return false
	}
	return !g.unsure && !from.Before(g.touched) && from.After(g.since) && time.Since(from) <= freshFor*v.period
}

func (f face) running() bool { return f.status == proxmox.StatusRunning }

// doubt drops what was seen of a guest and names who has to look again, if anybody relied on
// it. It is called with the lock held.
func (g *guest) doubt() (key resource.Key, wake bool) {
	wake = g.seen != nil
	g.seen, g.addresses = nil, nil
	return g.key, wake
}

// touch notes a change of ours, whose outcome is not known yet.
func (v *View) touch(vmid int) { v.settle(vmid, true) }

// settle notes that a change of ours came to its end, or that it is not known whether it did.
func (v *View) settle(vmid int, unsure bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if g := v.guests[vmid]; g != nil {
		g.touched, g.unsure = time.Now(), unsure
		g.doubt()
	}
}

// distrust forgets what a guest was made with.
func (v *View) distrust(vmid int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if g := v.guests[vmid]; g != nil {
		g.made = nil
	}
}

// changing makes a change of ours. It is noted before and after the request: a look in between
// may have seen either.
func (v *View) changing(vmid int, do func() error) error {
	v.distrust(vmid)
	return v.starting(vmid, do)
}

// starting is changing for what leaves the configuration as it is, if it succeeds.
func (v *View) starting(vmid int, do func() error) error {
	v.touch(vmid)
	unsure := true
	defer func() { v.settle(vmid, unsure) }()
	err := do()
	if unsure = err != nil; unsure {
		v.distrust(vmid)
	}
	return err
}

// begin claims the next look. There is never more than one, and none without guests.
func (v *View) begin(onlyNew bool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for vmid, g := range v.guests {
		if time.Since(g.asked) > keepFor {
			delete(v.guests, vmid)
		}
	}
	if v.looking || onlyNew && v.looked || len(v.guests) == 0 && v.looked {
		return false
	}
	v.looking, v.looked = true, true
	return true
}
