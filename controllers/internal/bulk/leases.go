package bulk

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
	inside "github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

const (
	// leaseWithin is how long after its start a guest is expected to be among them.
	leaseWithin = 5 * time.Second
	// maxLeaseFile bounds the file that is read: 100,000 leases have some 60 bytes each.
	maxLeaseFile = 8 << 20
)

// FirstAddresses is LXCInterfaces for a guest that was made and started just now: a lease of its
// MAC address is from no other life of it. When others of its network ask at the same time, its
// appliance is asked for all leases once; leased tells that the answer is made of one, or that
// there is none yet. It is never older than the question.
func (p Guest) FirstAddresses(ctx context.Context, node, mac string, from inside.Target) (list []proxmox.GuestInterface, leased bool, err error) {
	v := p.view
	n := v.leases.get(from.VMID)
	together, leave := n.enter()
	defer leave()
	if !together || v.inner.Guests == nil || p.touchedSince() > leaseWithin {
		list, err = v.API.LXCInterfaces(ctx, node, p.vmid)
		return list, false, err
	}
	rows, err := n.list.get(ctx, func(ctx context.Context) ([]appliance.Lease, error) {
		text, err := inside.ReadFile(ctx, v.inner.Guests, from, appliance.LeasesPath, maxLeaseFile)
		return appliance.ParseLeases(string(text)), err
	})
	if err != nil { // the guest itself can tell
		list, err = v.API.LXCInterfaces(ctx, node, p.vmid)
		return list, false, err
	}
	for _, row := range rows {
		if strings.EqualFold(row.MAC, mac) {
			list = append(list, proxmox.GuestInterface{HWAddr: mac, Inet: netip.PrefixFrom(row.Address, row.Address.BitLen()).String()})
		}
	}
	return list, true, nil
}

// touchedSince is how long ago the last change of ours came to its end.
func (p Guest) touchedSince() time.Duration {
	v := p.view
	v.mu.Lock()
	defer v.mu.Unlock()
	if g := v.guests[p.vmid]; g != nil {
		return time.Since(g.touched)
	}
	return leaseWithin + 1
}

// SawLeases is SawAddresses for what is made of leases: the first audit asks the guest itself.
func (p Guest) SawLeases(from time.Time, list []proxmox.GuestInterface) {
	p.sawAddresses(from, list, true)
}

// haveAddresses tells whether interfaces are those that leases were given to.
func haveAddresses(have, leased []proxmox.GuestInterface) bool {
	for _, l := range leased {
		want, found := addressOf(l), false
		for _, i := range have {
			found = found || strings.EqualFold(i.HWAddr, l.HWAddr) && addressOf(i) == want
		}
		if !found {
			return false
		}
	}
	return true
}

func addressOf(i proxmox.GuestInterface) netip.Addr {
	p, _ := netip.ParsePrefix(i.Inet)
	return p.Addr()
}
