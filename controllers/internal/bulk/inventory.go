package bulk

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/controllers/internal/placement"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// How old what an Inventory is made of may be. Proxmox's own figures are up to ten seconds
// old, and what was decided meanwhile is known from the store.
const (
	inventoryAge = DefaultPeriod
	// templateAge is that of lists of templates; a download that ends here makes them new.
	templateAge = 30 * time.Second
	poolAge     = 30 * time.Second
	// definitionAge is that of storage.cfg.
	definitionAge = 5 * time.Minute
	// nodesAtOnce bounds the nodes that are read at the same time.
	nodesAtOnce = 8
)

// inventories is what a View keeps for choosing nodes.
type inventories struct {
	whole       fresh[*placement.Inventory]
	storages    fresh[[]proxmox.Storage] // by node
	content     fresh[[]proxmox.Volid]   // by node/storage, and of shared ones by /storage
	pools       fresh[[]proxmox.ThinPool]
	definitions fresh[[]proxmox.StorageDefinition]
}

// Inventory returns the cluster as it is now or was moments ago. For all who ask within
// DefaultPeriod it costs, with n nodes online and t storages of a node that hold templates,
//
//	1        GET /cluster/resources
//	n        GET /nodes/{n}/storage
//	n * t    GET /nodes/{n}/storage/{s}/content, every 30 s; of a shared storage once
//	n        GET /nodes/{n}/disks/lvmthin, every 30 s, where there is a thin pool
//	1        GET /storage, every 5 min, likewise
//
// A node that does not answer within patience is told of as such and holds up nobody.
func (v *View) Inventory(ctx context.Context) (*placement.Inventory, error) {
	return v.inventories.whole.get(ctx, "", inventoryAge, v.readInventory)
}

func (v *View) readInventory(ctx context.Context) (*placement.Inventory, error) {
	begin := time.Now()
	rows, err := v.API.ClusterResources(ctx, proxmox.AllResources)
	if err != nil {
		return nil, err
	}
	v.sawFigures(begin, rows)
	inv := &placement.Inventory{At: begin, Guests: map[int]placement.GuestFacts{}}
	for _, r := range rows {
		switch r.Type {
		case "node":
			inv.Nodes = append(inv.Nodes, placement.NodeFacts{
				Name: r.Node, Online: r.Status == "online", Maintenance: r.HAState == "maintenance", Memory: int64(r.MaxMem), MemoryUsed: int64(r.Mem),
			})
		case "lxc", "qemu":
			inv.Guests[int(r.VMID)] = placement.GuestFacts{
				Node: r.Node, Running: r.Status == proxmox.StatusRunning, Ours: slices.ContainsFunc(proxmox.SplitTags(r.Tags), ownership.IsUIDTag),
				Memory: int64(r.MaxMem), Used: int64(r.Mem),
			}
		}
	}
	slices.SortFunc(inv.Nodes, func(a, b placement.NodeFacts) int { return strings.Compare(a.Name, b.Name) })
	places := make(chan struct{}, nodesAtOnce)
	var each sync.WaitGroup
	for i := range inv.Nodes {
		if !inv.Nodes[i].Online {
			continue
		}
		places <- struct{}{}
		each.Go(func() {
			defer func() { <-places }()
			v.readNode(ctx, &inv.Nodes[i])
		})
	}
	each.Wait()
	return inv, nil
}

// readNode reads a node's storages and what templates they have.
func (v *View) readNode(ctx context.Context, n *placement.NodeFacts) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	list, err := v.nodeStorages(ctx, n.Name)
	if err != nil {
		v.log.Debug("storages of a node could not be listed", "node", n.Name, "error", err)
		n.Unread = "its storages cannot be listed"
		return
	}
	for _, s := range list {
		f := placement.StorageFacts{
			Name: s.Storage, Type: s.Type, Content: strings.FieldsFunc(s.Content, func(r rune) bool { return r == ',' }), Active: bool(s.Active), Shared: bool(s.Shared),
			Total: int64(s.Total), Used: int64(s.Used), Avail: int64(s.Avail),
		}
		if f.Active && f.Holds(proxmox.ContentTemplate) {
			if f.Templates, err = v.templates(ctx, n.Name, s); err != nil {
				v.log.Debug("templates could not be listed", "node", n.Name, "storage", s.Storage, "error", err)
			}
		}
		if f.Type == "lvmthin" {
			f.Metadata, f.MetadataUsed = v.metadata(ctx, n.Name, s.Storage)
		}
		n.Storages = append(n.Storages, f)
	}
	slices.SortFunc(n.Storages, func(a, b placement.StorageFacts) int { return strings.Compare(a.Name, b.Name) })
}

