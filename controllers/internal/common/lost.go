package common

import (
	"context"
	"fmt"

	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/marks"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// NotLost stalls an object that is about to get its first guest when there is one already
// that was made for an object of its kind and name which the database does not know. rows
// is the list of guests.
func NotLost(ctx context.Context, c runtime.Client, reader *marks.Reader, conn *cluster.Connection, self resource.Object, rows []proxmox.Resource) error {
	if err := seesGuests(ctx, conn, rows); err != nil {
		return err
	}
	guests, err := Unknown(ctx, c, reader, conn, rows)
	if err != nil {
		return err
	}
	key := resource.KeyOf(self)
	for _, g := range guests {
		if !g.Copy() && g.Mark.Kind == key.Kind && g.Mark.Namespace == key.Namespace && g.Mark.Name == key.Name {
			return lxc.LostGuest(g.Mark, g.Node)
		}
	}
	return nil
}

// Unknown returns the guests of this installation that no object stands for: what is left
// of a database that was lost, and what a deletion left on purpose. rows is the list of guests.
func Unknown(ctx context.Context, c runtime.Client, reader *marks.Reader, conn *cluster.Connection, rows []proxmox.Resource) ([]marks.Guest, error) {
	known := map[string]bool{}
	for _, kind := range []string{"App", "Appliance"} {
		objs, err := c.List(ctx, kind, "")
		if err != nil {
			return nil, err
		}
		for _, o := range objs {
			known[ownership.UIDTag(o.GetMetadata().GetUid())] = true
		}
	}
	guests, err := reader.Unknown(ctx, conn, rows, known)
	if proxmox.IsUnavailable(err) || proxmox.IsUnknownOutcome(err) {
		return nil, runtime.Waiting(DependencyRecheck, lxc.ReasonNodeOffline, "whether a guest was made for this object before is not known: %v", err)
	}
	if err != nil {
		return nil, lxc.Classify(fmt.Errorf("look for guests of this object: %w", err))
	}
	return guests, nil
}

// seesGuests stalls when the list of guests is empty because the daemon may not see any:
// Proxmox leaves out what the caller may not audit, without a word.
func seesGuests(ctx context.Context, conn *cluster.Connection, rows []proxmox.Resource) error {
	if len(rows) > 0 {
		return nil
	}
	perms, err := conn.API.Permissions(ctx)
	if err != nil {
		return lxc.Classify(fmt.Errorf("read the daemon's privileges: %w", err))
	}
	if !perms.Has("/vms", "VM.Audit") {
		return runtime.Stalled("GuestsNotVisible", "the daemon sees no guest and lacks VM.Audit on /vms, so there may be some, also of this name; nothing is made until it sees them: `proxctl doctor` has the commands that grant it")
	}
	return nil
}
