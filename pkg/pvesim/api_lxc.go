package pvesim

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
)

func guestACL(vmid int) string { return "/vms/" + vmidText(vmid) }

func listGuests(c *call) (result, error) {
	rows := []map[string]any{}
	for _, g := range c.node.guests.all(c.node) {
		if c.may(guestACL(g.vmid), "VM.Audit") {
			rows = append(rows, c.node.statusRow(c.ctx, g))
		}
	}
	return result{data: rows}, nil
}

func guestIndex(c *call) (result, error) {
	if _, err := c.node.guests.load(c.node, c.vmid()); err != nil {
		return result{}, err
	}
	rows := []map[string]any{}
	for _, name := range guestIndexNames {
		rows = append(rows, map[string]any{"subdir": name})
	}
	return result{data: rows}, nil
}

// guestIndexNames are the sub-directories that the real server lists.
var guestIndexNames = []string{
	"config", "pending", "status", "vncproxy", "termproxy", "vncwebsocket", "spiceproxy", "migrate", "clone",
	"rrd", "rrddata", "firewall", "snapshot", "resize", "interfaces",
}

func guestStatus(c *call) (result, error) {
	g, err := c.node.guests.load(c.node, c.vmid())
	if err != nil {
		return result{}, err
	}
	row := c.node.statusRow(c.ctx, g)
	ha := map[string]any{"managed": 0}
	if state := c.node.ha.state(c.vmid()); state != "" {
		ha["managed"], ha["state"] = 1, state
	}
	row["ha"] = ha
	return result{data: row}, nil
}

// statusRow is a guest as it is now.
func (n *Node) statusRow(ctx context.Context, g *guestFile) map[string]any {
	values := g.conf.Values
	s, st := n.look(ctx, g)
	row := map[string]any{
		"vmid": g.vmid, "name": s.Name, "type": "lxc", "status": s.Status, "cpus": s.MaxCPU, "cpu": s.CPU,
		"maxmem": s.MaxMem, "maxswap": g.limits.swap, "maxdisk": s.MaxDisk, "mem": s.Mem, "swap": 0, "disk": s.Disk, "uptime": s.Uptime,
		"netin": s.NetIn, "netout": s.NetOut, "diskread": 0, "diskwrite": 0,
	}
	for _, key := range []string{"tags", "lock"} {
		if values[key] != "" {
			row[key] = values[key]
		}
	}
	if s.Template == 1 {
		row["template"] = 1
	}
	if !st.Running {
		return row
	}
	row["pid"] = st.InitPID
	for _, key := range []string{"pressurecpusome", "pressurecpufull", "pressureiosome", "pressureiofull", "pressurememorysome", "pressurememoryfull"} {
		row[key] = nil
	}
	return row
}

// vmStats are a guest's figures for the broadcast.
func (n *Node) vmStats(ctx context.Context, g *guestFile) *vmStats {
	s, _ := n.look(ctx, g)
	return &s
}

// look asks the engine what a guest does.
func (n *Node) look(ctx context.Context, g *guestFile) (s vmStats, st engine.Status) {
	s = vmStats{
		Name: guestName(g.vmid, g.conf.Values), Status: "stopped", Template: number(g.conf.Values["template"] == "1"),
		MaxCPU: g.limits.cores, MaxMem: g.limits.mem, MaxDisk: g.limits.disk,
	}
	if s.MaxCPU == 0 {
		s.MaxCPU = 2
	}
	st, err := n.engine.Status(ctx, g.vmid)
	if errors.Is(err, engine.ErrNotExist) {
		n.forgetVanished(g.vmid, g.conf.Values["lock"])
	}
	defer func() {
		n.guests.mu.Lock()
		defer n.guests.mu.Unlock()
		n.guests.remember(g.vmid, s, time.Now())
	}()
	if err != nil || !st.Running {
		return s, engine.Status{}
	}
	s.Status, s.Uptime, s.CPU = "running", int64(st.Uptime/time.Second), n.cpuUsage(g.vmid, st.CPUTime)
	s.Mem, s.Disk, s.NetIn, s.NetOut = st.MemBytes, st.DiskBytes, st.NetIn, st.NetOut
	return s, st
}

// forgetVanished drops the configuration of a guest whose root file system somebody removed
// with the engine's own tools (lxc-destroy): here that stands for `pct destroy` by hand,
// which removes both. A guest that is being made or destroyed carries a lock and is left alone.
func (n *Node) forgetVanished(vmid int, lock string) {
	if lock != "" {
		return
	}
	n.log.Warn("guest was destroyed outside of the API, forgetting its configuration", "vmid", vmid)
	if err := n.guests.remove(n, vmid); err != nil {
		n.log.Error("configuration of a destroyed guest stays", "vmid", vmid, "error", err)
	}
}

