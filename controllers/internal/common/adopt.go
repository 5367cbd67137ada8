package common

import (
	"context"
	"fmt"

	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// AdoptedMACs are the addresses that the NICs of a guest to adopt have already, by number:
// others may know it by them. One that cannot be read is not among them: it is set anew. rows
// is the list of guests; there is none of a guest that is not in it.
func AdoptedMACs(ctx context.Context, conn *cluster.Connection, vmid int32, rows []proxmox.Resource) (map[int]string, error) {
	const nics = 2 // that objects of ours have at most
	for _, row := range rows {
		if int32(row.VMID) != vmid || row.Type != "lxc" {
			continue
		}
		cfg, err := conn.API.LXCConfig(ctx, row.Node, int(row.VMID))
		if proxmox.IsNotExist(err) {
			return nil, lxc.ListedOnly(row.Node, int(row.VMID))
		}
		if err != nil {
			return nil, lxc.Classify(fmt.Errorf("read the guest to adopt: %w", err))
		}
		macs := map[int]string{}
		for n := range nics {
			if nic, ok, err := cfg.NIC(n); ok && err == nil && nic.HWAddr != "" {
				macs[n] = nic.HWAddr
			}
		}
		return macs, nil
	}
	return nil, nil
}