func (v *View) templates(ctx context.Context, node string, s proxmox.Storage) ([]string, error) {
	vols, err := v.templateContent(ctx, node, s.Storage, bool(s.Shared))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(vols))
	for i, vol := range vols {
		names[i] = vol.Volid
	}
	return names, nil
}

// metadata is that of the thin pool below a storage, 0 when it is not told: it takes
// Sys.Audit on /.
func (v *View) metadata(ctx context.Context, node, storage string) (size, used int64) {
	defs, err := v.inventories.definitions.get(ctx, "", definitionAge, func(ctx context.Context) ([]proxmox.StorageDefinition, error) {
		defs, err := v.API.StorageDefinitions(ctx)
		return defs, unlessForbidden(err)
	})
	if err != nil {
		return 0, 0
	}
	pools, err := v.inventories.pools.get(ctx, node, poolAge, func(ctx context.Context) ([]proxmox.ThinPool, error) {
		pools, err := v.API.ThinPools(ctx, node)
		return pools, unlessForbidden(err)
	})
	if err != nil {
		return 0, 0
	}
	for _, d := range defs {
		for _, p := range pools {
			if d.Storage == storage && p.VG == d.VGName && p.LV == d.ThinPool {
				return int64(p.MetadataSize), int64(p.MetadataUsed)
			}
		}
	}
	return 0, 0
}

// unlessForbidden makes "you may not see it" an answer like another, so that it is kept.
func unlessForbidden(err error) error {
	if proxmox.IsForbidden(err) {
		return nil
	}
	return err
}

func (v *View) nodeStorages(ctx context.Context, node string) ([]proxmox.Storage, error) {
	return v.inventories.storages.get(ctx, node, inventoryAge, func(ctx context.Context) ([]proxmox.Storage, error) {
		return v.API.ListStorage(ctx, node, "")
	})
}

func contentKey(node, storage string, shared bool) string {
	if shared {
		node = ""
	}
	return node + "/" + storage
}

func (v *View) templateContent(ctx context.Context, node, storage string, shared bool) ([]proxmox.Volid, error) {
	return v.inventories.content.get(ctx, contentKey(node, storage, shared), templateAge, func(ctx context.Context) ([]proxmox.Volid, error) {
		return v.API.StorageContent(ctx, node, storage, proxmox.ContentTemplate)
	})
}

// ListStorage implements proxmox.StorageReader: for all who ask within moments once.
func (v *View) ListStorage(ctx context.Context, node, content string) ([]proxmox.Storage, error) {
	list, err := v.nodeStorages(ctx, node)
	if err != nil || content == "" {
		return list, err
	}
	var hold []proxmox.Storage
	for _, s := range list {
		if s.Holds(content) {
			hold = append(hold, s)
		}
	}
	return hold, nil
}

// StorageContent implements proxmox.StorageReader. Of templates it is up to templateAge old,
// but never older than a download that ended here.
func (v *View) StorageContent(ctx context.Context, node, storage, content string) ([]proxmox.Volid, error) {
	if content != proxmox.ContentTemplate {
		return v.API.StorageContent(ctx, node, storage, content)
	}
	shared := false
	if list, ok := v.inventories.storages.last(node); ok {
		shared = slices.ContainsFunc(list, func(s proxmox.Storage) bool { return s.Storage == storage && bool(s.Shared) })
	}
	return v.templateContent(ctx, node, storage, shared)
}

// fetched notes that a download ended on a node: what is there has to be looked at again.
func (v *View) fetched(node string) {
	v.inventories.content.drop(func(key string) bool { return strings.HasPrefix(key, node+"/") || strings.HasPrefix(key, "/") })
	v.inventories.whole.drop(func(string) bool { return true })
}
