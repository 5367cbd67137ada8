package pvesim

import (
	"maps"
	"slices"
	"strconv"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
)

// listPools lists the pools that the caller may audit, or shows one with its members.
func listPools(c *call) (result, error) {
	if c.has("poolid") {
		row, err := c.poolRow()
		if err != nil {
			return result{}, err
		}
		return result{data: []any{row}}, nil
	}
	out := []map[string]any{}
	pools := c.node.access.Pools()
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		if !c.may("/pool/"+name, "Pool.Audit") {
			continue
		}
		row := map[string]any{"poolid": name}
		if comment := pools[name].Comment; comment != "" {
			row["comment"] = comment
		}
		out = append(out, row)
	}
	return result{data: out}, nil
}

func getPool(c *call) (result, error) {
	row, err := c.poolRow()
	if err != nil {
		return result{}, err
	}
	return result{data: row}, nil
}

func (c *call) poolRow() (map[string]any, error) {
	name := c.params["poolid"]
	p, ok := c.node.access.Pools()[name]
	if !ok {
		return nil, die("pool '%s' does not exist", name)
	}
	row := map[string]any{"poolid": name, "members": c.poolMembers(p)}
	if p.Comment != "" {
		row["comment"] = p.Comment
	}
	return row, nil
}

// poolMembers are the pool's guests and storages as /cluster/resources shows them. Who
// may see a pool sees all of them.
func (c *call) poolMembers(p access.Pool) []any {
	kind := c.params["type"]
	members := []any{}
	for _, n := range c.node.nodes {
		for _, vmid := range p.VMs {
			if g, err := n.guests.load(n, vmid); err == nil && (kind == "" || kind == "lxc") {
				members = append(members, c.guestRow(n, g).shown())
			}
		}
	}
	for _, id := range p.Storages {
		if s, ok := c.node.storageByID(id); ok && (kind == "" || kind == "storage") {
			members = append(members, resourceStorage(c.node, s))
		}
	}
	return members
}

func createPool(c *call) (result, error) {
	return result{}, failing("create pool failed", c.node.access.CreatePool(c.params["poolid"], c.params["comment"]))
}

func updatePool(c *call) (result, error) {
	// What the caller may is looked up before: the store is locked while it asks.
	vms, storages, pools := map[int]error{}, map[string]error{}, map[string]error{}
	change := access.PoolChange{
		Comment: c.text("comment"), Storages: c.list("storage"), Remove: c.flag("delete"), AllowMove: c.flag("allow-move"),
		MayVM:      func(vmid int) error { return vms[vmid] },
		MayStorage: func(id string) error { return storages[id] },
		MayPool:    func(pool string) error { return pools[pool] },
	}
	for _, text := range c.list("vms") {
		vmid, _ := strconv.Atoi(text) // validated
		change.VMs = append(change.VMs, vmid)
		vms[vmid] = c.mayGrant(guestACL(vmid))
	}
	for _, id := range change.Storages {
		storages[id] = c.mayGrant(storageACL(id))
	}
	for pool := range c.node.access.Pools() {
		pools[pool] = c.need("/pool/"+pool, "Pool.Allocate")
	}
	return result{}, failing("update pools failed", c.node.access.UpdatePool(c.params["poolid"], change))
}

func deletePool(c *call) (result, error) {
	vmExists := func(vmid int) bool {
		return slices.ContainsFunc(c.node.nodes, func(n *Node) bool { _, err := n.guests.load(n, vmid); return err == nil })
	}
	storageExists := func(id string) bool { _, ok := c.node.storageByID(id); return ok }
	return result{}, failing("delete pool failed", c.node.access.DeletePool(c.params["poolid"], vmExists, storageExists))
}