// cpuUsage is the share of a core since the last look, 0 at the first.
func (n *Node) cpuUsage(vmid int, used time.Duration) float64 {
	n.guests.mu.Lock()
	defer n.guests.mu.Unlock()
	now := time.Now()
	last, known := n.guests.cpu[vmid]
	n.guests.cpu[vmid] = cpuSample{at: now, used: used}
	if !known || !now.After(last.at) || used < last.used {
		return 0
	}
	return float64(used-last.used) / float64(now.Sub(last.at))
}

// guestInterfaces is what ip address says inside; null for a guest that does not run.
func guestInterfaces(c *call) (result, error) {
	if _, err := c.node.guests.load(c.node, c.vmid()); err != nil {
		return result{}, err
	}
	list, err := c.node.engine.Interfaces(c.ctx, c.vmid())
	if errors.Is(err, engine.ErrNotRunning) || errors.Is(err, engine.ErrNotExist) {
		return result{}, nil
	}
	if err != nil {
		return result{}, err
	}
	rows := []map[string]any{}
	for _, i := range list {
		hw := strings.ToLower(i.HWAddr)
		row := map[string]any{"name": i.Name, "hwaddr": hw, "hardware-address": hw}
		addresses := []map[string]any{}
		for _, a := range i.Addresses {
			ip, prefix, _ := strings.Cut(a, "/")
			family := "inet"
			if strings.Contains(ip, ":") {
				family = "inet6"
			}
			if _, seen := row[family]; !seen {
				row[family] = a
			}
			addresses = append(addresses, map[string]any{"ip-address": ip, "ip-address-type": family, "prefix": prefix})
		}
		row["ip-addresses"] = addresses
		rows = append(rows, row)
	}
	return result{data: rows}, nil
}

// typed shows a configuration value with the type that the schema gives it: integers
// and booleans are numbers, everything else (also cpulimit) is text.
func (n *Node) typed(key, value string) any {
	p, ok := n.schema["POST /nodes/{node}/lxc"].Lookup(key)
	if ok && (p.Type == "integer" || p.Type == "boolean") {
		if i, err := strconv.Atoi(value); err == nil {
			return i
		}
	}
	return value
}

// getConfig shows the configuration with pending changes applied, with current=1 what is
// in force, or that of a snapshot.
func getConfig(c *call) (result, error) {
	g, err := c.node.guests.load(c.node, c.vmid())
	if err != nil {
		return result{}, err
	}
	conf, values := g.conf, g.conf.Effective()
	if name, ok := c.params["snapshot"]; ok {
		if conf = g.conf.Snapshots[name]; conf == nil {
			return result{}, errNoSnapshot(name)
		}
		values = conf.Values
	} else if c.flag("current") {
		values = g.conf.Values
	}
	out := c.node.shown(conf, values)
	out["digest"] = g.digest
	if !c.may(guestACL(g.vmid), "VM.Config.Options") { // it may hold secrets
		delete(out, "env")
	}
	return result{data: out}, nil
}

// shown is a configuration as the API answers it.
func (n *Node) shown(conf *guestconf.Config, values map[string]string) map[string]any {
	out := map[string]any{}
	for key, value := range values {
		out[key] = n.typed(key, value)
	}
	if len(conf.Raw) > 0 {
		out["lxc"] = conf.Raw
	}
	return out
}

// getPending lists every option with what it will become at the next start.
func getPending(c *call) (result, error) {
	g, err := c.node.guests.load(c.node, c.vmid())
	if err != nil {
		return result{}, err
	}
	rows := []map[string]any{{"key": "digest", "value": g.digest}}
	for key, value := range g.conf.Values {
		row := map[string]any{"key": key, "value": c.node.typed(key, value)}
		if next, ok := g.conf.Pending[key]; ok {
			row["pending"] = c.node.typed(key, next)
		} else if slices.Contains(g.conf.Deleted, key) {
			row["delete"], row["pending"] = 1, " "
		}
		rows = append(rows, row)
	}
	for key, next := range g.conf.Pending {
		if _, ok := g.conf.Values[key]; !ok {
			rows = append(rows, map[string]any{"key": key, "pending": c.node.typed(key, next)})
		}
	}
	return result{data: rows}, nil
}
