package pvesim

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
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

func getVersion(*call) (result, error) {
	return result{data: map[string]any{"version": pveVersion, "release": pveRelease, "repoid": pveRepoID}}, nil
}

func clusterStatus(c *call) (result, error) {
	ip := "127.0.0.1"
	if p, err := netip.ParsePrefix(c.node.cfg.UplinkAddress); err == nil {
		ip = p.Addr().String()
	}
	name := c.node.cfg.NodeName
	return result{data: []map[string]any{{"type": "node", "id": "node/" + name, "name": name, "online": 1, "local": 1, "level": "", "ip": ip, "nodeid": 0}}}, nil
}

// nextID answers with the first free VMID, or checks one. It reserves nothing.
func nextID(c *call) (result, error) {
	taken := map[int]bool{}
	for _, vmid := range c.node.guests.ids(c.node) {
		taken[vmid] = true
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

func clusterResources(c *call) (result, error) {
	rows := []map[string]any{}
	want := c.params["type"]
	if want == "" || want == "vm" {
		vms, err := c.resourceGuests()
		if err != nil {
			return result{}, err
		}
		rows = append(rows, vms...)
	}
	if want == "" || want == "node" {
		row := c.nodeRow()
		row["cgroup-mode"] = 2
		rows = append(rows, row)
	}
	name := c.node.cfg.NodeName
	if want == "" || want == "storage" {
		for _, s := range c.node.cfg.Storages {
			if !c.may(storageACL(s.ID), "Datastore.Audit", "Datastore.AllocateSpace") {
				continue
			}
			r := c.node.storageRow(s)
			rows = append(rows, map[string]any{
				"id": "storage/" + name + "/" + s.ID, "type": "storage", "storage": s.ID, "node": name, "status": "available", "shared": 0,
				"plugintype": s.Type, "content": r["content"], "disk": r["used"], "maxdisk": s.Bytes,
			})
		}
	}
	if (want == "" || want == "sdn") && c.may("/sdn/zones/localnetwork", "SDN.Audit", "SDN.Use") {
		rows = append(rows, map[string]any{"id": "network/" + name + "/zone/localnetwork", "type": "network", "network": "localnetwork", "network-type": "zone", "node": name, "status": "ok"})
	}
	return result{data: rows}, nil
}

// nodeRow is the node in lists; without Sys.Audit it has no figures.
func (c *call) nodeRow() map[string]any {
	name := c.node.cfg.NodeName
	row := map[string]any{"id": "node/" + name, "type": "node", "node": name, "status": "online", "level": ""}
	if c.may("/nodes/"+name, "Sys.Audit") {
		row["maxcpu"], row["maxmem"], row["maxdisk"] = runtime.NumCPU(), int64(nodeMemoryBytes), int64(nodeDiskBytes)
		row["cpu"], row["mem"], row["disk"] = 0.01+rand.Float64()/50, int64(nodeMemoryBytes/8), int64(baseUsage)
		row["uptime"] = c.node.uptime()
	}
	return row
}

func (n *Node) uptime() int64 { return int64(time.Since(n.started) / time.Second) }

func listNodes(c *call) (result, error) {
	row := c.nodeRow()
	row["ssl_fingerprint"] = c.node.creds.Fingerprint
	return result{data: []map[string]any{row}}, nil
}

func nodeStatus(c *call) (result, error) {
	release := "6.17.4-1-pve"
	const used = nodeMemoryBytes / 8
	return result{data: map[string]any{
		"pveversion":     "pve-manager/" + pveVersion + "/" + pveRepoID,
		"kversion":       "Linux " + release + " #1 SMP PREEMPT_DYNAMIC PMX " + release,
		"current-kernel": map[string]any{"sysname": "Linux", "release": release, "version": "#1 SMP PREEMPT_DYNAMIC PMX " + release, "machine": "x86_64"},
		"boot-info":      map[string]any{"mode": "efi", "secureboot": 0},
		"cpuinfo":        map[string]any{"cpus": runtime.NumCPU(), "cores": runtime.NumCPU(), "sockets": 1, "model": "simulated", "mhz": "2600.000", "user_hz": 100, "hvm": "", "flags": ""},
		"cpu":            0.02, "wait": 0, "idle": 0, "uptime": c.node.uptime(),
		"loadavg": []string{"0.10", "0.10", "0.10"},
		"memory":  map[string]any{"total": int64(nodeMemoryBytes), "used": int64(used), "free": int64(nodeMemoryBytes - used), "available": int64(nodeMemoryBytes - used)},
		"swap":    map[string]any{"total": 0, "used": 0, "free": 0},
		"rootfs":  map[string]any{"total": int64(nodeDiskBytes), "used": int64(baseUsage), "free": int64(nodeDiskBytes - baseUsage), "avail": int64(nodeDiskBytes - baseUsage)},
		"ksm":     map[string]any{"shared": 0},
	}}, nil
}

// rrdData has no history to show: the list is empty, as right after an installation.
func rrdData(*call) (result, error) { return result{data: []any{}}, nil }
