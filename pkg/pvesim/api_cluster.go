package pvesim

import (
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// What the node claims to be made of.
const (
	nodeMemoryBytes = 16 << 30
	nodeDiskBytes   = 94 << 30
	firstVMID       = 100
	lastVMID        = 999_999
)

func getVersion(c *call) (result, error) {
	v := c.node.cfg.Version.orNewest()
	return result{data: map[string]any{"version": string(v), "release": v.Release(), "repoid": pveRepoID}}, nil
}

func clusterStatus(c *call) (result, error) {
	n := c.node
	var rows []map[string]any
	inCluster := n.cfg.ClusterName != ""
	if inCluster {
		rows = append(rows, map[string]any{
			"type": "cluster", "id": "cluster", "name": n.cfg.ClusterName, "nodes": len(n.nodes), "version": len(n.nodes), "quorate": number(n.quorate()),
		})
	}
	for _, m := range n.nodes {
		row := map[string]any{
			"type": "node", "id": "node/" + m.name, "name": m.name, "online": number(m.Online()), "local": number(m == n),
			"level": "", "ip": m.ip(), "nodeid": 0,
		}
		if inCluster {
			row["nodeid"] = m.index + 1
		}
		rows = append(rows, row)
	}
	return result{data: rows}, nil
}

// ip is the node's address, that of its uplink.
func (n *Node) ip() string {
	if p, err := netip.ParsePrefix(n.address); err == nil {
		return p.Addr().String()
	}
	return "127.0.0.1"
}

// nextID answers with the first free VMID, or checks one. It reserves nothing.
func nextID(c *call) (result, error) {
	taken := map[int]bool{}
	for _, n := range c.node.nodes {
		for _, vmid := range n.guests.ids(n) {
			taken[vmid] = true
		}
	}
	if c.has("vmid") {
		if taken[c.vmid()] {
			return result{}, paramError("vmid", "VM "+c.params["vmid"]+" already exists")
		}
		return result{data: c.params["vmid"]}, nil
	}
	for vmid := firstVMID; vmid <= lastVMID; vmid++ {
		if !taken[vmid] {
			return result{data: strconv.Itoa(vmid)}, nil
		}
	}
	return result{}, die("unable to get any free VMID in range [%d, %d]", firstVMID, lastVMID+1)
}

func (n *Node) uptime() int64 { return int64(time.Since(n.started) / time.Second) }

func listNodes(c *call) (result, error) {
	var rows []map[string]any
	for _, n := range c.node.nodes {
		row := c.nodeRow(n)
		row["ssl_fingerprint"] = n.creds.Fingerprint
		rows = append(rows, row)
	}
	return result{data: rows}, nil
}

// maxRecentTasks is how many finished tasks a node tells the others about
// (MAX_FINISHED of PVE::RESTEnvironment).
const maxRecentTasks = 25

// clusterTasks lists the running and the last finished tasks of every node. A user
// without Sys.Audit on / sees what he himself started, but what he started by a token
// only as the user: a token sees nothing (API2/Cluster.pm compares the bare user).
func clusterTasks(c *call) (result, error) {
	audit := c.may("/", "Sys.Audit")
	rows := []map[string]any{}
	for _, n := range c.node.nodes {
		active, finished := n.tasks.List()
		for _, i := range append(active, finished[:min(len(finished), maxRecentTasks)]...) {
			user, _ := i.UPID.Owner()
			if !audit && user != c.who.id {
				continue
			}
			row := taskRow(i)
			delete(row, "pid") // the broadcast has neither
			delete(row, "pstart")
			if !i.Running {
				row["status"], row["endtime"], row["saved"] = i.Exit, i.End, "1"
			}
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b map[string]any) int { return int(b["starttime"].(int64) - a["starttime"].(int64)) })
	return result{data: rows}, nil
}

func nodeStatus(c *call) (result, error) {
	release := "6.17.4-1-pve"
	total, used := c.node.memory()
	return result{data: map[string]any{
		"pveversion":     "pve-manager/" + string(c.node.cfg.Version.orNewest()) + "/" + pveRepoID,
		"kversion":       "Linux " + release + " #1 SMP PREEMPT_DYNAMIC PMX " + release,
		"current-kernel": map[string]any{"sysname": "Linux", "release": release, "version": "#1 SMP PREEMPT_DYNAMIC PMX " + release, "machine": "x86_64"},
		"boot-info":      map[string]any{"mode": "efi", "secureboot": 0},
		"cpuinfo":        map[string]any{"cpus": runtime.NumCPU(), "cores": runtime.NumCPU(), "sockets": 1, "model": "simulated", "mhz": "2600.000", "user_hz": 100, "hvm": "", "flags": ""},
		"cpu":            0.02, "wait": 0, "idle": 0, "uptime": c.node.uptime(),
		"loadavg": []string{"0.10", "0.10", "0.10"},
		"memory":  map[string]any{"total": total, "used": used, "free": total - used, "available": total - used},
		"swap":    map[string]any{"total": 0, "used": 0, "free": 0},
		"rootfs":  map[string]any{"total": int64(nodeDiskBytes), "used": int64(baseUsage), "free": int64(nodeDiskBytes - baseUsage), "avail": int64(nodeDiskBytes - baseUsage)},
		"ksm":     map[string]any{"shared": 0},
	}}, nil
}
