package pvesim

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// statsExpiry is when pmxcfs forgets what a silent node told (status.c of pve-cluster).
const statsExpiry = 5 * time.Minute

// vmStats are the figures of a guest that its node broadcasts.
type vmStats struct {
	Name      string  `json:"name"`
	Status    string  `json:"status"`
	Template  int     `json:"template"`
	Uptime    int64   `json:"uptime"`
	MaxCPU    float64 `json:"maxcpu"`
	CPU       float64 `json:"cpu"`
	MaxMem    int64   `json:"maxmem"`
	Mem       int64   `json:"mem"`
	MemHost   int64   `json:"memhost"`
	MaxDisk   int64   `json:"maxdisk"`
	Disk      int64   `json:"disk"`
	NetIn     int64   `json:"netin"`
	NetOut    int64   `json:"netout"`
	DiskRead  int64   `json:"diskread"`
	DiskWrite int64   `json:"diskwrite"`
}

// vmRow is a guest in /cluster/resources. Where it is, its lock and its tags are always
// fresh; the figures are those of the last broadcast, and there are none for a guest
// that was made after it or whose node has been silent for long.
type vmRow struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Node    string `json:"node"`
	VMID    int    `json:"vmid"`
	Unknown string `json:"status,omitempty"` // shadowed by the status of the figures
	Pool    string `json:"pool,omitempty"`
	HAState string `json:"hastate,omitempty"`
	Lock    string `json:"lock,omitempty"`
	Tags    string `json:"tags,omitempty"`
	stats   *vmStats
}

// broadcast is the last news of one node about its guests.
type broadcast struct {
	mu    sync.Mutex
	stats map[int]*vmStats
}

// publish takes a look at all guests of the node, as pvestatd does every ten seconds.
func (n *Node) publish() {
	stats := map[int]*vmStats{}
	for _, g := range n.guests.all(n) {
		stats[g.vmid] = n.vmStats(n.ctx, g)
	}
	n.news.mu.Lock()
	defer n.news.mu.Unlock()
	n.news.stats = stats
}

