package pvesim

import "sync"

// foreign is what others do to a node: its simulated guests use next to nothing, so tests say
// what else is on it. It is of this process' life.
type foreign struct {
	mu          sync.Mutex
	memory      int64 // total, 0: nodeMemoryBytes
	used        int64 // 0: an eighth
	maintenance bool
}

// fill is what is on a storage beside the volumes that were made through the API.
type fill struct {
	bytes    int64
	metadata float64 // of a thin pool, a share of 1
	down     bool
}

// SetMemory says how much memory the node has and how much of it is used, in bytes; 0 for
// either is what it is by default.
func (n *Node) SetMemory(total, used int64) {
	n.others.mu.Lock()
	defer n.others.mu.Unlock()
	n.others.memory, n.others.used = total, used
}

// memory is what the node has and what of it is used.
func (n *Node) memory() (total, used int64) {
	n.others.mu.Lock()
	defer n.others.mu.Unlock()
	total, used = n.others.memory, n.others.used
	if total == 0 {
		total = nodeMemoryBytes
	}
	if used == 0 {
		used = total / 8
	}
	return total, used
}

// SetMaintenance puts the node into the maintenance mode of the high availability manager
// (ha-manager crm-command node-maintenance), or out of it.
func (n *Node) SetMaintenance(on bool) {
	n.others.mu.Lock()
	defer n.others.mu.Unlock()
	n.others.maintenance = on
}

func (n *Node) inMaintenance() bool {
	n.others.mu.Lock()
	defer n.others.mu.Unlock()
	return n.others.maintenance
}

// FillStorage puts so many bytes of others on a storage as this node sees it and, of a thin
// pool, fills its metadata to a share of 1. On a shared storage all nodes see it.
func (n *Node) FillStorage(id string, bytes int64, metadata float64) {
	n.setFill(id, func(f *fill) { f.bytes, f.metadata = bytes, metadata })
}

// SetStorageDown takes a storage away (a share that is not mounted), or gives it back.
func (n *Node) SetStorageDown(id string, down bool) {
	n.setFill(id, func(f *fill) { f.down = down })
}

func (n *Node) setFill(id string, change func(*fill)) {
	s, _ := n.storageByID(id)
	st := n.state(s)
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.fills == nil {
		st.fills = map[string]fill{}
	}
	f := st.fills[id]
	change(&f)
	st.fills[id] = f
}

// fillOf is what others have on a storage.
func (n *Node) fillOf(s Storage) fill {
	st := n.state(s)
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.fills[s.ID]
}

// metadataShare is the part of a thin pool that lvcreate gives its metadata.
const metadataShare = 100

// thinPools lists the pools of the storages of type lvmthin (PVE::API2::Disks::LVMThin).
func thinPools(c *call) (result, error) {
	rows := []map[string]any{}
	for _, s := range c.node.storages.all() {
		if s.Type != "lvmthin" || s.Disabled || !s.on(c.node.name) {
			continue
		}
		size := s.Bytes / metadataShare
		rows = append(rows, map[string]any{
			"lv": s.Options["thinpool"], "vg": s.Options["vgname"], "lv_size": s.Bytes, "used": c.node.usage(s),
			"metadata_size": size, "metadata_used": int64(float64(size) * c.node.fillOf(s).metadata),
		})
	}
	return result{data: rows}, nil
}
