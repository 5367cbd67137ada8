package bulk

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// The audit's budget; the arithmetic is in the package's documentation.
const (
	// auditGuests is how many guests are audited with a look at least, as far as there are.
	auditGuests = 12
	// auditAll is the time within which each guest has its turn.
	auditAll = 30 * time.Minute
	// auditAtOnce bounds the guests that are read at the same time.
	auditAtOnce = 4
)

// AuditBudget is how many guests of n a look audits, each with two requests.
func AuditBudget(n int, period time.Duration) int {
	looks := max(1, int(auditAll/period))
	return min(n, max(auditGuests, (n+looks-1)/looks))
}

// audit reads what no list shows of the guests that were read longest ago.
func (v *View) audit(ctx context.Context, wake func(resource.Key)) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	places := make(chan struct{}, auditAtOnce)
	var each sync.WaitGroup
	for _, vmid := range v.dueForAudit() {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break // they are first the next time
		}
		each.Go(func() {
			defer func() { <-places }()
			v.auditOne(ctx, vmid, wake)
		})
	}
	each.Wait()
}

// dueForAudit returns the guests whose turn it is: of those that somebody relies on, those
// whose configuration was read longest ago.
func (v *View) dueForAudit() []int {
	v.mu.Lock()
	defer v.mu.Unlock()
	var due []int
	for vmid, g := range v.guests {
		if g.seen != nil && v.holds(g, g.from) {
			due = append(due, vmid)
		}
	}
	slices.SortFunc(due, func(a, b int) int {
		if c := v.guests[a].from.Compare(v.guests[b].from); c != 0 {
			return c
		}
		return a - b
	})
	return due[:AuditBudget(len(due), v.period)]
}

// auditOne reads a guest's configuration and, where they are relied on, its addresses. What
// is as it was holds from now on; anything else, also an error, is for a direct look.
func (v *View) auditOne(ctx context.Context, vmid int, wake func(resource.Key)) {
	v.mu.Lock()
	g := v.guests[vmid]
	if g == nil || g.seen == nil {
		v.mu.Unlock()
		return
	}
	node, digest, addresses, leased, from, accept := g.face.node, g.digest, g.addresses, g.leased, g.from, g.accept
	v.mu.Unlock()
	begin := time.Now()
	cfg, err := v.API.LXCConfig(ctx, node, vmid)
	same := err == nil && digest != "" && cfg.Digest == digest && cfg.Lock == ""
	var seen any
	if err == nil && digest == "" && accept != nil { // the first that is read
		seen, same = accept(cfg)
	}
	sameAddresses, asked := false, addresses != nil
	if same && asked {
		list, err := v.API.LXCInterfaces(ctx, node, vmid)
		sameAddresses = err == nil && (sameInterfaces(list, addresses) || leased && haveAddresses(list, addresses))
		addresses = list
	}
	if ctx.Err() != nil {
		return // nothing was found out
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.guests[vmid] != g || g.seen == nil || g.digest != digest || seen != nil && !g.from.Equal(from) {
		return // somebody has looked, or changed it, meanwhile
	}
	if !same || asked && !sameAddresses {
		g.tell(wake)
		return
	}
	if g.from = begin; seen != nil {
		g.seen, g.digest, g.accept, g.made = seen, cfg.Digest, nil, nil
	}
	if asked && g.addresses != nil {
		g.addresses, g.addressesFrom, g.leased = addresses, begin, false
	}
}

func sameInterfaces(a, b []proxmox.GuestInterface) bool {
	return slices.EqualFunc(a, b, func(x, y proxmox.GuestInterface) bool { return reflect.DeepEqual(x, y) })
}
