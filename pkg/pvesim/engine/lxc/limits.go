package lxc

import (
	"fmt"
	"strconv"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// limit is one control group file and what is written to it.
type limit struct {
	controller string
	file       string
	value      string
}

// limitsOf translates a guest's limits into control group files of the machine's version,
// in the order in which they must be written when a limit is lowered. Absent limits are
// written as "no limit", so that taking one away works on a running guest.
func limitsOf(g engine.Guest, m machine) []limit {
	if m.cgroupV2 {
		return limitsV2(g, m)
	}
	memory, swap := mebibytes(g.MemoryMiB), "-1"
	if g.MemoryMiB > 0 {
		swap = mebibytes(g.MemoryMiB + g.SwapMiB)
	}
	all := []limit{{"memory", "memory.limit_in_bytes", orUnlimited(memory, g.MemoryMiB, "-1")}}
	if m.swapLimit {
		all = append(all, limit{"memory", "memory.memsw.limit_in_bytes", swap})
	}
	quota := "-1"
	if cpus := cpuShare(g, m); cpus > 0 {
		quota = strconv.Itoa(int(cpus * cfsPeriod))
	}
	all = append(all,
		limit{"cpu", "cpu.cfs_period_us", strconv.Itoa(cfsPeriod)},
		limit{"cpu", "cpu.cfs_quota_us", quota},
		limit{"cpuset", "cpuset.cpus", cpuSet(g, m)},
		limit{"pids", "pids.max", strconv.Itoa(maxPIDs)})
	return all
}

func limitsV2(g engine.Guest, m machine) []limit {
	quota := "max"
	if cpus := cpuShare(g, m); cpus > 0 {
		quota = strconv.Itoa(int(cpus * cfsPeriod))
	}
	swap := "max"
	if g.MemoryMiB > 0 {
		swap = mebibytes(g.SwapMiB)
	}
	return []limit{
		{"memory", "memory.max", orUnlimited(mebibytes(g.MemoryMiB), g.MemoryMiB, "max")},
		{"memory", "memory.swap.max", swap},
		{"cpu", "cpu.max", fmt.Sprintf("%s %d", quota, cfsPeriod)},
		{"cpuset", "cpuset.cpus", cpuSet(g, m)},
		{"pids", "pids.max", strconv.Itoa(maxPIDs)},
	}
}

func mebibytes(n int) string { return strconv.FormatInt(int64(n)<<20, 10) }

func orUnlimited(value string, mib int, unlimited string) string {
	if mib <= 0 {
		return unlimited
	}
	return value
}

// cpuShare is the CPU time that the guest may use, in CPUs; 0 is all. Cores that exceed
// the machine's are no limit.
func cpuShare(g engine.Guest, m machine) float64 {
	share := g.CPULimit
	if g.Cores > 0 && g.Cores < m.cpus && (share == 0 || float64(g.Cores) < share) {
		share = float64(g.Cores)
	}
	return share
}

// cpuSet spreads guests over the CPUs by their VMID, as Proxmox VE's rebalancing does by
// load, so that `nproc` inside the guest shows its cores.
func cpuSet(g engine.Guest, m machine) string {
	if g.Cores <= 0 || g.Cores >= m.cpus {
		return fmt.Sprintf("0-%d", m.cpus-1)
	}
	list := ""
	for i := range g.Cores {
		if i > 0 {
			list += ","
		}
		list += strconv.Itoa((g.VMID + i) % m.cpus)
	}
	return list
}
