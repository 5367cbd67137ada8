package lxc

import (
	"time"

	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Memory keeps what was seen of the guest for as long as nothing says that it may not hold
// any more. What is recalled is a reason to do nothing, never one to do something.
type Memory interface {
	// Saw leaves what a look saw that began at from, with the digest of the configuration and
	// the status on its node.
	Saw(from time.Time, node, digest string, status proxmox.LXCStatus, seen any)
	Recall() (seen any, ok bool)
	// SawAsMade is Saw for a look that read no configuration. Who reads the first one asks
	// accept whether it is the one that the look took for granted, and keeps what that returns.
	SawAsMade(from time.Time, node string, status proxmox.LXCStatus, seen any, accept func(proxmox.LXCConfig) (seen any, ok bool))
	// Untouched tells that no change of the guest was ever asked for, in this daemon's life.
	Untouched() bool
	// Made leaves what the guest has just been made with. AsMade returns it for a short while, as
	// long as nothing has been done to the guest since, as far as is known, but to start it.
	Made(with any)
	AsMade() (with any, ok bool)
}

// Turns gives the guest its turn among those that tasks work on.
type Turns interface {
	// TakeTask takes it, for a task on a node that allocates on storage ("": none), if it is
	// its turn; Queued tells whether it waits for it. Who waits is woken.
	TakeTask(node, storage string) bool
	Queued() bool
	// Release ends it.
	Release()
}

// ReasonQueued is why a guest waits that has no turn yet.
const ReasonQueued = "Queued"

func queued() error {
	return runtime.Waiting(queuedRecheck, ReasonQueued, "it is the guest's turn when work on others of its node or storage ends")
}

// turn takes the guest's turn for a step that starts a task.
func (d *Driver) turn(desired *Desired, o Observed, s Step) bool {
	switch {
	case d.Turns == nil || s.Action == ActionUpdate || s.Action == ActionAdopt:
		return true
	case s.Action == ActionDownload:
		return d.Turns.TakeTask(desired.Node, o.Template.Storage)
	case s.Action == ActionCreate:
		return d.Turns.TakeTask(desired.Node, desired.Storage)
	}
	return d.Turns.TakeTask(o.Node, "")
}

// recall returns what was seen of the guest when that still holds and nothing is under way.
func (d *Driver) recall(mark ownership.Mark) (Observed, bool) {
	if upid, _ := d.Journal.Task(); upid != "" || d.Memory == nil {
		return Observed{}, false
	}
	seen, ok := d.Memory.Recall()
	if !ok {
		return Observed{}, false
	}
	o, ok := seen.(Observed)
	if !ok || !o.Present || o.Relation != ownership.Ours || ownership.Relate(o.Mark, mark) != ownership.Ours {
		return Observed{}, false
	}
	return o, true
}
