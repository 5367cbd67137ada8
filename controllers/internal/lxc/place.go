package lxc

import (
	"context"
	"fmt"

	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// ReasonNodeOffline is why a guest waits whose node the others do not reach. Nothing is made
// elsewhere in its place: behind a pulled cable it goes on running.
const ReasonNodeOffline = "NodeOffline"

// place chooses the node for a guest that has never been made. One that has been made is
// looked for where it was last; the choice is put off until it is sure to be nowhere.
func (d *Driver) place(ctx context.Context, desired *Desired, last string) (node string, err error) {
	if desired == nil || last != "" || d.Place == nil {
		return last, nil
	}
	desired.Node, err = d.Place(ctx)
	return desired.Node, err
}

// replace chooses the node for a guest that is not where it was last. It may have moved
// since it was looked for, so every other node is asked first: what is found is followed
// by the next look.
func (d *Driver) replace(ctx context.Context, desired *Desired, mark ownership.Mark, last string) error {
	if last == "" || d.Place == nil {
		return nil
	}
	found, err := d.search(ctx, mark.VMID)
	if err != nil {
		return err
	}
	if found != "" {
		return runtime.Waiting(taskRecheck, "ChangedMeanwhile", "guest %d has just come to node %s", mark.VMID, found)
	}
	desired.Node, err = d.Place(ctx)
	return err
}

// away turns an error of a look at a guest into one that names its node, when that is the
// one that is away and not the way to Proxmox. A node that cannot be asked about leaves
// the error as it is.
func (d *Driver) away(ctx context.Context, node string, vmid int, err error) error {
	if node == "" || !proxmox.IsUnavailable(err) && !proxmox.IsUnknownOutcome(err) || d.online(ctx, node) {
		return err
	}
	return offline(node, vmid)
}

func offline(node string, vmid int) error {
	return runtime.Waiting(lockRecheck, ReasonNodeOffline,
		"node %s is offline, with guest %d on it; nothing is made elsewhere in its place: bring the node back, or recover the guest on another one (as HA does), where it is followed", node, vmid)
}

// online tells whether Proxmox calls a node online; what cannot be asked is taken for it.
func (d *Driver) online(ctx context.Context, node string) bool {
	nodes, err := d.API.Nodes(ctx)
	if err != nil {
		return true
	}
	for _, n := range nodes {
		if n.Node == node {
			return n.Online()
		}
	}
	return false // it has been removed from the cluster
}

// strand decides about an awaited task whose node is away. When Proxmox names another node
// for the guest (it was moved or recovered there), the task has nothing to say any more;
// otherwise the node is waited for, for the task may still run.
func (d *Driver) strand(ctx context.Context, upid proxmox.UPID, vmid int) error {
	rows, err := d.API.ClusterResources(ctx, proxmox.GuestResources)
	if err != nil {
		return classify(fmt.Errorf("list guests: %w", err))
	}
	for _, r := range rows {
		if int(r.VMID) == vmid && r.Node != upid.Node {
			return nil
		}
	}
	return runtime.Waiting(lockRecheck, ReasonNodeOffline, "node %s is offline, and how task %s ends is not known before it is back", upid.Node, upid)
}

// ReasonLost is why an object stalls whose name a guest of this installation carries with
// a uid that the database does not know.
const ReasonLost = "UIDUnknown"

func lostGuest(m ownership.Mark, node string) *Blocked {
	return &Blocked{Reason: ReasonLost, Text: fmt.Sprintf(
		"guest %d on node %s was made for %s with uid %s, which is not in the database (it was lost, or the object was deleted and its guest left); "+
			"run `proxctl admin rebuild` to take the guest back, or destroy it", m.VMID, node, m, m.UID)}
}

// LostGuest is the error that says so.
func LostGuest(m ownership.Mark, node string) error {
	b := lostGuest(m, node)
	return runtime.Stalled(b.Reason, "%s", b.Text)
}
