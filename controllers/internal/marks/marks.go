// Package marks finds guests that carry a mark of this installation with a uid that no
// object has: what is left of objects that the database does not know any more, because
// it was lost, or because they were deleted with their guests left behind.
//
// Such a guest may be the one that an object of the same name stands for. Making another in
// its place would leave two, with one name: so creation stalls until a human decides
// (proxctl admin rebuild gives it back).
//
// Tags in the list of guests say which ones to look at, so normally nothing is read beside
// that list. What was read is kept for a minute, for the many objects of a database that
// was lost at once. The addresses that such guests have are nobody's reservation, and still
// not free.
package marks

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

const (
	// keep is how long a mark that was read is taken for what the guest still carries.
	keep = time.Minute
	// maxKept bounds the marks that are kept; beyond it all are read again.
	maxKept = 20_000
)

// Guest is a guest with a mark of this installation.
type Guest struct {
	Node string
	VMID int
	Mark ownership.Mark
	tags string
}

// Copy tells whether it is a clone or restored backup of the guest that was marked.
func (g Guest) Copy() bool { return g.Mark.VMID != g.VMID }

// Reader reads marks. It is safe for concurrent use; the zero Reader is ready.
type Reader struct {
	mu   sync.Mutex
	kept map[place]read
}

// place is where a mark was read; a guest whose tags changed is read again.
type place struct {
	installation string
	vmid         int
	tags         string
}

type read struct {
	mark *ownership.Mark
	// addresses are those that the guest has; they are read when they are asked for.
	addresses []netip.Addr
	asked     bool
	at        time.Time
}

// Unknown returns the guests among rows that carry our tags and a mark of this installation
// whose uid no object has; known are the uid tags (ownership.UIDTag) of all objects. A
// guest whose configuration cannot be read is an error: it may be any.
func (r *Reader) Unknown(ctx context.Context, conn *cluster.Connection, rows []proxmox.Resource, known map[string]bool) ([]Guest, error) {
	var found []Guest
	for _, row := range rows {
		if !suspect(row, known) {
			continue
		}
		m, err := r.read(ctx, conn, row)
		if proxmox.IsNotExist(err) {
			return nil, lxc.ListedOnly(row.Node, int(row.VMID))
		}
		if err != nil {
			return nil, fmt.Errorf("read the mark of guest %d on node %s, which has our tags and no object: %w", row.VMID, row.Node, err)
		}
		if m != nil && m.Installation == conn.Installation && !known[ownership.UIDTag(m.UID)] {
			found = append(found, Guest{Node: row.Node, VMID: int(row.VMID), Mark: *m, tags: row.Tags})
		}
	}
	return found, nil
}

// suspect tells whether a guest's tags say that it was made for an object that is not known.
func suspect(row proxmox.Resource, known map[string]bool) bool {
	tags := proxmox.SplitTags(row.Tags)
	if row.Type != "lxc" || !slices.Contains(tags, ownership.Tag) {
		return false
	}
	// Without a uid tag only its description can tell.
	return !slices.ContainsFunc(tags, func(t string) bool { return known[t] })
}

// read reads one mark, nil for none. One at a time: there is little else to ask then.
func (r *Reader) read(ctx context.Context, conn *cluster.Connection, row proxmox.Resource) (*ownership.Mark, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := placeOf(conn, int(row.VMID), row.Tags)
	if have, ok := r.kept[key]; ok && time.Since(have.at) < keep {
		return have.mark, nil
	}
	cfg, err := conn.API.LXCConfig(ctx, row.Node, int(row.VMID))
	if err != nil {
		return nil, err
	}
	m := ownership.FromDescription(cfg.Description())
	if r.kept == nil || len(r.kept) >= maxKept {
		r.kept = map[place]read{}
	}
	r.kept[key] = read{mark: m, at: time.Now()}
	return m, nil
}

func placeOf(conn *cluster.Connection, vmid int, tags string) place {
	return place{conn.Installation + "/" + conn.Name, vmid, strings.Clone(tags)}
}

// Addresses returns the addresses that guests from Unknown have. One that does not tell, as
// it is stopped or boots, has none.
func (r *Reader) Addresses(ctx context.Context, conn *cluster.Connection, guests []Guest) map[netip.Addr]bool {
	all := map[netip.Addr]bool{}
	for _, g := range guests {
		for _, a := range r.addressesOf(ctx, conn, g) {
			all[a] = true
		}
	}
	return all
}

func (r *Reader) addressesOf(ctx context.Context, conn *cluster.Connection, g Guest) []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := placeOf(conn, g.VMID, g.tags)
	have, ok := r.kept[key]
	if ok && have.asked && time.Since(have.at) < keep {
		return have.addresses
	}
	list, err := conn.API.LXCInterfaces(ctx, g.Node, g.VMID)
	if err != nil {
		return nil
	}
	have.addresses, have.asked = nil, true
	for _, i := range list {
		if p, err := netip.ParsePrefix(i.Inet); err == nil && !p.Addr().IsLoopback() {
			have.addresses = append(have.addresses, p.Addr())
		}
	}
	if ok {
		r.kept[key] = have
	}
	return have.addresses
}
