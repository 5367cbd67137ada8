package pvesim

import (
	"maps"
	"runtime"
	"slices"
	"time"
)

// maxSamples is how many minutes of a guest's figures are kept: an hour's graph.
const maxSamples = 70

// sample is what a guest did when somebody looked last in a minute. Nobody looks in
// the background here: what was never asked for is a gap, as while pvestatd hangs.
type sample struct {
	minute int64 // since 1970
	stats  vmStats
}

// remember keeps a look at a guest for its graph; the caller holds the lock.
func (s *guestStore) remember(vmid int, stats vmStats, now time.Time) {
	list := s.history[vmid]
	minute := now.Unix() / 60
	if len(list) > 0 && list[len(list)-1].minute == minute {
		list[len(list)-1].stats = stats
		return
	}
	if len(list) >= maxSamples {
		list = append(list[:0:0], list[1:]...)
	}
	s.history[vmid] = append(list, sample{minute, stats})
}

// rrdSteps are resolution and length of the graphs of Proxmox VE 9 by timeframe.
var rrdSteps = map[string]struct{ step, count int64 }{
	"hour": {60, maxSamples}, "day": {60, 1440}, "week": {1800, 336}, "month": {7200, 372}, "year": {86400, 366}, "decade": {604800, 570},
}

// guestRRD is the graph of a guest: one row a step, those without a look have the time only.
func guestRRD(c *call) (result, error) {
	n := c.node
	g, err := n.guests.load(n, c.vmid())
	if err != nil {
		return result{}, err
	}
	n.look(c.ctx, g) // now is always known
	n.guests.mu.Lock()
	list := slices.Clone(n.guests.history[g.vmid])
	n.guests.mu.Unlock()
	frame := rrdSteps[c.params["timeframe"]]
	last := time.Now().Unix() / frame.step * frame.step
	rows := make([]map[string]any, 0, frame.count)
	for at := last - (frame.count-1)*frame.step; at <= last; at += frame.step {
		row := map[string]any{"time": at}
		for i := range list {
			if t := list[i].minute * 60; t >= at && t < at+frame.step {
				fillRRD(row, list[i], list[max(i-1, 0)])
			}
		}
		rows = append(rows, row)
	}
	return result{data: rows}, nil
}

// nodeRRD is the graph of a node. Its figures do not move by themselves, so since it was
// started it has been as it is; before, rows have the time only.
func nodeRRD(c *call) (result, error) {
	n := c.node
	total, used := n.memory()
	frame := rrdSteps[c.params["timeframe"]]
	last := time.Now().Unix() / frame.step * frame.step
	rows := make([]map[string]any, 0, frame.count)
	for at := last - (frame.count-1)*frame.step; at <= last; at += frame.step {
		row := map[string]any{"time": at}
		if at+frame.step > n.started.Unix() {
			maps.Copy(row, map[string]any{
				"cpu": 0.02, "maxcpu": runtime.NumCPU(), "loadavg": 0.1, "iowait": 0, "memtotal": total, "memused": used, "memavailable": total - used,
				"swaptotal": 0, "swapused": 0, "roottotal": int64(nodeDiskBytes), "rootused": int64(baseUsage), "netin": 0, "netout": 0, "arcsize": 0,
			})
		}
		rows = append(rows, row)
	}
	return result{data: rows}, nil
}

// fillRRD puts a look into a row. Traffic is a rate, in bytes a second, since the look
// before.
func fillRRD(row map[string]any, s, before sample) {
	v := s.stats
	row["maxcpu"], row["maxmem"], row["maxdisk"], row["disk"] = v.MaxCPU, v.MaxMem, v.MaxDisk, v.Disk
	if v.Status != "running" {
		return
	}
	row["cpu"], row["mem"], row["diskread"], row["diskwrite"] = v.CPU, v.Mem, 0, 0
	seconds := float64(s.minute-before.minute) * 60
	if seconds > 0 && v.NetIn >= before.stats.NetIn && v.NetOut >= before.stats.NetOut {
		row["netin"] = float64(v.NetIn-before.stats.NetIn) / seconds
		row["netout"] = float64(v.NetOut-before.stats.NetOut) / seconds
	}
}