// publishLoop publishes until the cluster is closed.
func (c *cluster) publishLoop() {
	ticker := time.NewTicker(c.cfg.ResourceLag)
	defer ticker.Stop()
	for {
		for _, n := range c.nodes {
			if n.Online() {
				n.publish()
			}
		}
		select {
		case <-c.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// silent reports whether what the node told has expired.
func (n *Node) silent() bool {
	since := n.offlineSince.Load()
	return since != 0 && time.Since(time.Unix(0, since)) > statsExpiry
}

// lastStats are the figures of a guest as the cluster knows them, nil if it does not.
func (c *call) lastStats(n *Node, g *guestFile) *vmStats {
	if n.silent() {
		return nil
	}
	if n.cfg.ResourceLag == 0 {
		return n.vmStats(c.ctx, g)
	}
	n.news.mu.Lock()
	defer n.news.mu.Unlock()
	return n.news.stats[g.vmid]
}

func clusterResources(c *call) (result, error) {
	rows := []any{}
	want := c.params["type"]
	if want == "" || want == "vm" {
		pools := c.resourcePools()
		guests := c.resourceGuests(pools)
		if want == "" {
			for _, name := range slices.Sorted(maps.Keys(pools)) {
				rows = append(rows, pools[name])
			}
		}
		rows = append(rows, guests...)
	}
	if want == "" || want == "node" {
		for _, n := range c.node.nodes {
			row := c.nodeRow(n)
			row["cgroup-mode"] = 2
			if n.inMaintenance() {
				row["hastate"] = "maintenance"
			}
			rows = append(rows, row)
		}
	}
	if want == "" || want == "storage" {
		rows = c.resourceStorages(rows)
	}
	if (want == "" || want == "sdn") && c.may("/sdn/zones/localnetwork", "SDN.Audit") {
		for _, n := range c.node.nodes {
			rows = append(rows, map[string]any{
				"id": "network/" + n.name + "/zone/localnetwork", "type": "network", "network": "localnetwork",
				"network-type": "zone", "node": n.name, "status": "ok",
			})
		}
	}
	return result{data: rows}, nil
}

// resourceGuests returns the guests of all nodes, sorted by the text of their VMIDs, and
// adds their figures to the pools. Guests that the caller may not audit count in a pool
// that he may, and a pool that he may not is not shown.
func (c *call) resourceGuests(pools map[string]*poolRow) []any {
	var list []*vmRow
	poolOf := c.node.access.PoolByGuest()
	for _, n := range c.node.nodes {
		for _, g := range n.guests.all(n) {
			pool := pools[poolOf[g.vmid]]
			visible := c.may(guestACL(g.vmid), "VM.Audit")
			if !visible && pool == nil {
				continue
			}
			row := c.guestRow(n, g)
			if pool != nil {
				row.Pool = pool.Pool
				if row.stats != nil {
					pool.add(row.stats)
				}
			}
			if visible {
				list = append(list, row)
			}
		}
	}
	slices.SortFunc(list, func(a, b *vmRow) int { return strings.Compare(a.ID, b.ID) })
	rows := make([]any, 0, len(list))
	for _, r := range list {
		rows = append(rows, r.shown())
	}
	return rows
}

func (c *call) guestRow(n *Node, g *guestFile) *vmRow {
	return &vmRow{
		ID: "lxc/" + vmidText(g.vmid), Type: "lxc", Node: n.name, VMID: g.vmid,
		Lock: g.conf.Values["lock"], Tags: g.conf.Values["tags"], stats: c.lastStats(n, g), HAState: c.node.ha.state(g.vmid),
	}
}

// shown is the row as it is encoded: with its figures, if there are any.
func (r *vmRow) shown() any {
	if r.stats == nil {
		r.Unknown = "unknown"
		return r
	}
	return struct {
		*vmRow
		*vmStats
		Status string `json:"status"`
	}{r, r.stats, r.stats.Status}
}

// poolRow is a pool with the sums of its guests that run.
type poolRow struct {
	ID     string   `json:"id"`
	Type   string   `json:"type"`
	Pool   string   `json:"pool"`
	MaxCPU *float64 `json:"maxcpu,omitempty"`
	CPU    *float64 `json:"cpu,omitempty"`
	MaxMem *int64   `json:"maxmem,omitempty"`
	Mem    *int64   `json:"mem,omitempty"`
	Uptime *int64   `json:"uptime,omitempty"`
}

// add counts a running guest. The share of the processors is weighed by their number.
func (r *poolRow) add(s *vmStats) {
	if s.Status != "running" {
		return
	}
	if r.MaxCPU == nil {
		r.MaxCPU, r.CPU, r.MaxMem, r.Mem, r.Uptime = new(float64), new(float64), new(int64), new(int64), new(int64)
	}
	total := *r.MaxCPU + s.MaxCPU
	if total > 0 {
		*r.CPU = (*r.CPU**r.MaxCPU + s.CPU*s.MaxCPU) / total
	}
	*r.MaxCPU = total
	*r.MaxMem += s.MaxMem
	*r.Mem += s.Mem
	*r.Uptime = max(*r.Uptime, s.Uptime)
}

// resourcePools returns the pools that the caller may audit.
func (c *call) resourcePools() map[string]*poolRow {
	out := map[string]*poolRow{}
	for name := range c.node.access.Pools() {
		if c.may("/pool/"+name, "Pool.Audit") {
			out[name] = &poolRow{ID: "/pool/" + name, Type: "pool", Pool: name}
		}
	}
	return out
}

// resourceStorages appends the storages of all nodes, by storage.
func (c *call) resourceStorages(rows []any) []any {
	for _, s := range c.node.storages.all() {
		if !c.may(storageACL(s.ID), "Datastore.Audit", "Datastore.AllocateSpace") {
			continue
		}
		for _, n := range c.node.nodes {
			if !s.Disabled && s.on(n.name) {
				rows = append(rows, resourceStorage(n, s))
			}
		}
	}
	return rows
}

func resourceStorage(n *Node, s Storage) map[string]any {
	r := n.storageRow(s)
	row := map[string]any{
		"id": "storage/" + n.name + "/" + s.ID, "type": "storage", "storage": s.ID, "node": n.name, "status": "unknown",
		"shared": r["shared"], "plugintype": s.Type, "content": r["content"],
	}
	if !n.silent() && r["active"] == 1 {
		row["status"], row["disk"], row["maxdisk"] = "available", r["used"], s.Bytes
	}
	return row
}

// nodeRow is a node in lists; without Sys.Audit it has no figures, and one that is away
// has its sizes only (extract_node_stats of PVE::API2Tools).
func (c *call) nodeRow(n *Node) map[string]any {
	row := map[string]any{"id": "node/" + n.name, "type": "node", "node": n.name, "status": "online"}
	if !n.Online() {
		row["status"] = "offline"
	}
	if n.silent() {
		return row
	}
	row["level"] = ""
	if !c.may("/nodes/"+n.name, "Sys.Audit") {
		return row
	}
	total, used := n.memory()
	row["maxcpu"], row["maxmem"], row["maxdisk"] = runtime.NumCPU(), total, int64(nodeDiskBytes)
	if n.Online() {
		row["cpu"], row["mem"], row["disk"] = 0.01+rand.Float64()/50, used, int64(baseUsage)
		row["uptime"] = n.uptime()
	}
	return row
}
